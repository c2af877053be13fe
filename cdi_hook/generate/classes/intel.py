# SPDX-License-Identifier: Apache-2.0
"""Intel's GPUs (drivers i915 and xe) and NPUs (driver intel_vpu)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdi_hook.generate import node_edits, sysfs
from cdi_hook.generate.device_class import DeviceClass, Found, FoundDevice

if TYPE_CHECKING:
    from cdi_hook.generate.root import Root
    from cdi_hook.generate.sysfs import SysfsEntry

# A kind: the dir in sysfs, the devices' names there, the drivers.
_KINDS = {
    "intel.com/gpu": ("/sys/class/drm", r"(card|renderD)\d+", ("i915", "xe")),
    "intel.com/npu": ("/sys/class/accel", r"accel\d+", ("intel_vpu",)),
}


class Intel(DeviceClass):
    """The GPUs and NPUs."""

    name = "intel"
    kinds = tuple(_KINDS)
    about = "Intel GPUs and NPUs"
    events = ('SUBSYSTEM=="drm"', 'SUBSYSTEM=="accel"')

    def find(self, root: Root) -> list[Found]:
        """Return the devices.

        Names are the index, the address, the address and model as Intel's DRA driver for
        Kubernetes has them, and those of the nodes.
        """
        links = sysfs.Links(root, ("/dev/dri/by-path",))
        found = []
        for kind in self.kinds:
            groups = sysfs.by_parent(
                one for one in _entries(root, kind) if node_edits.is_node(root, one.node)
            )
            devices = [
                FoundDevice(
                    [str(index), *_names(root, group[0].parent), *(entry.name for entry in group)],
                    node_edits.edits(
                        root, (path for one in group for path in (one.node, *links.of(one.node)))
                    ),
                    dict.fromkeys(
                        _names(root, group[0].parent), sysfs.at(root, *(entry.link for entry in group))
                    ),
                )
                for index, group in enumerate(groups)
            ]
            if devices:
                found.append(Found(kind, devices))
        return found

    def missing(self, root: Root) -> list[str]:
        """Return what keeps the devices from being used."""
        gpus, npus = (_entries(root, kind) for kind in self.kinds)
        if not gpus and not npus:
            return ["no Intel GPU or NPU with a driver: modprobe i915, xe or intel_vpu"]
        return [
            f"no {entry.node}, though the kernel has the device: udev has to make it"
            for entry in (*gpus, *npus)
            if not node_edits.is_node(root, entry.node)
        ]


def _entries(root: Root, kind: str) -> list[SysfsEntry]:
    directory, pattern, drivers = _KINDS[kind]
    return [
        one for one in sysfs.entries(root, pattern, directory) if sysfs.driver(root, one.parent) in drivers
    ]


def _names(root: Root, path: str) -> list[str]:
    address, model = sysfs.address(root, path), root.read(f"{path}/device")
    if not address or not model:
        return [address] if address else []
    return [address, f"{address.replace(':', '-').replace('.', '-')}-{model}"]


CLASSES = {"intel": Intel()}
