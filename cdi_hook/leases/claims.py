# SPDX-License-Identifier: Apache-2.0
"""What each user of this host says that their containers have, in a file that all can read.

Users can't read each other's leases, and none may hold a lock that another waits for. So whoever writes
leases publishes them, and then reads what others publish: of two who do that at once, one at least sees the
other's file. Root's is in /run, users' are in /dev/shm. That is everybody's, so the owner tells whose a file
is. Each is new, with a name that nobody can know before, and never changes: PREFIX.ORIGIN.RANDOM, where
ORIGIN is the dir of the leases, of which a user may have several. This prevents accidents: users may lie.
"""

from __future__ import annotations

import posix

from cdi_hook.base import files, json_text
from cdi_hook.leases import life

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

ROOTS, SHARED = "/run", "/dev/shm"  # noqa: S108 # a file there is new, and read only as its owner's
_PREFIX = "cdi-hook-claims"
_FIELDS = ("id", "since", "creators", "devices")  # of what store.py writes
_REST: dict[str, Any] = {"token": "", "root": "", "bundle": "", "engine": "", "state": [], "xdg": None}
_STICKY = 0o1000
_MOST, _LEAST = 8 << 20, 16 << 10  # bytes of all files, and what a file counts at least
_MOST_NAMES = 10_000  # that are looked at in a dir
_NOBODY = 65534  # as whom all others are seen in a user namespace
_ACL, _ACL_USER, _ACL_GROUP = "system.posix_acl_access", 2, 8


class Claims:
    """The file of one dir of leases, and those of others; ``path`` is that of our last one."""

    __slots__ = ("_is_root", "_may", "_prefix", "_uid", "path")

    def __init__(self, leases: str, status: posix.stat_result) -> None:
        """Take the path and the status of the leases' dir."""
        self._uid = posix.geteuid()
        self._is_root = self._uid == 0 == posix.stat("/").st_uid  # and not only of a user namespace
        place = leases.rpartition("/")[0] if self._is_root else SHARED
        self._prefix = f"{place}/{_PREFIX}.{status.st_dev:x}-{status.st_ino:x}."
        self.path = ""
        self._may: dict[tuple[int, str], bool] = {}

    def publish(self, data: bytes) -> None:
        """Publish this text of leases in place of the one before; raises OSError."""
        if not is_possible():
            return
        old = [path for path in _paths(self._prefix.rpartition("/")[0]) if path.startswith(self._prefix)]
        self.path = f"{self._prefix}{posix.urandom(8).hex()}"
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_NOFOLLOW | posix.O_CLOEXEC
        descriptor = posix.open(self.path, flags, 0o644)
        try:
            posix.fchmod(descriptor, 0o644)  # whatever the umask
            while data:
                data = data[posix.write(descriptor, data) :]
        except OSError:
            posix.unlink(self.path)
            raise
        finally:
            posix.close(descriptor)
        for path in old:
            try:
                posix.unlink(path)
            except OSError:
                pass  # it is another user's, who can't be kept from that name

    def others(self, paths: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return what others claim, as leases with the words for a "user", and their "file".

        ``paths`` are those of nodes, by their keys. To root others claim only what they may open of these.
        """
        found: list[dict[str, Any]] = []
        left = _MOST
        for path in [path for place in (ROOTS, SHARED)[self._is_root :] for path in _paths(place)]:
            try:
                data, status = files.read_open(posix.open(path, files.READ | posix.O_NOFOLLOW), path, left)
                left -= max(len(data), _LEAST)
                uid = status.st_uid
                # Root's containers may have the host's /dev/shm.
                if (uid == self._uid and path.startswith(self._prefix)) or (self._is_root and not uid):
                    continue
                user = {self._uid: "your other session", _NOBODY: "another user"}.get(uid, f"uid {uid}")
                user = "root" if path.startswith(f"{ROOTS}/") else user
                for claim in json_text.loads(data.decode())["leases"]:
                    tree = {**_REST, **{name: claim[name] for name in _FIELDS}, "user": user, "file": path}
                    if self._is_root:
                        tree["devices"] = [
                            [name, [key for key in keys if self._may_open(uid, key, paths)], capabilities]
                            for name, keys, capabilities in tree["devices"]
                        ]
                    found.append(tree)
            except (OSError, ValueError, TypeError, KeyError):
                left -= _LEAST
        return found

    def _may_open(self, uid: int, key: str, paths: Mapping[str, str]) -> bool:
        if key in paths and (uid, key) not in self._may:
            self._may[uid, key] = _may_open(uid, paths[key])
        return self._may.get((uid, key), False)


def is_possible() -> bool:
    """Say whether this host has a place for users' files."""
    try:
        return bool(posix.stat(SHARED).st_mode & _STICKY)
    except OSError:
        return False


def _paths(place: str) -> list[str]:
    if not is_possible():
        return []
    with posix.scandir(place) as entries:
        names = [entry.name for _, entry in zip(range(_MOST_NAMES), entries)]
    return [f"{place}/{name}" for name in names if name.startswith(_PREFIX)]


def _may_open(uid: int, path: str) -> bool:
    """Say whether a user may read or write a node: as anybody, its owner, in its group, or by its ACL."""
    status = posix.stat(path)
    if status.st_mode & 0o006 or status.st_uid == uid:
        return True
    groups = life.groups(uid)
    acl = posix.getxattr(path, _ACL) if _ACL in posix.listxattr(path) else b""
    named = [(acl[at], int.from_bytes(acl[at + 4 : at + 8], "little")) for at in range(4, len(acl), 8)]
    return (
        bool(status.st_mode & 0o060 and status.st_gid in groups)
        or (_ACL_USER, uid) in named
        or any(tag == _ACL_GROUP and gid in groups for tag, gid in named)
    )
