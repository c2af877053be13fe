# SPDX-License-Identifier: Apache-2.0
"""The box that engines run in: nothing that is done in it is seen outside."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from .box import LAYOUT, ROOT, STANDARD_PATH, why_not

if TYPE_CHECKING:
    from pathlib import Path

CHROOT = """
mount --rbind / "$1"
mount -t tmpfs tmpfs "$1/srv"
touch "$1/srv/within"
cd /
exec chroot "$@"
"""
LIST = """
import sys; sys.path.insert(0, sys.argv.pop())
from pathlib import Path
from tests.engine.box import Box

directory = Path(sys.argv[1])
box = Box(directory, sys.argv[2], directory)
print(box.do("ls", "/srv"))
box.close()
"""


def test_box_in_a_chroot(tmp_path: Path) -> None:
    """A box that is made in a chroot, as package builders use, has the chroot as its root, not the machine's root."""
    if reason := why_not(LAYOUT):
        pytest.skip(reason)
    for name in ("usr", "etc", "root"):
        (tmp_path / name).mkdir()
    program = (sys.executable, "-c", LIST, tmp_path, LAYOUT, ROOT)
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-ec", CHROOT, "sh", tmp_path / "root", *program],
        env={"PATH": STANDARD_PATH}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("within\n", "")
