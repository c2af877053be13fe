# SPDX-License-Identifier: Apache-2.0
"""cdi-hook generate: the table of classes, where specs go, what the configuration has made, wrong arguments."""

from __future__ import annotations

import json
import os
import shutil
import stat
from typing import TYPE_CHECKING, Any

import pytest

from cdi_hook.base import files
from cdi_hook.cli import main
from cdi_hook.cli.command import generate
from cdi_hook.config import settings
from cdi_hook.generate import classes
from cdi_hook.generate.device_class import Found, FoundDevice
from cdi_hook.generate.root import Root
from tests.unit.cli.conftest import Shape
from tests.unit.generate.cases import CASES
from tests.unit.generate.fakehost import FakeHost

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cli.conftest import World

SHAPE = Shape(
    ("path", "kind", "cdiVersion", "devices"),
    "--device null=/dev/null --kind vendor.com/null --output SPECS",
    "--device null=/dev/null --kind vendor.com/null --output FILE/null.yaml",
)
KVM = """\
---
cdiVersion: 0.7.0
kind: host.local/kvm
devices:
- name: kvm
  containerEdits:
    deviceNodes:
    - path: /dev/kvm
      hostPath: {root}/dev/kvm
      gid: 108
    additionalGids:
    - 108
- name: all
  containerEdits:
    deviceNodes:
    - path: /dev/kvm
      hostPath: {root}/dev/kvm
      gid: 108
    additionalGids:
    - 108
containerEdits: {{}}
"""
MARK = "# Made by `cdi-hook generate`, which replaces this file as long as this line is here.\n"


@pytest.fixture
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A host with /dev/kvm, which belongs to a group, and /dev/fuse."""
    root = tmp_path_factory.mktemp("host")
    host = FakeHost(root)
    host.node("/dev/kvm", 108)
    host.node("/dev/fuse")
    return root


def test_the_table(cdi_hook: World, other: Path) -> None:
    """Without arguments each class that the host has is shown, with what is missing, then the others in one line."""
    status, out, err = cdi_hook("generate", "--root", other)
    assert (status, err) == (0, "")
    *lines, last = out.splitlines()
    assert lines == [
        "fuse  host.local/fuse=fuse",
        "kvm   host.local/kvm=kvm",
        "      no /dev/vhost-net: modprobe vhost_net",
        "      no /dev/vhost-vsock: modprobe vhost_vsock",
        "      no /dev/net/tun: modprobe tun",
    ]
    absent = ", ".join(name for name in classes.CLASSES if name not in ("fuse", "kvm"))
    assert last == f"nothing of the classes {absent}; `cdi-hook generate CLASS` says what is missing"


def test_the_table_as_json(cdi_hook: World, other: Path) -> None:
    """With --json the table has the same as objects."""
    table = {one["class"]: one for one in cdi_hook.json("generate", "--root", other, "--json")}
    assert list(table) == [*classes.CLASSES]
    assert table["fuse"] == {
        "class": "fuse",
        "about": "filesystems in user space",
        "kinds": ["host.local/fuse"],
        "devices": ["host.local/fuse=fuse"],
        "missing": [],
    }


def test_the_table_of_many_devices(cdi_hook: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A line of the table has a few names, and the number of the others; kinds have a line each."""
    root = tmp_path_factory.mktemp("host")
    host = FakeHost(root)
    for number in range(12):
        host.device(f"virtual/hidraw/hidraw{number}", "hidraw", f"hidraw{number}")
    CASES["intel"].build(host)
    lines = [" ".join(line.split()) for line in cdi_hook("generate", "--root", root)[1].splitlines()]
    four = ", ".join(f"host.local/hidraw=hidraw{number}" for number in range(4))
    assert f"hidraw {four} and 8 more" in lines
    at = lines.index("intel intel.com/gpu=0, intel.com/gpu=1, intel.com/gpu=2")
    assert lines[at + 1] == "intel.com/gpu-mei=mei1"


