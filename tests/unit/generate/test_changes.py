# SPDX-License-Identifier: Apache-2.0
"""What a name meant in the last spec it means in the next, or it vanishes, or somebody is told."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from cdi_hook.generate import changes, classes, spec_data
from cdi_hook.generate.outputs import SpecFiles
from cdi_hook.generate.root import Root

from .fakehost import FakeHost
from .hosts import HOSTS, build
from .test_nvidia import UUIDS
from .test_nvidia import Host as Nvidia

if TYPE_CHECKING:
    from pathlib import Path


def devices(root: Path, name: str, kind: int = 0) -> list[dict[str, Any]]:
    """Return the devices of a class, in a spec."""
    made: list[dict[str, Any]] = spec_data.spec(classes.get(name).find(Root(str(root)))[kind])["devices"]
    return made


def nodes(found: list[dict[str, Any]]) -> dict[str, list[str]]:
    """Return the nodes of each device."""
    return {one["name"]: [node["path"] for node in one["containerEdits"]["deviceNodes"]] for one in found}


def serial(root: Path, **ports: str) -> list[dict[str, Any]]:
    """Return the devices of class serial where these adapters are plugged in: ttyUSB0="A 1-2"."""
    shutil.rmtree(root, ignore_errors=True)
    host = FakeHost(root)
    for name, at in ports.items():
        maker, port = at.split()
        usb = f"pci0000:00/0000:00:14.0/usb1/{port}/{port}:1.0"
        host.device(usb, "usb")
        host.device(f"{usb}/{name}/tty/{name}", "tty", name)
        host.link(f"/dev/serial/by-id/usb-{maker}-if00", f"../../{name}")
    return devices(root, "serial")


def test_the_kernels_order(tmp_path: Path) -> None:
    """When the kernel numbers two adapters the other way round, by-id names and ports stay, and it is said of the rest."""
    before = serial(tmp_path / "x", ttyUSB0="A 1-2", ttyUSB1="B 1-3")
    after = serial(tmp_path / "x", ttyUSB0="B 1-3", ttyUSB1="A 1-2")
    for name, node in (
        ("usb-A-if00", "/dev/ttyUSB1"),
        ("1-2:1.0", "/dev/ttyUSB1"),
        ("1-3:1.0", "/dev/ttyUSB0"),
    ):
        assert nodes(after)[name][0] == node
    assert changes.between(before, before) == []
    assert changes.between(before, after) == [
        "another device now: ttyUSB0 (now usb-B-if00, before usb-A-if00), "
        "ttyUSB1 (now usb-A-if00, before usb-B-if00)"
    ]


def test_unplugged_and_plugged_again(tmp_path: Path) -> None:
    """What is unplugged vanishes under all its names; plugged in again it has them, and elsewhere another address."""
    before = serial(tmp_path / "x", ttyUSB0="A 1-2", ttyUSB1="B 1-3")
    without = serial(tmp_path / "x", ttyUSB1="B 1-3")
    again = serial(tmp_path / "x", ttyUSB0="A 1-2", ttyUSB1="B 1-3")
    elsewhere = serial(tmp_path / "x", ttyUSB0="A 1-4", ttyUSB1="B 1-3")
    assert changes.between(before, without) == ["gone: ttyUSB0, usb-A-if00, 1-2:1.0"]
    assert again == before
    assert changes.between(without, again) == []
    assert changes.between(before, elsewhere) == ["gone: 1-2:1.0"]
    assert nodes(elsewhere)["usb-A-if00"] == nodes(before)["usb-A-if00"]


def test_another_one_in_its_place(tmp_path: Path) -> None:
    """Another adapter at the same port has another by-id name; the port means what is plugged in there."""
    before = serial(tmp_path / "x", ttyUSB0="A 1-2")
    after = serial(tmp_path / "x", ttyUSB0="B 1-2")
    assert changes.between(before, after) == ["gone: usb-A-if00"]


def test_a_gpu_before_another_one(tmp_path: Path) -> None:
    """A GPU that comes before others on the bus takes their indices, as nvidia-ctk counts; UUIDs stay."""
    host = Nvidia(tmp_path / "before")
    host.gpu("0000:02:00.0", 0, UUIDS[0])
    before = devices(tmp_path / "before", "nvidia")
    host = Nvidia(tmp_path / "after")
    host.gpu("0000:01:00.0", 0, UUIDS[1])
    host.gpu("0000:02:00.0", 1, UUIDS[0])
    after = devices(tmp_path / "after", "nvidia")
    assert nodes(after)[UUIDS[0]] == ["/dev/nvidia1"]
    assert changes.between(before, after) == [f"another device now: 0 (now {UUIDS[1]}, before {UUIDS[0]})"]


def test_a_gpu_that_is_divided(tmp_path: Path) -> None:
    """MIG devices take the place of their GPU, of which no name is left to mean something else."""
    host = Nvidia(tmp_path)
    host.gpu("0000:01:00.0", 0, UUIDS[0])
    before = devices(tmp_path, "nvidia")
    host.mig(0, 1, 0, (12, 13))
    assert changes.between(before, devices(tmp_path, "nvidia")) == [f"gone: 0, {UUIDS[0]}"]


def test_partitions_of_amd(tmp_path: Path) -> None:
    """When GPUs are divided, their addresses mean them still, and it is said that an index means a part, or another one."""
    found = {}
    for name in ("spx", "dpx"):
        build(tmp_path / name, HOSTS[name]["files"])
        text = (tmp_path / name / "sys/class/kfd/kfd/topology/nodes/3/properties").read_text()
        if name == "spx":  # as the third GPU's is in dpx
            text = text.replace("15717809347822716307", "15717809347822716322")
            (tmp_path / name / "sys/class/kfd/kfd/topology/nodes/3/properties").write_text(text)
        found[name] = devices(tmp_path / name, "amd")
        for one in found[name]:
            for node in one["containerEdits"]["deviceNodes"]:
                node["hostPath"] = node["hostPath"].removeprefix(f"{tmp_path}/{name}")
    first, second, part = (f"GPU-{15717809347822716306 + more:016x}" for more in (0, 16, 1))
    assert nodes(found["dpx"])["0000:05:00.0"][:2] == nodes(found["spx"])["0000:05:00.0"][:2]
    assert changes.between(found["spx"], found["dpx"]) == [
        f"another device now: 0 (now {first}, before 0000:05:00.0), card1 (now {first}, before 0000:05:00.0), "
        f"renderD128 (now {first}, before 0000:05:00.0), 1 (now {part}, before 0000:26:00.0)"
    ]
    assert nodes(found["dpx"])[second] == nodes(found["spx"])[second]
    back = changes.between(found["dpx"], found["spx"])
    assert back == [
        f"gone: {part}, card2, renderD129, 2",
        f"another device now: 0 (now 0000:05:00.0, before {first}), card1 (now 0000:05:00.0, before {first}), "
        f"renderD128 (now 0000:05:00.0, before {first}), 1 (now 0000:26:00.0, before {part})",
    ]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"kvm": "kvm"}, {"kvm": "kvm"}, []),
        (
            {"0": "nvidia0"},
            {"0": "nvidia1"},
            ["another device now: 0 (now /dev/nvidia1, before /dev/nvidia0)"],
        ),
        ({"all": "a", "x": "a"}, {"all": "b"}, ["gone: x"]),
        (
            {f"gpu{number}": f"x{number}" for number in range(12)},
            {},
            [f"gone: {', '.join(f'gpu{number}' for number in range(8))} and 4 more"],
        ),
    ],
)
def test_names_without_others_beside_them(
    old: dict[str, str], new: dict[str, str], expected: list[str]
) -> None:
    """Where nothing says which device a node is, the node is what a name means; long lists are cut."""

    def made(names: dict[str, str]) -> list[dict[str, Any]]:
        return [
            {"name": name, "containerEdits": {"deviceNodes": [{"path": f"/dev/{node}"}]}}
            for name, node in names.items()
        ]

    assert changes.between(made(old), made(new)) == expected


def test_only_the_file_that_is_replaced_counts(tmp_path: Path) -> None:
    """A spec is compared with the one in its file, not with others of the dir."""

    def made(name: str) -> dict[str, Any]:
        edits = {"deviceNodes": [{"path": f"/dev/{name}"}]}
        return {
            "cdiVersion": "0.3.0",
            "kind": "vendor.com/thing",
            "devices": [{"name": name, "containerEdits": edits}],
            "containerEdits": {},
        }

    SpecFiles(str(tmp_path)).write(made("a"))
    SpecFiles(str(tmp_path)).write(made("b"), "other.yaml")
    assert SpecFiles(str(tmp_path)).changes(made("c")) == ["gone: a"]
    assert SpecFiles(str(tmp_path)).changes(made("c"), "new.yaml") == []
