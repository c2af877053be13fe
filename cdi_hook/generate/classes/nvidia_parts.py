# SPDX-License-Identifier: Apache-2.0
"""What NVIDIA has beside GPUs: each class is what nvidia-ctk makes in the mode of that name.

They are classes apart, because who lets containers have GPUs doesn't thereby let them have these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cdi_hook.generate import node_edits
from cdi_hook.generate.classes.nvidia import OTHERS, Nvidia, driver_edits
from cdi_hook.generate.classes.nvidia_driver import Driver
from cdi_hook.generate.classes.nvidia_hooks import ENV
from cdi_hook.generate.classes.nvidia_jetson import Jetson
from cdi_hook.generate.classes.nvidia_wsl import Wsl
from cdi_hook.generate.device_class import DeviceClass, Found, FoundDevice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdi_hook.generate.root import Root

_CHANNEL = "channel"
_NEVER_MANAGED = ("nvidia-fs", "nvidia-nvswitch", "nvidia-nvlink")


class NvidiaPart(DeviceClass):
    """Nodes that are one device, "all", with what is mounted beside them."""

    def __init__(
        self, name: str, kind: str, events: Sequence[str], without: str, mounts: Sequence[str] = ()
    ) -> None:
        self.name = name
        self.kinds = (kind,)
        self.about, self._patterns = OTHERS[name]
        self.called = "all."
        self.events = events
        self._without = without
        self._mounts = mounts

    def find(self, root: Root) -> list[Found]:
        """Return the device; nothing if it has no node."""
        paths = [path for path in root.glob(*self._patterns) if node_edits.is_node(root, path)]
        if not paths:
            return []
        edits = node_edits.edits(root, dict.fromkeys(paths))
        if mounts := [
            node_edits.mount(root, root.resolved(path), path) for path in self._mounts if root.exists(path)
        ]:
            edits["mounts"] = mounts
        return [Found(self.kinds[0], [FoundDevice((), edits)], {"env": [ENV]})]

    def missing(self, root: Root) -> list[str]:
        """Return what makes the nodes."""
        return [] if self.find(root) else [f"no {self._patterns[0]}: {self._without}"]


class Imex(NvidiaPart):
    """The channels over which GPUs of several hosts share memory: each is a device, called by its number."""

    def find(self, root: Root) -> list[Found]:
        """Return the channels."""
        devices = [
            FoundDevice((path.rpartition(_CHANNEL)[2],), node_edits.edits(root, (path,)))
            for path in root.glob(*self._patterns)
            if node_edits.is_node(root, path)
        ]
        return [Found(self.kinds[0], devices, {"env": [ENV]})] if devices else []


class Management(NvidiaPart):
    """All GPUs and capabilities at once, for what manages them, with the driver's files."""

    takes_hook = True

    def find(self, root: Root, hook: str = "") -> list[Found]:
        """Return the one device."""
        paths = [
            path
            for path in root.glob(*self._patterns)
            if node_edits.is_node(root, path) and not path.rpartition("/")[2].startswith(_NEVER_MANAGED)
        ]
        if not paths or Jetson(root) or Wsl(root) or not (driver := Driver(root)).version:
            return []
        edits = node_edits.edits(root, dict.fromkeys(paths))
        return [Found(self.kinds[0], [FoundDevice((), edits)], driver_edits(root, driver, hook))]

    def missing(self, root: Root) -> list[str]:
        """Return which part of the driver isn't there."""
        return [] if self.find(root) else Nvidia().missing(root) or ["no GPU on the PCI bus"]


_MODULE = 'SUBSYSTEM=="module", KERNEL=="{}"'
_PARTS: tuple[Any, ...] = (
    NvidiaPart(
        "nvidia-gdrcopy",
        "nvidia.com/gdrcopy",
        [_MODULE.format("gdrdrv")],
        "install gdrcopy, and modprobe gdrdrv",
    ),
    NvidiaPart(
        "nvidia-gds",
        "nvidia.com/gds",
        [_MODULE.format("nvidia_fs")],
        "install GPUDirect Storage, and modprobe nvidia-fs",
        ["/run/udev", "/etc/cufile.json"],
    ),
    Imex(
        "nvidia-imex",
        "nvidia.com/imex-channel",
        [_MODULE.format("nvidia")],
        "modprobe nvidia with NVreg_CreateImexChannel0=1 makes one, where the driver has IMEX",
    ),
    Management(
        "nvidia-management",
        "management.nvidia.com/gpu",
        [_MODULE.format("nvidia|nvidia_uvm"), 'SUBSYSTEM=="pci", DRIVER=="nvidia"'],
        "install NVIDIA's driver, and load it with modprobe nvidia",
    ),
    NvidiaPart(
        "nvidia-mofed",
        "nvidia.com/mofed",
        ['SUBSYSTEM=="infiniband_verbs"', 'SUBSYSTEM=="misc", KERNEL=="rdma_cm"'],
        "modprobe ib_uverbs; class infiniband has each adapter",
    ),
    NvidiaPart(
        "nvidia-nvswitch",
        "nvidia.com/nvswitch",
        [_MODULE.format("nvidia")],
        "this host has no NVSwitch, or its driver isn't loaded: modprobe nvidia",
    ),
)
CLASSES: dict[str, NvidiaPart] = {part.name: part for part in _PARTS}
