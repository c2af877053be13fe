# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's GPUs and driver: names, MIG devices, versions, what is missing. tests/cases/test_nvidia.py has whole roots."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from cdi_hook.errors import CDIError
from cdi_hook.generate import spec_data
from cdi_hook.generate.classes.nvidia import Nvidia
from cdi_hook.generate.classes.nvidia_driver import Driver
from cdi_hook.generate.root import Root
from tests.cases.driverroot import make

from .fakehost import FakeHost

if TYPE_CHECKING:
    from pathlib import Path

NVIDIA = Nvidia()
CONTROL = ["/dev/nvidia-modeset", "/dev/nvidia-uvm-tools", "/dev/nvidia-uvm", "/dev/nvidiactl"]
LIB = "usr/lib/x86_64-linux-gnu"
UUIDS = [f"GPU-0000000{number}-0000-0000-0000-000000000000" for number in range(3)]


def library(name: str, version: str = "580.1", directory: str = LIB) -> dict[str, Any]:
    """Return a library of the driver, with the link of its SONAME."""
    return {
        f"{directory}/{name}.so.{version}": {"elf": f"{name}.so.1"},
        f"{directory}/{name}.so.1": {"link": f"{name}.so.{version}"},
    }


class Host(FakeHost):
    """A host with libraries of the driver."""

    def __init__(self, root: Path, files: dict[str, Any] | None = None) -> None:
        super().__init__(root)
        make(root, library("libcuda") if files is None else files)
        for path in CONTROL:
            self.node(path)

    def gpu(self, address: str, minor: int, uuid: str, *more: str) -> None:
        """Add a GPU as the driver tells of it, with its node."""
        lines = ["Model: \t\t NVIDIA H100", f"GPU UUID: \t {uuid}", f"Device Minor: \t {minor}", *more]
        self.file(f"/proc/driver/nvidia/gpus/{address}/information", "\n".join(lines))
        self.node(f"/dev/nvidia{minor}")

    def mig(self, minor: int, gi: int, ci: int, caps: tuple[int, int]) -> None:
        """Add a MIG device: a compute instance in a GPU instance, with the nodes that give access to both."""
        place = f"/proc/driver/nvidia/capabilities/gpu{minor}/mig/gi{gi}"
        minors = self.root / "proc/driver/nvidia-caps/mig-minors"
        lines = minors.read_text() if minors.exists() else "config 1\nmonitor 2\n"
        paths = (f"{place}/access", f"{place}/ci{ci}/access")
        for path, cap in zip(paths, caps):
            self.file(path, f"DeviceFileMinor: {cap}")
            if not (self.root / f"dev/nvidia-caps/nvidia-cap{cap}").exists():
                self.node(f"/dev/nvidia-caps/nvidia-cap{cap}")
        self.file(
            "/proc/driver/nvidia-caps/mig-minors",
            f"{lines}gpu{minor}/gi{gi}/access {caps[0]}\ngpu{minor}/gi{gi}/ci{ci}/access {caps[1]}",
        )

    @property
    def place(self) -> Root:
        """The root that a class is asked about."""
        return Root(str(self.root))

    def spec(self) -> dict[str, Any]:
        """Return the spec of its GPUs."""
        (found,) = NVIDIA.find(self.place)
        return spec_data.spec(found)

    def nodes(self) -> dict[str, list[str]]:
        """Return the nodes of each device."""
        return {
            device["name"]: [node["path"] for node in device["containerEdits"]["deviceNodes"]]
            for device in self.spec()["devices"]
        }


def test_names(tmp_path: Path) -> None:
    """A GPU's index counts PCI addresses, not minor numbers, without GPUs that are excluded; its UUID is a name too."""
    host = Host(tmp_path)
    host.gpu("0000:0a:00.0", 1, UUIDS[0])
    host.gpu("0000:09:00.0", 2, UUIDS[1])
    host.gpu("0000:08:00.0", 0, UUIDS[2], "GPU Excluded: \t Yes")
    host.gpu("0001:01:00.0", 3, "GPU-????????-????-????-????-????????????")
    assert host.nodes() == {
        "0": ["/dev/nvidia2"],
        UUIDS[1]: ["/dev/nvidia2"],
        "1": ["/dev/nvidia1"],
        UUIDS[0]: ["/dev/nvidia1"],
        "2": ["/dev/nvidia3"],
        "all": ["/dev/nvidia2", "/dev/nvidia1", "/dev/nvidia3"],
    }
    assert NVIDIA.missing(host.place) == []


