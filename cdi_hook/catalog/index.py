# SPDX-License-Identifier: Apache-2.0
"""What the specs say, compiled: read without YAML, at a cost that doesn't grow with devices.

One file for a list of spec dirs, replaced atomically, under a dir that only its
owner can write. All numbers are little-endian, of 4 bytes:

    magic    9 bytes, "cdi-hook" and the format's number
    length   of the head
    slots    how many
    head     JSON: the package's version, whether specs were trusted strictly,
             the watched paths with their identities (each dir, each spec file;
             null for what wasn't there), where in these each dir is, and of those the
             images' with their contents
    table    offset and length of a record: for each slot, then for each
             watched path, then again for each watched path, then one more
    records  JSON: of a slot, [[name, number of its spec, edits], ...]; of a spec,
             [its own edits], and then [[its text, all its data]] for index_writer.py;
             the last one is inventory.py's

A name's slot is its bytes as a number modulo the slots. A spec's number is that
of its watched path. Where a record is empty, its length is 0. An index that doesn't
fit what is on disk now, which isn't fresh, counts as none. Where none can be written, each start
reads the specs. index_writer.py writes it; this module is on the path of every
start, and only reads.
"""

from __future__ import annotations

import posix

from cdi_hook import errors
from cdi_hook.base import json_text, volumes
from cdi_hook.base.files import content, identify
from cdi_hook.version import __version__

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from cdi_hook.edits.target import Part

    DeviceParts = tuple[
        Part, Part
    ]  # what a device's spec asks for with each of its devices, and what the device does

MAGIC = b"cdi-hook\x07"
HEAD_AT = len(MAGIC) + 8
# The kinds of findings (see errors.py) that stay while no watched path changes.
SAID_BY_A_SPEC = ("invalid", "conflict")


class Index:
    """The index at a path, of the specs in some dirs, which were trusted strictly or not."""

    def __init__(self, path: str, spec_dirs: Sequence[str], strict: bool) -> None:
        self.path = path
        self.spec_dirs = list(spec_dirs)
        self.strict = strict

    def look_up(self, names: Sequence[str]) -> list[DeviceParts] | None:
        """Return what each of these devices asks for; None without an index that is fresh.

        Raises UnresolvableDevices for names that no spec defines.
        """
        asked, missing = read(self.path, self._look_up, names) or (None, ())
        if missing:
            raise errors.UnresolvableDevices(missing)
        return asked

    def inventory(self) -> tuple[list[str], Any] | None:
        """Return the watched paths, and inventory.py's record; None as look_up does."""
        return read(self.path, self._inventory)  # type: ignore[no-any-return]  # it is _inventory's

    def is_fresh(self, start: dict[str, Any], first: int = 0) -> bool:
        """Say whether the index, of this head, fits the specs in its dirs as they are now.

        ``first`` is the place among the watched paths from where on it has to.
        """
        if (start["version"], start["dirs"], start["strict"]) != (__version__, self.spec_dirs, self.strict):
            return False
        watched = start["watched"][first:]
        dirs = [start["watched"][place][0] for place in start["places"] if place >= first]

        def look(directory: str) -> None:
            for one, _ in watched:
                if one == directory or one.startswith(f"{directory}/"):
                    identify(one)

        if volumes.silent(dirs, self.path, look):
            return False
        for one, identity in watched:
            current = identify(one)
            if identity != (None if current is None else list(current)):
                return False
        images = start["images"]
        return not images or all(content(path) == images[path] for path, _ in watched if path in images)

    def _look_up(self, descriptor: int, names: Sequence[str]) -> tuple[list[DeviceParts], list[str]] | None:
        """Return what the devices ask for, and the names that no spec defines."""
        start, slots, table = head(descriptor)
        devices, missing = [], []
        for name in names:
            own = [device for device in record(descriptor, table, number(name) % slots) if device[0] == name]
            devices += own
            if not own:
                missing.append(name)
        if missing:
            said = self._inventory(descriptor)  # which knows them all the same if the index is damaged
            known = {device[0] for device in said[1]["devices"]} if said else set(missing)
            return None if known.intersection(missing) else ([], missing)
        # What a dir says doesn't count where all is defined in later ones, so it isn't asked.
        specs = {spec for _, spec, _ in devices}
        lowest = min(specs, default=0)
        if not self.is_fresh(start, max(place for place in start["places"] if place <= lowest)):
            return None
        common = {
            spec: ((None, start["watched"][spec][0]), edits)
            for spec in specs
            for [edits] in [record(descriptor, table, slots + spec)]
        }
        return [(common[spec], ((name, common[spec][0][1]), edits)) for name, spec, edits in devices], []

    def _inventory(self, descriptor: int) -> tuple[list[str], Any] | None:
        start, slots, table = head(descriptor)
        if not self.is_fresh(start):
            return None
        paths = [path for path, _ in start["watched"]]
        found = record(descriptor, table, slots + 2 * len(paths))
        # Who may write or read a spec can change without a change of what is watched, in a dir above.
        return None if any(one[-2] not in SAID_BY_A_SPEC for one in found["problems"]) else (paths, found)


def in_order(asked: Iterable[DeviceParts]) -> list[Part]:
    """Return what devices ask for in the order in which it applies: a spec once, before its first device."""
    parts: list[Part] = []
    seen = set()
    for common, own in asked:
        if common[0] not in seen:
            seen.add(common[0])
            parts.append(common)
        parts.append(own)
    return parts


def read(path: str, use: Callable[..., Any], *arguments: Any) -> Any:
    """Return use(descriptor, *arguments) for an index; None when there is none that is whole and our own."""
    try:
        descriptor = _open(path)
    except OSError:
        return None
    try:
        return use(descriptor, *arguments)
    except Exception:  # noqa: BLE001 # of whatever kind: half a file, say, after a crash of the machine
        return None
    finally:
        posix.close(descriptor)


def head(descriptor: int) -> tuple[dict[str, Any], int, int]:
    """Return an index's head, how many slots it has, and where its table is; ValueError when it is none."""
    start = posix.pread(descriptor, 1 << 15, 0)
    if not start.startswith(MAGIC):
        raise ValueError("no index")
    length = int.from_bytes(start[len(MAGIC) : len(MAGIC) + 4], "little")
    slots = int.from_bytes(start[len(MAGIC) + 4 : HEAD_AT], "little")
    table = HEAD_AT + length
    if len(start) < table:
        start += posix.pread(descriptor, table - len(start), len(start))
    return json_text.loads_own(start[HEAD_AT:table]), slots, table


def number(name: str) -> int:
    """Return a name's bytes as a number, which modulo the slots is its slot."""
    return int.from_bytes(name.encode("utf-8", "surrogateescape"), "little")


def record(descriptor: int, table: int, number: int) -> Any:
    """Return the record that the table has at a number."""
    entry = posix.pread(descriptor, 8, table + 8 * number)
    length = int.from_bytes(entry[4:], "little")
    if not length:
        return []
    return json_text.loads_own(posix.pread(descriptor, length, int.from_bytes(entry[:4], "little")))


def _open(path: str) -> int:
    """Open a file that nobody but us could have written; OSError otherwise."""
    directory = posix.lstat(path[: path.rindex("/")])
    descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW | posix.O_NONBLOCK)
    status = posix.fstat(descriptor)
    for one in (directory, status):
        if one.st_uid != posix.geteuid() or one.st_mode & 0o022:
            posix.close(descriptor)
            raise PermissionError(f"{path} can be written by others")
    return descriptor
