# SPDX-License-Identifier: Apache-2.0
"""files, trust and the index, with real files: paths, who could have written what is read, and what an index holds."""

from __future__ import annotations

import json
import os
import posixpath
import stat
import tempfile
from pathlib import Path
from typing import Any, Callable

from hypothesis import example, given, settings
from hypothesis import strategies as st

from cdi_hook.base import files
from cdi_hook.base.trust import Untrusted, trusted
from cdi_hook.catalog import index, index_writer
from cdi_hook.catalog.cache import Cache
from cdi_hook.catalog.registry import Registry
from cdi_hook.errors import UnresolvableDevices

from .strategies import CONTAINER_EDITS, SPECS

FEWER = settings(max_examples=50)  # each makes some files
PATHS = st.text("/.a", max_size=12) | st.lists(
    st.sampled_from(["a", "..", ".", "", "b.c", "é"]), max_size=8
).map("/".join)


@given(PATHS)
def test_a_clean_path_leads_to_the_same_place(path: str) -> None:
    """A path is cleaned as posixpath does it, but for two slashes at the beginning, and again changes nothing."""
    cleaned = files.clean(path)
    normal = posixpath.normpath(path)
    assert cleaned == (normal[1:] if normal.startswith("//") else normal)
    assert files.clean(cleaned) == cleaned


# What may be done to a tree of dirs d0/d1/f with links beside them: (entry, action).
ENTRIES = ("d0", "d0/d1", "d0/d1/f", "d0/g", "d2")
ACTIONS = st.sampled_from(
    ["open", "group", "sticky", "other", "link up", "link down", "link out", "link absolute", "loop"]
)
LINKS = {
    "link up": "../d2",
    "link down": "d0/d1",
    "link out": "/etc",
    "link absolute": "{top}/d0",
    "loop": "loop",
}


def make(top: Path, doings: list[tuple[int, str]]) -> list[str]:
    """Make a tree, with some of its entries in other hands; return the paths to look at."""
    (top / "d0/d1").mkdir(parents=True)
    (top / "d2").mkdir()
    for name in ("d0/d1/f", "d0/g", "d2/f"):
        (top / name).write_text(name)
    paths = [f"{top}/{name}" for name in (*ENTRIES, "d2/f", "none")]
    for number, (entry, action) in enumerate(doings):
        path = top / ENTRIES[entry]
        if action in LINKS:
            link = top / ("d0", "d0/d1", "d2")[entry % 3] / f"l{number}"
            target = LINKS[action].format(top=top)
            link.symlink_to(f"l{number}" if target == "loop" else target)
            paths += [str(link), f"{link}/f", f"{link}/../d1/f"]
        elif action == "other":
            os.chown(path, 1234, 0)
        else:
            path.chmod({"open": 0o777, "group": 0o775, "sticky": 0o1777}[action])
    return paths


def way(path: str) -> list[os.stat_result]:
    """Return the status of everything on the way to what a path leads to, links too; raises OSError."""
    found, here, pending, links = [os.lstat("/")], "", path.split("/")[::-1], 0
    while pending:
        part = pending.pop()
        if part in ("", "."):
            continue
        if part == "..":
            here = here.rpartition("/")[0]
            found.append(os.stat(here or "/"))
            continue
        entry = f"{here}/{part}"
        found.append(os.lstat(entry))
        if not stat.S_ISLNK(found[-1].st_mode):
            here = entry
            continue
        links += 1
        if links > 40:
            raise OSError
        target = os.readlink(entry)
        here = "" if target[0] == "/" else here
        pending += target.split("/")[::-1]
    return found


def is_roots(path: str) -> bool:
    """Say whether nobody but root could have written a file, or exchanged something on the way to it."""
    steps = way(path)
    last = steps[-1]
    return all(one.st_uid == 0 for one in steps) and not any(
        not stat.S_ISLNK(one.st_mode)
        and one.st_mode & 0o022
        and not (one.st_mode & stat.S_ISVTX and one is not last)
        for one in steps
    )


