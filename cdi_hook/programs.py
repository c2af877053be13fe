# SPDX-License-Identifier: Apache-2.0
"""Where the programs of this installation are, for files and messages that name them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def find(name: str) -> Iterator[str]:
    """Yield the paths of a program that exist; that of this installation comes first."""
    lib = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    directories = [
        os.path.join(lib, "packaging", "bin"),
        os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(lib))), "bin"),
        *os.environ.get("PATH", "").split(":"),
        "/usr/bin",
    ]
    for directory in directories:
        program = os.path.join(directory, name)
        if directory.startswith("/") and os.access(program, os.X_OK):
            yield program


def path(name: str) -> str:
    """Return the path of a program of ours, or where packages install it."""
    return next(find(name), f"/usr/bin/{name}")
