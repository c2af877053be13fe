# SPDX-License-Identifier: Apache-2.0
"""VFIO: devices for programs that drive them themselves, by IOMMU group and by IOMMUFD."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cdi_hook.generate import node_edits, sysfs
from cdi_hook.generate.device_class import HOST, DeviceClass, Found, FoundDevice

if TYPE_CHECKING:
    from cdi_hook.generate.root import Root

_SHARED = ("/dev/vfio/vfio", "/dev/iommu")


class Vfio(DeviceClass):
    """The IOMMU groups whose devices are bound to VFIO."""

    name = "vfio"
    kinds = (f"{HOST}/vfio",)
    about = "devices passed through with VFIO"
    events = ('SUBSYSTEM=="vfio|vfio-dev"', 'SUBSYSTEM=="misc", KERNEL=="vfio|iommu"')

    def find(self, root: Root) -> list[Found]:
        """Return the groups; a group's names are its number, and the addresses of its devices."""
        devices = []
        for group in root.names("/dev/vfio"):
            number = re.fullmatch(r"(?:noiommu-)?(\d+)", group)
            if not number or not node_edits.is_node(root, f"/dev/vfio/{group}"):
                continue
            names, paths, proofs = [group], [f"/dev/vfio/{group}"], {}
            directory = f"/sys/kernel/iommu_groups/{number[1]}/devices"
            for member in root.names(directory):
                path = root.resolved(f"{directory}/{member}")
                if path and sysfs.driver(root, path).startswith("vfio"):
                    own = sysfs.entries(root, r"vfio\d+", f"{path}/vfio-dev")
                    names += [member, *(one.name for one in own)]
                    paths += [one.node for one in own]
                    proofs[member] = sysfs.at(root, f"{path}/iommu_group", *(one.link for one in own))
            devices.append(FoundDevice(names, node_edits.edits(root, paths), proofs))
        return [Found(self.kinds[0], devices, node_edits.edits(root, _SHARED))] if devices else []

    def missing(self, root: Root) -> list[str]:
        """Return what keeps devices from being passed through."""
        if not node_edits.is_node(root, _SHARED[0]):
            return [f"no {_SHARED[0]}: modprobe vfio-pci"]
        if self.find(root):
            return []
        if not root.names("/sys/kernel/iommu_groups"):
            return [
                "no IOMMU: enable it in the firmware, and with intel_iommu=on on the kernel's command line"
            ]
        return ["no device is bound to vfio-pci: driverctl set-override ADDRESS vfio-pci"]


CLASSES = {"vfio": Vfio()}
