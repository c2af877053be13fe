# SPDX-License-Identifier: Apache-2.0
"""What each user of this host says that their containers have, in a file that all can read.

Users can't read each other's leases, and none may hold a lock that another waits for. So whoever writes
leases publishes them, and then reads what others publish (neighbours.py): of two who do that at once, one
at least sees the other's file. Root's is in /run, PREFIX.ORIGIN, where ORIGIN is the dir of the leases, of
which a user may have several. Users' are in /dev/shm, PREFIX.ORIGIN.RANDOM: that is everybody's, so each is
new, with a name that nobody can know before, and its owner tells whose it is. It prevents accidents: users
may lie.
"""

from __future__ import annotations

import posix

from cdi_hook.base import files

ROOTS, SHARED = "/run", "/dev/shm"  # noqa: S108 # a file there is new, and read only as its owner's
_PREFIX = "cdi-hook-claims"
_STICKY = 0o1000
_MOST_NAMES = 10_000  # that are looked at in a dir


def own(leases: str, status: posix.stat_result) -> str:
    """Return how the path of our claims begins, for a dir of leases; it is all of root's."""
    is_root = posix.geteuid() == 0 == posix.stat("/").st_uid  # and not only of a user namespace
    origin = f"{_PREFIX}.{status.st_dev:x}-{status.st_ino:x}"
    return f"{leases.rpartition('/')[0]}/{origin}" if is_root else f"{SHARED}/{origin}."


def publish(start: str, data: bytes) -> str:
    """Publish this text of leases in place of the one before, and return its path; "" if there is no place.

    ``start`` is as own() returns it. Raises OSError, with the path.
    """
    if not start.startswith(f"{SHARED}/"):
        files.replace(start, data, 0o644, is_alone=True)
        return start
    if not is_possible():
        return ""
    old = [path for path in _paths(SHARED) if path.startswith(start)]
    path = f"{start}{posix.urandom(8).hex()}"
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
    descriptor = posix.open(path, flags, 0o644)
    try:
        posix.fchmod(descriptor, 0o644)  # whatever the umask
        while data:
            data = data[posix.write(descriptor, data) :]
    except OSError as error:
        posix.unlink(path)
        error.filename = path
        raise
    finally:
        posix.close(descriptor)
    for one in old:
        try:
            posix.unlink(one)
        except OSError:
            pass  # it is another user's, who can't be kept from that name
    return path


def strangers(start: str) -> list[str]:
    """Return the paths of what may be others' claims; ``start`` is as own() returns it."""
    is_root = not start.startswith(f"{SHARED}/")
    paths = [path for place in (ROOTS, SHARED)[is_root:] for path in _paths(place)]
    return [path for path in paths if not (path.startswith(start) and _is_ours(path))]


def is_possible() -> bool:
    """Say whether this host has a place for users' files."""
    try:
        return bool(posix.stat(SHARED).st_mode & _STICKY)
    except OSError:
        return False


def _is_ours(path: str) -> bool:
    try:
        return posix.lstat(path).st_uid == posix.geteuid()
    except OSError:  # it has just been replaced
        return True


def _paths(place: str) -> list[str]:
    try:
        with posix.scandir(place) as entries:
            names = [entry.name for _, entry in zip(range(_MOST_NAMES), entries)]
    except OSError:  # there is no such place
        return []
    return [f"{place}/{name}" for name in names if name.startswith(_PREFIX)]
