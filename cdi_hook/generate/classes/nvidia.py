# SPDX-License-Identifier: Apache-2.0
"""Class nvidia: NVIDIA's GPUs and MIG devices, with the driver's files, named as nvidia-ctk names them.

All is found by files, without NVML. A GPU's names are its index, in the order of PCI addresses, and its
UUID. A MIG device's name is its GPU's index, ":", and its own index, in the order of instances; its UUID
is known only to NVML. Where the driver is there and has no GPU, it is the device itself, for programs
that wait for one: its name is "control". On Jetson and WSL other modules say what there is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cdi_hook.generate import node_edits, sysfs
from cdi_hook.generate.classes.nvidia_driver import Driver
from cdi_hook.generate.classes.nvidia_hooks import DriverFiles
from cdi_hook.generate.classes.nvidia_jetson import Jetson
from cdi_hook.generate.classes.nvidia_wsl import Wsl
from cdi_hook.generate.device_class import DeviceClass, Found, FoundDevice

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Callable

    from cdi_hook.generate.root import Root

_KIND = "nvidia.com/gpu"
_GPUS = "/proc/driver/nvidia/gpus"
_CAPABILITIES = "/proc/driver/nvidia/capabilities"
_MIG_MINORS = "/proc/driver/nvidia-caps/mig-minors"
# In nvidia-ctk's order, with who needs each, and how nvidia-modprobe makes it.
_CONTROL = {
    "/dev/nvidia-modeset": ("graphics need", "-m"),
    "/dev/nvidia-uvm-tools": ("CUDA's profilers need", "-u -c 0"),
    "/dev/nvidia-uvm": ("CUDA needs", "-u -c 0"),
    "/dev/nvidiactl": ("every program needs", "-c 255"),
}
_MANAGEMENT = "nvidia-management"  # which is there wherever GPUs are
# Classes of nvidia_parts.py: what each is, and its nodes.
OTHERS = {
    "nvidia-gdrcopy": ("NVIDIA GDRCopy", ["/dev/gdrdrv"]),
    "nvidia-gds": ("NVIDIA GPUDirect Storage, with /etc/cufile.json and /run/udev", ["/dev/nvidia-fs*"]),
    "nvidia-imex": ("NVIDIA IMEX channels", ["/dev/nvidia-caps-imex-channels/channel*"]),
    _MANAGEMENT: (
        "all of NVIDIA's GPUs and capabilities, for what manages them",
        ["/dev/nvidia*", "/dev/nvidia-caps/nvidia-cap*", "/dev/nvidia-caps-imex-channels/channel*"],
    ),
    "nvidia-mofed": (
        "RDMA adapters, as NVIDIA's tools put them together",
        ["/dev/infiniband/uverbs*", "/dev/infiniband/rdma_cm"],
    ),
    "nvidia-nvswitch": ("NVIDIA NVSwitches", ["/dev/nvidia-nvswitchctl", "/dev/nvidia-nvswitch*"]),
}
_MIXED = (
    "this is a Jetson with another GPU on the PCI bus, and only NVML can tell them apart: "
    "make the spec with nvidia-ctk cdi generate --mode csv"
)
_UUID = re.compile(r"GPU-[0-9A-Fa-f-]+")
_VENDOR = "0x10de"
_THOR = "0000:01:00.0"  # where a Jetson Thor has its own GPU
_VGPU = "/dev/nvidia-vgpuctl"  # of a driver that gives GPUs to virtual machines


@dataclass(frozen=True)
class _GPU:
    """A GPU; ``mig`` has for each of its MIG devices the nodes, each with the driver's file on it."""

    index: int
    uuid: str
    node: str
    address: str
    mig: Sequence[Mapping[str, str]] = field(default_factory=tuple)

    def devices(self, root: Root) -> list[FoundDevice]:
        """Return its MIG devices if it is divided into such, else itself; only those whose node is there."""
        if not node_edits.is_node(root, self.node):
            return []
        if self.mig:
            return [
                FoundDevice((f"{self.index}:{number}",), node_edits.edits(root, (self.node, *paths)))
                for number, paths in enumerate(self.mig)
            ]
        names = (str(self.index), *([self.uuid] if self.uuid else []))
        lines = f"GPU UUID: {self.uuid}", f"Device Minor: {self.node.removeprefix('/dev/nvidia')}"
        proofs = {self.uuid: sysfs.says(root, f"{_GPUS}/{self.address}/information", *lines)}
        return [FoundDevice(names, node_edits.edits(root, (self.node, *self._drm(root))), proofs)]

    def _drm(self, root: Root) -> list[str]:
        """Return its nodes for graphics, and udev's names for them."""
        if not self.address:
            return []
        names = root.names(f"/sys/bus/pci/devices/{self.address}/drm")
        by_path = [f"/dev/dri/by-path/pci-{self.address}-{kind}" for kind in ("card", "render")]
        return [*(f"/dev/dri/{name}" for name in names), *by_path]


