# SPDX-License-Identifier: Apache-2.0
"""The dynamic linker's library cache, /etc/ld.so.cache: read and written in glibc's format 1.1.

This module owns the format, not the search for libraries. Older caches begin with a table of another
format, which is skipped; what is written has none, as glibc has done by default since 2.32, and every
glibc since 2.2 reads it. All numbers are little-endian::

    "glibc-ld.so.cache" "1.1"  u32 entries  u32 bytes of strings  u8 flags (2: little-endian)
    3 bytes  u32 offset of the extensions, or 0  12 bytes
    for each entry: i32 flags  u32 key  u32 value  u32 0  u64 hwcap
    the strings, each with a NUL behind it; offsets are from the beginning of the header
    u32 magic  u32 sections  for each: u32 tag  u32 0  u32 offset  u32 size

A key is a name that programs are linked with, a value the path of the library. A library of a dir
``glibc-hwcaps/NAME`` is for processors that have NAME: the low half of hwcap is the place of NAME
in a section with tag 1, a table of offsets of strings.
"""

from __future__ import annotations

import struct

from cdi_hook.libraries import elf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_OLD_MAGIC, _OLD_ENTRY = b"ld.so-1.7.0\0", 12
_MAGIC = b"glibc-ld.so.cache1.1"
_HEADER = struct.Struct("<20sIIB3xI12x")
_ENTRY = struct.Struct("<iIIIQ")
_EXTENSION, _SECTION = struct.Struct("<II"), struct.Struct("<IIII")
_EXTENSION_MAGIC, _TAG_HWCAPS = 0xEAA42174, 1
_LITTLE_ENDIAN = 2
_HWCAP_EXTENSION = 1 << 62
_NO_DIGITS = dict.fromkeys(range(ord("0"), ord("9") + 1))
_AFTER = 0x10000
_LONGEST = 4096  # bytes of a path, PATH_MAX
_MOST_SECTIONS = 16  # of extensions; glibc knows two
_CUT_OFF = "it is a library cache that was cut off"
_TYPE_MASK, _MACHINE_MASK, _ELF = 0x00FF, 0xFF00, 0x0001

# What the flags of an entry are for a machine: a library of glibc 2, and the machine.
FLAGS = {elf.I386: 0x0003, elf.X86_64: 0x0303, elf.AARCH64: 0x0A03, elf.PPC64LE: 0x0503}
_64_BIT = tuple(flags & _MACHINE_MASK for machine, flags in FLAGS.items() if machine != elf.I386)


class Entry:
    """A library in the cache: the name it is asked for by, its path, its machine's flags.

    ``hwcaps`` is the name of its dir below glibc-hwcaps, or "".
    """

    __slots__ = ("flags", "hwcaps", "name", "path")

    def __init__(self, name: str, path: str, flags: int, hwcaps: str = "") -> None:
        self.name = name
        self.path = path
        self.flags = flags
        self.hwcaps = hwcaps

    @property
    def is_64_bit(self) -> bool:
        """Whether it is an ELF library for a 64-bit machine."""
        return bool(self.flags & _TYPE_MASK & _ELF) and self.flags & _MACHINE_MASK in _64_BIT


