# SPDX-License-Identifier: Apache-2.0
"""packages: packages are found, and nothing of theirs runs unasked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]


def test_packages_are_found_without_running_them(tmp_path: Path) -> None:
    """Packages of a virtual environment and of its Python are found, by doctor too, and no .pth file is followed."""
    prefixes = [tmp_path / name for name in ("environment", "base")]
    for prefix in prefixes:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
        (packages,) = prefix.glob("lib/python3.*/site-packages")
        (packages / f"of_{prefix.name}.py").write_text(f"print({prefix.name!r})\n")
        (packages / "other.pth").write_text("import sys; print('followed')\n")
    # As since Python 3.14, where sys.prefix is the environment's without site too.
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.prefix = sys.exec_prefix = {str(prefixes[0])!r}\n"
        f"sys.base_prefix = {str(prefixes[1])!r}\n"
        "from cdi_hook.base import packages\n"
        "print(*map(packages.has, ('of_environment', 'of_base', 'of_nobody')))\n"
        "packages.enable(); import of_environment, of_base"
    )
    done = subprocess.run([sys.executable, "-IS", "-c", program], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("True True False\nenvironment\nbase\n", "")
