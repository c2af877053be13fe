# SPDX-License-Identifier: Apache-2.0
"""VFIO: devices for programs that drive them themselves, by IOMMU group and by IOMMUFD.

A kernel without CONFIG_VFIO_GROUP, and one that only IOMMUFD is used on, has no nodes of groups.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cdi_hook.generate import node_edits, sysfs
from cdi_hook.generate.device_class import HOST, DeviceClass, Found, FoundDevice

if TYPE_CHECKING:
    from cdi_hook.generate.root import Root
    from cdi_hook.generate.sysfs import SysfsEntry

SHARED = ("/dev/vfio/vfio", "/dev/iommu")
_GROUPS = "/sys/kernel/iommu_groups"


class Vfio(DeviceClass):
    """The devices that are bound to a driver of VFIO's."""

    name = "vfio"
    kinds = (f"{HOST}/vfio",)
    about = "devices passed through with VFIO"
    called = "group number, address, vfio0. Every device has /dev/vfio/vfio and /dev/iommu."
    events = ('SUBSYSTEM=="vfio|vfio-dev"', 'SUBSYSTEM=="misc", KERNEL=="vfio|iommu"')

    def find(self, root: Root) -> list[Found]:
        """Return the groups, by number and by device, and the devices whose group has no node."""
        devices: list[FoundDevice] = []
        in_groups: set[str] = set()
        for group in root.names("/dev/vfio"):
            number = re.fullmatch(r"(?:noiommu-)?(\d+)", group)
            if not number or not node_edits.is_node(root, f"/dev/vfio/{group}"):
                continue
            names, paths, proofs = [group], [f"/dev/vfio/{group}"], {}
            directory = f"{_GROUPS}/{number[1]}/devices"
            for member in root.names(directory):
                path = root.resolved(f"{directory}/{member}")
                own = cdevs(root, path)
                if own or "vfio" in sysfs.driver(root, path):  # Linux before 6.1 has no such nodes
                    names += [member, *(one.name for one in own)]
                    paths += [one.node for one in own]
                    proofs[member] = sysfs.at(root, f"{path}/iommu_group", *(one.link for one in own))
                    in_groups.update(one.path for one in own)
            devices.append(FoundDevice(names, node_edits.edits(root, paths), proofs))
        for entry in sysfs.entries(root, r"vfio\d+", "/sys/class/vfio-dev"):
            if entry.path not in in_groups and node_edits.is_node(root, entry.node):
                address = entry.parent.rpartition("/")[2]
                proof = {address: sysfs.at(root, entry.link)}
                devices.append(
                    FoundDevice([entry.name, address], node_edits.edits(root, [entry.node]), proof)
                )
        return [Found(self.kinds[0], devices, node_edits.edits(root, SHARED))] if devices else []

    def missing(self, root: Root) -> list[str]:
        """Return what keeps devices from being passed through."""
        if self.find(root):
            return []
        if not any(node_edits.is_node(root, path) for path in SHARED):
            return [f"no {SHARED[0]}: modprobe vfio-pci"]
        if not root.names(_GROUPS):
            return [
                "no IOMMU: enable it in the firmware, and with intel_iommu=on on the kernel's command line"
            ]
        return ["no device is bound to vfio-pci: driverctl set-override ADDRESS vfio-pci"]


def cdevs(root: Root, path: str) -> list[SysfsEntry]:
    """Return the nodes of its own that a device has: one if its driver is VFIO's, whatever it is called."""
    return sysfs.entries(root, r"vfio\d+", f"{path}/vfio-dev")


CLASSES = {"vfio": Vfio()}