class Nvidia(DeviceClass):
    """The class."""

    name = "nvidia"
    kinds = (_KIND,)
    about = "NVIDIA GPUs and MIG devices, with the driver's files"
    called = (
        "index, UUID; MIG devices: 0:1. "
        "The names are those of nvidia-ctk, which isn't needed. "
        "Only the UUIDs of MIG devices are left out, because no file has them. "
        "A Jetson's GPU is 0. On WSL there is only all. "
        "The containers' libraries are set up by cdi-hook createContainer, "
        "or by the program that --hook names, such as nvidia-cdi-hook."
    )
    events = ('SUBSYSTEM=="module", KERNEL=="nvidia|nvidia_uvm"', 'SUBSYSTEM=="pci", DRIVER=="nvidia"')
    takes_hook = True

    def find(self, root: Root, hook: str = "") -> list[Found]:
        """Return the GPUs, and what all of them need; nothing if the driver isn't there."""
        if wsl := Wsl(root):
            return _found((), wsl.nodes(), root, lambda: wsl.files().edits(root, hook))
        gpus = _gpus(root)
        if (jetson := Jetson(root)) and not _is_mixed(gpus):
            return _found(("0",), jetson.nodes(), root, lambda: jetson.files(Driver(root)).edits(root, hook))
        control = node_edits.edits(root, _CONTROL)
        devices = [device for gpu in gpus for device in gpu.devices(root)]
        if not devices and control:
            devices = [FoundDevice(("control",), control)]
        if not devices or jetson or not (driver := Driver(root)).version:
            return []
        return [Found(_KIND, devices, node_edits.together([control, driver_edits(root, driver, hook)]))]

    def missing(self, root: Root) -> list[str]:
        """Return which part of the driver isn't there."""
        if wsl := Wsl(root):
            return wsl.missing()
        gpus = _gpus(root)
        if jetson := Jetson(root):
            return [_MIXED] if _is_mixed(gpus) else jetson.missing()
        if not gpus:
            return sysfs.without_driver(root, "NVIDIA", _VENDOR, "nvidia") or [
                f"no GPU in {_GPUS}: install NVIDIA's driver, and load it with modprobe nvidia"
            ]
        found = [
            f"no {gpu.node}: nvidia-modprobe -c {gpu.node.removeprefix('/dev/nvidia')} makes it"
            for gpu in gpus
            if not node_edits.is_node(root, gpu.node)
        ]
        is_vgpu = node_edits.is_node(root, _VGPU)
        found += [
            f"no {path}, which {who}: nvidia-modprobe {how} makes it"
            for path, (who, how) in _CONTROL.items()
            if not node_edits.is_node(root, path) and not (is_vgpu and "CUDA" in who)
        ]
        capabilities = {path: file for gpu in gpus for paths in gpu.mig for path, file in paths.items()}
        found += [
            f"no {path}, which a MIG device needs: nvidia-modprobe -f {file} makes it"
            for path, file in capabilities.items()
            if not node_edits.is_node(root, path)
        ]
        driver = Driver(root)
        if not driver.version:
            found.append(
                "no libcuda.so or libnvidia-ml.so of the driver: install its libraries, and run ldconfig"
            )
        elif driver.kernel_version not in ("", driver.version):
            found.append(
                f"the kernel has driver {driver.kernel_version}, the libraries are of {driver.version}: "
                "reboot, or load the driver again"
            )
        return found

    def notes(self, root: Root) -> list[str]:
        """Say what of NVIDIA's is there and isn't in the specs."""
        others = [
            f"{what} (class {name})"
            for name, (what, paths) in OTHERS.items()
            if name != _MANAGEMENT and root.glob(*paths)
        ]
        said = [f"left out: {', '.join(others)}"] if others else []
        jetson = Jetson(root)
        if node_edits.is_node(root, _VGPU):
            said.append(
                "this driver gives GPUs to virtual machines: containers get nvidia-smi and no CUDA; "
                "virtual GPUs are in class vfio"
            )
        return [*said, *(jetson.notes() if jetson else ())]


