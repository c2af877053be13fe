# SPDX-License-Identifier: Apache-2.0
"""EXCLUSIVE between users of one host: root and others, each with leases of their own, and who attacks their claims.

/run and /dev/shm are each test's own. A process of each user carries out the transaction of a container;
the container is a process that sleeps.
"""

from __future__ import annotations

import json
import os
import random
import secrets
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from .lab import ROOT

if TYPE_CHECKING:
    from collections.abc import Generator

ANN, BOB, MAY = 4711, 4712, 4713  # users that no machine has; MAY is in the group of the node
GROUP = 4799
FREE, CLOSED, GROUPS = "c 1:3", "c 1:4", "c 1:5"  # of nodes that everybody, root, and a group may open
_HOLD = f"""
mount -t tmpfs -o mode=755 none /run
mount -t tmpfs -o mode=1777 none /dev/shm
mkdir -m 755 /run/code /run/nodes
mount --bind {ROOT} /run/code
mknod -m 666 /run/nodes/free c 1 3
mknod -m 600 /run/nodes/closed c 1 4
mknod -m 660 /run/nodes/groups c 1 5
chgrp {GROUP} /run/nodes/groups
for user in {ANN} {BOB} {MAY}; do install -d -m 700 -o $user /run/user/$user /run/other/$user; done
chmod 755 /run/user /run/other
echo
exec sleep infinity
"""
_PATHS = {FREE: "/run/nodes/free", CLOSED: "/run/nodes/closed", GROUPS: "/run/nodes/groups"}
# Takes devices for containers, whose ids and processes are given, and says what each got.
_TAKE = """
import json, os, sys, time
sys.path.insert(0, "/run/code")
from cdi_hook.errors import LeaseError
from cdi_hook.leases import choice, claims
from cdi_hook.leases.same import Hardware
from cdi_hook.leases.store import Store
from cdi_hook.leases.taking import Taking
directory, keys, draw, containers, stop, paths = json.loads(sys.argv[1])
devices = [Hardware(f"v.com/d={key[4:]}", [key], (), paths) for key in keys]
draws = [choice.Draw(f"v.com/d=any:{draw}")] if draw else []
for one in draws:
    one.candidates = devices
if stop == "publish":
    publish = claims.publish
    def waiting(*arguments):
        print("waiting", flush=True)
        while not os.path.exists("/run/go"):
            time.sleep(0.001)
        return publish(*arguments)
    claims.publish = waiting
elif stop:
    strangers, calls = claims.strangers, []
    def stopping(start):
        calls.append(start)
        if len(calls) == 2:
            print("published", flush=True)
            time.sleep(1000)
        return strangers(start)
    claims.strangers = stopping
for identity, pid in containers:
    tree = {"id": identity, "root": "", "bundle": "/b", "engine": "", "state": [], "xdg": None}
    taking = Taking(tree, pid, None, [] if draws else devices, [], draws, lambda _: frozenset())
    store = Store(directory)
    try:
        taking.take(store, ())
        print("got", *(d.name for t in taking.taken.values() for d in t), flush=True)
    except LeaseError as error:
        print(error, flush=True)
    store.close()
"""


