# SPDX-License-Identifier: Apache-2.0
"""Where things are, and the files of this tree: what the tests in here look at."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "cdi_hook"
# What git ignores as well, so that it is nobody's part of the tree.
MADE = ("__pycache__", "build", "dist", "cdi_hook.egg-info")


def files() -> list[Path]:
    """Return all files of the tree by their path in it: not git's, not a tool's, not what was built."""
    found = []
    for directory, names, leaves in os.walk(ROOT):
        names[:] = [name for name in names if name not in MADE and (name[0] != "." or name == ".ci")]
        found += [Path(directory, leaf).relative_to(ROOT) for leaf in leaves]
    return sorted(found)


def modules() -> dict[str, Path]:
    """Return the modules of the package by name; a package's own is named as the package."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found
