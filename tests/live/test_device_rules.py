# SPDX-License-Identifier: Apache-2.0
"""live.device_rules: the devices that the kernel lets a process in a cgroup use, before and after.

The cgroups are the tests' own, which are removed at the end, and real containers'. A
process in the cgroup makes and opens device nodes. Only EPERM means that the cgroup
refused; any other error, as without a driver, means that it allowed.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import struct
import subprocess
import sys
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cdi_hook.container import syscalls
from cdi_hook.errors import InjectionError
from cdi_hook.live import bpf, device_rules
from tests.runtime.lab import BUSYBOX, NATIVE, RUNTIMES, Lab, why_not
from tests.unit.live.test_bpf import SOME, SOME_BLINDED

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

Request = tuple[str, int, int, str]
Rule = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
V1 = Path("/sys/fs/cgroup/devices")
MULTI, OVERRIDE = syscalls.BPF_F_ALLOW_MULTI, 1  # BPF_F_ALLOW_OVERRIDE

# null, zero, urandom, tty, fuse; numbers that no driver has
DEVICES = [
    ("c", 1, 3), ("c", 1, 5), ("c", 1, 9), ("c", 5, 0), ("c", 10, 229), ("c", 240, 7), ("b", 240, 7), ("b", 241, 0),
]  # fmt: skip
REQUESTS: list[Request] = [(*device, access) for device in DEVICES for access in ("m", "r", "w", "rw")]
PROBE = """
import errno, json, os, stat, sys
cgroup, nodes, requests = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
with open(cgroup + "/cgroup.procs", "w") as file:
    file.write("0")
allowed = []
for kind, major, minor, access in requests:
    node = f"{nodes}/{kind}{major}:{minor}"
    try:
        if access == "m":
            os.mknod(node + "m", {"b": stat.S_IFBLK, "c": stat.S_IFCHR}[kind], os.makedev(major, minor))
            os.unlink(node + "m")
        else:
            flags = {"r": os.O_RDONLY, "w": os.O_WRONLY, "rw": os.O_RDWR}[access]
            os.close(os.open(node, flags | os.O_NONBLOCK | os.O_NOCTTY))
    except PermissionError as error:
        if error.errno == errno.EPERM:
            continue
        raise
    except OSError:
        pass
    allowed.append([kind, major, minor, access])
print(json.dumps(allowed))
"""

INSN = struct.Struct("<BBhi")
EXIT = INSN.pack(0x95, 0, 0, 0)
ALLOW, DENY = (INSN.pack(0xB7, 0, 0, decision) + EXIT for decision in (1, 0))
SOME_ALLOWED = {("c", 1, 3, access) for access in ("m", "r", "w", "rw")} | {("c", 1, 5, "r")}
FUSE: Rule = {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rw"}
FUSE_ALLOWED = {("c", 10, 229, access) for access in ("r", "w", "rw")}


class Cgroup:
    """A cgroup of either version, with a process in it that stands for a container's first process."""

    def __init__(self, path: Path, nodes: Path) -> None:
        self.path = path
        self.nodes = nodes
        path.mkdir()
        self._process = subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL)
        (path / "cgroup.procs").write_text(str(self.pid))

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def allowed(self) -> set[Request]:
        """Return the REQUESTS that are allowed in the cgroup."""
        return allowed(self.path, self.nodes)

    def attach(self, *programs: bytes, flags: int = MULTI, on: Path | None = None) -> None:
        """Attach programs."""
        descriptor = os.open(on or self.path, os.O_RDONLY)
        for program in programs:
            loaded = device_rules._load(program, b"test")
            attr = device_rules._attr("4I", descriptor, loaded, syscalls.BPF_CGROUP_DEVICE, flags)
            syscalls.bpf(syscalls.BPF_PROG_ATTACH, attr)
            os.close(loaded)
        os.close(descriptor)

    def attached(self) -> tuple[list[int], int]:
        """Return the ids of the attached programs, and the flags."""
        descriptor = os.open(self.path, os.O_RDONLY)
        numbers, flags = device_rules._attached(descriptor)
        os.close(descriptor)
        return list(numbers), flags

    def close(self) -> None:
        """End the process and remove the cgroup."""
        self._process.kill()
        self._process.wait()
        self.path.rmdir()


