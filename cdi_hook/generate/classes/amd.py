# SPDX-License-Identifier: Apache-2.0
"""AMD GPUs for compute: /dev/kfd for all, and the card and render node of each that the topology of KFD has.

A GPU in several partitions has a node in the topology, and a render node, for each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdi_hook.generate import node_edits, sysfs
from cdi_hook.generate.device_class import DeviceClass, Found, FoundDevice

if TYPE_CHECKING:
    from cdi_hook.edits.proof import Proof
    from cdi_hook.generate.root import Root

_KFD = "/dev/kfd"
_TOPOLOGY = "/sys/class/kfd/kfd/topology/nodes"


class Amd(DeviceClass):
    """The GPUs that ROCm uses."""

    name = "amd"
    kinds = ("amd.com/gpu",)
    about = "AMD GPUs, for ROCm"
    events = ('SUBSYSTEM=="kfd"', 'SUBSYSTEM=="drm"')

    def find(self, root: Root) -> list[Found]:
        """Return the GPUs; names are ROCm's index, the address, the unique id, and those of the nodes."""
        drm = sysfs.entries(root, r"(card|renderD)\d+", "/sys/class/drm")
        drm = [entry for entry in drm if node_edits.is_node(root, entry.node)]
        render = {entry.name: entry for entry in drm}
        links = sysfs.Links(root, ("/dev/dri/by-path",))
        gpus = []
        for number in root.names(_TOPOLOGY):
            properties = _properties(root, f"{_TOPOLOGY}/{number}/properties")
            entry = render.get(f"renderD{properties.get('drm_render_minor')}")
            if entry:
                gpus.append((number, properties, [one for one in drm if one.parent == entry.parent]))
        addresses = [_address(properties) for _, properties, _ in gpus]
        unique_ids = [int(properties.get("unique_id", "0")) for _, properties, _ in gpus]
        devices = [
            FoundDevice(
                [
                    str(index),
                    *([address] if addresses.count(address) == 1 else []),
                    *([f"GPU-{unique_id:016x}"] if unique_id and unique_ids.count(unique_id) == 1 else []),
                    *(entry.name for entry in entries),
                ],
                node_edits.edits(root, (path for one in entries for path in (one.node, *links.of(one.node)))),
                {
                    address: sysfs.at(root, *(one.link for one in entries)),
                    f"GPU-{unique_id:016x}": _proof(root, number, properties),
                },
            )
            for index, ((number, properties, entries), address, unique_id) in enumerate(
                zip(gpus, addresses, unique_ids)
            )
        ]
        if not devices or not node_edits.is_node(root, _KFD):
            return []
        return [Found(self.kinds[0], devices, node_edits.edits(root, (_KFD,)))]

    def missing(self, root: Root) -> list[str]:
        """Return what keeps the GPUs from being used."""
        if not node_edits.is_node(root, _KFD):
            return [f"no {_KFD}: modprobe amdgpu"]
        return [] if self.find(root) else ["no AMD GPU that ROCm can use"]


def _properties(root: Root, path: str) -> dict[str, str]:
    lines = (line.partition(" ") for line in root.read(path).splitlines())
    return {name: value for name, _, value in lines if value.isdecimal()}


def _proof(root: Root, number: str, properties: dict[str, str]) -> list[Proof]:
    lines = (f"{name} {properties[name]}" for name in ("unique_id", "drm_render_minor") if name in properties)
    return sysfs.says(root, f"{_TOPOLOGY}/{number}/properties", *lines)


def _address(properties: dict[str, str]) -> str:
    """Return the address on the PCI bus, of which location_id has bus, device and function."""
    at = int(properties.get("location_id", "0"))
    domain = int(properties.get("domain", "0"))
    return f"{domain:04x}:{at >> 8 & 0xFF:02x}:{at >> 3 & 0x1F:02x}.{at & 7:x}"


CLASSES = {"amd": Amd()}