class Machine:
    """A machine with three users, and root."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "-m", "--propagation", "private", "sh", "-ec", _HOLD],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._holder.stdout
        assert self._holder.stdout.readline() == b"\n"
        self.root = Path(f"/proc/{self._holder.pid}/root")
        self._processes: list[subprocess.Popen[Any]] = [self._holder]

    def close(self) -> None:
        """End it."""
        for one in self._processes:
            one.kill()
            one.wait()
            if one.stdout:
                one.stdout.close()

    def command(self, uid: int, *arguments: str) -> list[str]:
        """Return the command line of a user's command."""
        groups = f"--groups={GROUP}" if uid == MAY else "--clear-groups"
        user = ["setpriv", f"--reuid={uid}", f"--regid={uid}", groups] if uid else []
        return ["nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt", "--", *user, *arguments]

    def spawn(self, command: list[str]) -> subprocess.Popen[str]:
        """Start a process that ends with the machine."""
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self._processes.append(process)
        return process

    def container(self, uid: int, identity: str = "") -> int:
        """Start what is a container's process, with an id among its arguments; return its pid."""
        process = self.spawn(self.command(uid, "sh", "-c", "echo; sleep 1000; :", "sh", identity))
        assert process.stdout
        assert process.stdout.readline() == "\n"
        return process.pid

    def end(self, pid: int) -> None:
        """End it."""
        (process,) = [one for one in self._processes if one.pid == pid]
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        process.kill()
        process.wait()
        for child in children:
            os.kill(int(child), signal.SIGKILL)

    def taking(
        self,
        uid: int,
        *keys: str,
        draw: int = 0,
        containers: list[tuple[str, int]],
        place: str = "",
        stop: str = "",
    ) -> list[str]:
        """Return the command that takes devices for containers."""
        directory = place or (f"/run/user/{uid}" if uid else "/run")
        paths = {} if uid else _PATHS
        asked = json.dumps([f"{directory}/cdi-hook-leases", keys, draw, containers, stop, paths])
        return self.command(uid, "/usr/bin/python3", "-IS", "-c", _TAKE, asked)

    def take(self, uid: int, *keys: str, identity: str = "job", place: str = "") -> str:
        """Take devices for a container that lives; return what is said."""
        return self.take_for(uid, *keys, container=(identity, self.container(uid)), place=place)

    def take_for(self, uid: int, *keys: str, container: tuple[str, int], place: str = "") -> str:
        """Take devices for this container; return what is said."""
        command = self.taking(uid, *keys, containers=[container], place=place)
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.strip()

    def claims(self) -> list[Path]:
        """Return the files that claim devices."""
        return [path for place in ("run", "dev/shm") for path in (self.root / place).glob("cdi-hook-claims*")]

    def write(self, uid: int, name: str, text: str) -> None:
        """Write a file in /dev/shm as a user."""
        subprocess.run(
            self.command(uid, "sh", "-c", 'cat >"/dev/shm/$0"', name), input=text, text=True, check=True
        )


@pytest.fixture
def machine() -> Generator[Machine]:
    """A machine."""
    if os.geteuid() != 0:
        pytest.skip("only root can be several users")
    made = Machine()
    yield made
    made.close()


def claim(*keys: str, identity: str = "x") -> str:
    """Return what a file says that claims devices."""
    return json.dumps(
        {
            "format": 1,
            "leases": [
                {
                    "id": identity,
                    "since": 1.0,
                    "creators": [[1, 1, os.readlink("/proc/self/ns/pid")]],
                    "devices": [[f"v.com/d={key}", [key], []] for key in keys],
                }
            ],
        }
    )


@pytest.mark.parametrize(
    ("first", "second", "who"),
    [(ANN, BOB, f"uid {ANN}"), (ANN, 0, f"uid {ANN}"), (0, ANN, "root"), (BOB, ANN, f"uid {BOB}")],
)
def test_one_at_a_time(machine: Machine, first: int, second: int, who: str) -> None:
    """What one user's container has, no other's gets, and hears whose it is; other devices are nobody's."""
    assert machine.take(first, FREE) == "got"
    told = machine.take(second, FREE)
    assert told.startswith(f"v.com/d=3 is in use by job ({who}, since "), told
    assert f"whether job is gone can't be told: only {who} can ask its runtime" in told
    assert machine.take(second, CLOSED) == "got"
    assert [path.stat().st_mode & 0o7777 for path in machine.claims()] == [0o644] * 2


def test_one_user_with_two_sessions(machine: Machine) -> None:
    """The same user with another XDG_RUNTIME_DIR is refused too."""
    assert machine.take(ANN, FREE) == "got"
    told = machine.take(ANN, FREE, place=f"/run/other/{ANN}")
    assert told.startswith("v.com/d=3 is in use by job (your other session, since ")


@pytest.mark.parametrize("first", [ANN, 0])
def test_a_neighbour_s_container_that_ended(machine: Machine, first: int) -> None:
    """With an engine's id it is seen to live, and once no process has the id, its device is free."""
    identity = secrets.token_hex(32)  # which no process of another test has
    pid = machine.container(first, identity)
    assert machine.take_for(first, FREE, container=(identity, pid)) == "got"
    told = machine.take(BOB, FREE)
    assert told.startswith(f"v.com/d=3 is in use by {identity[:12]} ("), told
    assert "can't be told" not in told
    machine.end(pid)
    assert machine.take(BOB, FREE) == "got"


