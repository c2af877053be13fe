# SPDX-License-Identifier: Apache-2.0
"""Each class of devices, on a host that has some of it and on one that has nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from cdi_hook.base import words
from cdi_hook.cli import main
from cdi_hook.generate import classes, spec_data
from cdi_hook.generate.outputs import SpecFiles
from cdi_hook.generate.root import Root
from cdi_hook.specs.versions import minimum_version

from .cases import CASES
from .fakehost import FakeHost

if TYPE_CHECKING:
    from pathlib import Path

EVERY = pytest.mark.parametrize("name", CASES)


def shown(edits: dict[str, Any], root: str) -> list[str]:
    """Return the nodes of containerEdits as a case has them, and check that they are below the root."""
    lines = []
    for node in edits.get("deviceNodes", ()):
        assert node["hostPath"].startswith(f"{root}/dev/")
        host_path = node["hostPath"].removeprefix(root)
        lines.append(node["path"] if host_path == node["path"] else f"{node['path']} -> {host_path}")
    return lines


@EVERY
def test_devices_and_their_nodes(name: str, tmp_path: Path) -> None:
    """A class finds exactly its devices, under all their names, each with exactly its nodes; "all" has all of them."""
    case = CASES[name]
    case.build(FakeHost(tmp_path))
    found = classes.get(name).find(Root(str(tmp_path)))
    specs = {each.kind: spec_data.spec(each) for each in found}
    made = {
        kind: {one["name"]: shown(one["containerEdits"], str(tmp_path)) for one in data["devices"]}
        for kind, data in specs.items()
    }
    # Where no device has a name, a case has the nodes of "all".
    everything = {kind: by_name.pop("all") for kind, by_name in made.items()}
    for kind, data in specs.items():
        made[kind] = made[kind] or {"all": everything[kind]}
        assert sorted(everything[kind]) == sorted({node for nodes in made[kind].values() for node in nodes})
        if common := shown(data["containerEdits"], str(tmp_path)):
            made[kind][""] = common
    assert made == {kind: {one: [*nodes] for one, nodes in own.items()} for kind, own in case.kinds.items()}
    assert classes.get(name).missing(Root(str(tmp_path))) == case.missing


@EVERY
def test_specs_are_valid(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`cdi-hook validate` finds nothing wrong with a class's specs, and their version is the lowest that fits."""
    CASES[name].build(FakeHost(tmp_path / "host"))
    specs = [spec_data.spec(each) for each in classes.get(name).find(Root(str(tmp_path / "host")))]
    paths = [SpecFiles(str(tmp_path / "cdi")).write(data) for data in specs]
    assert main(["validate", *paths]) == 0
    lines = [
        f"{path}: {data['kind']}, {words.count(len(data['devices']), 'device')}, CDI {minimum_version(data)}\n"
        for path, data in zip(paths, specs)
    ]
    assert capfd.readouterr() == ("".join(lines), "")


@EVERY
def test_a_host_without_devices(name: str, tmp_path: Path) -> None:
    """On a host that has nothing, a class finds no device and says in one line what is missing, and how to get it."""
    one = classes.get(name)
    assert one.find(Root(str(tmp_path))) == []
    missing = one.missing(Root(str(tmp_path)))
    assert missing
    assert all(line.startswith("no ") and line.isprintable() for line in missing)


READ_ONLY = ["ro", "nosuid", "nodev", "rbind", "rprivate"]
FILES = {
    "ascend": {
        "/usr/local/Ascend/driver/lib64": READ_ONLY,
        "/usr/local/Ascend/driver/include": READ_ONLY,
        "/usr/local/bin/npu-smi": READ_ONLY,
    },
    "memryx": {"/run/mxa_manager": ["nosuid", "nodev", "rbind", "rprivate", "noexec"]},
    "rebellions": {
        "/usr/bin/rbln-smi": READ_ONLY,
        "/usr/lib/x86_64-linux-gnu/librbln-ml.so.1.2": READ_ONLY,
    },
}


@pytest.mark.parametrize("name", FILES)
def test_files_that_all_devices_need(name: str, tmp_path: Path) -> None:
    """What a vendor's tool mounts beside the nodes is mounted at its own path, as far as the host has it."""
    CASES[name].build(FakeHost(tmp_path))
    (found,) = classes.get(name).find(Root(str(tmp_path)))
    mounts = {mount["containerPath"]: mount["options"] for mount in found.edits["mounts"]}
    assert {mount["hostPath"] for mount in found.edits["mounts"]} == {f"{tmp_path}{path}" for path in mounts}
    assert mounts == FILES[name]
    libraries = "/usr/local/Ascend/driver/lib64"
    env = [f"LD_LIBRARY_PATH={libraries}/common:{libraries}/driver"] if name == "ascend" else None
    assert found.edits.get("env") == env


def test_libraries_of_rebellions(tmp_path: Path) -> None:
    """The hook makes the links of the libraries, and has the container's linker find them."""
    CASES["rebellions"].build(FakeHost(tmp_path))
    (found,) = classes.get("rebellions").find(Root(str(tmp_path)))
    (hook,) = found.edits["hooks"]
    place = "/usr/lib/x86_64-linux-gnu"
    assert hook["hookName"] == "createContainer"
    assert hook["args"] == [
        "cdi-hook", "createContainer", "--link", f"librbln-ml.so.1.2::{place}/librbln-ml.so.1",
        "--ldcache", place, "--library", f"{place}/librbln-ml.so.1.2", "--driver-root", str(tmp_path),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["accel", "dri", "intel", "serial", "usb"])
def test_a_device_without_its_node(name: str, tmp_path: Path) -> None:
    """If the kernel has a device, and /dev lacks its node, the device isn't offered, and the node is named."""
    CASES[name].build(FakeHost(tmp_path))
    nodes = [path for path in (tmp_path / "dev").rglob("*") if not path.is_dir()]
    for path in nodes:
        path.unlink()
    one = classes.get(name)
    assert one.find(Root(str(tmp_path))) == []
    missing = one.missing(Root(str(tmp_path)))
    assert missing
    for line in missing:
        node, _, reason = line.removeprefix("no ").partition(", ")
        assert tmp_path / node.lstrip("/") in nodes
        assert reason == "though the kernel has the device: udev has to make it"


@pytest.mark.parametrize("name", ["ascend", "cambricon", "memryx"])
def test_a_file_in_place_of_a_node(name: str, tmp_path: Path) -> None:
    """A file or link in /dev that is called as a node isn't offered, wherever it leads, and is named."""
    CASES[name].build(FakeHost(tmp_path))
    nodes = sorted(path for path in (tmp_path / "dev").iterdir() if path.is_char_device())
    for number, path in enumerate(nodes):
        path.unlink()
        if number % 2:
            path.symlink_to("../../../../../../../../dev/null")
        else:
            path.touch()
    one = classes.get(name)
    assert one.find(Root(str(tmp_path))) == []
    for line in one.missing(Root(str(tmp_path))):
        node, _, reason = line.removeprefix("no node ").partition(", ")
        assert tmp_path / node.lstrip("/") in nodes
        assert reason == "but a file of that name: remove it, and load the driver again"


def test_kinds_are_those_that_a_class_names(tmp_path: Path) -> None:
    """What a class finds is of the kinds that it says it has."""
    for name, case in CASES.items():
        case.build(FakeHost(tmp_path / name))
        assert {found.kind for found in classes.get(name).find(Root(str(tmp_path / name)))} == set(
            classes.get(name).kinds
        )
