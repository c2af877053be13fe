# SPDX-License-Identifier: Apache-2.0
"""What is asked of a shared library's ELF file: its machine, its SONAME, a note (elf(5)).

Only little-endian files are read; every machine that has such a driver is one.
Anything can be in a container's files: what isn't well formed is no library.
"""

from __future__ import annotations

import posix
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Pread = Callable[[int, int, int], bytes]

_CLASS32, _CLASS64 = 1, 2
_ET_DYN, _PT_LOAD, _PT_DYNAMIC, _SHT_NOTE = 3, 1, 2, 7
_DT_STRTAB, _DT_SONAME = 5, 14
# By class: (the rest of the file header, a program header, a section header, a dynamic entry)
_FORMATS = {
    _CLASS32: tuple(map(struct.Struct, ("<HHIIIIIHHHHHH", "<IIIIIIII", "<IIIIIIIIII", "<iI"))),
    _CLASS64: tuple(map(struct.Struct, ("<HHIQQQIHHHHHH", "<IIQQQQQQ", "<IIQQQQIIQQ", "<qQ"))),
}
_MALFORMED = (struct.error, LookupError, StopIteration, ValueError)
_IDENT = 16
_FIRST = 1024  # bytes: the file header and, in nearly every library, the program headers
_MOST = 1 << 16  # bytes of one table or note; large libraries have a few KB
_LONGEST_NAME = 256

Machine = tuple[int, int]  # class and e_machine
X86_64, I386, AARCH64, PPC64LE = (_CLASS64, 62), (_CLASS32, 3), (_CLASS64, 183), (_CLASS64, 21)


def library(descriptor: int, pread: Pread = posix.pread) -> tuple[Machine, str] | None:
    """Return a shared library's machine and SONAME ("" if it has none); None for any other file.

    ``pread`` reads it. Raises OSError if it can't be read.
    """
    try:
        return _library(descriptor, pread)
    except _MALFORMED:
        return None


def note(descriptor: int, section: str) -> tuple[str, bytes] | None:
    """Return the name and the description of the note in a section; None if there is none."""
    try:
        for name, offset, size, align in _notes(descriptor):
            if name == section:
                data = _read(descriptor, size, offset)
                name_size, text_size = struct.unpack_from("<II", data)
                at = 12 + -(-name_size // (align or 1)) * (align or 1)
                text = data[at : at + text_size].strip(b"\0")
                return data[12 : 12 + name_size].rstrip(b"\0").decode("ascii"), text
    except _MALFORMED:
        pass
    return None


def _library(descriptor: int, pread: Pread) -> tuple[Machine, str] | None:
    head = pread(descriptor, _FIRST, 0)
    header = _header(head)
    if header is None or header[1][0] != _ET_DYN:
        return None
    kind, fields = header
    _, program, _, entry = _FORMATS[kind]
    start, count = fields[4], fields[9]
    if start + count * program.size > len(head):
        head, start = _read(descriptor, count * program.size, start, pread), 0
    loads = []
    dynamic: bytes | None = None
    for number in range(count):
        if kind == _CLASS64:
            what, _, offset, address, _, size, _, _ = program.unpack_from(head, start + number * program.size)
        else:
            what, offset, address, _, size, _, _, _ = program.unpack_from(head, start + number * program.size)
        if what == _PT_LOAD:
            loads.append((address, size, offset))
        elif what == _PT_DYNAMIC:
            if dynamic is not None:
                return None  # no linker makes two
            dynamic = _read(descriptor, size, offset, pread)
    if not dynamic:
        return None  # a program that is linked statically, say
    found = dict(entry.iter_unpack(dynamic[: len(dynamic) // entry.size * entry.size]))
    machine = kind, fields[1]
    if _DT_SONAME not in found:
        return machine, ""
    strings = found[_DT_STRTAB]
    at = next(
        offset + strings - address for address, size, offset in loads if address <= strings < address + size
    )
    name = _read(descriptor, _LONGEST_NAME, at + found[_DT_SONAME], pread).partition(b"\0")[0]
    return machine, name.decode("ascii")


def _header(head: bytes) -> tuple[int, tuple[int, ...]] | None:
    """Return the class, and the fields after e_ident, of a file that begins like this."""
    if len(head) < _IDENT or head[:4] != b"\x7fELF" or head[4] not in _FORMATS or head[5] != 1:
        return None
    return head[4], _FORMATS[head[4]][0].unpack_from(head, _IDENT)


def _notes(descriptor: int) -> Iterator[tuple[str, int, int, int]]:
    """Yield name, offset, size and alignment of a file's note sections."""
    header = _header(posix.pread(descriptor, _FIRST, 0))
    if header is None:
        return
    kind, fields = header
    section = _FORMATS[kind][2]
    start, count, names_at = fields[5], fields[11], fields[12]
    sections = list(section.iter_unpack(_read(descriptor, count * section.size, start)))
    names = (
        _read(descriptor, sections[names_at][5], sections[names_at][4]) if names_at < len(sections) else b""
    )
    for one in sections:
        if one[1] == _SHT_NOTE:
            yield names[one[0] :].partition(b"\0")[0].decode("ascii"), one[4], one[5], one[8]


def _read(descriptor: int, size: int, offset: int, pread: Pread = posix.pread) -> bytes:
    """Return what is at an offset; ValueError if no library has so much there."""
    if not 0 <= size <= _MOST or offset < 0 or offset + size >= 1 << 63:
        raise ValueError
    return pread(descriptor, size, offset)
