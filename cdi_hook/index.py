# SPDX-License-Identifier: Apache-2.0
"""What the specs say, compiled: found without reading YAML, at a cost that doesn't grow with devices.

One file for a list of spec dirs, replaced atomically, under a dir that only its
owner can write. All numbers are little-endian, of 4 bytes:

    magic    9 bytes, "cdi-hook" and the format's number
    length   of the head
    slots    how many
    head     JSON: the package's version, whether specs were trusted strictly,
             the watched paths with their identities (each dir, each spec file;
             null for what wasn't there)
    table    offset and length of a record: for each slot, then for each spec
    records  JSON: of a slot, [[name, number of its spec, edits], ...];
             of a spec, its path and its own edits

A name's slot is its bytes as a number modulo the slots. An index that doesn't
fit what is on disk now counts as none. Where none can be written, each start
reads the specs.
"""

from __future__ import annotations

import posix

from cdi_hook import __version__, edits, jsontext
from cdi_hook.errors import CDIError, InjectionError
from cdi_hook.files import identify, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from cdi_hook.edits import Change, Part
    from cdi_hook.specs.cache import Cache

_MAGIC = b"cdi-hook\x02"
_HEAD_AT = len(_MAGIC) + 8
# A file that changed a moment ago may change again without a new time stamp.
_SETTLED_NS = 50_000_000
# What reading something that is no index may raise.
_BROKEN = (OSError, ValueError, LookupError, TypeError, ArithmeticError, AttributeError, MemoryError)


class Registry:
    """The devices in some spec dirs, by the index while it holds, else by reading the specs."""

    __slots__ = ("_cache", "_may_map_ids", "_path", "_strict", "spec_dirs")

    def __init__(
        self, spec_dirs: Sequence[str], directory: str, *, strict: bool, may_map_ids: bool = True
    ) -> None:
        """Look devices up in spec_dirs; keep the index in directory ("" for none).

        ``may_map_ids`` is for edits.apply.
        """
        self.spec_dirs = list(spec_dirs)
        self._strict = strict
        self._may_map_ids = may_map_ids
        name = "-".join(one.strip("/").replace("/", "-") for one in self.spec_dirs)[:200]
        self._path = f"{directory}/{name}{'.strict' if strict else ''}.index" if directory else ""
        self._cache: Cache | None = None

    @property
    def cache(self) -> Cache:
        """The specs themselves, read when first asked for."""
        if self._cache is None:
            from cdi_hook import sitepath

            sitepath.complete()
            from cdi_hook.specs.cache import Cache  # 20 ms and the specs' YAML

            self._cache = Cache(self.spec_dirs, strict=self._strict)
        return self._cache

    @property
    def errors(self) -> dict[str, list[str]]:
        """What is wrong with the specs, by path."""
        return self.cache.errors

    def devices(self) -> list[str]:
        """Return the qualified names of all devices, sorted."""
        return self.cache.devices()

    def parts(self, names: Sequence[str]) -> list[Part]:
        """Return what these devices ask for, as Cache.parts does."""
        found = self._look_up(names) if self._path else None
        if found is None:
            found = self.cache.parts(names)
            self.write()
        return found

    def apply(self, oci: dict[str, Any], parts: Sequence[Part]) -> list[Change]:
        """Edit oci as these parts ask, adding nothing that is there already; return the changes."""
        try:
            return edits.apply(oci, parts, keep_present=True, may_map_ids=self._may_map_ids)
        except InjectionError as error:
            raise InjectionError(f"failed to inject devices: {error}", error.source) from error

    def inject(self, oci: dict[str, Any], names: Sequence[str]) -> list[Change]:
        """Edit oci so that it has these devices, adding nothing that is there already; return the changes."""
        return self.apply(oci, self.parts(names))

    def _look_up(self, names: Sequence[str]) -> list[Part] | None:
        """Return the parts; None when there's no index, it doesn't hold, or a name isn't in it."""
        try:
            descriptor = _open_own(self._path)
        except OSError:
            return None
        try:
            return self._read(descriptor, names)
        except _BROKEN:
            return None  # half a file, say, after a crash of the machine
        finally:
            posix.close(descriptor)

    def _read(self, descriptor: int, names: Sequence[str]) -> list[Part] | None:
        head, slots, table = _head(descriptor)
        if head["version"] != __version__ or head["dirs"] != self.spec_dirs or head["strict"] != self._strict:
            return None
        for path, identity in head["watched"]:
            current = identify(path)
            if identity != (None if current is None else list(current)):
                return None
        parts: list[Part] = []
        paths: dict[int, str] = {}  # of the specs, by their number
        for name in names:
            same = [one for one in _record(descriptor, table, _number(name) % slots) if one[0] == name]
            if not same:
                return None
            _, spec, own = same[0]
            if spec not in paths:
                paths[spec], common = _record(descriptor, table, slots + spec)
                parts.append(((None, paths[spec]), common))
            parts.append(((name, paths[spec]), own))
        return parts

    def write(self) -> None:
        """Write the index anew, unless a spec is so fresh that it may still change unseen, or it can't be."""
        if not self._path or self._is_fresh():
            return
        try:
            self._replace()
        except OSError:
            return

    def build(self) -> str:
        """Write the index as soon as the specs have settled, and return its path.

        Raises OSError when it can't be written, CDIError when the specs don't settle within a second.
        """
        import time

        for _ in range(20):
            if not self._is_fresh():
                self._replace()
                return self._path
            time.sleep(_SETTLED_NS / 1e9)
            self._cache = None
        raise CDIError("a CDI spec changes all the time, or is dated in the future")

    def _is_fresh(self) -> bool:
        """Say whether a spec was so new when it was read that it may have changed again unseen."""
        settled = self.cache.read_ns - _SETTLED_NS
        return any(
            one is not None and max(one[3], one[4]) > settled for one in self.cache.identities.values()
        )

    def _replace(self) -> None:
        try:
            posix.mkdir(self._path[: self._path.rindex("/")], 0o755)
        except OSError:
            pass  # it is there, or the next fails too
        replace(self._path, compile_index(self.cache, self.spec_dirs, self._strict), 0o644)