def parse(data: bytes) -> Iterator[Entry]:
    """Yield the entries of a cache, in its order; raises ValueError if it isn't one, maybe after some."""
    try:
        if data.startswith(_OLD_MAGIC):
            (count,) = struct.unpack_from("<I", data, len(_OLD_MAGIC))
            end = len(_OLD_MAGIC) + 4 + count * _OLD_ENTRY
            data = data[-(-end // 8) * 8 :]
        magic, count, _, _, extensions = _HEADER.unpack_from(data)
        if magic != _MAGIC:
            raise ValueError("it is no library cache of format 1.1")
        names, size = _hwcaps(data, extensions) if extensions else (0, 0)
        for number in range(count):
            flags, key, value, _, hwcap = _ENTRY.unpack_from(data, _HEADER.size + number * _ENTRY.size)
            hwcaps = ""
            if hwcap & _HWCAP_EXTENSION:
                place = 4 * (hwcap & 0xFFFFFFFF)
                if place >= size:
                    raise ValueError(_CUT_OFF)
                hwcaps = _string(data, *struct.unpack_from("<I", data, names + place))
            yield Entry(_string(data, key), _string(data, value), flags, hwcaps)
    except struct.error as error:
        raise ValueError(_CUT_OFF) from error


def _hwcaps(data: bytes, at: int) -> tuple[int, int]:
    """Return the offset and size of the names' offsets for processors, of the extensions at an offset."""
    magic, sections = _EXTENSION.unpack_from(data, at)
    for number in range(min(sections, _MOST_SECTIONS) if magic == _EXTENSION_MAGIC else 0):
        tag, _, offset, size = _SECTION.unpack_from(data, at + _EXTENSION.size + number * _SECTION.size)
        if tag == _TAG_HWCAPS:
            return offset, size
    return 0, 0


def build(entries: Iterable[Entry]) -> bytes:
    """Return the cache of these entries; of entries that are alike but for the path, the first is found."""
    found = sorted(entries, key=lambda entry: (not entry.hwcaps, entry.hwcaps))
    found.sort(key=lambda entry: entry.flags, reverse=True)
    found.sort(key=lambda entry: _order(entry.name), reverse=True)
    hwcaps = sorted({entry.hwcaps for entry in found} - {""})
    begin = _HEADER.size + len(found) * _ENTRY.size
    strings = bytearray()
    places: dict[str, int] = {}

    def place(text: str) -> int:
        if text not in places:
            places[text] = begin + len(strings)
            strings.extend(text.encode("utf-8", "surrogateescape") + b"\0")
        return places[text]

    table = bytearray()
    for entry in found:
        value = place(entry.path)
        ends_with_it = entry.path.endswith(entry.name)
        before = entry.path[: len(entry.path) - len(entry.name)].encode("utf-8", "surrogateescape")
        key = value + len(before) if ends_with_it else place(entry.name)
        hwcap = _HWCAP_EXTENSION | hwcaps.index(entry.hwcaps) if entry.hwcaps else 0
        table += _ENTRY.pack(entry.flags, key, value, 0, hwcap)
    names = [place(name) for name in hwcaps]
    at = -(-(begin + len(strings)) // 4) * 4 if hwcaps else 0
    header = _HEADER.pack(_MAGIC, len(found), len(strings), _LITTLE_ENDIAN, at)
    cache = header + bytes(table) + bytes(strings)
    if hwcaps:
        after = at + _EXTENSION.size + _SECTION.size
        cache = cache.ljust(at, b"\0") + _EXTENSION.pack(_EXTENSION_MAGIC, 1)
        cache += _SECTION.pack(_TAG_HWCAPS, 0, after, 4 * len(names)) + struct.pack(f"<{len(names)}I", *names)
    return cache


def is_newer(name: str, other: str) -> bool:
    """Say whether a library's file name is the newer version's, by the cache's own order of names."""
    return _order(name) > _order(other)


def _order(name: str) -> str:
    """Return a key for the linker's order, in which a number is more than any other character."""
    return ".".join([
        part if len(part) == len(part.translate(_NO_DIGITS)) else _with_numbers(part)
        for part in name.split(".")
    ])  # fmt: skip


def _with_numbers(text: str) -> str:
    """Return a text with each number in it as two characters that come after all others."""
    key = ""
    digits = ""
    for character in f"{text}\0":
        if "0" <= character <= "9":
            digits += character
            continue
        if digits:
            number = int(digits) + (1 << 31) & 0xFFFFFFFF  # the linker counts in 32 bits with a sign
            key += chr(_AFTER + (number >> 16)) + chr(_AFTER + (number & 0xFFFF))
            digits = ""
        key += character
    return key[:-1]


def _string(data: bytes, offset: int) -> str:
    end = data.find(b"\0", offset, offset + _LONGEST)
    if end < 0:
        raise ValueError(_CUT_OFF)
    return data[offset:end].decode("utf-8", "surrogateescape")
