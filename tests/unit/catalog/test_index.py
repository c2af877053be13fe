# SPDX-License-Identifier: Apache-2.0
"""index: it has what the specs say, at every moment."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import tempfile
import time
from typing import TYPE_CHECKING, Any

import pytest

from cdi_hook.base import files
from cdi_hook.base.trust import Untrusted
from cdi_hook.catalog import cache, index, index_writer
from cdi_hook.catalog.cache import Cache
from cdi_hook.catalog.registry import Registry
from cdi_hook.errors import UnresolvableDevices
from cdi_hook.specs import specfile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cdi_hook.specs.model import Spec

SPEC = 'cdiVersion: "0.3.0"\nkind: %s\ncontainerEdits: {env: [SPEC=%s]}\ndevices:\n'
DEVICE = "- {name: %s, containerEdits: {env: [%s=1]}}\n"


def write(path: Path, kind: str, *devices: str) -> None:
    """Write a spec that looks as if it had settled long ago."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(SPEC % (kind, path.stem) + "".join(DEVICE % (name, name) for name in devices))


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take every file for settled, so that an index is written at once."""
    monkeypatch.setattr(cache, "SETTLED_NS", -1 << 62)


def registry(tmp_path: Path) -> Registry:
    """Make a registry over two dirs, its index beside them."""
    return Registry([str(tmp_path / "low"), str(tmp_path / "high")], str(tmp_path / "state"), strict=False)


def parts_of_one(path: Path) -> list[Any]:
    """Return the parts of the device v.com/c=one, as that file has them."""
    return [
        ((None, str(path)), {"env": [f"SPEC={path.stem}"]}),
        (("v.com/c=one", str(path)), {"env": ["one=1"]}),
    ]


def index_file(tmp_path: Path) -> Path:
    """Return the only index."""
    [path] = (tmp_path / "state").glob("*.index")
    return path


def no_cache(_registry: Registry) -> Cache:
    """Stand in for the cache where it must not be read."""
    raise AssertionError("the specs were read")


@pytest.mark.usefixtures("settled")
def test_the_index_says_what_the_cache_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts from the index equal the cache's, for one device and for several devices of several files."""
    write(tmp_path / "low" / "a.yaml", "v.com/c", *(f"d{number}" for number in range(200)))
    write(tmp_path / "high" / "b.yaml", "w.com/c", "x", "z")
    wanted = [["v.com/c=d7"], ["w.com/c=z", "v.com/c=d199", "w.com/c=x", "v.com/c=d0", "w.com/c=z"], []]
    cache = Cache([str(tmp_path / "low"), str(tmp_path / "high")])
    registry(tmp_path).parts(["v.com/c=d0"])
    monkeypatch.setattr(Registry, "cache", property(no_cache))
    for names in wanted:
        assert registry(tmp_path).parts(names) == cache.parts(names)


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize(
    "change",
    [
        lambda tmp: write(tmp / "low" / "a.yaml", "v.com/c", "one", "more"),
        lambda tmp: write(tmp / "high" / "new.yaml", "v.com/c", "one"),
        lambda tmp: (tmp / "low" / "a.yaml").rename(tmp / "low" / "b.yaml"),
        lambda tmp: os.utime(tmp / "low" / "a.yaml", ns=(1, 1)),
        lambda tmp: (tmp / "low" / "a.yaml").chmod(0o600),
        lambda tmp: index_file(tmp).write_bytes(index.MAGIC),
        lambda tmp: index_file(tmp).write_bytes(index_file(tmp).read_bytes().partition(b'[["')[0]),
        lambda tmp: index_file(tmp).write_bytes(b"\0" * 400),
        lambda tmp: index_file(tmp).chmod(0o666),
        lambda tmp: (tmp / "state").chmod(0o777),
        lambda tmp: index_file(tmp).unlink(),
    ],
)
def test_any_change_means_reading_the_specs(
    tmp_path: Path, change: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A changed spec or dir makes the index invalid, and so does a broken index or one that others could have written."""
    write(tmp_path / "low" / "a.yaml", "v.com/c", "one")
    registry(tmp_path).parts(["v.com/c=one"])
    change(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(Registry, "cache", property(no_cache))
        with pytest.raises(AssertionError, match="the specs were read"):
            registry(tmp_path).parts(["v.com/c=one"])
    cache = Cache([str(tmp_path / "low"), str(tmp_path / "high")])
    assert registry(tmp_path).parts(["v.com/c=one"]) == cache.parts(["v.com/c=one"])


def test_specs_that_change_while_they_are_compiled(tmp_path: Path) -> None:
    """The index is of one moment, though each use reads the specs again."""
    write(tmp_path / "low" / "a.yaml", "v.com/c", "x", "y")
    write(tmp_path / "low" / "b.yaml", "w.com/c", "z")

    class Changing(Cache):
        def _refresh_if_changed(self) -> None:
            self.refresh()

    dirs = [str(tmp_path / "low")]
    changing, cache = (
        index_writer.compile_index(index.Index("", dirs, False), one) for one in (Changing(dirs), Cache(dirs))
    )
    assert changing == cache


@pytest.mark.usefixtures("settled")
def test_a_missing_dir_that_appears_is_noticed(tmp_path: Path) -> None:
    """A dir that was missing when the index was made is watched too."""
    write(tmp_path / "low" / "a.yaml", "v.com/c", "one")
    assert registry(tmp_path).parts(["v.com/c=one"]) == parts_of_one(tmp_path / "low/a.yaml")
    write(tmp_path / "high" / "b.yaml", "v.com/c", "one")
    assert registry(tmp_path).parts(["v.com/c=one"]) == parts_of_one(tmp_path / "high/b.yaml")


@pytest.mark.usefixtures("settled")
def test_unknown_devices_are_unresolvable_with_an_index_too(tmp_path: Path) -> None:
    """Unknown names are all refused, in order."""
    write(tmp_path / "low" / "a.yaml", "v.com/c", "one")
    registry(tmp_path).parts(["v.com/c=one"])
    with pytest.raises(UnresolvableDevices) as caught:
        registry(tmp_path).parts(["v.com/c=b", "v.com/c=one", "v.com/c=a"])
    assert caught.value.names == ["v.com/c=b", "v.com/c=a"]


def test_a_fresh_spec_is_not_indexed(tmp_path: Path) -> None:
    """A spec that changed just now could change again unnoticed, so it is indexed later."""
    write(tmp_path / "low" / "a.yaml", "v.com/c", "one")
    registry(tmp_path).parts(["v.com/c=one"])
    assert not list(tmp_path.glob("state/*.index"))
    time.sleep(0.06)
    registry(tmp_path).parts(["v.com/c=one"])
    assert index_file(tmp_path).stat().st_mode & 0o777 == 0o600


def test_a_spec_that_was_fresh_when_it_was_read_is_not_indexed(tmp_path: Path) -> None:
    """A spec that may have changed again since it was read isn't indexed, however long reading and compiling take."""
    write(tmp_path / "low" / "a.yaml", "v.com/c", "one")
    slow = registry(tmp_path)
    assert slow.cache.devices() == ["v.com/c=one"]
    time.sleep(0.06)
    index_writer.write(slow.index, slow.cache)
    assert not list(tmp_path.glob("state/*.index"))
    index_writer.build(slow.index, slow.cache)
    assert index_file(tmp_path).stat().st_size


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the spec files that were parsed."""
    names: list[str] = []

    def parse(data: bytes, path: str, priority: int) -> Spec:
        names.append(os.path.basename(path))
        return real(data, path, priority)

    real = specfile.parse
    monkeypatch.setattr(specfile, "parse", parse)
    return names


@pytest.mark.usefixtures("settled")
def test_only_a_spec_that_changed_is_read(tmp_path: Path, loaded: list[str]) -> None:
    """A cache that lives on, and the next process, read the changed spec, and know the others as they were."""
    dirs = [str(tmp_path / "low"), str(tmp_path / "high")]
    for name in "abc":
        write(tmp_path / "low" / f"{name}.yaml", f"{name}.com/c", "one")
    (tmp_path / "low" / "broken.yaml").write_text("{")
    living = Cache(dirs)
    registry(tmp_path).parts(["a.com/c=one"])
    loaded.clear()
    write(tmp_path / "low" / "b.yaml", "b.com/c", "one", "two")
    assert living.devices() == ["a.com/c=one", "b.com/c=one", "b.com/c=two", "c.com/c=one"]
    assert loaded == ["b.yaml", "broken.yaml"]
    loaded.clear()
    next_one = registry(tmp_path)
    next_one.parts(["c.com/c=one"])
    assert loaded == ["b.yaml", "broken.yaml"]
    anew = Cache(dirs)
    for cache_ in (living, next_one.cache):
        assert [vars(one) | {"devices": None} for one in cache_.specs] == [
            vars(one) | {"devices": None} for one in anew.specs
        ]
        assert cache_.errors == anew.errors
        place = index.Index("", dirs, False)
        assert index_writer.compile_index(place, cache_) == index_writer.compile_index(place, anew)


def written_through_mmap(path: Path, old: bytes, new: bytes) -> None:
    """Change a file as a program that has it in its memory does: on a tmpfs it keeps its times."""
    with path.open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as memory:
        at = memory.find(old)
        memory[at : at + len(old)] = new


@pytest.mark.usefixtures("settled")
def test_what_looks_the_same_is_read_again(tmp_path: Path, loaded: list[str]) -> None:
    """A spec that changes without its size and times is stale until it is compiled, and others aren't parsed then."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as name:
        low = tmp_path / "low"
        low.symlink_to(name)
        write(low / "a.yaml", "v.com/c", "one")
        write(low / "b.yaml", "w.com/c", "one")
        index_writer.build(registry(tmp_path).index, registry(tmp_path).cache)
        before = (low / "a.yaml").stat()
        assert not index_writer.is_stale(registry(tmp_path).index, registry(tmp_path).cache)
        written_through_mmap(low / "a.yaml", b"SPEC=a", b"SPEC=b")
        if (low / "a.yaml").stat() != before:
            pytest.skip("/dev/shm is no tmpfs")
        assert registry(tmp_path).parts(["v.com/c=one"]) == parts_of_one(low / "a.yaml")
        assert index_writer.is_stale(registry(tmp_path).index, registry(tmp_path).cache)
        loaded.clear()
        index_writer.build(registry(tmp_path).index, registry(tmp_path).cache)
        assert loaded == ["a.yaml"]
        assert registry(tmp_path).parts(["v.com/c=one"])[0][1] == {"env": ["SPEC=b"]}
        assert not index_writer.is_stale(registry(tmp_path).index, registry(tmp_path).cache)


@pytest.mark.parametrize(
    ("ago_ns", "is_settled"), [(0, False), (1_900_000_000, False), (2_200_000_000, True)]
)
def test_where_times_are_whole_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ago_ns: int, is_settled: bool
) -> None:
    """On a file system that keeps no parts of a second, or every other second, a spec settles as slowly."""
    write(tmp_path / "low" / "a.yaml", "v.com/c", "one")
    whole = time.time_ns() // 1_000_000_000 * 1_000_000_000

    def identify(path: str) -> tuple[int, ...] | None:
        found = files.identify(path)
        return found and (*found[:3], whole, whole, *found[5:])

    monkeypatch.setattr(cache, "identify", identify)
    monkeypatch.setattr(cache.time, "time_ns", lambda: whole + ago_ns)  # type: ignore[attr-defined] # as it is used there
    assert Cache([str(tmp_path / "low")]).is_settled == is_settled


