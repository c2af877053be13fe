# SPDX-License-Identifier: Apache-2.0
"""Where the programs of this installation are, for files that name them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


def directories() -> Iterator[str]:
    """Yield the dirs where our programs can be; the dirs of this installation come first, then PATH."""
    lib = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    yield os.path.join(lib, "packaging", "bin")
    yield os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(lib))), "bin")
    for directory in (*os.environ.get("PATH", "").split(":"), "/usr/bin"):
        if directory.startswith("/"):
            yield directory


def find(name: str) -> str:
    """Return the path of a program; "" if there is none."""
    paths = (os.path.join(directory, name) for directory in directories())
    return next((path for path in paths if os.access(path, os.X_OK)), "")