def test_what_ended_isn_t_claimed_again(machine: Machine) -> None:
    """A claim goes with its lease, when its user takes another."""
    pid = machine.container(ANN)
    assert machine.take_for(ANN, FREE, container=("job", pid)) == "got"
    machine.end(pid)
    assert machine.take_for(ANN, FREE, container=("other", machine.container(ANN))) == "got"
    (file,) = machine.claims()
    assert [one["id"] for one in json.loads(file.read_text())["leases"]] == ["other"]


@pytest.mark.parametrize("who", [0, BOB])
def test_what_list_shows(machine: Machine, who: int) -> None:
    """It shows what other users' containers have, with the words for each user."""
    conf, specs = machine.root / "run/cdi-hook.conf", machine.root / "run/specs"
    specs.mkdir()
    spec = {"path": "/dev/x", "hostPath": "/run/nodes/free"}
    kind = {"cdiVersion": "0.6.0", "kind": "v.com/d"}
    device = {"name": "3", "containerEdits": {"deviceNodes": [spec]}}
    (specs / "v.json").write_text(json.dumps({**kind, "devices": [device]}))
    conf.write_text("SPEC_DIRS=/run/specs\nEXCLUSIVE=v.com/d=*\n")
    assert machine.take(ANN, FREE) == "got"
    environ = (
        "env",
        "-i",
        "PATH=/usr/bin:/bin",
        "CDI_HOOK_CONFIG=/run/cdi-hook.conf",
        f"XDG_RUNTIME_DIR=/run/user/{who}",
    )
    command = machine.command(who, *environ, "/run/code/packaging/bin/cdi-hook", "list", "--json")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    (item,) = json.loads(done.stdout)["items"]
    assert (item["holder"]["container"], item["holder"]["user"]) == ("job", f"uid {ANN}")
    assert "whether these containers are gone can't be told: job: only uid" in done.stderr


# Attacks.


@pytest.mark.parametrize(
    ("user", "key", "counts"),
    [
        (ANN, FREE, True),
        (ANN, CLOSED, False),
        (ANN, GROUPS, False),
        (MAY, GROUPS, True),
        (ANN, "net eth0", False),
    ],
)
def test_root_heeds_who_may_open_a_node(machine: Machine, user: int, key: str, counts: bool) -> None:
    """A user's claim of what that user can't open keeps root from nothing."""
    machine.container(user)  # with its groups
    machine.write(user, "cdi-hook-claims.0-0.0", claim(key))
    told = machine.take(0, key)
    assert told.startswith(f"v.com/d={key[4:]} is in use by x (uid {user}, since 1970-") == counts
    assert (told == "got") != counts


@pytest.mark.parametrize(("tag", "identity"), [(2, ANN), (8, GROUP), (2, BOB), (8, BOB)])
def test_an_access_control_list(machine: Machine, tag: int, identity: int) -> None:
    """A user or a group that a node's list names may open it too, as with udev's uaccess."""
    entries = (
        (1, 6, 0xFFFFFFFF),
        (tag, 6, identity),
        (4, 0, 0xFFFFFFFF),
        (16, 6, 0xFFFFFFFF),
        (32, 0, 0xFFFFFFFF),
    )
    packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in sorted(entries))
    os.setxattr(machine.root / "run/nodes/closed", "system.posix_acl_access", packed)
    user = MAY if tag == 8 else ANN
    machine.container(user)
    machine.write(user, "cdi-hook-claims.0-0.0", claim(CLOSED))
    assert (machine.take(0, CLOSED) == "got") == (identity == BOB)


def test_a_container_of_root_s_in_shm(machine: Machine) -> None:
    """With the host's /dev/shm, a root in a container writes what only users heed."""
    machine.write(0, "cdi-hook-claims.0-0.0", claim(FREE))
    assert machine.take(0, FREE) == "got"
    machine.claims()[0].unlink()
    assert machine.take(ANN, FREE).startswith("v.com/d=3 is in use by x (uid 0, since 1970-")


def put_fifo(path: Path) -> None:
    os.mkfifo(path, 0o666)


def put_link(path: Path) -> None:
    path.symlink_to("/run/secret")


