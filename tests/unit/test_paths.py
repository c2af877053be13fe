# SPDX-License-Identifier: Apache-2.0
"""paths: cleaning, identity, trust."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cdi_hook import paths

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", "."), (".", "."), ("/", "/"), ("//a//b/", "/a/b"), ("a/../..", ".."), ("/..", "/"), ("../a", "../a"),
        ("a/./b/..", "a"), ("../../x/..", "../.."), ("/a/../../b", "/b"), ("./a", "a"), ("/.", "/"), ("a/..", "."),
    ],
)  # fmt: skip
def test_clean(path: str, expected: str) -> None:
    """Paths are cleaned as Go's filepath.Clean does."""
    assert paths.clean(path) == expected


def test_identity_changes_with_the_file(tmp_path: Path) -> None:
    """Content, mode, replacement: each gives another identity; a link has its target's."""
    file = tmp_path / "f"
    seen = [paths.identify(str(file))]
    assert seen == [None]
    file.write_text("a")
    seen.append(paths.identify(str(file)))
    file.chmod(0o600)
    seen.append(paths.identify(str(file)))
    (tmp_path / "g").write_text("b")
    (tmp_path / "g").rename(file)
    seen.append(paths.identify(str(file)))
    assert len(set(seen)) == len(seen)
    (tmp_path / "link").symlink_to("f")
    assert paths.identify(str(tmp_path / "link")) == paths.identify(str(file))


@pytest.fixture
def roots() -> Iterator[Path]:
    """A dir that only root can write, below one that is sticky and anybody's."""
    if os.geteuid() != 0:
        pytest.skip("needs root: only root's files can be trusted")
    with tempfile.TemporaryDirectory(prefix="cdi-hook-test-", dir="/tmp") as name:  # sticky is the point
        yield Path(name)


def test_roots_own_files_are_trusted_also_below_a_sticky_dir(roots: Path) -> None:
    """Root's file in root's dir in /tmp is nobody else's; what doesn't exist isn't either."""
    (roots / "f").write_text("")
    assert paths.untrusted(str(roots / "f")) is None
    assert paths.untrusted(str(roots / "none" / "f")) is None


@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_a_dir_that_others_can_write_is_named(roots: Path, mode: int) -> None:
    """A dir on the way that others can write into is the reason."""
    (roots / "d").mkdir()
    (roots / "d" / "f").write_text("")
    (roots / "d").chmod(mode)
    assert paths.untrusted(str(roots / "d" / "f")) == (
        f"{roots}/d is writable by others than root (mode {mode:04o})"
    )


def test_a_file_of_somebody_else_is_named(roots: Path) -> None:
    """Neither a file nor a dir nor a link of another user is trusted."""
    (roots / "d").mkdir()
    (roots / "d" / "f").write_text("")
    os.chown(roots / "d" / "f", 1234, 0)
    assert paths.untrusted(str(roots / "d" / "f")) == f"{roots}/d/f belongs to uid 1234, not to root"
    os.chown(roots / "d", 1234, 0)
    assert paths.untrusted(str(roots / "d" / "f")) == f"{roots}/d belongs to uid 1234, not to root"
    (roots / "link").symlink_to("/etc/passwd")
    os.chown(roots / "link", 1234, 0, follow_symlinks=False)
    assert (
        paths.untrusted(str(roots / "link"))
        == f"{roots}/link is a link that belongs to uid 1234, not to root"
    )


def test_links_are_followed_step_by_step(roots: Path) -> None:
    """What counts is every dir that a link leads through, relative or absolute, in a loop or not."""
    (roots / "open").mkdir()
    (roots / "open").chmod(0o777)
    (roots / "open" / "f").write_text("")
    (roots / "relative").symlink_to("open/../open/f")
    (roots / "absolute").symlink_to(roots / "open" / "f")
    reason = f"{roots}/open is writable by others than root (mode 0777)"
    assert paths.untrusted(str(roots / "relative")) == reason
    assert paths.untrusted(str(roots / "absolute")) == reason
    (roots / "loop").symlink_to("loop")
    assert paths.untrusted(str(roots / "loop")) == f"{roots}/loop is in a loop of links"


def test_what_is_durable_is_on_the_disk_before_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A durable file is synced before it comes in another's place, and others, which are on tmpfs, aren't."""
    file, synced = tmp_path / "file", []
    monkeypatch.setattr("posix.fsync", lambda _: synced.append(file.read_text()))
    file.write_text("old")
    paths.replace(str(file), b"new", 0o644, durable=True)
    assert (file.read_text(), synced) == ("new", ["old"])
    paths.replace(str(file), b"newer", 0o644)
    assert (file.read_text(), synced) == ("newer", ["old"])
