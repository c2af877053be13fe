# SPDX-License-Identifier: Apache-2.0
"""SPEC_TRUST: whether somebody other than root could have written a file.

index.py checks its own file itself, because a container's start doesn't import this module.
"""

from __future__ import annotations

import posix

_S_IFMT, _S_IFLNK = 0o170000, 0o120000
_MAX_LINKS = 40  # the kernel's limit


def untrusted(path: str) -> str | None:
    """Return why somebody other than root could have written path, or None.

    Root must own every dir on the way and be the only one who can write to it; a
    sticky dir may be writable if root owns the entry in it. Links are followed step
    by step. ``path`` is absolute; nobody could have written a file that doesn't exist.
    """
    pending = path.split("/")[::-1]
    here, links = "/", 0
    while True:
        status = posix.lstat(here)
        if status.st_uid != 0:
            return f"{here} belongs to uid {status.st_uid}, not to root"
        sticky = status.st_mode & 0o1000 and pending
        if status.st_mode & 0o022 and not sticky:
            return f"{here} is writable by others than root (mode {status.st_mode & 0o7777:04o})"
        while pending and pending[-1] in ("", "."):
            pending.pop()
        if not pending:
            return None
        part = pending.pop()
        if part == "..":
            here = here[: here.rindex("/")] or "/"
            continue
        entry = f"{here.rstrip('/')}/{part}"
        try:
            status = posix.lstat(entry)
        except OSError:
            return None
        if status.st_mode & _S_IFMT != _S_IFLNK:
            here = entry
        elif status.st_uid != 0:
            return f"{entry} is a link that belongs to uid {status.st_uid}, not to root"
        elif links == _MAX_LINKS:
            return f"{entry} is in a loop of links"
        else:
            links += 1
            target = posix.readlink(entry)
            pending += target.split("/")[::-1]
            if target.startswith("/"):
                here = "/"
