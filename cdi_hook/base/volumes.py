# SPDX-License-Identifier: Apache-2.0
"""Which mount a path is on, which mounts are images', and which dirs don't answer.

The files of an image (squashfs, erofs, a verity partition) have the times that they were made with.
Another image in its place may have the same, so its files' times don't tell that they changed.

A network file system or one of FUSE may never answer, and then a process that asks can't even be killed.
So a child asks it first (patience.py).
"""

from __future__ import annotations

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Where distributions mount parts of the system. Without these nothing works, so they aren't asked.
_SYSTEM = ("/etc", "/home", "/run", "/usr", "/var")
_silent: set[str] = set()  # the dirs that this process has waited for


def number(path: str) -> bytes:
    """Return the number of the mount that a path is on; raises OSError."""
    descriptor = posix.open(path, posix.O_PATH | posix.O_CLOEXEC)
    try:
        return number_of(descriptor)
    finally:
        posix.close(descriptor)


def number_of(descriptor: int) -> bytes:
    """Return the number of the mount that an open file is on."""
    source = posix.open(f"/proc/self/fdinfo/{descriptor}", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return posix.read(source, 4096).partition(b"mnt_id:")[2].split(None, 1)[0]
    finally:
        posix.close(source)


def images() -> set[bytes]:
    """Return the numbers of the mounts whose file systems nobody can write to, however they are mounted."""
    found = set()
    try:
        with open("/proc/self/mountinfo", "rb") as stream:
            for line in stream:
                mount, _, system = line.partition(b" - ")
                if b"ro" in system.split()[-1].split(b","):
                    found.add(mount.split()[0])
    except OSError:
        pass  # no /proc
    return found


def silent(dirs: Sequence[str], beside: str, look: Callable[[str], object]) -> list[str]:
    """Return those of some dirs that don't let a child look at them within PATIENCE_S.

    What is on a mount of the system's, or on that of the path ``beside``, isn't asked.
    """
    near = []
    for path in ("/", beside):
        try:
            near.append(number(path))
        except OSError:
            pass  # it isn't there yet
    return [path for path in dirs if is_silent(path) or not (_is_near(path, near) or _answers(path, look))]


def is_silent(path: str) -> bool:
    """Say whether this process has waited for a dir in vain."""
    return path.rstrip("/") in _silent


def _is_near(path: str, near: list[bytes]) -> bool:
    """Say whether a dir, and all above it, are on these mounts or the system's; none is asked anything."""
    at = 0
    try:
        while at >= 0:
            at = path.find("/", at + 1)
            above = path[:at] if at > 0 else path
            mount = number(above)
            if above in _SYSTEM:
                near.append(mount)
            elif mount not in near:
                return False
    except OSError:
        pass  # it isn't there
    return True


def _answers(path: str, look: Callable[[str], object]) -> bool:
    from cdi_hook.base import patience

    if patience.answers(path, look):
        return True
    _silent.add(path.rstrip("/"))
    return False
