# SPDX-License-Identifier: Apache-2.0
"""On hosts that were made up: what a vendor's tool means by a name, ours means too; the rest gets a true word."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any

import pytest

from cdi_hook.generate import classes, spec_data
from cdi_hook.generate.root import Root

from .hosts import HOSTS, build

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# The class that makes what each tool makes.
CLASSES = {
    "amd-ctk": "amd",
    "nvidia-ctk csv": "nvidia",
    "nvidia-ctk nvml": "nvidia",
    "nvidia-ctk wsl": "nvidia",
    "nvidia-ctk gds": "nvidia-gds",
    "nvidia-ctk mofed": "nvidia-mofed",
    "nvidia-ctk nvswitch": "nvidia-nvswitch",
    "nvidia-ctk gdrcopy": "nvidia-gdrcopy",
    "nvidia-ctk imex": "nvidia-imex",
    "nvidia-ctk management": "nvidia-management",
    "rbln-ctk": "rebellions",
    "mind-cluster": "ascend",
}
# nvidia-ctk's command gives all of its modes the kind of GPUs, whose names then collide. Its library, which
# its device plugin uses, has these.
KINDS = {
    "nvidia-gds": "nvidia.com/gds",
    "nvidia-mofed": "nvidia.com/mofed",
    "nvidia-nvswitch": "nvidia.com/nvswitch",
    "nvidia-gdrcopy": "nvidia.com/gdrcopy",
    "nvidia-imex": "nvidia.com/imex-channel",
    "nvidia-management": "management.nvidia.com/gpu",
}
ANSWERS = [(name, answer) for name, host in HOSTS.items() for answer in host["expect"] if "devices" in answer]


def given(edits: Mapping[str, Any]) -> tuple[set[str], set[str]]:
    """Return the nodes and mounts of containerEdits, without udev's links, which ours has as further nodes."""
    nodes = {node["path"] for node in edits.get("deviceNodes", ())}
    mounts = {mount["containerPath"] for mount in edits.get("mounts", ())}
    return {path for path in nodes if "/by-" not in path}, mounts


def specs(root: Path, name: str) -> dict[str, dict[str, Any]]:
    """Return the specs of a class by kind."""
    return {found.kind: spec_data.spec(found) for found in classes.get(name).find(Root(str(root)))}


def devices(root: Path, name: str, kind: str) -> dict[str, set[str]]:
    """Return the devices of a kind: the nodes of each, with those that all of them have."""
    spec = specs(root, name)[kind]
    common = given(spec["containerEdits"])[0]
    return {device["name"]: given(device["containerEdits"])[0] | common for device in spec["devices"]}


@pytest.mark.parametrize(
    ("host", "answer"), ANSWERS, ids=[f"{name}, {answer['by']}" for name, answer in ANSWERS]
)
def test_what_the_tool_gives(tmp_path: Path, host: str, answer: dict[str, Any]) -> None:
    """Each name of the tool's is one of ours, with exactly its nodes and mounts; no other of ours is a number."""
    name = CLASSES[answer["by"]]
    found = specs(build(tmp_path, HOSTS[host]["files"]), name)
    kind = KINDS.get(name, answer["kind"])
    assert [*found] == [kind]
    common = given(found[kind]["containerEdits"])
    made = {device["name"]: given(device["containerEdits"]) for device in found[kind]["devices"]}
    for one, theirs in answer["devices"].items():
        nodes, mounts = (theirs, []) if isinstance(theirs, list) else (theirs["nodes"], theirs["mounts"])
        assert made[one][0] | common[0] == {*nodes, *answer.get("nodes", ())}
        assert made[one][1] | common[1] == {*mounts, *answer.get("mounts", ())}
    numbers = {one for one in made if one.isdecimal()}
    assert numbers == {one for one in answer["devices"] if one.isdecimal()}


