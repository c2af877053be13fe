# SPDX-License-Identifier: Apache-2.0
"""What other users' containers have, as these users claim it. Imported only if there are claims of others."""

from __future__ import annotations

import posix

from cdi_hook.base import files, json_text
from cdi_hook.leases import claims, life
from cdi_hook.leases.store import Lease

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

_FIELDS = ("id", "since", "creators", "devices")  # of what store.py writes
_REST: dict[str, Any] = {"token": "", "root": "", "bundle": "", "engine": "", "state": [], "xdg": None}
_MOST, _LEAST = 8 << 20, 16 << 10  # bytes of all files, and what a file counts at least
_LONG = 256  # characters of a name that another user chose
_NOBODY = 65534  # as whom all others are seen in a user namespace
_ACL, _ACL_USER, _ACL_GROUP = "system.posix_acl_access", 2, 8


def leases(paths: Iterable[str], nodes: Mapping[str, str]) -> list[Lease]:
    """Return what these files claim, as leases that also have the words for a "user", and their "file".

    ``nodes`` are the paths of nodes, by their keys. To root others claim only what they may open of these.
    """
    uid = posix.geteuid()
    is_root = uid == 0 == posix.stat("/").st_uid
    may: dict[tuple[int, str], bool] = {}

    def may_open(owner: int, key: str) -> bool:
        if key in nodes and (owner, key) not in may:
            may[owner, key] = _may_open(owner, nodes[key])
        return may.get((owner, key), False)

    found: list[Lease] = []
    left = _MOST
    for path in paths:
        try:
            data, status = files.read_open(posix.open(path, files.READ | posix.O_NOFOLLOW), path, left)
            left -= max(len(data), _LEAST)
            owner = status.st_uid
            if is_root and not owner:  # root's containers may have the host's /dev/shm
                continue
            user = {uid: "your other session", _NOBODY: "another user"}.get(owner, f"uid {owner}")
            user = "root" if path.startswith(f"{claims.ROOTS}/") else user
            for claim in json_text.loads(data.decode())["leases"]:
                tree = {**_REST, **{name: claim[name] for name in _FIELDS}, "user": user, "file": path}
                if is_root:
                    tree["devices"] = [
                        [name, [key for key in keys if may_open(owner, key)], capabilities]
                        for name, keys, capabilities in tree["devices"]
                    ]
                found += _usable(tree)
        except (OSError, ValueError, TypeError, KeyError):
            left -= _LEAST
    return found


def _usable(tree: dict[str, Any]) -> list[Lease]:
    """Return the lease, if it is one, and has nothing that can't be shown."""
    lease = Lease(tree)
    texts = (lease["id"], *(name for name, _, _ in lease["devices"]))
    is_usable = all(text.isascii() and text.isprintable() and len(text) < _LONG for text in texts)
    return [lease] if is_usable else []


def named(words: Iterable[str]) -> set[str]:
    """Return those of these words that a process has in its arguments or cgroup; all if one may be hidden."""
    found = {*words}
    try:
        if found and life.read("/proc/1/stat") and posix.readlink("/proc/self") == str(posix.getpid()):
            text = b"\n".join(_each("cmdline", "cgroup"))
            found = {word for word in found if word.encode() in text}
    except OSError:
        pass
    return found


def _each(*names: str) -> Iterator[bytes]:
    """Yield what /proc has of each process in files with these names."""
    for pid in filter(str.isdecimal, posix.listdir("/proc")):
        try:
            yield b"".join(life.read(f"/proc/{pid}/{name}") for name in names)
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has just ended


def _may_open(uid: int, path: str) -> bool:
    """Say whether a user may read or write a node: as anybody, its owner, in its group, or by its ACL."""
    status = posix.stat(path)
    if status.st_mode & 0o006 or status.st_uid == uid:
        return True
    groups = _groups(uid)
    acl = posix.getxattr(path, _ACL) if _ACL in posix.listxattr(path) else b""
    entries = [(acl[at], int.from_bytes(acl[at + 4 : at + 8], "little")) for at in range(4, len(acl), 8)]
    return (
        bool(status.st_mode & 0o060 and status.st_gid in groups)
        or (_ACL_USER, uid) in entries
        or any(tag == _ACL_GROUP and gid in groups for tag, gid in entries)
    )


def _groups(uid: int) -> list[int]:
    """Return the groups that a user's processes are in."""
    found: set[bytes] = set()
    for text in _each("status"):
        fields = dict(line.partition(b":")[::2] for line in text.splitlines())
        if int(fields[b"Uid"].split()[1]) == uid:
            found.update(fields[b"Gid"].split()[1:2], fields[b"Groups"].split())
    return [*map(int, found)]
