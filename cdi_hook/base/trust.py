# SPDX-License-Identifier: Apache-2.0
"""SPEC_TRUST: a file that nobody but root could have written, held so that nobody can exchange it.

index.py checks its own file itself, because a container's start doesn't import this module.
"""

from __future__ import annotations

import contextlib
import posix
import posixpath
import shlex
import stat
from typing import TYPE_CHECKING

from cdi_hook.base import files

if TYPE_CHECKING:
    from collections.abc import Iterator

# Dirs that are root's. Elsewhere a dir of a user's, such as a home, is theirs.
_SYSTEM = ("bin", "boot", "etc", "lib", "lib64", "opt", "run", "sbin", "srv", "usr", "var")
ELSEWHERE = "put it where only root can write"
_FLAGS = posix.O_PATH | posix.O_NOFOLLOW | posix.O_CLOEXEC


class Untrusted(Exception):
    """Somebody other than root could have written a file; the text says why, ``remedy`` what to do."""

    def __init__(self, message: str, remedy: str = "") -> None:
        self.remedy = remedy
        super().__init__(message)


@contextlib.contextmanager
def trusted(path: str) -> Iterator[str]:
    """Check a file, and provide the path by which that very file can be read.

    Root must own every dir on the way and be the only one who can write to it; a
    sticky dir may be writable if root owns the entry in it. Links are followed step
    by step. Each step is checked by its descriptor, from which the next one starts.
    ``path`` is absolute. Raises Untrusted, or OSError if there is no such file.
    """
    descriptor = _walk(path)
    try:
        yield f"/proc/self/fd/{descriptor}"
    finally:
        posix.close(descriptor)


def untrusted(path: str) -> tuple[str, str]:
    """Return why a file isn't root's alone, and what to do about it; "" if it is, or isn't there."""
    try:
        with trusted(posixpath.abspath(path)):
            return "", ""
    except Untrusted as error:
        return str(error), error.remedy
    except OSError:
        return "", ""


def _walk(path: str) -> int:
    roots = _roots()
    pending = [*path.split("/")[::-1], "/"]
    way: list[int] = []  # at most the dir that we are in, and the entry that is looked at
    here, links, is_shared = "", 0, False  # is_shared: others can make entries here
    try:
        while pending:
            part = pending.pop()
            if part in ("", "."):
                continue
            if part == "/":
                entry, is_shared = part, False
            elif part == "..":
                entry, is_shared = here[: here.rindex("/")] or "/", False
            else:
                entry = f"{here.rstrip('/')}/{part}"
            way.append(posix.open(part, _FLAGS, dir_fd=way[-1] if way else None))
            status = posix.fstat(way[-1])
            is_link = stat.S_ISLNK(status.st_mode)
            if status.st_uid not in (roots[:1] if is_shared else roots):
                kind = "is a link that " if is_link else ""
                link = "-h " if is_link else ""
                is_theirs = bool(pending) and entry.split("/")[1] not in _SYSTEM
                raise Untrusted(
                    f"{entry} {kind}belongs to uid {status.st_uid}, not to root",
                    ELSEWHERE if is_theirs else f"chown {link}root {shlex.quote(entry)}",
                )
            if is_link:
                if links == files.MAX_LINKS:
                    raise Untrusted(f"{entry} is in a loop of links")
                links += 1
                target = posix.readlink("", dir_fd=way[-1])
                posix.close(way.pop())
                pending += target.split("/")[::-1]
                if target.startswith("/"):
                    pending.append("/")
                continue
            is_shared = bool(status.st_mode & 0o022)
            if is_shared and not (status.st_mode & 0o1000 and pending):
                mode = f"mode {status.st_mode & 0o7777:04o}"
                raise Untrusted(
                    f"{entry} is writable by others than root ({mode})", f"chmod go-w {shlex.quote(entry)}"
                )
            here = entry
            for outer in way[:-1]:
                posix.close(outer)
            del way[:-1]
        return way.pop()
    finally:
        for one in way:
            posix.close(one)


def _roots() -> tuple[int, ...]:
    """Return the uids of root: first our own, then what the root outside looks like.

    In a user namespace whose map lacks the root outside, such as that of rootless podman,
    what belongs to that root looks like nobody's (overflowuid in proc_sys_kernel(5)), as what
    belongs to any other user there does. So that uid counts only for what stands in a dir
    where others can't make entries: in / or /etc that is root's, and not another user's.
    """
    with open("/proc/self/uid_map", encoding="ascii") as stream:
        if any(line.split()[1] == "0" for line in stream):
            return (0,)
    with open("/proc/sys/kernel/overflowuid", encoding="ascii") as stream:
        return 0, int(stream.read())