@FEWER
@given(st.lists(st.tuples(st.integers(0, len(ENTRIES) - 1), ACTIONS), max_size=4))
@example([(0, "link up"), (1, "sticky"), (2, "other")])
def test_what_is_trusted_is_roots_all_the_way(doings: list[tuple[int, str]]) -> None:
    """A file is trusted exactly when it, every dir and every link on the way are root's and only root's to write."""
    if os.geteuid() != 0:  # only root can give files away, and trusts only its own
        return
    with tempfile.TemporaryDirectory(prefix="cdi-hook-fuzz-", dir="/tmp") as directory:
        top = Path(directory)
        top.chmod(0o755)
        for path in make(top, doings):
            before = len(os.listdir("/proc/self/fd"))
            try:
                expected = is_roots(path)
            except OSError:
                expected = None
            try:
                with trusted(path) as source:
                    assert expected is True
                    assert os.path.samefile(source, path)
            except Untrusted:
                assert expected is not True
            except OSError:
                assert expected is None
            assert len(os.listdir("/proc/self/fd")) == before


def parts(ask: Callable[[list[str]], Any], names: list[str]) -> Any:
    """Return what devices ask for, or the names that nobody knows."""
    try:
        return ask(names)
    except UnresolvableDevices as error:
        return error.names


VALID = st.builds(
    lambda spec, version: {**spec, "cdiVersion": version, "kind": "v.com/c"}, SPECS, st.just("1.1.0")
)


@FEWER
@given(
    st.lists(VALID, min_size=1, max_size=3),
    st.lists(st.sampled_from(["v.com/c=a", "v.com/c=b", "v.com/c=x"]), max_size=3),
)
def test_the_index_says_what_the_specs_say(specs: list[dict[str, Any]], names: list[str]) -> None:
    """Devices looked up in the index of any specs are those that the specs themselves give, with all their edits."""
    with tempfile.TemporaryDirectory(prefix="cdi-hook-fuzz-") as directory:
        top = Path(directory, "cdi")
        top.mkdir()
        for number, spec in enumerate(specs):
            (top / f"{number}.json").write_text(json.dumps(spec, ensure_ascii=False), "utf-8")
        cache = Cache([str(top)])
        registry = Registry([str(top)], directory, strict=False)
        Path(registry.index.path).write_bytes(index_writer.compile_index(registry.index, cache))
        Path(registry.index.path).chmod(0o600)
        known = cache.devices()
        for name in {*names, *known}:
            assert parts(registry.index.look_up, [name]) == parts(cache.look_up, [name])
            assert (parts(cache.look_up, [name]) == [name]) is (name not in known)
        assert parts(registry.index.look_up, names) == parts(cache.look_up, names)


@FEWER
@given(CONTAINER_EDITS, st.integers(0, 600), st.binary(max_size=6), st.booleans())
def test_a_damaged_index_is_none_or_says_the_same(
    edits: dict[str, Any], at: int, data: bytes, cut: bool
) -> None:
    """An index in which bytes are others, or that ends early, never fails a start: it counts as none, or is whole."""
    spec = {
        "cdiVersion": "1.1.0",
        "kind": "v.com/c",
        "devices": [{"name": "a", "containerEdits": {"env": ["A=1"], **edits}}],
    }
    with tempfile.TemporaryDirectory(prefix="cdi-hook-fuzz-") as directory:
        top = Path(directory, "cdi")
        top.mkdir()
        (top / "a.json").write_text(json.dumps(spec), "utf-8")
        cache = Cache([str(top)])
        path = f"{directory}/i.index"
        whole = index_writer.compile_index(index.Index(path, [str(top)], False), cache)
        Path(path).write_bytes(whole[:at] + (b"" if cut else data + whole[at + len(data) :]))
        Path(path).chmod(0o600)
        found = parts(index.Index(path, [str(top)], False).look_up, ["v.com/c=a"])
        assert found in (None, parts(cache.look_up, ["v.com/c=a"]))
        index_writer.read(path)
