# SPDX-License-Identifier: Apache-2.0
"""One process at a time builds an index; those who come meanwhile wait for it, but not for long.

Only the cost of a start depends on it: who doesn't get a turn in time (the builder is
slow, or was stopped) or can't have one (there is no place for an index) goes on without,
and reads the specs itself.
"""

from __future__ import annotations

import fcntl
import os
import time

_POLLS = 50
_POLL_S = 0.01


class Turn:
    """A turn at building the index at a path, for a with statement; it doesn't outlive the process."""

    def __init__(self, path: str) -> None:
        self._directory = os.path.dirname(path)
        self._descriptor = -1

    def __enter__(self) -> None:
        flags = os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            os.makedirs(self._directory, 0o755, exist_ok=True)
            # nobody else can open it, so nobody else can make us wait
            self._descriptor = os.open(f"{self._directory}/lock", flags, 0o600)
            for _ in range(_POLLS):
                try:
                    return fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    time.sleep(_POLL_S)
        except OSError:
            return None

    def __exit__(self, *_: object) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