@pytest.mark.usefixtures("settled")
def test_a_remembered_spec_must_still_be_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SPEC_TRUST=strict is checked for every spec, however it is known."""
    path = tmp_path / "low" / "a.yaml"
    write(path, "v.com/c", "one")

    @contextlib.contextmanager
    def trusted(path: str) -> Iterator[str]:
        if reason:
            raise Untrusted(reason, "a remedy")
        yield path

    reason = ""
    monkeypatch.setattr(cache, "trusted", trusted)
    living = Cache([str(tmp_path / "low")], strict=True)
    reason = "a reason"
    remembered = living.remembered
    assert list(remembered) == [str(path)]
    living.refresh()
    for one in (living, Cache([str(tmp_path / "low")], strict=True, remembered=remembered)):
        assert one.devices() == []
        assert one.errors == {str(path): ["refused by SPEC_TRUST=strict: a reason; to fix it: a remedy"]}


@pytest.mark.usefixtures("settled")
def test_a_damaged_index_is_no_error_and_never_wrong(tmp_path: Path) -> None:
    """If an index is cut off at any byte, or has NULs for the rest or one byte, it gives the same parts or none."""
    write(tmp_path / "low" / "a.yaml", "v.com/c", "one", "two")
    names = ["v.com/c=one", "v.com/c=two"]
    expected = registry(tmp_path).cache.look_up(names)
    registry(tmp_path).parts(names)
    path = index_file(tmp_path)
    remembered = index_writer.read(str(path))[1]
    assert list(remembered) == [str(tmp_path / "low" / "a.yaml")]
    data = path.read_bytes()
    for at in range(len(data)):
        for damaged in (data[:at], data[:at].ljust(len(data), b"\0"), data[:at] + b"\0" + data[at + 1 :]):
            path.write_bytes(damaged)
            assert index.Index(str(path), registry(tmp_path).spec_dirs, False).look_up(names) in (
                None,
                expected,
            )
            assert index_writer.read(str(path))[1] in ({}, remembered)


@pytest.mark.usefixtures("settled")
def test_an_index_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    """Without a state dir, or with a file in its place, only the cost changes."""
    write(tmp_path / "low" / "a.yaml", "v.com/c", "one")
    (tmp_path / "state").write_text("")
    assert registry(tmp_path).parts(["v.com/c=one"]) == parts_of_one(tmp_path / "low/a.yaml")
    without = Registry([str(tmp_path / "low")], "", strict=False)
    assert without.parts(["v.com/c=one"]) == parts_of_one(tmp_path / "low/a.yaml")


@pytest.mark.usefixtures("settled")
def test_no_temporary_files_stay(tmp_path: Path) -> None:
    """A write leaves the index and the lock, and nothing beside them."""
    write(tmp_path / "low" / "a.yaml", "v.com/c", "one")
    registry(tmp_path).parts(["v.com/c=one"])
    assert {path.name for path in (tmp_path / "state").iterdir()} == {index_file(tmp_path).name, "lock"}


@pytest.mark.usefixtures("settled")
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOMEM, errno.EMFILE])
@pytest.mark.parametrize("what", ["spec", "dir"])
def test_what_could_not_be_read_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, what: str
) -> None:
    """If reading a spec or a dir fails once, the index doesn't go on saying that the spec isn't there."""
    write(tmp_path / "low/a.yaml", "v.com/c", "one")
    write(tmp_path / "high/b.yaml", "v.com/c", "one")
    path = str(tmp_path / "high/b.yaml" if what == "spec" else tmp_path / "high")
    failed: list[str] = []

    def once(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(name: str, *arguments: Any, **more: Any) -> Any:
            if name == path and not failed and not (arguments and arguments[0] & os.O_PATH):
                failed.append(name)
                raise OSError(number, os.strerror(number), name)
            return function(name, *arguments, **more)

        return call

    module, name = ("posix", "open") if what == "spec" else ("os", "scandir")
    monkeypatch.setattr(f"{module}.{name}", once(os.open if what == "spec" else os.scandir))
    assert registry(tmp_path).parts(["v.com/c=one"]) == parts_of_one(tmp_path / "low/a.yaml")
    assert failed
    assert registry(tmp_path).parts(["v.com/c=one"]) == parts_of_one(tmp_path / "high/b.yaml")
