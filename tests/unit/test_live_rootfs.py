# SPDX-License-Identifier: Apache-2.0
"""live.rootfs: places that two containers share; tests/runtime has the links of images."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cdi_hook.live import rootfs

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


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