def allowed(cgroup: Path, nodes: Path) -> set[Request]:
    """Return the REQUESTS that a process in a cgroup is allowed."""
    command = [sys.executable, "-IS", "-c", PROBE, str(cgroup), str(nodes), json.dumps(REQUESTS)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return {(kind, major, minor, access) for kind, major, minor, access in json.loads(done.stdout)}


def allow(pid: int, *added: Rule) -> None:
    """Add rules; this must not cause a warning."""
    warnings: list[str] = []
    device_rules.allow(pid, added, warnings.append)
    assert warnings == []


def allow_elsewhere(prefix: Sequence[str], pid: int, mountinfo: str) -> str:
    """Add FUSE in a process that a command starts; return its warnings."""
    code = (
        "import sys; from cdi_hook.live import device_rules; device_rules._MOUNTINFO = sys.argv[2]; "
        f"device_rules.allow(int(sys.argv[1]), [{FUSE!r}], print)"
    )
    command = [*prefix, sys.executable, "-c", code, str(pid), mountinfo]
    done = subprocess.run(
        command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture
def nodes(tmp_path: Path) -> Path:
    """A dir with the nodes of DEVICES."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it makes device nodes and cgroups")
    directory = tmp_path / "nodes"
    directory.mkdir()
    for kind, major, minor in DEVICES:
        type_ = {"b": 0o060000, "c": 0o020000}[kind]
        os.mknod(directory / f"{kind}{major}:{minor}", type_ | 0o600, os.makedev(major, minor))
    return directory


@pytest.fixture
def v2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The mount of cgroup v2; live.device_rules sees no other, as on a machine that has no v1."""
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        lines = [line for line in file if " - cgroup2 " in line]
    if not lines:
        pytest.skip("this machine has no cgroup v2 mounted")
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(lines[0])
    monkeypatch.setattr(device_rules, "_MOUNTINFO", str(mountinfo))
    return Path(lines[0].split()[4])


@pytest.fixture
def cgroup(v2: Path, nodes: Path) -> Generator[Cgroup]:
    """A cgroup v2 without programs."""
    cgroup = Cgroup(v2 / f"cdi-hook-test-{uuid.uuid4().hex[:12]}", nodes)
    yield cgroup
    cgroup.close()


@pytest.fixture
def cgroup_v1(nodes: Path) -> Generator[Cgroup]:
    """A cgroup v1 with the rules SOME."""
    if not V1.is_dir():
        pytest.skip("this machine has no devices controller of cgroup v1")
    cgroup = Cgroup(V1 / f"cdi-hook-test-{uuid.uuid4().hex[:12]}", nodes)
    (cgroup.path / "devices.deny").write_text("a")
    (cgroup.path / "devices.allow").write_text("c 1:3 rwm")
    (cgroup.path / "devices.allow").write_text("c 1:5 r")
    yield cgroup
    cgroup.close()


# Rules, and the REQUESTS that they allow.
CASES: list[tuple[list[Rule], set[Request]]] = [
    ([FUSE], FUSE_ALLOWED),
    ([{**FUSE, "access": "r"}], {("c", 10, 229, "r")}),
    ([{**FUSE, "access": "m"}], {("c", 10, 229, "m")}),
    ([{**FUSE, "access": access} for access in ("r", "w", "rw", "m")], FUSE_ALLOWED | {("c", 10, 229, "m")}),
    ([{**FUSE, "type": "b", "major": 240, "minor": 7}], {("b", 240, 7, access) for access in ("r", "w", "rw")}),
    (
        [{**FUSE, "minor": -1}, {"allow": True, "type": "b", "minor": 0, "access": "m"}],
        FUSE_ALLOWED | {("b", 241, 0, "m")},
    ),
    ([{"allow": True, "type": "c", "access": "rwm"}], {request for request in REQUESTS if request[0] == "c"}),
    ([{"allow": True, "type": "c", "major": 10, "minor": 229}], set()),
    ([{**FUSE, "major": (1 << 32) + 10}], set()),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(CASES)))
def test_rules_are_added_to_a_program(cgroup: Cgroup, number: int) -> None:
    """With cgroup v2, what the rules allow is allowed too, and everything else is as before."""
    added, more = CASES[number]
    cgroup.attach(SOME)
    assert cgroup.allowed() == SOME_ALLOWED
    allow(cgroup.pid, *added)
    assert cgroup.allowed() == SOME_ALLOWED | more


@pytest.mark.parametrize("number", [0, 1, 2, 3, 4, 6, 7, 8])
def test_rules_are_added_to_v1(cgroup_v1: Cgroup, number: int) -> None:
    """With cgroup v1, what the rules allow is allowed too, and everything else is as before."""
    added, more = CASES[number]
    assert cgroup_v1.allowed() == SOME_ALLOWED
    allow(cgroup_v1.pid, *added)
    assert cgroup_v1.allowed() == SOME_ALLOWED | more


def test_a_rule_for_a_minor_of_any_major_is_v1s_too(cgroup_v1: Cgroup) -> None:
    """With cgroup v1, a number that isn't given means any number, for majors and minors."""
    allow(cgroup_v1.pid, {**FUSE, "minor": -1}, {"allow": True, "type": "b", "minor": 0, "access": "m"})
    listed = (cgroup_v1.path / "devices.list").read_text().splitlines()
    assert listed == ["c 1:3 rwm", "c 1:5 r", "c 10:* rw", "b *:0 m"]


@pytest.mark.parametrize(
    ("programs", "flags", "before"),
    [
        ([SOME, ALLOW, SOME], MULTI, SOME_ALLOWED),
        ([SOME, DENY], MULTI, set()),
        ([SOME], 0, SOME_ALLOWED),
        ([SOME], OVERRIDE, SOME_ALLOWED),
        ([ALLOW], MULTI, set(REQUESTS)),
        ([bpf.loadable(SOME_BLINDED)], MULTI, SOME_ALLOWED),
    ],
    ids=["three", "one that denies all", "alone", "may be overridden", "one that allows all", "blinded"],
)
def test_rules_are_put_before_every_program(
    cgroup: Cgroup, programs: list[bytes], flags: int, before: set[Request]
) -> None:
    """All programs stay attached as they were, however many there are, and allow more."""
    cgroup.attach(*programs, flags=flags)
    assert cgroup.allowed() == before
    allow(cgroup.pid, FUSE)
    assert cgroup.allowed() == before | FUSE_ALLOWED
    numbers, now = cgroup.attached()
    assert (len(numbers), now) == (len(programs), flags)


def test_no_program_allows_all_already(cgroup: Cgroup) -> None:
    """If no program decides, none is attached."""
    allow(cgroup.pid, FUSE)
    assert cgroup.attached()[0] == []
    assert cgroup.allowed() == set(REQUESTS)


def test_the_same_rules_twice(cgroup: Cgroup) -> None:
    """A second time the programs stay, and other rules are added before them."""
    cgroup.attach(SOME, SOME)
    allow(cgroup.pid, FUSE)
    once = cgroup.attached()
    allow(cgroup.pid, FUSE)
    assert cgroup.attached() == once
    allow(cgroup.pid, {**FUSE, "access": "m"})
    assert cgroup.allowed() == SOME_ALLOWED | FUSE_ALLOWED | {("c", 10, 229, "m")}


def test_many_rules(cgroup: Cgroup) -> None:
    """A thousand rules can be added, and more than the kernel accepts is an error that changes nothing."""
    cgroup.attach(SOME)
    allow(cgroup.pid, *({**FUSE, "minor": minor} for minor in range(1000)))
    assert cgroup.allowed() == SOME_ALLOWED | FUSE_ALLOWED
    before = cgroup.attached()
    with pytest.raises(InjectionError, match=r"can't be loaded again, with [0-9]+ instructions: "):
        allow(cgroup.pid, *({**FUSE, "minor": minor} for minor in range(10000)))
    assert cgroup.attached() == before


def array() -> int:
    """Return the descriptor of a new map."""
    return syscalls.bpf(0, device_rules._attr("4I", 2, 4, 4, 1))  # BPF_MAP_CREATE, BPF_MAP_TYPE_ARRAY


@pytest.mark.parametrize("what", ["calls functions", "uses maps"])
def test_a_program_that_cannot_be_loaded_again(cgroup: Cgroup, what: str) -> None:
    """A program with a helper or a map is refused in one line, and a program beside it stays too."""
    call = INSN.pack(0x85, 0, 0, 5)  # bpf_ktime_get_ns
    descriptor = array()
    map_ = INSN.pack(0x18, 1 << 4 | 2, 0, descriptor) + INSN.pack(0, 0, 0, 0)
    cgroup.attach(SOME, {"calls functions": call, "uses maps": map_}[what] + ALLOW)
    os.close(descriptor)
    before = cgroup.attached()
    with pytest.raises(InjectionError) as caught:
        allow(cgroup.pid, FUSE)
    assert str(caught.value) == (
        f'can\'t add device rules to cgroup "{cgroup.path}": a program that decides there {what}; '
        "use cdi-runtime as the engine's runtime: then the runtime itself makes these rules"
    )
    assert cgroup.attached() == before


def replaced_before(monkeypatch: pytest.MonkeyPatch, cgroup: Cgroup, times: int) -> None:
    """Let somebody else replace the program this often, each time right after it was looked up."""
    attached, left = device_rules._attached, itertools.chain([True] * times, itertools.repeat(False))

    def racing(descriptor: int) -> tuple[Sequence[int], int]:
        answer = attached(descriptor)
        if next(left):
            old = syscalls.bpf(syscalls.BPF_PROG_GET_FD_BY_ID, device_rules._attr("I", answer[0][0]))
            new = device_rules._load(SOME, b"test")
            flags = MULTI | syscalls.BPF_F_REPLACE
            attr = device_rules._attr("5I", descriptor, new, syscalls.BPF_CGROUP_DEVICE, flags, old)
            syscalls.bpf(syscalls.BPF_PROG_ATTACH, attr)
            os.close(old)
            os.close(new)
        return answer

    cgroup.attach(DENY)
    monkeypatch.setattr(device_rules, "_attached", racing)


def test_a_program_that_was_just_replaced(cgroup: Cgroup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules go before the program that is there when they are attached, not before an earlier one."""
    replaced_before(monkeypatch, cgroup, 2)
    allow(cgroup.pid, FUSE)
    assert cgroup.allowed() == SOME_ALLOWED | FUSE_ALLOWED


def test_a_program_that_is_replaced_all_the_time(cgroup: Cgroup, monkeypatch: pytest.MonkeyPatch) -> None:
    """The attempts have an end."""
    replaced_before(monkeypatch, cgroup, 1000)
    with pytest.raises(InjectionError, match="is a link's, or is replaced all the time; "):
        allow(cgroup.pid, FUSE)


def test_a_program_of_a_link(cgroup: Cgroup) -> None:
    """A program that a link holds is refused, because only the link's owner can replace it."""
    descriptor = os.open(cgroup.path, os.O_RDONLY)
    program = device_rules._load(SOME, b"test")
    link = syscalls.bpf(
        28, device_rules._attr("4I", program, descriptor, syscalls.BPF_CGROUP_DEVICE, 0)
    )  # BPF_LINK_CREATE
    with pytest.raises(InjectionError, match="is a link's, or is replaced all the time; "):
        allow(cgroup.pid, FUSE)
    for opened in (link, program, descriptor):
        os.close(opened)


def test_without_the_right(cgroup: Cgroup) -> None:
    """A process that is root only in a user namespace gets a warning, and nothing changes."""
    cgroup.attach(SOME)
    warning = allow_elsewhere(("unshare", "-Ur"), cgroup.pid, device_rules._MOUNTINFO)
    assert (
        warning == f'the device rules of cgroup "{cgroup.path}" stay as they are: Operation not permitted\n'
    )
    assert cgroup.allowed() == SOME_ALLOWED


def test_what_root_may_not(cgroup_v1: Cgroup) -> None:
    """Rules that an outer cgroup doesn't let root add are refused, as the runtimes do, because the device couldn't be used."""
    inner = Cgroup(cgroup_v1.path / "inner", cgroup_v1.nodes)
    try:
        with pytest.raises(InjectionError) as caught:
            allow(inner.pid, FUSE)
        assert inner.allowed() == SOME_ALLOWED
    finally:
        inner.close()
    assert f'cgroup "{inner.path}": Operation not permitted; ' in str(caught.value)


def test_without_the_right_in_v1(cgroup_v1: Cgroup) -> None:
    """With cgroup v1 too, a process that is root only in a user namespace gets a warning, and nothing changes."""
    warning = allow_elsewhere(("unshare", "-Ur"), cgroup_v1.pid, device_rules._MOUNTINFO)
    assert (
        warning
        == f'the device rules of cgroup "{cgroup_v1.path}" stay as they are: Operation not permitted\n'
    )
    assert cgroup_v1.allowed() == SOME_ALLOWED


def test_a_machine_that_was_not_thought_of(cgroup: Cgroup, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the number of the system call isn't known, it isn't guessed."""
    uname = os.uname_result(("Linux", "node", "6.0", "", "s390x"))
    monkeypatch.setattr(os, "uname", lambda: uname)
    with pytest.raises(InjectionError, match=": the number of the system call bpf on s390x isn't known; "):
        allow(cgroup.pid, FUSE)


def test_a_process_that_is_gone(v2: Path) -> None:
    """Without the container's process, its cgroup can't be found."""
    assert v2
    with pytest.raises(InjectionError, match=r"^can't find the cgroup of process 4194305: "):
        allow(4194305, FUSE)  # one more than the highest possible


def test_the_hooks_own_cgroup(v2: Path) -> None:
    """A container in the cgroup that the hook is in gets a warning, since its rules would be the hook's too."""
    assert v2
    if os.geteuid() != 0:
        pytest.skip("needs root: a user's container has no cgroup of its own, and no warning")
    warnings: list[str] = []
    device_rules.allow(os.getpid(), [FUSE], warnings.append)
    assert warnings == ["the container is in the hook's own cgroup: its device rules stay as they are"]


def test_a_cgroup_in_a_scope(v2: Path, nodes: Path) -> None:
    """In a cgroup within systemd's scope, as crun makes it, the rules go to the scope, where the program is."""
    scope = v2 / f"cdi-hook-test-{uuid.uuid4().hex[:12]}.scope"
    scope.mkdir()
    cgroup = Cgroup(scope / "container", nodes)
    try:
        cgroup.attach(SOME, on=scope)
        assert cgroup.allowed() == SOME_ALLOWED
        allow(cgroup.pid, FUSE)
        assert cgroup.allowed() == SOME_ALLOWED | FUSE_ALLOWED
        assert cgroup.attached()[0] == []
    finally:
        cgroup.close()
        scope.rmdir()


def test_a_cgroup_that_no_mount_shows(
    cgroup: Cgroup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cgroup that no mount shows is an error, and no other cgroup with that name is used."""
    mountinfo = tmp_path / "elsewhere"
    place = cgroup.path.parent
    mountinfo.write_text(
        f"1 1 0:1 /elsewhere {place} rw - cgroup2 none rw\n1 1 0:1 / {tmp_path} rw - cgroup2 none rw\n"
    )
    monkeypatch.setattr(device_rules, "_MOUNTINFO", str(mountinfo))
    with pytest.raises(InjectionError) as caught:
        allow(cgroup.pid, FUSE)
    assert str(caught.value) == (
        f"can't add device rules to the container's cgroup \"/{cgroup.path.name}\": no mount here shows it; "
        "the engine has to run in the host's mount and cgroup namespaces"
    )


@pytest.mark.parametrize(
    ("path", "root", "expected"),
    [
        ("/a/b", "", "/m/a/b"),
        ("/a/b", "/a", "/m/b"),
        ("/a", "/a", "/m"),
        ("/ab", "/a", ""),
        ("/a", "/a/b", ""),
        ("/../a", "", ""),
        ("/../a", "/..", "/m/a"),
        ("/../../a", "/..", ""),
        ("/a", "/..", ""),
    ],
)
def test_where_a_mount_shows_a_cgroup(path: str, root: str, expected: str) -> None:
    """A mount shows the cgroups below its root, also if both start above our cgroup namespace."""
    assert device_rules._directory(path, root, "/m") == expected


def test_mounts_with_odd_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """mountinfo's octal escapes are decoded, and other controllers' mounts aren't used for devices."""
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(
        "1 1 0:1 / /cpu rw shared:1 - cgroup cgroup rw,cpu\n"
        "1 1 0:1 /a\\134x2db /a\\040ü rw shared:1 master:2 - cgroup cgroup rw,cpu,devices\n"
        "1 1 0:1 / /u rw - cgroup2 none rw\n",
        "utf-8",
    )
    monkeypatch.setattr(device_rules, "_MOUNTINFO", str(mountinfo))
    assert device_rules._mounts() == [(True, "/a\\x2db", "/a ü"), (False, "", "/u")]


@pytest.mark.parametrize("name", NATIVE)
def test_real_containers(name: str, tmp_path: Path, nodes: Path, request: pytest.FixtureRequest) -> None:
    """The rules of a container that runc or crun made stay, and /dev/fuse is added, in the runtime's view."""
    busybox = Path(shutil.copy(BUSYBOX, tmp_path))
    (tmp_path / "lab").mkdir()
    runtime = RUNTIMES[name]
    lab = Lab(tmp_path / "lab", runtime, busybox)
    try:
        if reason := why_not(lab):
            pytest.skip(reason)
        container = lab.container()
        bundle = lab.bundle("sleep 600", name="sleeper")
        command = lab.command(
            "create", "--bundle", str(bundle.path), container, program=name.partition("-")[0]
        )
        null = subprocess.DEVNULL
        subprocess.run(command, env=lab.environ, stdin=null, stdout=null, stderr=null, check=True)
        pid = lab.state(container)["pid"]
        place = request.getfixturevalue("v2") if runtime.prefix else V1
        cgroup = Path(f"{place}{device_rules._path(pid, '' if runtime.prefix else 'devices')}")
        before = allowed(cgroup, nodes)
        assert not before & FUSE_ALLOWED
        assert ("c", 1, 3, "rw") in before
        assert allow_elsewhere(runtime.prefix, pid, "/proc/self/mountinfo") == ""
        assert allowed(cgroup, nodes) == before | FUSE_ALLOWED
    finally:
        lab.close()