def test_nodes_for_graphics(tmp_path: Path) -> None:
    """A GPU has the DRM nodes of its PCI device, and udev's names for them as further nodes."""
    host = Host(tmp_path)
    address = "0000:01:00.0"
    host.gpu(address, 0, UUIDS[0])
    host.device(f"pci0000:00/{address}", "pci")
    for name in ("card1", "renderD128"):
        host.device(f"pci0000:00/{address}/drm/{name}", "drm", f"dri/{name}")
    host.node("/dev/dri/card0")
    host.link(f"/dev/dri/by-path/pci-{address}-card", "../card1")
    wanted = ["/dev/nvidia0", "/dev/dri/card1", "/dev/dri/renderD128", f"/dev/dri/by-path/pci-{address}-card"]
    assert host.nodes()["0"] == wanted
    (link,) = [
        node
        for node in host.spec()["devices"][0]["containerEdits"]["deviceNodes"]
        if "by-path" in node["path"]
    ]
    assert link["hostPath"] == f"{tmp_path}/dev/dri/card1"


def test_mig(tmp_path: Path) -> None:
    """A GPU that is divided is offered as its MIG devices, counted in the order of instances."""
    host = Host(tmp_path)
    host.gpu("0000:01:00.0", 4, UUIDS[0])
    host.gpu("0000:02:00.0", 5, UUIDS[1])
    host.mig(4, 9, 0, (210, 211))
    host.mig(4, 10, 0, (230, 231))
    host.mig(4, 10, 1, (230, 232))

    def caps(*numbers: int) -> list[str]:
        return ["/dev/nvidia4", *(f"/dev/nvidia-caps/nvidia-cap{number}" for number in numbers)]

    made = host.nodes()
    assert made.pop("all") == [*caps(210, 211, 230, 231, 232), "/dev/nvidia5"]
    assert made == {
        "0:0": caps(210, 211),
        "0:1": caps(230, 231),
        "0:2": caps(230, 232),
        "1": ["/dev/nvidia5"],
        UUIDS[1]: ["/dev/nvidia5"],
    }


def test_a_driver_without_gpu(tmp_path: Path) -> None:
    """Where the driver has no GPU, its own nodes are the device "control"."""
    host = Host(tmp_path)
    assert host.nodes() == {"control": CONTROL, "all": CONTROL}
    assert NVIDIA.missing(host.place) == [
        "no GPU in /proc/driver/nvidia/gpus: install NVIDIA's driver, and load it with modprobe nvidia"
    ]


def test_a_host_without_devices(tmp_path: Path) -> None:
    """A host without NVIDIA's driver has no device, and hears what it takes."""
    assert NVIDIA.find(Root(str(tmp_path))) == []
    assert NVIDIA.missing(Root(str(tmp_path))) == [
        "no GPU in /proc/driver/nvidia/gpus: install NVIDIA's driver, and load it with modprobe nvidia"
    ]


def test_what_is_missing(tmp_path: Path) -> None:
    """A node that isn't there, libraries that aren't there, and those of another driver than the kernel's are named."""
    host = Host(tmp_path, {})
    host.gpu("0000:01:00.0", 4, UUIDS[0])
    host.mig(4, 1, 0, (12, 13))
    for path in ("/dev/nvidia4", *CONTROL, "/dev/nvidia-caps/nvidia-cap13"):
        (tmp_path / path[1:]).unlink()
    lines = [
        "no /dev/nvidia4: nvidia-modprobe -c 4 makes it",
        "no /dev/nvidia-modeset, which graphics need: nvidia-modprobe -m makes it",
        "no /dev/nvidia-uvm-tools, which CUDA's profilers need: nvidia-modprobe -u -c 0 makes it",
        "no /dev/nvidia-uvm, which CUDA needs: nvidia-modprobe -u -c 0 makes it",
        "no /dev/nvidiactl, which every program needs: nvidia-modprobe -c 255 makes it",
        "no /dev/nvidia-caps/nvidia-cap13, which a MIG device needs: nvidia-modprobe -f "
        "/proc/driver/nvidia/capabilities/gpu4/mig/gi1/ci0/access makes it",
    ]
    no_libraries = "no libcuda.so or libnvidia-ml.so of the driver: install its libraries, and run ldconfig"
    assert NVIDIA.missing(host.place) == [*lines, no_libraries]
    make(tmp_path, library("libcuda"))
    host.file("/sys/module/nvidia/version", "590.2")
    assert NVIDIA.missing(host.place)[6:] == [
        "the kernel has driver 590.2, the libraries are of 580.1: reboot, or load the driver again"
    ]


@pytest.mark.parametrize(
    "said",
    [
        "NVRM version: NVIDIA UNIX x86_64 Kernel Module  570.1.2  Sun Apr 27\nGCC version:  gcc 13.3.0",
        "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  570.1.2  Release Build",
    ],
)
def test_version_of_the_kernel(tmp_path: Path, said: str) -> None:
    """Of several versions of the libraries, the one of the kernel's module is taken."""
    host = Host(
        tmp_path, {**library("libcuda", "440.9"), f"{LIB}/libcuda.so.570.1.2": {"elf": "libcuda.so.1"}}
    )
    assert Driver(host.place).version == "440.9"
    host.file("/proc/driver/nvidia/version", said)
    assert Driver(host.place).version == "570.1.2"


