# SPDX-License-Identifier: Apache-2.0
"""Class nvidia: NVIDIA's GPUs and MIG devices, with the driver's files, named as nvidia-ctk names them.

All is found by files, without NVML. A GPU's names are its index, in the order of PCI addresses, and its
UUID. A MIG device's name is its GPU's index, ":", and its own index, in the order of instances; its UUID
is known only to NVML. Where the driver is there and has no GPU, it is the device itself, for programs
that wait for one: its name is "control".
"""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cdi_hook.base import programs
from cdi_hook.edits.kinds import HOOK_ENV
from cdi_hook.errors import CDIError, quote
from cdi_hook.generate import node_edits, sysfs
from cdi_hook.generate.classes.nvidia_driver import Driver
from cdi_hook.generate.device_class import DeviceClass, Found, FoundDevice
from cdi_hook.libraries.needs import TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cdi_hook.generate.root import Root

_KIND = "nvidia.com/gpu"
_GPUS = "/proc/driver/nvidia/gpus"
_CAPABILITIES = "/proc/driver/nvidia/capabilities"
_MIG_MINORS = "/proc/driver/nvidia-caps/mig-minors"
_CONTROL = ("/dev/nvidia-modeset", "/dev/nvidia-uvm-tools", "/dev/nvidia-uvm", "/dev/nvidiactl")
_UUID = re.compile(r"GPU-[0-9A-Fa-f-]+")
_FILE_OPTIONS = ["ro", "nosuid", "nodev", "rbind", "rprivate"]
_SOCKET_OPTIONS = ["nosuid", "nodev", "rbind", "rprivate", "noexec"]
_OUR_HOOK, _ITS_HOOK, _ITS_TOOL = "cdi-hook", "nvidia-cdi-hook", "nvidia-ctk"


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
    called = "index, UUID; MIG devices: 0:1."
    events = ('SUBSYSTEM=="module", KERNEL=="nvidia|nvidia_uvm"', 'SUBSYSTEM=="pci", DRIVER=="nvidia"')
    takes_hook = True

    def find(self, root: Root, hook: str = "") -> list[Found]:
        """Return the GPUs, and what all of them need; nothing if the driver isn't there."""
        driver = Driver(root)
        control = node_edits.edits(root, _CONTROL)
        devices = [device for gpu in _gpus(root) for device in gpu.devices(root)]
        if not devices and control:
            devices = [FoundDevice(("control",), control)]
        if not devices or not driver.version:
            return []
        edits = {
            "env": [f"NVIDIA_CTK_LIBCUDA_DIR={':'.join(driver.dirs)}", "NVIDIA_VISIBLE_DEVICES=void"],
            "mounts": sorted(_mounts(root, driver), key=lambda mount: str(mount["containerPath"])),
            "hooks": _hooks(_program(hook), driver, root.path),
        }
        return [Found(_KIND, devices, node_edits.together([control, edits]))]

    def missing(self, root: Root) -> list[str]:
        """Return which part of the driver isn't there."""
        gpus = _gpus(root)
        if not gpus:
            return [f"no GPU in {_GPUS}: install NVIDIA's driver, and load it with modprobe nvidia"]
        found = [
            f"no {gpu.node}: nvidia-modprobe -c {gpu.node.removeprefix('/dev/nvidia')} makes it"
            for gpu in gpus
            if not node_edits.is_node(root, gpu.node)
        ]
        if not node_edits.is_node(root, "/dev/nvidia-uvm"):
            found.append("no /dev/nvidia-uvm, which CUDA needs: nvidia-modprobe -u -c 0 makes it")
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


def _mounts(root: Root, driver: Driver) -> list[dict[str, Any]]:
    wanted = [(*mount, _FILE_OPTIONS) for mount in driver.mounts()]
    wanted += [(path, path, _SOCKET_OPTIONS) for path in driver.sockets()]
    return [
        {"hostPath": root.on_host(path), "containerPath": inside, "options": options}
        for path, inside, options in wanted
    ]


def _program(hook: str) -> str:
    """Return the path of the hook's program: ours, or the one that is named; raises CDIError."""
    if not hook:
        return programs.path(_OUR_HOOK)
    path = os.path.abspath(hook) if "/" in hook else shutil.which(hook) or ""
    if not os.access(path, os.X_OK):
        raise CDIError(f"--hook: there is no program {quote(hook)}")
    if os.path.basename(path) not in (_OUR_HOOK, _ITS_HOOK, _ITS_TOOL):
        raise CDIError(f"--hook: {quote(hook)} is neither {_OUR_HOOK} nor {_ITS_HOOK} nor {_ITS_TOOL}")
    return path


def _hooks(program: str, driver: Driver, root: str) -> list[dict[str, Any]]:
    """Return the hooks that the driver's files need in a container; ``root`` is before their host paths."""
    name = os.path.basename(program)
    links = [word for target, path in driver.links() for word in ("--link", f"{target}::{path}")]
    if name == _OUR_HOOK:
        dirs = [word for path in driver.library_dirs() for word in ("--ldcache", path)]
        mounted = [word for path in driver.mounted_libraries() for word in ("--library", path)]
        place = ["--driver-root", root] if root else []
        calls = [["createContainer", *links, *dirs, *mounted, *place, "--driver-version", driver.version]]
    else:
        folders = [word for path in driver.library_dirs() for word in ("--folder", path)]
        calls = [
            *([["create-symlinks", *links]] if links else []),
            ["enable-cuda-compat", f"--host-driver-version={driver.version}"],
            ["update-ldcache", *folders],
            ["disable-device-node-modification"],
            ["update-application-profile"],
        ]
    first = [name, "hook"] if name == _ITS_TOOL else [name]
    hook: dict[str, Any] = {"hookName": "createContainer", "path": program}
    if name == _OUR_HOOK:
        hook["timeout"] = TIMEOUT_S
    return [{**hook, "args": [*first, *call], "env": list(HOOK_ENV)} for call in calls]


CLASSES = {Nvidia.name: Nvidia()}
