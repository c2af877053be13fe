# SPDX-License-Identifier: Apache-2.0
"""Paths as text, what tells one state of a file from another, and the step to the next. No import but posix.

os would do, and costs 2 ms of a container's start (see DESIGN, the budget).
"""

from __future__ import annotations

import posix

TYPE_CHECKING = False

Identity = tuple[int, ...]
_S_IFMT, _S_IFLNK = 0o170000, 0o120000
_MAX_LINKS = 40  # as the kernel has it


def clean(path: str) -> str:
    """Return the shortest equivalent path, by text alone, as Go's filepath.Clean does."""
    root = path.startswith("/")
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and (parts or root):
            if parts and parts[-1] != "..":
                parts.pop()
            elif not root:
                parts.append(part)
        elif part not in ("", "."):
            parts.append(part)
    return ("/" if root else "") + "/".join(parts) or "."


def identify(path: str) -> Identity | None:
    """Return what changes whenever the file or dir at path does; None where there is none.

    Device, inode, size, mtime and ctime in ns, mode and owner, links followed.
    """
    try:
        status = posix.stat(path)
    except (OSError, ValueError):
        return None
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_mode,
        status.st_uid,
    )


def replace(
    path: str, data: bytes, mode: int, owner: tuple[int, int] | None = None, *, durable: bool = False
) -> None:
    """Put a file with this data, mode and (uid, gid) in path's place, in one step.

    With durable its data is on the disk before it has that name: after a power
    failure some filesystems have an empty file there otherwise. Raises OSError,
    and then what was there is there, and nothing beside it.
    """
    temporary = f"{path}.{posix.getpid()}.tmp"
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC | posix.O_NOFOLLOW
    descriptor = posix.open(temporary, flags, 0o600)
    try:
        status = posix.fstat(descriptor)
        if owner is not None and owner != (status.st_uid, status.st_gid):
            posix.fchown(descriptor, *owner)
        posix.fchmod(descriptor, mode)  # whatever the umask
        while data:
            data = data[posix.write(descriptor, data) :]
        if durable:
            posix.fsync(descriptor)
        posix.rename(temporary, path)
    except BaseException:
        posix.unlink(temporary)
        raise
    finally:
        posix.close(descriptor)


def untrusted(path: str) -> str | None:
    """Say who else could have written path, or None when only root could.

    Every dir on the way has to be root's and not writable by others, unless it
    is sticky and what lies in it is root's; links are followed step by step.
    ``path`` is absolute; what doesn't exist is nobody's.
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
