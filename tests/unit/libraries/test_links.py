# SPDX-License-Identifier: Apache-2.0
"""Links in a container: made, replaced, never outside."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from cdi_hook.container.rootfs import Rootfs
from cdi_hook.errors import InjectionError
from cdi_hook.libraries import links

if TYPE_CHECKING:
    from pathlib import Path


def make(root: Path, *wanted: tuple[str, str]) -> None:
    descriptor = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        links.make(Rootfs(descriptor), wanted)
    finally:
        os.close(descriptor)


def test_links_and_their_dirs(tmp_path: Path) -> None:
    """A link is made with the dirs that lead to it; what was there is replaced; a second time changes nothing."""
    wanted = [("liba.so.1", "/opt/lib/liba.so"), ("../x", "/opt/lib/gbm/y"), ("/abs", "/z")]
    (tmp_path / "opt/lib").mkdir(parents=True)
    (tmp_path / "opt/lib/liba.so").write_text("a stub")
    (tmp_path / "z").symlink_to("elsewhere")
    (tmp_path / "z.cdi-hook.tmp").symlink_to("what a killed process left")
    make(tmp_path, *wanted)
    assert [os.readlink(f"{tmp_path}{path}") for _, path in wanted] == [target for target, _ in wanted]
    inodes = [os.lstat(f"{tmp_path}{path}").st_ino for _, path in wanted]
    make(tmp_path, *wanted)
    assert [os.lstat(f"{tmp_path}{path}").st_ino for _, path in wanted] == inodes
    assert sorted(os.listdir(tmp_path)) == ["opt", "z"]


def test_links_of_the_image(tmp_path: Path) -> None:
    """Links of the image are followed inside the container only, and its last part is not followed."""
    outside = tmp_path / "outside"
    outside.mkdir()
    root = tmp_path / "root"
    root.mkdir()
    (root / "lib").symlink_to(outside)
    (root / "up").symlink_to("../../outside")
    (root / "etc").mkdir()
    (root / "etc/passwd").symlink_to(outside / "passwd")
    make(root, ("a", "/lib/a"), ("b", "/up/b"), ("c", "/etc/passwd"), ("d", "/../../d"))
    assert os.listdir(outside) == []
    assert (root / str(outside)[1:] / "a").is_symlink()
    assert (root / "outside/b").is_symlink()
    assert os.readlink(root / "etc/passwd") == "c"
    assert (root / "d").is_symlink()


def test_a_dir_in_the_way(tmp_path: Path) -> None:
    """A dir is not replaced: the error names the link."""
    (tmp_path / "a/b").mkdir(parents=True)
    with pytest.raises(InjectionError) as refused:
        make(tmp_path, ("x", "/a/b"))
    assert str(refused.value) == 'can\'t make "/a/b" a link to "x" in the container: Is a directory'
    assert os.listdir(tmp_path / "a") == ["b"]


def test_a_file_in_the_way(tmp_path: Path) -> None:
    """A file where a dir would have to be is named."""
    (tmp_path / "a").write_text("")
    with pytest.raises(InjectionError) as refused:
        make(tmp_path, ("x", "/a/b/c"))
    assert str(refused.value) == 'can\'t make "/a/b" in the container: Not a directory'
