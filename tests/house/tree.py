# SPDX-License-Identifier: Apache-2.0
"""Paths, and the files of this tree that the tests in this dir check."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "cdi_hook"
# What git ignores too, because it isn't part of the tree.
MADE = ("__pycache__", "build", "dist", "cdi_hook.egg-info")


def filled(path: str) -> str:
    """Return a file with what packaging/fill.py fills in."""
    command = [sys.executable, "-B", "packaging/fill.py", path]
    return subprocess.check_output(command, cwd=ROOT, text=True)


def files() -> list[Path]:
    """Return all files of the tree as relative paths, without git's files, tools' files and build results."""
    found = []
    for directory, names, leaves in os.walk(ROOT):
        names[:] = [name for name in names if name not in MADE and (name[0] != "." or name == ".ci")]
        found += [Path(directory, leaf).relative_to(ROOT) for leaf in leaves]
    return sorted(found)


def modules() -> dict[str, Path]:
    """Return the modules of the package by name; the package itself has the package's name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found
