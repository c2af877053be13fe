# SPDX-License-Identifier: Apache-2.0
"""site_packages: packages are found, and nothing of theirs runs unasked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_packages_are_found_without_running_them(tmp_path: Path) -> None:
    """A package of the installation can be imported, and no .pth file is followed."""
    prefix = tmp_path / "prefix"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
    (packages,) = prefix.glob("lib/python3.*/site-packages")
    (packages / "found.py").write_text("print('found')\n")
    (packages / "other.pth").write_text("import sys; print('followed')\n")
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.prefix = sys.exec_prefix = {str(prefix)!r}\n"
        "from cdi_hook import site_packages\n"
        "site_packages.enable(); import found"
    )
    done = subprocess.run([sys.executable, "-IS", "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("found\n", "")