def put_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))


def put_dir(path: Path) -> None:
    path.mkdir()


def put_huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def put_deep(path: Path) -> None:
    path.write_text("[" * 100_000)


@pytest.mark.parametrize("user", [0, BOB])
@pytest.mark.parametrize("put", [put_fifo, put_link, put_socket, put_dir, put_huge, put_deep])
def test_other_things_in_a_claim_s_place(machine: Machine, put: Any, user: int) -> None:
    """Nobody waits for them, follows them or reads them whole; what others claim still counts."""
    path = machine.root / "dev/shm/cdi-hook-claims.0-0.0"
    put(path)
    os.chown(path, ANN, ANN, follow_symlinks=False)
    (machine.root / "run/secret").write_text(claim(FREE))
    began = time.monotonic()
    assert machine.take(user, FREE) == "got"
    assert time.monotonic() - began < 5
    assert machine.take(MAY, FREE).startswith("v.com/d=3 is in use by job (")


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "[1]", '{"leases": [[]]}', '{"leases": [{"id": 1}]}', '{"leases": 1}', "null", "\x00", claim(FREE).replace('"x"', "1"),
        claim(FREE).replace("1.0", "1e999"), claim(FREE).replace("1.0", '"a"'), claim(FREE)[:-1],
        claim(FREE).replace("[[1,", "[[[],"), claim(FREE).replace(f'["{FREE}"]', "7"),
        claim(FREE, identity="\x1b[2J"), claim(FREE, identity="x" * 10_000), claim(FREE, identity="é"),
    ],
)  # fmt: skip
def test_what_is_no_claim(machine: Machine, text: str) -> None:
    """It keeps nobody from a device, and leaves no trace in what people see."""
    machine.write(ANN, "cdi-hook-claims.0-0.0", text)
    assert machine.take(BOB, FREE) == "got"
    machine.write(ANN, "cdi-hook-claims.0-0.1", claim(GROUPS))
    assert machine.take(BOB, GROUPS).startswith("v.com/d=5 is in use by x (")


@pytest.mark.parametrize("since", ["-90000000000.0", "90000000000.0", "true"])
def test_odd_times(machine: Machine, since: str) -> None:
    """They are shown as they are."""
    machine.write(ANN, "cdi-hook-claims.0-0.0", claim(FREE).replace("1.0", since))
    assert "v.com/d=3 is in use by x (uid" in machine.take(BOB, FREE)


def test_a_dir_that_is_full_of_claims(machine: Machine) -> None:
    """Who makes them by the thousand delays nobody for long, and stops neither root nor another user."""
    place = machine.root / "dev/shm"
    text = claim(*(f"c 9:{one}" for one in range(3000)))
    for number in range(20_000):
        path = place / f"cdi-hook-claims.0-0.{number}"
        path.write_text(text if number % 100 == 0 else claim())
        os.chown(path, ANN, ANN)
    for user in (0, BOB):
        usage = os.times()
        assert machine.take(user, FREE) == "got" if not user else "got"
        spent = os.times()
        assert spent.children_user + spent.children_system - usage.children_user - usage.children_system < 1.5


def test_squatting(machine: Machine) -> None:
    """Nobody can be where another's next claim will be, nor remove or replace it."""
    assert machine.take(ANN, FREE) == "got"
    (file,) = machine.claims()
    machine.write(BOB, f"{file.name}.cdi-hook.tmp", "x")
    for script in ('rm -f "$0"', 'mv "$1" "$0"', 'echo >"$0"', 'ln "$0" /dev/shm/cdi-hook-claims.x.y'):
        command = machine.command(
            BOB, "sh", "-c", script, f"/dev/shm/{file.name}", f"/dev/shm/{file.name}.cdi-hook.tmp"
        )
        done = subprocess.run(command, check=False, capture_output=True)
        assert done.returncode != 0 or "ln" in script, script
    machine.write(BOB, f"{file.name.rpartition('.')[0]}.0", claim(CLOSED))  # by ANN's prefix
    assert machine.take(ANN, GROUPS, identity="more") == "got"
    assert machine.take(BOB, GROUPS).startswith("v.com/d=5 is in use by more (")
    assert machine.take(ANN, CLOSED, identity="last").startswith(f"v.com/d=4 is in use by x (uid {BOB}, ")


