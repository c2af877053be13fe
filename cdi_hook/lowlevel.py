# SPDX-License-Identifier: Apache-2.0
"""Programs of others on this host, runtimes above all, found as the door (packaging/bin/cdi-runtime) does."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Where the door looks after PATH; the last is where CRI-O's packages have their runtimes.
DIRS = (
    "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/libexec/crio",
)  # fmt: skip


def find(names: Sequence[str]) -> Iterator[str]:
    """Yield the path of each program that there is, in the order of their names; never our own program."""
    for name in names:
        paths = [name]
        if "/" not in name:
            paths = [f"{one}/{name}" for one in (*os.environ.get("PATH", "").split(":"), *DIRS)]
        for path in paths:
            if path.startswith("/") and is_runtime(path):
                yield path
                break


def is_runtime(path: str) -> bool:
    """Say whether a path is a program, and not cdi-runtime."""
    ours = any(name.startswith("cdi-") for name in map(os.path.basename, (path, os.path.realpath(path))))
    return not ours and os.path.isfile(path) and os.access(path, os.X_OK)