def test_a_divided_gpu_of_amd(tmp_path: Path) -> None:
    """A PCI address means all partitions of the GPU there, a unique id those that have it; no address is invented."""
    build(tmp_path, HOSTS["cpx-new"]["files"])
    made = devices(tmp_path, "amd", "amd.com/gpu")
    first = {f"/dev/dri/card{number}" for number in range(1, 9)}
    first |= {f"/dev/dri/renderD{number}" for number in range(128, 136)} | {"/dev/kfd"}
    assert made["0000:05:00.0"] == first
    assert [name for name in made if name.startswith("0000:")] == ["0000:05:00.0", "0000:26:00.0"]
    assert made[f"GPU-{15717809347822716307:016x}"] == made["1"]
    for node in range(2, 10):  # as kernels do that give each partition the GPU's id
        file = tmp_path / f"sys/class/kfd/kfd/topology/nodes/{node}/properties"
        file.write_text(re.sub(r"unique_id \d+", "unique_id 42", file.read_text()))
    made = devices(tmp_path, "amd", "amd.com/gpu")
    assert made["GPU-000000000000002a"] == made["0000:05:00.0"]


def test_older_kernels_of_amd(tmp_path: Path) -> None:
    """A partition's number in the function of its address makes no address that no device has."""
    build(tmp_path, HOSTS["cpx-new"]["files"])
    before = devices(tmp_path, "amd", "amd.com/gpu")
    for node in range(2, 10):
        file = tmp_path / f"sys/class/kfd/kfd/topology/nodes/{node}/properties"
        file.write_text(re.sub(r"location_id \d+", f"location_id {0x500 + node - 2}", file.read_text()))
    assert devices(tmp_path, "amd", "amd.com/gpu") == before


def test_the_order_of_the_topology(tmp_path: Path) -> None:
    """Where the kernel numbers GPUs otherwise than the PCI bus, as after a repartition, names stay as amd-ctk's."""
    build(tmp_path, HOSTS["consumer"]["files"])
    before = devices(tmp_path, "amd", "amd.com/gpu")
    nodes = tmp_path / "sys/class/kfd/kfd/topology/nodes"
    (nodes / "1").rename(nodes / "3")
    assert devices(tmp_path, "amd", "amd.com/gpu") == before


@pytest.mark.parametrize(
    ("host", "name", "kind", "expected"),
    [
        (
            "vfio",
            "vfio",
            "host.local/vfio",
            {
                "0000:01:00.1": ["vfio/10", "vfio/devices/vfio0", "vfio/devices/vfio1"],
                "0000:02:00.1": ["vfio/11", "vfio/devices/vfio2"],
                "0000:03:00.1": ["vfio/12", "vfio/devices/vfio3"],
                "0000:04:00.1": ["vfio/13", "vfio/devices/vfio4"],
                "0000:05:00.1": ["vfio/14", "vfio/devices/vfio5"],
                "4b20d080-1b54-4048-85b3-a6a62d165c01": ["vfio/20"],
                "noiommu-0": ["vfio/noiommu-0"],
            },
        ),
        ("vfio-cdev", "vfio", "host.local/vfio", {"0000:01:00.0": ["vfio/devices/vfio0"]}),
        (
            "intel",
            "intel",
            "intel.com/gpu",
            {
                "0000-03-00-0-0xe20b": ["dri/card1", "dri/renderD129"],
                "card2": ["dri/card2", "dri/renderD130"],
                "0000-04-00-1-0x56c0": ["vfio/42", "vfio/devices/vfio0", "vfio/vfio", "iommu"],
            },
        ),
        (
            "intel",
            "intel",
            "intel.com/gaudi",
            {"0000-19-00-0-0x1020": ["accel/accel1", "accel/accel_controlD1", "infiniband/uverbs0"]},
        ),
        ("intel", "intel", "intel.com/gpu-mei", {"mei1": ["mei1"], "0000:04:00.0": ["mei2"]}),
        ("intel", "intel", "intel.com/npu", {"accel0": ["accel/accel0"]}),
        (
            "rdma",
            "infiniband",
            "host.local/infiniband",
            {"mlx5_0": [f"infiniband/{one}" for one in ("uverbs0", "umad0", "umad1", "issm0", "issm1")]},
        ),
        (
            "plain",
            "usb",
            "host.local/usb",
            {"1-2": ["bus/usb/001/005", "media0", "video0", "video1", "snd/controlC1", "snd/pcmC1D0c"]},
        ),
        ("plain", "v4l", "host.local/v4l", {"media1": ["media1", "v4l-subdev0", "video2"]}),
        ("vgpuhost", "nvidia", "nvidia.com/gpu", {"0": ["nvidia0"]}),
        (
            "jetson2",
            "nvidia",
            "nvidia.com/gpu",
            {"0": ["nvhost-ctrl", "nvhost-ctrl-gpu", "nvhost-gpu", "nvmap", "nvgpu/igpu0/ctrl"]},
        ),
        ("wsl", "nvidia", "nvidia.com/gpu", {"all": ["dxg"]}),
    ],
)
def test_what_a_name_means(
    tmp_path: Path, host: str, name: str, kind: str, expected: dict[str, list[str]]
) -> None:
    """A name means these nodes, beside those that all devices of the kind have."""
    spec = specs(build(tmp_path, HOSTS[host]["files"]), name)[kind]
    made = {device["name"]: given(device["containerEdits"])[0] for device in spec["devices"]}
    assert {one: made[one] for one in expected} == {
        one: {f"/dev/{node}" for node in nodes} for one, nodes in expected.items()
    }