def _is_mixed(gpus: Sequence[_GPU]) -> bool:
    """Say whether a Jetson has GPUs on the PCI bus beside its own, which can be there too."""
    return any(gpu.address not in ("", _THOR) for gpu in gpus)


def driver_edits(root: Root, driver: Driver, hook: str) -> dict[str, Any]:
    """Return the containerEdits for the driver's files; raises CDIError if the hook is no such program."""
    files = DriverFiles(
        driver.mounts(),
        driver.links(),
        driver.library_dirs(),
        driver.mounted_libraries(),
        driver.sockets(),
        driver.version,
    )
    edits = files.edits(root, hook)
    edits["env"].insert(0, f"NVIDIA_CTK_LIBCUDA_DIR={':'.join(driver.dirs)}")
    return edits


def _found(
    names: Sequence[str], paths: Sequence[str], root: Root, edits: Callable[[], dict[str, Any]]
) -> list[Found]:
    """Return the one device that has these nodes; nothing if there are none."""
    if not paths:
        return []
    return [Found(_KIND, [FoundDevice(names, node_edits.edits(root, paths))], edits())]


def _gpus(root: Root) -> list[_GPU]:
    """Return the GPUs that the driver knows; where it doesn't say, those that have a node."""
    found: list[_GPU] = []
    minors = dict(line.split()[:2] for line in root.read(_MIG_MINORS).splitlines() if len(line.split()) > 1)
    for address in sorted(root.names(_GPUS)):
        lines = root.read(f"{_GPUS}/{address}/information").splitlines()
        said = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        minor = said.get("Device Minor", "")
        if not minor.isdecimal() or said.get("GPU Excluded") == "Yes":
            continue
        uuid = said.get("GPU UUID", "")
        uuid = uuid if _UUID.fullmatch(uuid) else ""  # before it is known, the driver writes "?"
        mig = _mig_devices(root, minor, minors)
        found.append(_GPU(len(found), uuid, f"/dev/nvidia{minor}", address, mig))
    if not found:
        paths = [path for path in root.glob("/dev/nvidia*") if re.fullmatch(r"/dev/nvidia\d+", path)]
        found = [
            _GPU(index, "", path, "") for index, path in enumerate(paths) if node_edits.is_node(root, path)
        ]
    return found


def _mig_devices(root: Root, minor: str, minors: dict[str, str]) -> list[dict[str, str]]:
    """Return the nodes of each MIG device of the GPU with this minor number, in the order of instances."""
    devices = []
    mig = f"{_CAPABILITIES}/gpu{minor}/mig"
    for gi in (name for name in root.names(mig) if re.fullmatch(r"gi\d+", name)):
        for ci in (name for name in root.names(f"{mig}/{gi}") if re.fullmatch(r"ci\d+", name)):
            parts = {f"gpu{minor}/{part}/access": f"{mig}/{part}/access" for part in (gi, f"{gi}/{ci}")}
            devices.append({
                f"/dev/nvidia-caps/nvidia-cap{minors[name]}": file
                for name, file in parts.items()
                if name in minors
            })  # fmt: skip
    return devices


CLASSES = {Nvidia.name: Nvidia()}