def test_no_room(machine: Machine) -> None:
    """Who can't say what a container has gives it nothing."""
    subprocess.run(machine.command(0, "mount", "-o", "remount,size=16k", "/dev/shm"), check=True)
    machine.write(BOB, "filler", "x" * 16_000)
    told = machine.take(ANN, FREE)
    assert told.startswith("other users can't be told of a lease: \"/dev/shm/cdi-hook-claims."), told
    assert told.endswith('": No space left on device')
    assert machine.claims() == []
    assert machine.take(0, FREE) == "got"


@pytest.mark.parametrize("mode", ["", "0777"])
def test_no_place_for_claims(machine: Machine, mode: str) -> None:
    """Without /dev/shm, or where others may remove files from it, each user has devices for themselves."""
    place = machine.root / "dev/shm"
    if mode:
        place.chmod(0o777)
    else:
        subprocess.run(machine.command(0, "umount", "-l", "/dev/shm"), check=True)
        subprocess.run(
            machine.command(0, "mount", "-t", "tmpfs", "-o", "mode=755", "none", "/dev/shm"), check=True
        )
    assert [machine.take(one, FREE) for one in (ANN, BOB)] == ["got", "got"]
    assert machine.claims() == []


# Two at once.


@pytest.mark.parametrize("killed", [ANN, 0])
def test_killed_between_publishing_and_reading(machine: Machine, killed: int) -> None:
    """What was never given holds nothing back, once that is seen; no file stays that nobody can remove."""
    identity = secrets.token_hex(32)
    pid = machine.container(killed, identity)
    process = machine.spawn(machine.taking(killed, FREE, containers=[(identity, pid)], stop="read"))
    assert process.stdout
    assert process.stdout.readline() == "published\n"
    assert machine.take(BOB, FREE).startswith(f"v.com/d=3 is in use by {identity[:12]} (")
    machine.end(process.pid)
    machine.end(pid)
    assert machine.take(BOB, FREE) == "got"
    assert machine.take(killed, FREE).startswith("v.com/d=3 is in use by job (")


@pytest.mark.parametrize("turn", range(5))
@pytest.mark.parametrize("users", [(ANN, BOB), (ANN, 0), (ANN, BOB, 0)])
def test_a_tie(machine: Machine, users: tuple[int, ...], turn: int) -> None:
    """Of two who saw nothing of each other and publish at the same moment, just one gets the device."""
    processes = [
        machine.spawn(
            machine.taking(user, FREE, containers=[("job", machine.container(user))], stop="publish")
        )
        for user in users
    ]
    for one in processes:
        assert one.stdout
        assert one.stdout.readline() == "waiting\n"
    time.sleep(turn / 1000)
    (machine.root / "run/go").touch()
    told = [one.communicate(timeout=30)[0].replace("waiting\n", "").strip() for one in processes]
    assert sorted(one.partition(" (")[0] for one in told) == ["got"] + ["v.com/d=3 is in use by job"] * (
        len(users) - 1
    )


@pytest.mark.parametrize("turn", range(3))
@pytest.mark.parametrize(("users", "draw"), [((ANN, BOB), 0), ((ANN, BOB, 0), 0), ((ANN, 0), 1)])
def test_fifty_at_once(machine: Machine, users: tuple[int, ...], draw: int, turn: int) -> None:
    """Of many that want one device at the same moment, one gets it; of those that want any of three, three do."""
    keys = (FREE,) if not draw else (FREE, "c 1:7", "c 1:8")
    for node in () if not draw else ("7", "8"):
        _PATHS[f"c 1:{node}"] = _PATHS[FREE]
    commands = []
    for user in users:
        pid = machine.container(user)
        commands += [
            machine.taking(user, *keys, draw=draw, containers=[(f"{user}-{number}", pid)])
            for number in range(50 // len(users))
        ]
    random.Random(turn).shuffle(commands)
    processes = [subprocess.Popen(one, stdout=subprocess.PIPE, text=True) for one in commands]
    told = [one.communicate(timeout=120)[0].strip() for one in processes]
    got = [one for one in told if one.startswith("got")]
    print(len(got), file=sys.stderr)
    assert len(got) == len({*got}) == len(keys), told
