# SPDX-License-Identifier: Apache-2.0
"""store: the file of leases, its lock, and whoever puts something else in their place."""

from __future__ import annotations

import itertools
import json
import os
import posix
import re
import socket
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from cdi_hook.errors import LeaseError
from cdi_hook.leases import store
from cdi_hook.leases.same import Hardware
from cdi_hook.leases.store import Lease, Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TREE: dict[str, Any] = {
    "token": "t", "id": "c1", "root": "/run/runc", "bundle": "/b", "engine": "docker", "since": 1.5,
    "creators": [[1, 2, "pid:[3]"]], "state": ["/usr/sbin/runc", "state", "c1"], "xdg": None,
    "devices": [["v.com/d=0", ["c 195:0"], []]],
}  # fmt: skip


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the leases will be."""
    return tmp_path / "leases"


def written(directory: Path, *leases: dict[str, Any]) -> Path:
    """Write leases; return their file."""
    made = Store(str(directory))
    with made:
        made.write([Lease(one) for one in leases])
    made.close()
    return directory / "leases"


def read(directory: Path) -> list[dict[str, Any]]:
    made = Store(str(directory))
    try:
        with made:
            return [one.tree for one in made.read()]
    finally:
        made.close()


def test_what_was_written_is_read(directory: Path) -> None:
    """The file and its dir are for nobody else, whatever the umask; unknown fields stay."""
    assert read(directory) == []
    old = os.umask(0)
    try:
        file = written(directory, {**TREE, "x-later": [1]})
    finally:
        os.umask(old)
    assert [oct(os.stat(one).st_mode & 0o777) for one in (directory, file, directory / "lock")] == [
        "0o700", "0o600", "0o600",
    ]  # fmt: skip
    assert read(directory) == [{**TREE, "x-later": [1]}]
    assert sorted(os.listdir(directory)) == ["leases", "lock"]


def test_cover() -> None:
    """A lease can grow, and a device that it has stays as it is."""
    lease = Lease({**TREE, "devices": list(TREE["devices"])})
    assert [one.keys for one in lease.devices] == [{"c 195:0"}]
    lease.cover([Hardware("v.com/d=0", {"c 195:0"}), Hardware("v.com/d=1", {"c 195:1", "c 1:1"}, {"c 1:1"})])
    assert lease["devices"] == [
        ["v.com/d=0", ["c 195:0"], []],
        ["v.com/d=1", ["c 195:1", "c 1:1"], ["c 1:1"]],
    ]
    lease.cover([Hardware("v.com/d=0", {"c 195:7"})])  # the specs were generated again
    assert len(lease.devices) == 3
    assert lease.has_any(frozenset({"c 1:1"}))
    assert lease.has_any(frozenset({"c 195:0"}))
    assert not lease.has_any(frozenset({"c 195:2"}))


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "null", "[]", "{}", '{"format": 1}', '{"format": 1, "leases": [{}]}', '{"format":1,"leases":{}} x',
        '{"format": 2, "leases": []}', '{"format": 1, "leases": null}', '{"format": 1, "leases": [null]}', "\udcff",
        "[" * 100_000,
        *(json.dumps({"format": 1, "leases": [{**TREE, name: 7}]}) for name in TREE if name != "since"),
        *(json.dumps({"format": 1, "leases": [{**TREE, **one}]}) for one in ({"state": [1]}, {"since": 1e300}, {"since": "x"})),
        *(json.dumps({"format": 1, "leases": [{**TREE, "creators": [one]}]}) for one in (1, [1], ["a", 1, "x"])),
        *(json.dumps({"format": 1, "leases": [{**TREE, "devices": [one]}]}) for one in ("abc", ["a", [1], []], ["a"])),
    ],
    ids=itertools.count(),
)  # fmt: skip
def test_a_damaged_file(directory: Path, text: str) -> None:
    """It is an error with the file's path and what to do, and it stays."""
    file = written(directory)
    file.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(LeaseError, match=re.escape(f'"{file}" is damaged (')) as caught:
        read(directory)
    assert str(caught.value).endswith("stop the containers that have one, then remove that file")
    assert file.read_bytes() == text.encode("utf-8", "surrogateescape")