def test_to_stdout(cdi_hook: World, other: Path) -> None:
    """A spec goes to stdout, as YAML or as JSON; of the lowest version that has what it needs."""
    assert cdi_hook("generate", "kvm", "--root", other) == (0, KVM.format(root=other), "")
    (data,) = cdi_hook.json("generate", "fuse", "--root", other, "--json")
    assert (data["cdiVersion"], data["kind"]) == ("0.5.0", "host.local/fuse")


def test_several_to_stdout(cdi_hook: World, other: Path) -> None:
    """Several specs on stdout come with a warning, because a file has only one."""
    status, out, err = cdi_hook("generate", "kvm", "fuse", "kvm", "--root", other)
    assert (status, out.count("\ncdiVersion: ")) == (0, 2)
    assert (
        err
        == "cdi-hook: warning: these are 2 specs, and a file has one: --output DIR writes a file for each\n"
    )


def test_to_a_dir(cdi_hook: World, other: Path) -> None:
    """Each spec goes to a file of its own in a dir that is made; the program's umask doesn't matter."""
    directory = cdi_hook.root / "etc/cdi"
    was = os.umask(0o077)
    try:
        done = cdi_hook("generate", "kvm", "fuse", "--root", other, "--output", directory)
    finally:
        os.umask(was)
    assert done == (
        0,
        f"{directory}/host.local-kvm.yaml: host.local/kvm, 2 devices, CDI 0.7.0\n"
        f"{directory}/host.local-fuse.yaml: host.local/fuse, 2 devices, CDI 0.5.0\n",
        f'cdi-hook: warning: "{directory}" isn\'t one of SPEC_DIRS, as {cdi_hook.specs} is: no container gets devices '
        "of its specs\n",
    )
    cdi_hook.configure(SPEC_DIRS=f"{directory}/")
    file = directory / "host.local-kvm.yaml"
    assert file.read_text() == MARK + KVM.format(root=other)
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    (said,) = cdi_hook.json("generate", "kvm", "--root", other, "--output", directory, "--json")
    assert (said["path"], said["kind"], said["cdiVersion"]) == (str(file), "host.local/kvm", "0.7.0")
    assert said["devices"] == ["kvm", "all"]


def test_to_a_file(cdi_hook: World, other: Path) -> None:
    """A name that ends in .yaml is a file's; other names of spec files are refused."""
    file = cdi_hook.root / "mine.yaml"
    command = ("generate", "kvm", "--root", other, "--output")
    assert cdi_hook(*command, "mine.yaml") == (
        0,
        "./mine.yaml: host.local/kvm, 2 devices, CDI 0.7.0\n",
        "",
    )
    assert file.read_text() == MARK + KVM.format(root=other)
    for name in ("x.json", "x.yml"):
        assert cdi_hook(*command, name) == (
            1,
            "",
            f'cdi-hook: "{name}": the name of a file has to end in .yaml\n',
        )
    assert cdi_hook("generate", "kvm", "fuse", *command[2:], "mine.yaml") == (
        1,
        "",
        'cdi-hook: "mine.yaml" can\'t have 2 specs: name a dir\n',
    )


def test_not_over_a_file_of_somebody_else(cdi_hook: World, other: Path) -> None:
    """A file that this command didn't make stays as it is."""
    file = cdi_hook.root / "mine.yaml"
    file.write_text(KVM)
    status, out, err = cdi_hook("generate", "kvm", "--root", other, "--output", file)
    assert (status, out) == (1, "")
    assert (
        err
        == f"cdi-hook: {file} isn't replaced: cdi-hook generate didn't make it, or somebody has edited it\n"
    )
    assert file.read_text() == KVM


def test_no_device(cdi_hook: World, other: Path) -> None:
    """A class without a device is named with what is missing, and the specs of the others are made."""
    status, out, err = cdi_hook("generate", "amd", "fuse", "--root", other)
    assert (status, out.count("\nkind: host.local/fuse\n")) == (1, 1)
    assert err == "cdi-hook: no device of the class amd: no /dev/kfd: modprobe amdgpu\n"


