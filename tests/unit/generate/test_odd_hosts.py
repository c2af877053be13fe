# SPDX-License-Identifier: Apache-2.0
"""On hosts that are odd: files of sysfs that lack or lie, links that lead out, names that no driver has."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cdi_hook.generate import classes, spec_data
from cdi_hook.generate.root import Root

from .cases import CASES
from .fakehost import FakeHost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAMES = [
    "ascend",
    "cambricon",
    "deepx",
    "fastrpc",
    "furiosa",
    "iluvatar",
    "memryx",
    "neuron",
    "ntsync",
    "rebellions",
    "tape",
    "tenstorrent",
    "uhid",
]
OUT = "../../../../../../../../../../etc"  # from any dir of a made-up host


def _nodes(root: Path) -> list[Path]:
    return sorted(path for path in root.glob("dev/**/*") if path.is_char_device() and not path.is_symlink())


def _written(data: bytes) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        for path in root.glob("sys/**/*"):
            if path.is_file() and not path.is_symlink():
                path.write_bytes(data)

    return write


def _linked(pattern: str, target: str) -> Callable[[Path], None]:
    def link(root: Path) -> None:
        for path in list(root.glob(pattern)):
            if path.is_symlink():
                path.unlink()
                path.symlink_to(target or path.name)

    return link


def _replaced(make: Callable[[Path], object]) -> Callable[[Path], None]:
    def replace(root: Path) -> None:
        for path in _nodes(root):
            path.unlink()
            make(path)

    return replace


def _no_dirs(root: Path) -> None:
    for path in list(root.glob("sys/*/*")):
        if path.is_dir():
            shutil.rmtree(path)
            path.touch()


def _more_nodes(root: Path) -> None:
    for path in _nodes(root):
        for end in (b"-odd", b" x", b"\n", b":", b"\xff", b"00", b"9" * 20):
            os.mknod(os.fsencode(path) + end, stat.S_IFCHR | 0o600, os.makedev(1, 5))


def _one_target(root: Path) -> None:
    for directory in root.glob("sys/class/*"):
        first, *others = sorted(path for path in directory.iterdir() if path.is_symlink())
        for path in others:
            path.unlink()
            path.symlink_to(os.readlink(first))


ODD = {
    "empty files": _written(b""),
    "files that aren't text": _written(b"\xff\x00\n\x1b[31m"),
    "long files": _written(b"9" * 100_000),
    "links to nowhere": _linked("sys/**/*", "/nonexistent"),
    "links out": _linked("sys/class/*/*", OUT),
    "links to themselves": _linked("sys/class/*/*", ""),
    "files for dirs": _no_dirs,
    "one device under several names": _one_target,
    "links for nodes": _replaced(lambda path: path.symlink_to(f"{OUT}/shadow")),
    "dirs for nodes": _replaced(Path.mkdir),
    "pipes for nodes": _replaced(os.mkfifo),
    "a hole in the numbers": lambda root: _nodes(root)[0].unlink(),
    "nodes with odd names": _more_nodes,
}


def _paths(root: Path, name: str) -> Iterator[tuple[str, str]]:
    """Return what the specs of a class give: paths in the container and on the host."""
    for found in classes.get(name).find(Root(str(root))):
        spec = spec_data.spec(found)
        names = [device["name"] for device in spec["devices"]]
        assert len(names) == len(set(names))
        for edits in (spec["containerEdits"], *(device["containerEdits"] for device in spec["devices"])):
            for node in edits.get("deviceNodes", ()):
                yield node["path"], node.get("hostPath", f"{root}{node['path']}")
            for mount in edits.get("mounts", ()):
                yield mount["containerPath"], mount["hostPath"]


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", NAMES)
def test_an_odd_host(tmp_path: Path, name: str, odd: str) -> None:
    """Nothing out of the host's root is given, no name twice, and if nothing is given, it is said why."""
    CASES[name].build(FakeHost(tmp_path))
    ODD[odd](tmp_path)
    given = list(_paths(tmp_path, name))
    for inside, outside in given:
        assert inside.isprintable()
        assert Path(os.path.realpath(outside)).is_relative_to(tmp_path)
    said = classes.get(name).missing(Root(str(tmp_path)))
    assert given or said
    assert all(line.startswith("no ") and line.isprintable() for line in said)