def test_leases_that_are_of_no_concern(directory: Path) -> None:
    """Those without a text are kept unread; if one has it, or if the file isn't as we write it, all are read."""
    file = written(directory, TREE, {**TREE, "id": "c2", "devices": [['"é', ["net é\n"], []]]})
    before = read(directory)
    new = Lease({**TREE, "token": "u", "id": "c3"})
    made = Store(str(directory))
    with made:
        assert [len(made.read(about)) for about in (["c1"], ["x", "c 195:0"], ["net é\n"])] == [2, 2, 2]
        assert made.read(["c3", "c 195:1", "c1 "]) == []
        made.write([new])
    assert read(directory) == [*before, new.tree]
    with made:
        assert made.read(["x"]) == []
        made.write([])
        assert len(made.read()) == 3
        made.write([])
        assert made.read(["x"]) == []
        made.write([new])
    assert read(directory) == [new.tree]
    file.write_bytes(file.read_bytes()[:-1])
    with made, pytest.raises(LeaseError, match="is damaged"):
        made.read(["x"])
    made.close()


def fifo(path: Path) -> None:
    os.mkfifo(path)


def directory_there(path: Path) -> None:
    path.mkdir()


def link(path: Path) -> None:
    elsewhere = path.parent.parent / "elsewhere"
    elsewhere.write_text('{"format": 1, "leases": []}')
    path.symlink_to(elsewhere)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.parametrize("name", ["leases", "lock"])
@pytest.mark.parametrize("put", [fifo, directory_there, link, a_socket])
def test_something_else_in_a_file_s_place(directory: Path, name: str, put: Callable[[Path], None]) -> None:
    """Nothing is waited for and no link is followed: it is an error that names the place."""
    directory.mkdir(0o700)
    place = directory / name
    put(place)
    if (put, name) == (fifo, "lock"):
        assert read(directory) == []  # a lock on a FIFO is a lock
        return
    with pytest.raises(LeaseError, match=re.escape(str(place))):
        read(directory)


def test_a_large_file(directory: Path) -> None:
    """A file beyond all sense is an error, and not read."""
    file = written(directory)
    with file.open("wb") as stream:
        stream.truncate(17 << 20)
    with pytest.raises(LeaseError, match="larger than"):
        read(directory)


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_dir_that_others_may_enter(directory: Path, mode: int) -> None:
    """A dir that somebody else could look into or write to is no place."""
    directory.mkdir()
    directory.chmod(mode)
    with pytest.raises(LeaseError, match=f"no place for leases.*mode {mode:04o}"):
        read(directory)


def test_a_dir_of_somebody_else_s(directory: Path) -> None:
    """Nor is another user's dir, as in a runtime dir that others can write to."""
    if os.geteuid() != 0:
        pytest.skip("only root can make another user's dir")
    directory.mkdir(0o700)
    os.chown(directory, 4711, 4711)
    with pytest.raises(LeaseError, match="uid 4711"):
        read(directory)
    os.chown(directory, 0, 0)
    file = written(directory, TREE)
    os.chown(file, 4711, 4711)
    with pytest.raises(LeaseError, match="it belongs to uid 4711"):
        read(directory)


@pytest.mark.parametrize(
    "make", [fifo, link, lambda path: path.write_text(""), lambda path: path.symlink_to("/tmp")]
)
def test_something_else_in_the_dir_s_place(directory: Path, make: Callable[[Path], None]) -> None:
    """A link to a dir isn't followed either."""
    make(directory)
    with pytest.raises(LeaseError, match=f'there is no place for leases: "{re.escape(str(directory))}"'):
        read(directory)


