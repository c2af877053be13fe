# SPDX-License-Identifier: Apache-2.0
"""AMD GPUs for compute: /dev/kfd for all, and the card and render node of each that the topology of KFD has.

A GPU that is divided into partitions has a node in the topology, and a render node, for each. The first
partition is the PCI device itself, the others are devices of the platform. They are counted as amd-ctk
counts them: by the GPU's place on the PCI bus, then by the number of the render node.

On WSL the GPUs are one device of Windows, and a library of AMD's finds them there. What a container gets
is what that library's page says (github.com/ROCm/librocdxg).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cdi_hook.generate import node_edits, sysfs
from cdi_hook.generate.device_class import DeviceClass, Found, FoundDevice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdi_hook.edits.proof import Proof
    from cdi_hook.generate.root import Root
    from cdi_hook.generate.sysfs import SysfsEntry

_KFD, _VENDOR = "/dev/kfd", "0x1002"
_TOPOLOGY = "/sys/class/kfd/kfd/topology/nodes"
_DXG = "/dev/dxg"  # on WSL
# The files that it takes there, where a container has them, and what brings those that it can't do without.
_DXG_FILES = {
    "/usr/lib/wsl/lib/libdxcore.so": ("/usr/lib/libdxcore.so", "in Windows, wsl --update"),
    "/opt/rocm/lib/librocdxg.so": ("/usr/lib/librocdxg.so", "install AMD's rocdxg-roct"),
    "/opt/rocm/share/rocdxg/dids.conf": ("/usr/share/rocdxg/dids.conf", ""),
}


@dataclass(frozen=True)
class _Partition:
    """A GPU or a part of it: its place on the PCI bus, its render minor, its names and nodes."""

    place: tuple[int, int, int]
    minor: int
    address: str  # "" unless it is a PCI device
    unique_id: str
    entries: Sequence[SysfsEntry]
    proof: Sequence[Proof]


class Amd(DeviceClass):
    """The GPUs that ROCm uses."""

    name = "amd"
    kinds = ("amd.com/gpu",)
    about = "AMD GPUs, for ROCm"
    called = (
        "index as amd-ctk counts, address, GPU-UNIQUE_ID, card0, renderD128. "
        "The address of a GPU that is divided means all its partitions. Every device has /dev/kfd. "
        "On WSL there is only all."
    )
    events = ('SUBSYSTEM=="kfd"', 'SUBSYSTEM=="drm"')

    def find(self, root: Root) -> list[Found]:
        """Return the GPUs or their partitions: amd-ctk's index, the address, the unique id, the nodes' names.

        An address, and an id that several partitions have, is a device of all these partitions.
        """
        if root.exists(_DXG):
            return [] if self.missing(root) else [_on_wsl(root)]
        partitions = _partitions(root)
        links = sysfs.Links(root, ("/dev/dri/by-path",))
        devices = []
        for members, names in _named(partitions).items():
            own = [partitions[index] for index in members]
            entries = [entry for part in own for entry in part.entries]
            edits = node_edits.edits(
                root, (path for one in entries for path in (one.node, *links.of(one.node)))
            )
            ids = {part.unique_id: [proof for each in own for proof in each.proof] for part in own}
            at = dict.fromkeys((part.address for part in own), sysfs.at(root, *(one.link for one in entries)))
            devices.append(FoundDevice(names, edits, {**ids, **at}))
        if not devices or not node_edits.is_node(root, _KFD):
            return []
        return [Found(self.kinds[0], devices, node_edits.edits(root, (_KFD,)))]

    def missing(self, root: Root) -> list[str]:
        """Return what keeps the GPUs from being used."""
        if root.exists(_DXG):
            return [
                f"no {path}, though this is WSL: {how}"
                for path, (_, how) in _DXG_FILES.items()
                if how and not root.exists(path)
            ]
        if not node_edits.is_node(root, _KFD):
            return sysfs.without_driver(root, "AMD", _VENDOR, "amdgpu") or [f"no {_KFD}: modprobe amdgpu"]
        return [] if self.find(root) else ["no AMD GPU that ROCm can use"]


def _on_wsl(root: Root) -> Found:
    mounts = [
        node_edits.mount(root, root.resolved(path), inside)
        for path, (inside, _) in _DXG_FILES.items()
        if root.exists(path)
    ]
    device = FoundDevice((), node_edits.edits(root, (_DXG,)))
    return Found(Amd.kinds[0], [device], {"env": ["HSA_ENABLE_DXG_DETECTION=1"], "mounts": mounts})


def _named(partitions: Sequence[_Partition]) -> dict[tuple[int, ...], list[str]]:
    """Return the devices: of which partitions each is, and its names."""
    owners: dict[str, list[int]] = {}
    for index, part in enumerate(partitions):
        for name in (_gpu_of(part, partitions), part.unique_id):
            owners.setdefault(name, []).append(index)
    devices: dict[tuple[int, ...], list[str]] = {(index,): [str(index)] for index in range(len(partitions))}
    for name, own in owners.items():
        if name:
            devices.setdefault(tuple(own), []).append(name)
    for index, part in enumerate(partitions):
        devices[(index,)] += [entry.name for entry in part.entries]
    return devices


def _gpu_of(part: _Partition, partitions: Sequence[_Partition]) -> str:
    """Return the address of the GPU that a partition is of; "" if not just one PCI device can be it."""
    addresses = [one.address for one in partitions if one.place == part.place and one.address]
    return part.address or (addresses[0] if len(addresses) == 1 else "")


def _partitions(root: Root) -> list[_Partition]:
    """Return the GPUs and partitions that have a render node, in amd-ctk's order."""
    drm = sysfs.entries(root, r"(card|renderD)\d+", "/sys/class/drm")
    drm = [entry for entry in drm if node_edits.is_node(root, entry.node)]
    render = {entry.name: entry for entry in drm}
    found = []
    for number in root.names(_TOPOLOGY):
        properties = _properties(root, f"{_TOPOLOGY}/{number}/properties")
        minor = properties.get("drm_render_minor", "0")
        entry = render.get(f"renderD{minor}")
        if not entry:
            continue
        at, unique_id = int(properties.get("location_id", "0")), int(properties.get("unique_id", "0"))
        is_pci = sysfs.subsystem(root, entry.parent) == "pci"
        found.append(
            _Partition(
                # Further bits of location_id are the partition's number, in one kernel or another.
                (int(properties.get("domain", "0")), at >> 8 & 0xFF, at >> 3 & 0x1F),
                int(minor),
                entry.parent.rpartition("/")[2] if is_pci else "",
                f"GPU-{unique_id:016x}" if unique_id else "",
                [one for one in drm if one.parent == entry.parent],
                _proof(root, number, properties),
            )
        )
    gpus = {part.place for part in found if part.address}
    return sorted(found, key=lambda part: (part.place not in gpus, part.place, part.minor))


def _properties(root: Root, path: str) -> dict[str, str]:
    lines = (line.partition(" ") for line in root.read(path).splitlines())
    return {name: value for name, _, value in lines if value.isdecimal()}


def _proof(root: Root, number: str, properties: dict[str, str]) -> list[Proof]:
    lines = (f"{name} {properties[name]}" for name in ("unique_id", "drm_render_minor") if name in properties)
    return sysfs.says(root, f"{_TOPOLOGY}/{number}/properties", *lines)


CLASSES = {"amd": Amd()}