def test_another_kind(cdi_hook: World, other: Path) -> None:
    """--vendor and --name make the kind."""
    (data,) = cdi_hook.json(
        "generate", "kvm", "--root", other, "--vendor", "example.com", "--name", "vm", "--json"
    )
    assert data["kind"] == "example.com/vm"
    assert cdi_hook("generate", "kvm", "--root", other, "--vendor", "x") == (
        1,
        "",
        'cdi-hook: "x/kvm": a vendor or class of one letter makes docker and podman crash\n',
    )


def test_two_of_one_kind(cdi_hook: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Specs that would have the same kind, of which one would replace the other, are refused."""
    root = tmp_path_factory.mktemp("host")
    host = FakeHost(root)
    CASES["amd"].build(host)
    host.device("pci0000:00/0000:00:02.0", "pci", driver="xe")
    host.device("pci0000:00/0000:00:02.0/drm/card9", "drm", "dri/card9")
    both = ("generate", "amd", "intel", "--root", root)
    assert cdi_hook(*both)[0] == 0
    assert cdi_hook(*both, "--vendor", "example.com") == (
        1,
        "",
        'cdi-hook: there would be several specs of the kind "example.com/gpu": make them one by one\n',
    )


def test_by_hand(cdi_hook: World) -> None:
    """--device makes a spec of what is named."""
    (data,) = cdi_hook.json(
        *(
            "generate",
            "--kind",
            "example.com/thing",
            "--device",
            "null=/dev/null:rw",
            "--env",
            "A=1",
            "--json",
        )
    )
    assert data["devices"][0] == {
        "name": "null",
        "containerEdits": {"deviceNodes": [{"path": "/dev/null", "permissions": "rw"}]},
    }
    assert data["containerEdits"] == {"env": ["A=1"]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "a=/dev/null"], "--device needs --kind VENDOR/CLASS"),
        (["kvm", "--device", "a=/dev/null"], "--device makes a spec of its own: leave out CLASS"),
        (
            ["--device", "a=/dev/null", "--kind", "a.com/b", "--name", "x"],
            "--device takes --kind, not --vendor and --name",
        ),
        (["kvm", "--env", "A=1"], "--kind, --mount and --env need --device"),
        (["kvm", "--hook", "x"], "--hook needs --device, or a class that has a choice of hooks"),
        (["kvm", "fuse", "--name", "x"], "--name needs one CLASS, which has one kind of devices"),
        (["intel", "--name", "x"], "--name needs one CLASS, which has one kind of devices"),
        (["--output", "x"], "what to make is missing: CLASS or --device"),
        (
            ["--configured", "kvm"],
            "--configured takes no other options: the configuration says what is made",
        ),
    ],
)
def test_wrong_arguments(cdi_hook: World, arguments: list[str], message: str) -> None:
    """Options that don't go together are one line and status 2."""
    assert cdi_hook("generate", *arguments) == (
        2,
        "",
        f"cdi-hook: {message}; see cdi-hook generate --help\n",
    )


def test_unknown_class(cdi_hook: World) -> None:
    """An unknown class is refused, and the message names the classes."""
    status, out, err = cdi_hook("generate", "kmv")
    assert (status, out) == (2, "")
    known = ", ".join(map(repr, classes.CLASSES)), ", ".join(classes.CLASSES)
    assert err in [
        f"cdi-hook: argument CLASS: invalid choice: 'kmv' (choose from {names}); did you mean kvm?\n"
        for names in known
    ]


@pytest.fixture
def configured(cdi_hook: World, other: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return what runs --configured in this process, with /dev's devices from another root and a state dir here."""
    monkeypatch.setattr(settings, "state_dir", lambda _environ, _system: str(cdi_hook.root / "run"))
    monkeypatch.setattr(files, "is_system_root", lambda: True)
    monkeypatch.setenv("CDI_HOOK_CONFIG", str(cdi_hook.config))
    monkeypatch.setattr("cdi_hook.cli.command.generate.Root", _root_of(other))

    def run(classes: str) -> int:
        cdi_hook.configure(GENERATE=classes)
        return main(["generate", "--configured"])

    return run


def _root_of(path: Path) -> Any:
    return lambda: Root(str(path))


def test_what_the_configuration_wants(
    cdi_hook: World, configured: Any, other: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The specs of GENERATE's classes are made, and removed when the device or the class is gone; others stay."""
    hers = cdi_hook.spec("hers.yaml")
    kvm, fuse = (cdi_hook.specs / f"host.local-{name}.yaml" for name in ("kvm", "fuse"))
    note = cdi_hook.root / "run/generate"
    made = {one: f"{one}: host.local/{one.stem[11:]}, 2 devices, CDI {{}}\n" for one in (kvm, fuse)}
    assert configured("kvm fuse amd") == 0
    none = "cdi-hook: note: no device of the class amd: no /dev/kfd: modprobe amdgpu\n"
    assert capfd.readouterr() == (made[kvm].format("0.7.0") + made[fuse].format("0.5.0"), none)
    assert note.exists()
    assert kvm.read_text() == KVM.format(root=other).join(
        [
            "# Made by `cdi-hook generate --configured`, which replaces and removes this file as long as this line is here.\n",
            "",
        ]
    )
    (other / "dev/fuse").unlink()
    assert configured("kvm fuse") == 0
    none = "cdi-hook: note: no device of the class fuse: no /dev/fuse: modprobe fuse\n"
    assert capfd.readouterr() == (f"{made[kvm].format('0.7.0')}{fuse}: removed\n", none)
    assert configured("") == 0
    assert capfd.readouterr() == (f"{kvm}: removed\n", "")
    assert not note.exists()
    assert [str(path) for path in cdi_hook.specs.iterdir()] == [hers]


def test_what_stands_in_the_way(
    cdi_hook: World, configured: Any, other: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """If another file has the device, ours gives way; an unknown class is named; the rest is made all the same."""
    assert configured("kvm") == 0
    capfd.readouterr()
    hers = cdi_hook.spec("hers.yaml", KVM.format(root=other))
    kvm, fuse = (cdi_hook.specs / f"host.local-{name}.yaml" for name in ("kvm", "fuse"))
    assert configured("kvm nope fuse") == 1
    out, err = capfd.readouterr()
    assert out == f"{fuse}: host.local/fuse, 2 devices, CDI 0.5.0\n"
    assert not kvm.exists()
    assert err == (
        f'cdi-hook: warning: {cdi_hook.config}:2: GENERATE: "nope" is no class of devices; write one of '
        f"{', '.join(classes.CLASSES)}\n"
        f"cdi-hook: kvm: {hers} already defines host.local/kvm=all, and two files in one dir must not: "
        "remove it, or choose another kind with --vendor or --name\n"
    )


def test_a_class_that_fails(
    cdi_hook: World, configured: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """A class that can't be looked at is named, and the others are made."""

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error", "/dev/fuse")

    monkeypatch.setattr(classes.get("fuse"), "find", fail)
    assert configured("fuse kvm") == 1
    kvm = f"{cdi_hook.specs}/host.local-kvm.yaml: host.local/kvm, 2 devices, CDI 0.7.0\n"
    assert capfd.readouterr() == (kvm, "cdi-hook: fuse: /dev/fuse: Input/output error\n")


def test_what_fails_stays(
    cdi_hook: World, configured: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Specs that were good before a class failed, or before a line of the configuration broke, are not removed."""
    assert configured("fuse kvm") == 0
    before = {path: path.read_bytes() for path in cdi_hook.specs.iterdir()}
    assert len(before) == 2

    def fail(*_: object) -> None:
        raise OSError(5, "Input/output error", "/dev/fuse")

    with monkeypatch.context() as patch:
        patch.setattr(classes.get("fuse"), "find", fail)
        assert configured("fuse kvm") == 1
    assert configured("\nGENERATE kvm") == 1
    assert configured("fuse\nGENERATE=tun") == 1
    assert {path: path.read_bytes() for path in cdi_hook.specs.iterdir()} == before
    capfd.readouterr()


def test_nowhere_to_write(
    configured: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without a spec dir nothing can be made."""
    monkeypatch.setattr(settings, "spec_dirs", lambda *_: [])
    assert configured("kvm") == 1
    assert capfd.readouterr().err == "cdi-hook: there is no place for specs: SPEC_DIRS is empty\n"


def test_a_group_that_a_user_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user is told of the group that a node belongs to; root isn't."""
    nodes = [
        {"path": "/dev/kvm", "gid": 4242},
        {"path": "/dev/own", "gid": os.getegid()},
        {"path": "/dev/null"},
    ]
    found = [Found("host.local/kvm", [FoundDevice(["kvm"], {"deviceNodes": nodes})])]
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert generate._groups(Root(), found) == []
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert generate._groups(Root(), found) == [
        "you aren't in the group 4242, which rootless containers need: sudo usermod -aG 4242 $USER"
    ]


def test_what_a_new_spec_changes(cdi_hook: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    """If a spec replaces one, stderr says which names are gone and which mean another device, and nothing else."""
    root = tmp_path_factory.mktemp("host")

    def plug(**ports: str) -> None:
        shutil.rmtree(root)
        for name, port in ports.items():
            usb = f"pci0000:00/0000:00:14.0/usb1/{port}/{port}:1.0"
            FakeHost(root).device(usb, "usb")
            FakeHost(root).device(f"{usb}/{name}/tty/{name}", "tty", name)

    def generate() -> str:
        status, _, err = cdi_hook("generate", "serial", "--root", root, "--output", cdi_hook.specs)
        assert status == 0
        return "".join(line for line in err.splitlines(keepends=True) if "GENERATE" not in line)

    place = f"cdi-hook: note: {cdi_hook.specs}/host.local-serial.yaml"
    plug(ttyUSB0="1-2", ttyUSB1="1-3")
    assert generate() == ""
    assert generate() == ""
    plug(ttyUSB0="1-3")
    assert generate() == (
        f"{place}: gone: 1-2:1.0, ttyUSB1\n"
        f"{place}: another device now: ttyUSB0 (now 1-3:1.0, before 1-2:1.0)\n"
    )


def test_what_a_class_has_to_say(cdi_hook: World, tmp_path_factory: pytest.TempPathFactory) -> None:
    """What a spec leaves out, and what its devices need beside it, is a note on stderr."""
    root = tmp_path_factory.mktemp("host")
    CASES["v4l"].build(FakeHost(root))
    status, _, err = cdi_hook("generate", "v4l", "--root", root)
    assert (status, err.count("\n")) == (0, 1)
    assert err.startswith("cdi-hook: note: v4l: libcamera also reads /run/udev")


def test_amd_ctks_own_spec(
    cdi_hook: World, configured: Any, other: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Beside amd-ctk's own file of the same dir ours is not made, or no longer, and amd-ctk's file is named."""
    CASES["amd"].build(FakeHost(other))
    ours = cdi_hook.specs / "amd.com-gpu.yaml"
    assert configured("amd") == 0
    assert ours.exists()
    device = {"name": "0", "containerEdits": {"deviceNodes": [{"path": "/dev/kfd"}]}}
    theirs = {"cdiVersion": "0.6.0", "kind": "amd.com/gpu", "devices": [device]}
    (cdi_hook.specs / "amd.json").write_text(json.dumps(theirs))
    capfd.readouterr()
    assert configured("amd") == 1
    assert capfd.readouterr().err == (
        f"cdi-hook: amd: {cdi_hook.specs}/amd.json already defines amd.com/gpu=0, and two files in one dir must "
        "not: remove it, or choose another kind with --vendor or --name\n"
    )
    assert not ours.exists()


def test_what_a_new_spec_changes_when_configured(
    cdi_hook: World, configured: Any, other: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """--configured says it too, where the journal has it."""
    host = FakeHost(other)
    for number in (0, 1):
        host.device(f"virtual/hidraw/hidraw{number}", "hidraw", f"hidraw{number}")
    assert configured("hidraw") == 0
    (other / "dev/hidraw1").unlink()
    capfd.readouterr()
    assert configured("hidraw") == 0
    assert capfd.readouterr().err == (
        f"cdi-hook: note: {cdi_hook.specs}/host.local-hidraw.yaml: gone: hidraw1\n"
    )