def test_a_dir_that_cannot_be_made(tmp_path: Path) -> None:
    """Without the dir above there is no place."""
    with pytest.raises(LeaseError, match=r"there is no place for leases: .*No such file or directory"):
        Store(str(tmp_path / "no/leases"))


def test_those_who_only_look(directory: Path) -> None:
    """They make no dir."""
    assert store.known(str(directory)) == []
    assert store.known("") == []
    assert not directory.exists()
    written(directory, TREE)
    assert [one["id"] for one in store.known(str(directory))] == ["c1"]


def test_a_full_disk(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The old file is still there, and the error names it."""
    file = written(directory, TREE)

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cdi_hook.leases.claims.publish", lambda *_: "")
    monkeypatch.setattr("posix.write", full)
    with pytest.raises(LeaseError, match=re.escape(f'"{file}": No space left on device')):
        written(directory)
    monkeypatch.undo()
    assert read(directory) == [TREE]
    assert sorted(os.listdir(directory)) == ["leases", "lock"]


def test_what_a_killed_process_left(directory: Path) -> None:
    """Half of a new file is removed by the next one that writes."""
    file = written(directory, TREE)
    (directory / "leases.cdi-hook.tmp").write_text('{"format": 1')
    assert read(directory) == [TREE]
    written(directory)
    assert json.loads(file.read_text()) == {"format": 1, "leases": []}
    assert sorted(os.listdir(directory)) == ["leases", "lock"]


_HOLD = """
import sys, time
from cdi_hook.leases.store import Store
with Store(sys.argv[1]):
    print(flush=True)
    time.sleep(100)
"""


def test_the_lock(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has it is waited for, but not for ever; it goes with its process."""
    written(directory)
    with subprocess.Popen([sys.executable, "-c", _HOLD, str(directory)], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        monkeypatch.setattr(store, "_WAIT_S", 0.2)
        start = time.monotonic()
        with pytest.raises(LeaseError, match=re.escape(f'has locked "{directory}/lock" for 0.2 s')):
            read(directory)
        assert time.monotonic() - start < 5
        process.kill()
    assert read(directory) == []


@pytest.mark.parametrize("name", ["", "lock"])
def test_somebody_removes_them_meanwhile(directory: Path, name: str) -> None:
    """A lock that others don't see is none: what is written under it could be lost."""
    written(directory, TREE)
    made = Store(str(directory))
    monkey = posix.lockf

    def remove_first(*arguments: int) -> None:
        (directory / name).rename(directory.parent / "removed")
        if not name:
            directory.mkdir(0o700)
        monkey(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("posix.lockf", remove_first)
        with pytest.raises(LeaseError, match=r"somebody has just removed .*try again"), made:
            pass
    made.close()
    assert read(directory) == ([TREE] if name else [])


_ADD = """
import sys
from cdi_hook.leases.store import Lease, Store
store = Store(sys.argv[1])
for number in range(20):
    with store:
        leases = store.read()
        store.write([*leases, Lease({**leases[0].tree, "id": f"{sys.argv[2]} {number}"})])
"""


def test_a_crowd_loses_nothing(directory: Path) -> None:
    """Of many who write at once each has its turn."""
    written(directory, TREE)
    crowd = [subprocess.Popen([sys.executable, "-c", _ADD, str(directory), str(one)]) for one in range(6)]
    assert [one.wait(60) for one in crowd] == [0] * 6
    found = [one["id"] for one in read(directory)]
    assert sorted(found[1:]) == sorted(f"{one} {number}" for one in range(6) for number in range(20))


def test_ten_thousand_leases(directory: Path) -> None:
    """They are read and written within a second."""
    leases = [
        {**TREE, "id": f"{number:064x}", "devices": [[f"v.com/d={number}", [f"c 1:{number}"], []]]}
        for number in range(10_000)
    ]
    written(directory, *leases)
    start = time.process_time()
    found = Store(str(directory))
    with found:
        there = found.read()
        assert sum(one.has_any(frozenset({"c 1:77"})) for one in there) == 1
        found.write(there)
    assert time.process_time() - start < 1
