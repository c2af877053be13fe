# SPDX-License-Identifier: Apache-2.0
"""A shared library's ELF file that has a SONAME and nothing else, for tests that need many; the ldconfig that some need."""

from __future__ import annotations

import re
import struct
import subprocess

import pytest

X86_64, AARCH64 = 62, 183


def library(soname: str, *, machine: int = X86_64, note: tuple[str, str, bytes] | None = None) -> bytes:
    """Return the file; "" is no SONAME. ``note`` is a section's name, the note's name and its description.

    It has the program headers that ldconfig reads, and the sections that Go's debug/elf reads.
    """
    strings = b"\0" + soname.encode() + b"\0"
    tags = [*([(14, 1)] if soname else []), (5, 0x1000), (10, len(strings)), (0, 0)]
    at = 64 + 2 * 56
    tags = [(tag, at + 16 * len(tags) if tag == 5 else value) for tag, value in tags]
    dynamic = b"".join(struct.pack("<qQ", *one) for one in tags)
    noted = b""
    names = b"\0.dynamic\0.dynstr\0.shstrtab\0"
    if note:
        section, name, text = note
        owner = name.encode() + b"\0"
        noted = (
            struct.pack("<III", len(owner), len(text), 1) + owner.ljust(-(-len(owner) // 4) * 4, b"\0") + text
        )
        names += section.encode() + b"\0"
    places = [at, at + len(dynamic), at + len(dynamic) + len(strings)]
    notes_at = -(-(places[2] + len(names)) // 8) * 8
    sections_at = -(-(notes_at + len(noted)) // 8) * 8
    sections = [
        (0, 0, 0, 0, 0, 0, 0, 0, 0, 0),
        (1, 6, 2, places[0], places[0], len(dynamic), 2, 0, 8, 16),
        (10, 3, 2, places[1], places[1], len(strings), 0, 0, 1, 0),
        (18, 3, 0, 0, places[2], len(names), 0, 0, 1, 0),
    ]
    if note:
        sections.append((28, 7, 0, 0, notes_at, len(noted), 0, 0, 4, 0))
    table = b"".join(struct.pack("<IIQQQQIIQQ", *one) for one in sections)
    size = sections_at + len(table)
    header = b"\x7fELF\2\1\1".ljust(16, b"\0") + struct.pack(
        "<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, sections_at, 0, 64, 56, 2, 64, len(sections), 3
    )
    load = struct.pack("<IIQQQQQQ", 1, 4, 0, 0, 0, size, size, 0x1000)
    dynamics = struct.pack("<IIQQQQQQ", 2, 4, at, at, at, len(dynamic), len(dynamic), 8)
    body = (header + load + dynamics + dynamic + strings + names).ljust(notes_at, b"\0") + noted
    return body.ljust(sections_at, b"\0") + table


def need_new_ldconfig() -> None:
    """Skip a test if ldconfig is older than the form in which the newer ones write and show a cache."""
    version = subprocess.run(["/sbin/ldconfig", "-V"], check=True, capture_output=True, text=True).stdout
    if tuple(map(int, re.findall(r"\d+", version.splitlines()[0].rpartition(" ")[2]))) < (2, 38):
        pytest.skip("an older ldconfig marks libraries otherwise")