def prune(directory: str) -> list[str]:
    """Remove from directory the indexes none of whose spec dirs is there any more; return their paths."""
    removed = []
    for name in sorted(posix.listdir(directory)):
        path = f"{directory}/{name}"
        if not name.endswith(".index"):
            continue
        try:
            descriptor = _open_own(path)
        except OSError:
            continue
        try:
            head, _, _ = _head(descriptor)
            is_gone = not any(identify(one) for one in head["dirs"])
        except _BROKEN:
            continue  # another version's, say
        finally:
            posix.close(descriptor)
        if is_gone:
            posix.unlink(path)
            removed.append(path)
    return removed


def _head(descriptor: int) -> tuple[dict[str, Any], int, int]:
    """Return an index's head, how many slots it has, and where its table is; ValueError when it is none."""
    start = posix.pread(descriptor, 1 << 15, 0)
    if not start.startswith(_MAGIC):
        raise ValueError("no index")
    length = int.from_bytes(start[len(_MAGIC) : len(_MAGIC) + 4], "little")
    slots = int.from_bytes(start[len(_MAGIC) + 4 : _HEAD_AT], "little")
    table = _HEAD_AT + length
    if len(start) < table:
        start += posix.pread(descriptor, table - len(start), len(start))
    return jsontext.loads(start[_HEAD_AT:table].decode()), slots, table


def _number(name: str) -> int:
    return int.from_bytes(name.encode("utf-8", "surrogateescape"), "little")


def _record(descriptor: int, table: int, number: int) -> Any:
    entry = posix.pread(descriptor, 8, table + 8 * number)
    length = int.from_bytes(entry[4:], "little")
    if not length:
        return []
    return jsontext.loads(posix.pread(descriptor, length, int.from_bytes(entry[:4], "little")).decode())


def _open_own(path: str) -> int:
    """Open a file that nobody but us could have written; OSError otherwise."""
    directory = posix.lstat(path[: path.rindex("/")])
    descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NOFOLLOW | posix.O_NONBLOCK)
    status = posix.fstat(descriptor)
    for one in (directory, status):
        if one.st_uid != posix.geteuid() or one.st_mode & 0o022:
            posix.close(descriptor)
            raise PermissionError(f"{path} can be written by others")
    return descriptor


def compile_index(cache: Cache, spec_dirs: Sequence[str], strict: bool) -> bytes:
    """Return the index of what a cache of these dirs holds."""
    devices = sorted(cache.by_name().items())  # asked once: the specs may change at any moment
    specs = list(dict.fromkeys(device.spec for _, device in devices))
    numbers = {id(spec): number for number, spec in enumerate(specs)}
    slots = 2 * len(devices) + 1
    records: list[Any] = [*([] for _ in range(slots)), *([spec.path, spec.container_edits] for spec in specs)]
    for name, device in devices:
        records[_number(name) % slots].append([name, numbers[id(device.spec)], device.container_edits])
    watched = [[path, identity] for path, identity in cache.identities.items()]
    head = {"version": __version__, "dirs": spec_dirs, "strict": strict, "watched": watched}
    start = jsontext.dumps(head).encode()
    place = _HEAD_AT + len(start) + 8 * len(records)
    table, texts = [], []
    for record in records:
        text = jsontext.dumps(record).encode() if record else b""
        table.append(_pair(place if text else 0, len(text)))
        texts.append(text)
        place += len(text)
    return b"".join((_MAGIC, _pair(len(start), slots), start, *table, *texts))


def _pair(first: int, second: int) -> bytes:
    return first.to_bytes(4, "little") + second.to_bytes(4, "little")
