# SPDX-License-Identifier: Apache-2.0
"""The dynamic linker's cache: what ldconfig wrote is read, and what is written ldconfig reads."""

from __future__ import annotations

import struct
import subprocess
from typing import TYPE_CHECKING

import pytest

from cdi_hook.libraries import elf, ldcache
from cdi_hook.libraries.ldcache import Entry
from tests.elffile import need_new_ldconfig

if TYPE_CHECKING:
    from pathlib import Path

X86_64 = ldcache.FLAGS[elf.X86_64]


def names(entries: list[Entry]) -> list[tuple[str, str, int]]:
    return [(entry.name, entry.path, entry.flags) for entry in entries]


def test_order() -> None:
    """Entries are in the linker's order: names backwards, numbers as numbers, and the first of two alike first."""
    given = ["liba.so.9", "liba.so.10", "liba.so", "libb.so.1", "liba.so.1.2", "liba-2.so"]
    entries = [Entry(name, f"/x/{name}", X86_64) for name in given]
    entries += [Entry("libb.so.1", "/y/libb.so.1", X86_64), Entry("libb.so.1", "/z/libb.so.1", 3)]
    assert [entry.path for entry in ldcache.parse(ldcache.build(entries))] == [
        "/x/libb.so.1",
        "/y/libb.so.1",
        "/z/libb.so.1",
        "/x/liba.so.10",
        "/x/liba.so.9",
        "/x/liba.so.1.2",
        "/x/liba.so",
        "/x/liba-2.so",
    ]


def test_a_dir_that_is_not_ascii() -> None:
    """A library below a dir with other letters than English ones keeps its name."""
    entry = Entry("libx.so.1", "/opt/\u00e9t\u00e9/libx.so.1", X86_64)
    assert names([*ldcache.parse(ldcache.build([entry]))]) == names([entry])


def test_as_ldconfig(tmp_path: Path) -> None:
    """The machine's own cache, read and written again, is the same for ldconfig."""
    need_new_ldconfig()
    cache = tmp_path / "cache"
    with open("/etc/ld.so.cache", "rb") as stream:
        entries = list(ldcache.parse(stream.read()))
    cache.write_bytes(ldcache.build(entries))
    shown = [
        subprocess.run(["/sbin/ldconfig", "-p", *more], check=True, capture_output=True, text=True).stdout
        for more in ([], ["-C", str(cache)])
    ]
    # The first line has the cache's path, and the last who wrote it.
    lines = [[line for line in text.splitlines() if "=>" in line] for text in shown]
    assert lines[0] == lines[1]
    assert len(entries) == len(lines[0]) > 10


def test_hwcaps(tmp_path: Path) -> None:
    """A library for some processors is marked with their name, and comes before the one for all."""
    need_new_ldconfig()
    cache = tmp_path / "cache"
    paths = ["/l/liba.so.1", "/l/glibc-hwcaps/x86-64-v3/liba.so.1", "/l/glibc-hwcaps/x86-64-v2/liba.so.1"]
    entries = [
        Entry("liba.so.1", path, X86_64, path.split("/")[3] if "hwcaps" in path else "") for path in paths
    ]
    cache.write_bytes(ldcache.build(entries))
    command = ["/sbin/ldconfig", "-p", "-C", str(cache)]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert [line.strip() for line in shown.splitlines() if "=>" in line] == [
        f'liba.so.1 (libc6,x86-64, hwcap: "x86-64-v2") => {paths[2]}',
        f'liba.so.1 (libc6,x86-64, hwcap: "x86-64-v3") => {paths[1]}',
        f"liba.so.1 (libc6,x86-64) => {paths[0]}",
    ]


def test_behind_an_older_format() -> None:
    """A cache that begins with the old format's table is read too."""
    entries = [Entry("liba.so.1", "/x/liba.so.1", X86_64)]
    old = b"ld.so-1.7.0\0" + struct.pack("<I", 1) + struct.pack("<iII", 3, 0, 0)
    data = old.ljust(-(-len(old) // 8) * 8, b"\0") + ldcache.build(entries)
    assert names([*ldcache.parse(data)]) == names(entries)


def test_what_is_no_cache() -> None:
    """Anything else raises ValueError, at whatever byte it ends."""
    whole = ldcache.build([Entry("liba.so.1", "/x/liba.so.1", X86_64)])
    for size in range(len(whole)):
        with pytest.raises(ValueError, match="it is "):
            list(ldcache.parse(whole[:size]))


def test_64_bit() -> None:
    """A library is for a 64-bit machine or not by its flags."""
    flags = [*ldcache.FLAGS.values(), 0x0803, 0]
    assert [Entry("", "", flag).is_64_bit for flag in flags] == [False, True, True, True, False, False]
