# SPDX-License-Identifier: Apache-2.0
"""rootfs: places that two containers share; tests/runtime has the links of images."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import TYPE_CHECKING

from cdi_hook.container import rootfs, syscalls
from cdi_hook.errors import InjectionError

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

ROUNDS = 2000
RENAME_EXCHANGE = 2


def test_what_another_container_makes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that another container has made meanwhile is used, and an undo doesn't remove it."""
    create_dir = rootfs.create_dir

    def too_late(directory: int, name: str) -> None:
        create_dir(directory, name)
        create_dir(directory, name)

    monkeypatch.setattr(rootfs, "create_dir", too_late)
    root = rootfs.Rootfs(os.open(tmp_path, os.O_PATH))
    made = root.make("/a/b/c", too_late)
    assert os.path.samestat(os.fstat(made), (tmp_path / "a/b/c").stat())
    root.undo()
    assert (tmp_path / "a/b/c").is_dir()


def test_dirs_that_turn_into_links(tmp_path: Path) -> None:
    """Places are made and found only below the root, while somebody swaps dirs on the way with links that lead out."""
    outside, root_dir = tmp_path / "outside", tmp_path / "root"
    for path in (outside, root_dir / "vol/a/b"):
        path.mkdir(parents=True)
    (root_dir / "vol/a.link").symlink_to(outside)
    (root_dir / "vol/a/b.link").symlink_to("../../../../outside")
    swapper = os.fork()
    if swapper == 0:
        libc = ctypes.CDLL(None)
        at, flags = syscalls.AT_FDCWD, ctypes.c_uint(RENAME_EXCHANGE)
        while True:
            for name in ("vol/a", "vol/a/b"):
                libc.renameat2(at, bytes(root_dir / name), at, bytes(root_dir / f"{name}.link"), flags)
    try:
        for first in range(0, ROUNDS, 100):
            maker = os.fork()  # an undo holds descriptors until its process ends
            if maker == 0:
                os._exit(make_places(root_dir, first))
            assert os.waitpid(maker, 0)[1] == 0
    finally:
        os.kill(swapper, signal.SIGKILL)
        os.waitpid(swapper, 0)
    assert os.listdir(outside) == []


def make_places(root_dir: Path, first: int) -> int:
    """Make places in a dir that may lead out, with 100 numbers; return 0."""
    for number in range(first, first + 100):
        root = rootfs.Rootfs(os.open(root_dir, os.O_PATH))
        for create, kind in ((rootfs.create_dir, "dir"), (rootfs.create_file, "file")):
            try:
                os.close(root.make(f"/vol/a/b/{kind}/{number}", create))
                os.close(root.open(f"/vol/a/b/{kind}"))
            except (InjectionError, FileNotFoundError):
                pass  # a dir was moved meanwhile
    return 0