def test_classes_that_are_a_row(tmp_path: Path) -> None:
    """A host that has much has a device of each of these classes."""
    build(tmp_path, HOSTS["plain"]["files"])
    names = (
        "apex cdrom cec dma_heap dvb hailo iio kgsl lirc loop-control mali ppp pps ptp rockchip serial tun "
    )
    names += "udmabuf uinput vchiq watchdog wwan"
    assert [name for name in names.split() if not specs(tmp_path, name)] == []


@pytest.mark.parametrize(
    ("host", "name", "expected"),
    [
        (
            "nodriver",
            "nvidia",
            "no GPU in /proc/driver/nvidia/gpus: install NVIDIA's driver, and load it with modprobe nvidia",
        ),
        (
            "nouveau",
            "nvidia",
            "0000:01:00.0 is an NVIDIA GPU with the driver nouveau, which class dri is for: this class needs nvidia",
        ),
        ("rdma", "nvidia", "no NVIDIA GPU on the PCI bus"),
        ("nouveau", "amd", "no AMD GPU on the PCI bus"),
        ("nouveau", "intel", "no Intel GPU on the PCI bus"),
        ("wsl", "amd", "no /opt/rocm/lib/librocdxg.so, though this is WSL: install AMD's rocdxg-roct"),
        ("wsl", "intel", "no Intel GPU with a driver of Linux: this is WSL, where Windows has the drivers"),
    ],
)
def test_hosts_without_the_driver(tmp_path: Path, host: str, name: str, expected: str) -> None:
    """What such a host has in place of GPUs with the maker's driver is said."""
    build(tmp_path, HOSTS[host]["files"])
    assert classes.get(name).find(Root(str(tmp_path))) == []
    assert classes.get(name).missing(Root(str(tmp_path))) == [expected]


def test_a_gaudi_without_its_driver(tmp_path: Path) -> None:
    """A Gaudi is no GPU, and its driver is named."""
    build(tmp_path, HOSTS["nouveau"]["files"])
    for file, text in (("vendor", "0x1da3"), ("class", "0x120000")):
        (tmp_path / "sys/devices/pci0000:00/0000:01:00.0" / file).write_text(f"{text}\n")
    (said,) = classes.get("intel").missing(Root(str(tmp_path)))
    assert said.endswith("modprobe i915, xe, intel_vpu or habanalabs")


