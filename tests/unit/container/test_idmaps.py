# SPDX-License-Identifier: Apache-2.0
"""idmaps: the kernel says of which sources it can map ids, and nothing stays of the question."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from cdi_hook.container import idmaps

MOUNTS, CHILDREN = Path("/proc/self/mountinfo"), Path("/proc/thread-self/children")

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may map ids")


def test_the_kernel_is_asked(tmp_path: Path) -> None:
    """Disks and tmpfs can be mapped, devtmpfs, sysfs and proc can't, and of a tree all has to be."""
    idmaps._user_namespace.cache_clear()
    children = CHILDREN.read_text("ascii")
    before, mounts = len(os.listdir("/proc/self/fd")), MOUNTS.read_text("utf-8")
    sources = [str(tmp_path), "/dev/null", "/sys", "/proc", "/none"]
    assert [idmaps.can_map(path, recursive=False) for path in sources] == [True, False, False, False, True]
    assert idmaps.can_map("/", recursive=False)
    assert not idmaps.can_map("/", recursive=True)  # /proc is below it
    assert len(os.listdir("/proc/self/fd")) == before + 1  # the user namespace's
    assert MOUNTS.read_text("utf-8") == mounts
    os.close(idmaps._user_namespace())
    idmaps._user_namespace.cache_clear()
    assert CHILDREN.read_text("ascii") == children  # which another test may have left
