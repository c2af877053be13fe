# SPDX-License-Identifier: Apache-2.0
"""doctor: the last lines of a log, which may be long."""

from __future__ import annotations

import os
import stat

from cdi_hook.base import files

_MOST = 1 << 20  # bytes


def tail(path: str) -> list[str]:
    """Return the last lines of a regular file; raises OSError, whose strerror says what else it is."""
    with os.fdopen(os.open(path, files.READ), "rb") as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "not a regular file", path)
        stream.seek(max(0, status.st_size - _MOST))
        return stream.read(_MOST).decode("utf-8", "replace").splitlines()