def test_wsl(tmp_path: Path) -> None:
    """A container on WSL gets the store of the driver, libdxcore, and nvidia-smi where programs look for it."""
    build(tmp_path, HOSTS["wsl"]["files"])
    spec = specs(tmp_path, "nvidia")["nvidia.com/gpu"]
    store = "/usr/lib/wsl/drivers/nv_dispi.inf_amd64_abc"
    files = {f"{store}/{path.name}" for path in (tmp_path / store[1:]).iterdir()}
    assert given(spec["containerEdits"])[1] == {*files, "/usr/lib/wsl/lib/libdxcore.so"}
    (hook,) = spec["containerEdits"]["hooks"]
    assert hook["args"][2:4] == ["--link", f"{store}/nvidia-smi::/usr/bin/nvidia-smi"]
    assert "--driver-version" not in hook["args"]


def test_amd_on_wsl(tmp_path: Path) -> None:
    """With AMD's bridge a container on WSL gets the device, the libraries where the linker looks, and the variable."""
    files = {
        "opt/rocm": {"link": "rocm-7.2.0"},
        "opt/rocm-7.2.0/lib/librocdxg.so": {"link": "librocdxg.so.1.2.2"},
        "opt/rocm-7.2.0/lib/librocdxg.so.1.2.2": {"text": ""},
        "opt/rocm-7.2.0/share/rocdxg/dids.conf": {"text": ""},
    }
    build(tmp_path, {**HOSTS["wsl"]["files"], **files})
    spec = specs(tmp_path, "amd")["amd.com/gpu"]
    (everything,) = spec["devices"]
    assert (everything["name"], given(everything["containerEdits"])[0]) == ("all", {"/dev/dxg"})
    edits = spec["containerEdits"]
    assert edits["env"] == ["HSA_ENABLE_DXG_DETECTION=1"]
    assert {mount["hostPath"]: mount["containerPath"] for mount in edits["mounts"]} == {
        f"{tmp_path}/usr/lib/wsl/lib/libdxcore.so": "/usr/lib/libdxcore.so",
        f"{tmp_path}/opt/rocm-7.2.0/lib/librocdxg.so.1.2.2": "/usr/lib/librocdxg.so",
        f"{tmp_path}/opt/rocm-7.2.0/share/rocdxg/dids.conf": "/usr/share/rocdxg/dids.conf",
    }


@pytest.mark.parametrize(
    ("remove", "add", "expected"),
    [
        (["dev/dxg"], {}, ["no /dev/dxg, though this is WSL: in Windows, wsl --update"]),
        (
            ["usr/lib/wsl/drivers"],
            {},
            [
                "no libcuda.so.1.1 in /usr/lib/wsl/drivers: install NVIDIA's driver in Windows, and none in WSL itself"
            ],
        ),
        (
            [],
            {"usr/lib/wsl/drivers/old/libcuda.so.1.1": {"text": ""}},
            [
                "several drivers have files in /usr/lib/wsl/drivers (/usr/lib/wsl/drivers/nv_dispi.inf_amd64_abc, "
                "/usr/lib/wsl/drivers/old), and only a library of Windows knows which is used: nvidia-ctk cdi "
                "generate --mode wsl asks it"
            ],
        ),
    ],
)
def test_wsl_that_lacks_something(
    tmp_path: Path, remove: list[str], add: dict[str, Any], expected: list[str]
) -> None:
    """On WSL nobody is told to install a driver in Linux; nothing is guessed."""
    files = {
        path: file
        for path, file in HOSTS["wsl"]["files"].items()
        if not path.startswith(tuple(remove) or ("-",))
    }
    build(tmp_path, {**files, **add})
    assert classes.get("nvidia").find(Root(str(tmp_path))) == []
    assert classes.get("nvidia").missing(Root(str(tmp_path))) == expected


