# SPDX-License-Identifier: Apache-2.0
"""ELF files: what is read of a shared library, and that nothing else is taken for one."""

from __future__ import annotations

import os
import random
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cdi_hook.libraries import elf
from tests.elffile import AARCH64, library

if TYPE_CHECKING:
    from collections.abc import Generator

NOTE = (".note.cuda.fwd_compatibility", "NVIDIA Corporation", b'{"Driver": [570]}')


@pytest.fixture
def descriptor(tmp_path: Path) -> Generator[int]:
    """A new file's descriptor."""
    opened = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield opened
    os.close(opened)


def put(descriptor: int, data: bytes) -> int:
    os.truncate(descriptor, 0)
    os.pwrite(descriptor, data, 0)
    return descriptor


def test_library(descriptor: int) -> None:
    """A library's machine and SONAME are read; one without SONAME has ""."""
    assert elf.library(put(descriptor, library("liba.so.1"))) == (elf.X86_64, "liba.so.1")
    assert elf.library(put(descriptor, library("", machine=AARCH64))) == (elf.AARCH64, "")


def test_note(descriptor: int) -> None:
    """A section's note is read; a section that isn't there has none."""
    put(descriptor, library("libcuda.so.1", note=NOTE))
    assert elf.note(descriptor, NOTE[0]) == NOTE[1:]
    assert elf.note(descriptor, ".note.other") is None
    assert elf.note(put(descriptor, library("libcuda.so.1")), NOTE[0]) is None


def test_as_readelf() -> None:
    """Of this machine's own libraries, the SONAMEs are those that readelf shows."""
    readelf = shutil.which("readelf")
    if not readelf:
        pytest.skip("readelf (binutils) isn't installed")
    found = [path for path in sorted(Path("/usr/lib").glob("*-linux-gnu/lib*.so.*")) if not path.is_symlink()]
    some = found[:: len(found) // 40 + 1]
    assert some
    for path in some:
        shown = subprocess.run([readelf, "-d", path], check=True, capture_output=True, text=True).stdout
        sonames = re.findall(r"\(SONAME\).*\[(.*)\]", shown)
        with path.open("rb") as stream:
            read = elf.library(stream.fileno())
        assert read is not None, path
        assert [read[1]] == (sonames or [""]), path


def test_what_is_no_library(descriptor: int) -> None:
    """Whatever is in a file, reading it is over soon and raises nothing."""
    assert elf.library(put(descriptor, b"")) is None
    assert elf.library(put(descriptor, b"\x7fELF")) is None
    assert elf.library(put(descriptor, b"INPUT(-lx)")) is None
    whole = library("libcuda.so.1", note=NOTE)
    choose = random.Random(1)
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(choose.randrange(1, 5)):
            at = choose.randrange(len(data))
            data[at : at + 8] = choose.randbytes(choose.choice([0, 1, 8]))
        put(descriptor, bytes(data[: choose.randrange(len(data) + 1)] if choose.random() < 0.3 else data))
        elf.library(descriptor)
        elf.note(descriptor, NOTE[0])