def test_a_drivers_own_dir(tmp_path: Path) -> None:
    """A driver in a dir of its own is found without a library cache, with the programs and the firmware beside it."""
    place = "usr/local/nvidia"
    files = {
        **library("libcuda", directory=f"{place}/lib64"),
        f"{place}/bin/nvidia-smi": {"text": "", "mode": 0o755},
        f"{place}/bin/nvidia-debugdump": {"text": ""},
        f"{place}/firmware/nvidia/580.1/gsp_ga10x.bin": {"text": ""},
        "opt/fw/nvidia/580.1/gsp_tu10x.bin": {"text": ""},
        "sys/module/firmware_class/parameters/path": {"text": "/opt/fw\n"},
        "lib/firmware/nvidia/570.1/gsp_ga10x.bin": {"text": ""},
    }
    driver = Driver(Host(tmp_path, files).place)
    assert driver.dirs == driver.library_dirs() == ["/usr/local/nvidia/lib64"]
    assert sorted(inside for _, inside in driver.mounts()) == [
        "/opt/fw/nvidia/580.1/gsp_tu10x.bin",
        "/usr/local/nvidia/bin/nvidia-smi",
        "/usr/local/nvidia/firmware/nvidia/580.1/gsp_ga10x.bin",
        "/usr/local/nvidia/lib64/libcuda.so.580.1",
    ]


def test_links(tmp_path: Path) -> None:
    """The links are those that programs rely on, and those of the host from a library's SONAME and its name without version."""
    name = f"{LIB}/libnvidia-glcore.so.580.1"
    files = {
        **library("libcuda"),
        name: {"elf": ""},
        f"{LIB}/libnvidia-glcore.so": {"link": "libnvidia-glcore.so.580.1"},
        f"{LIB}/libnvidia-allocator.so.580.1": {"elf": "libnvidia-allocator.so.1"},
        f"{LIB}/libbroken.so.580.1": {"text": "no library"},
    }
    assert sorted(Driver(Host(tmp_path, files).place).links()) == [
        ("../libnvidia-allocator.so.1", f"/{LIB}/gbm/nvidia-drm_gbm.so"),
        ("libcuda.so.1", f"/{LIB}/libcuda.so"),
        ("libcuda.so.580.1", f"/{LIB}/libcuda.so.1"),
        ("libnvidia-glcore.so.580.1", f"/{LIB}/libnvidia-glcore.so"),
    ]


@pytest.mark.parametrize(
    ("hook", "message"),
    [
        ("/nowhere/nvidia-cdi-hook", '--hook: there is no program "/nowhere/nvidia-cdi-hook"'),
        ("no-such-hook", '--hook: there is no program "no-such-hook"'),
        ("/bin/true", '--hook: "/bin/true" is neither cdi-hook nor nvidia-cdi-hook nor nvidia-ctk'),
    ],
)
def test_hook_that_cannot_be(tmp_path: Path, hook: str, message: str) -> None:
    """A program that isn't there, or that takes other arguments, is refused."""
    host = Host(tmp_path)
    host.gpu("0000:01:00.0", 0, UUIDS[0])
    with pytest.raises(CDIError) as refused:
        NVIDIA.find(host.place, hook)
    assert str(refused.value) == message


def test_nvidia_ctk_as_hook(tmp_path: Path) -> None:
    """nvidia-ctk is called with the word hook, and a driver without links has no call that makes some."""
    program = tmp_path / "nvidia-ctk"
    program.write_text("")
    program.chmod(0o755)
    host = Host(tmp_path, {f"{LIB}/libnvidia-ml.so.580.1": {"elf": "libnvidia-ml.so.1"}})
    host.gpu("0000:01:00.0", 0, UUIDS[0])
    (found,) = NVIDIA.find(host.place, str(program))
    assert [hook["args"] for hook in found.edits["hooks"]] == [
        ["nvidia-ctk", "hook", "enable-cuda-compat", "--host-driver-version=580.1"],
        ["nvidia-ctk", "hook", "update-ldcache", "--folder", f"/{LIB}"],
        ["nvidia-ctk", "hook", "disable-device-node-modification"],
        ["nvidia-ctk", "hook", "update-application-profile"],
    ]


def test_mps_is_roots(tmp_path: Path) -> None:
    """The dir of the multi-process service is mounted if it is root's, and not if somebody else made it or a link."""
    if os.geteuid() != 0:
        pytest.skip("only root can give a dir away")
    host = Host(tmp_path)
    mps = tmp_path / "tmp/nvidia-mps"
    found = []
    mps.mkdir(parents=True)
    found.append(Driver(host.place).sockets())
    os.chown(mps, 1000, 1000)
    found.append(Driver(host.place).sockets())
    mps.rmdir()
    (tmp_path / "etc").mkdir(exist_ok=True)
    mps.symlink_to("/etc")
    found.append(Driver(host.place).sockets())
    assert found == [["/tmp/nvidia-mps"], [], []]