def test_links_out_of_the_root(tmp_path: Path) -> None:
    """What a file of an image's root names is in that root, wherever its links seem to lead; and no other file is a node."""
    csv = "etc/nvidia-container-runtime/host-files-for-container.d/devices.csv"
    lines = [
        "dev, /dev/nvmap",
        "dev, /dev/shadow",
        "dir, /out",
        "lib, /out/shadow",
        "lib, /pipe",
        "sym, /loop",
        "lib, ../../etc/shadow",
    ]
    files: dict[str, Any] = {
        "etc/nv_tegra_release": {"text": ""},
        csv: {"text": "\n".join(lines)},
        "dev/nvmap": {"node": ["c", 1, 3], "mode": 0o600},
        "dev/shadow": {"link": "../../../../../../../../etc/shadow"},
        "out": {"link": "../../../../../../../../../../etc"},
        "loop": {"link": "loop"},
    }
    root = build(tmp_path / "root", files)
    os.mkfifo(root / "pipe")
    (spec,) = specs(root, "nvidia").values()
    mounts = {mount["containerPath"]: mount["hostPath"] for mount in spec["containerEdits"]["mounts"]}
    assert mounts == {"/out": f"{root}/etc", "/pipe": f"{root}/pipe"}
    (node,) = spec["devices"][0]["containerEdits"]["deviceNodes"]
    assert node["path"] == "/dev/nvmap"


def test_a_jetson_without_jetpacks_files(tmp_path: Path) -> None:
    """A Jetson without the files that say what its GPU needs gets no spec, and hears where they come from."""
    files = {path: file for path, file in HOSTS["jetson2"]["files"].items() if not path.endswith(".csv")}
    build(tmp_path, files)
    assert specs(tmp_path, "nvidia") == specs(tmp_path, "nvidia-management") == {}
    place = "/etc/nvidia-container-runtime/host-files-for-container.d"
    assert classes.get("nvidia").missing(Root(str(tmp_path))) == [
        f"no devices.csv in {place}, to say what a Jetson's GPU needs: install JetPack's nvidia-container"
    ]


@pytest.mark.parametrize(("address", "is_its_own"), [("0000:01:00.0", True), ("0005:01:00.0", False)])
def test_a_jetson_with_a_gpu_on_the_bus(tmp_path: Path, address: str, is_its_own: bool) -> None:
    """A Thor's own GPU is on the PCI bus; beside another one there, nothing is made, and nvidia-ctk is named."""
    build(tmp_path, HOSTS["jetson2"]["files"])
    place = tmp_path / f"proc/driver/nvidia/gpus/{address}"
    place.mkdir()
    (place / "information").write_text("Device Minor: 0\n")
    (tmp_path / "dev/nvidia1").symlink_to("nvidia0")
    assert bool(specs(tmp_path, "nvidia")) == is_its_own
    said = classes.get("nvidia").missing(Root(str(tmp_path)))
    assert is_its_own == (said == [])
    assert is_its_own or said[0].endswith("make the spec with nvidia-ctk cdi generate --mode csv")


def test_what_is_left_out(tmp_path: Path) -> None:
    """What the host has beside its GPUs, and what a vGPU's driver and a Jetson's files leave out, is said."""
    notes = {}
    for host in ("dgx", "vgpuhost", "jetson"):
        build(tmp_path / host, HOSTS[host]["files"])
        notes[host] = classes.get("nvidia").notes(Root(str(tmp_path / host)))
    (parts,) = notes["dgx"]
    assert re.findall(r"\(class ([\w-]+)\)", parts) == [
        f"nvidia-{one}" for one in ("gdrcopy", "gds", "imex", "mofed", "nvswitch")
    ]
    assert "no CUDA" in notes["vgpuhost"][0]
    assert notes["jetson"][0].endswith(" names what isn't here, and is left out: /dev/missing")


def test_a_device_that_changes_its_id(tmp_path: Path) -> None:
    """A Coral accelerator that nobody has used yet is said to become another device."""
    build(tmp_path, HOSTS["plain"]["files"])
    place = tmp_path / "sys/devices/pci0000:00/0000:00:14.0/usb1/1-3"
    for file, text in (("idVendor", "1a6e"), ("idProduct", "089a")):
        (place / file).write_text(f"{text}\n")
    (note,) = classes.get("usb").notes(Root(str(tmp_path)))
    assert note.startswith("1-3 is a Coral accelerator")
    assert "18d1:9302" in note
