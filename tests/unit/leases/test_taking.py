# SPDX-License-Identifier: Apache-2.0
"""taking: one container's transaction, with a real file of leases; a script is the runtime that is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cdi_hook.errors import LeaseError
from cdi_hook.leases import life
from cdi_hook.leases.choice import Draw
from cdi_hook.leases.same import Hardware
from cdi_hook.leases.store import Lease, Store
from cdi_hook.leases.taking import Taking

from .test_inquiry import script
from .test_life import GONE
from .test_store import TREE, read, written

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

NO_CONTAINER = "echo 'msg=\"container does not exist\"' >&2; exit 1"


def gpu(number: int, *keys: str) -> Hardware:
    """Return a device with a node of its own."""
    return Hardware(f"v.com/d={number}", [f"c 195:{number}", *keys])


def draw(number: int, *candidates: Hardware) -> Draw:
    """Return a draw of so many devices."""
    made = Draw(f"v.com/d=any:{number}")
    made.candidates = list(candidates)
    return made


def lease(*devices: Hardware, **fields: Any) -> dict[str, Any]:
    """Return the lease of a container whose creator is gone."""
    made = Lease({**TREE, "creators": [GONE], "devices": [], **fields})
    made.cover(devices)
    return made.tree


class Host:
    """A place for leases, and a runtime that says the same of each container."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "leases"
        self.asked = directory / "asked"
        self._runtime = directory
        self.says(NO_CONTAINER)

    def says(self, text: str) -> None:
        """Have the runtime say this."""
        self.command = script(self._runtime, f"echo x >>{self.asked}\n{text}")[:-2]

    def has(self, *leases: dict[str, Any]) -> None:
        """Write leases, of this runtime."""
        written(self.directory, *({**tree, "state": [*self.command, "state", tree["id"]]} for tree in leases))

    def taking(
        self,
        held: Iterable[Hardware] = (),
        draws: Iterable[Draw] = (),
        token: object = None,
        ignored: frozenset[str] = frozenset(),
        **fields: Any,
    ) -> Taking:
        """Return the transaction of the container c9."""
        tree = {name: TREE[name] for name in ("root", "bundle", "engine", "xdg")}
        tree |= {"id": "c9", "state": [*self.command, "state", "c9"], **fields}
        return Taking(tree, "self", token, [*held], [], [*draws], lambda _: ignored)

    def take(self, taking: Taking) -> str:
        """Carry it out; return the lease's token."""
        store = Store(str(self.directory))
        try:
            return taking.take(store, ("docker",))
        finally:
            store.close()

    def refused(self, taking: Taking) -> str:
        """Carry it out in vain; return why."""
        with pytest.raises(LeaseError) as caught:
            self.take(taking)
        return str(caught.value)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def test_a_lease_is_taken(host: Host) -> None:
    """It has what the container is, who creates it, and each device."""
    taking = host.taking([gpu(7)], [draw(2, gpu(0), gpu(1), gpu(2))])
    token = host.take(taking)
    assert {name: [one.name for one in got] for name, got in taking.taken.items()} == {
        "v.com/d=any:2": ["v.com/d=0", "v.com/d=1"]
    }
    (tree,) = read(host.directory)
    assert (tree["token"], tree["id"], tree["creators"]) == (token, "c9", [life.creator()])
    assert tree["state"] == [*host.command, "state", "c9"]
    assert [one[0] for one in tree["devices"]] == ["v.com/d=7", "v.com/d=0", "v.com/d=1"]
    assert not host.asked.exists()


def test_one_that_is_gone_makes_room(host: Host) -> None:
    """Its lease vanishes from the file; one that isn't in the way stays, and nobody asks about it."""
    host.has(lease(gpu(0)), lease(gpu(1), id="c2", token="u"))
    host.take(host.taking([gpu(0)]))
    assert [tree["id"] for tree in read(host.directory)] == ["c2", "c9"]
    assert host.asked.read_text() == "x\n"


def test_one_that_is_there_is_in_the_way(host: Host) -> None:
    """Nothing is taken then, not of what is free either."""
    host.says('echo \'{"status": "running"}\'')
    host.has(lease(gpu(0)))
    taking = host.taking([gpu(0), gpu(1)])
    assert host.refused(taking).startswith("v.com/d=0 is in use by c1 (docker, since ")
    assert taking.lacking == ["v.com/d=0"]
    assert [tree["id"] for tree in read(host.directory)] == ["c1"]
    taking = host.taking(draws=[draw(2, gpu(0), gpu(1))])
    assert "v.com/d=any:2 asks for 2, and of the 2 devices 1 is in use: 0 by c1" in host.refused(taking)
    assert taking.lacking == []


def test_what_is_ignored_is_not_in_the_way(host: Host) -> None:
    """The keys that don't count are asked for only if something is in the way."""
    host.says('echo \'{"status": "running"}\'')
    host.has(lease(gpu(0, "c 235:0")))
    host.take(host.taking([gpu(1, "c 235:0")], ignored=frozenset(["c 235:0"])))
    assert [tree["id"] for tree in read(host.directory)] == ["c1", "c9"]


def test_the_same_container_again(host: Host) -> None:
    """It has its lease by its creator, and the lease grows; it is another's if only the token is the same."""
    token = host.take(host.taking([gpu(0)]))
    assert host.take(host.taking([gpu(0), gpu(1)])) == token
    (tree,) = read(host.directory)
    assert [one[0] for one in tree["devices"]] == ["v.com/d=0", "v.com/d=1"]
    before = (host.directory / "leases").stat().st_ino
    assert host.take(host.taking([gpu(0), gpu(1)])) == token
    assert (host.directory / "leases").stat().st_ino == before  # nothing to write
    assert "in use by c9" in host.refused(host.taking([gpu(0)], token=token, id="c8"))


def test_an_id_that_is_used_again(host: Host) -> None:
    """What its last container had is asked for first, though nothing is in the way."""
    host.has(lease(gpu(0), id="c9"))
    host.take(host.taking([gpu(1)]))
    assert [[one[0] for one in tree["devices"]] for tree in read(host.directory)] == [["v.com/d=1"]]


def test_a_creator_that_is_gone() -> None:
    """The hook may be called too late."""
    tree = {name: TREE[name] for name in ("id", "root", "bundle", "engine", "state", "xdg")}
    with pytest.raises(LeaseError, match="4194304 that creates the container"):
        Taking(tree, 1 << 22, None, [], [], [], lambda _: frozenset())
