# SPDX-License-Identifier: Apache-2.0
"""Intel's GPUs (drivers i915 and xe, or bound to VFIO), their MEI nodes, NPUs and Gaudi accelerators.

Kinds, nodes and names are those of Intel's CDI spec generator and drivers for Kubernetes, which call a
device by its node (``card0``) or by its address and model (``0000-03-00-0-0x56a0``).
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cdi_hook.generate import node_edits, sysfs
from cdi_hook.generate.classes import vfio
from cdi_hook.generate.device_class import DeviceClass, Found, FoundDevice

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdi_hook.generate.root import Root
    from cdi_hook.generate.sysfs import SysfsEntry

_GPU, _MEI, _NPU, _GAUDI = "intel.com/gpu", "intel.com/gpu-mei", "intel.com/npu", "intel.com/gaudi"
_DRM = ("/sys/class/drm", r"(card|renderD)\d+", ("i915", "xe"))
# A kind: the dir in sysfs, the devices' names there, the drivers.
_KINDS = {
    _GPU: _DRM,
    _NPU: ("/sys/class/accel", r"accel\d+", ("intel_vpu",)),
    _GAUDI: ("/sys/class/accel", r"accel(_controlD)?\d+", ("habanalabs",)),
}
_PCI = "/sys/bus/pci/devices"
_VENDOR, _HABANA = "0x8086", "0x1da3"


class Intel(DeviceClass):
    """The GPUs, NPUs and Gaudi accelerators."""

    name = "intel"
    kinds = (_GPU, _MEI, _NPU, _GAUDI)
    about = "Intel GPUs, NPUs and Gaudi"
    called = "index, address, address and model (0000-03-00-0-0x56a0), card0, renderD128, accel0, mei0."
    events = (
        'SUBSYSTEM=="drm"',
        'SUBSYSTEM=="accel"',
        'SUBSYSTEM=="mei"',
        'SUBSYSTEM=="vfio|vfio-dev"',
        'SUBSYSTEM=="infiniband_verbs"',
    )

    def find(self, root: Root) -> list[Found]:
        """Return the devices: by index, by address, by address and model, and by the nodes' names."""
        links = sysfs.Links(root, ("/dev/dri/by-path",))
        found: dict[str, list[FoundDevice]] = {kind: [] for kind in self.kinds}
        for kind, directory in _KINDS.items():
            groups = sysfs.by_parent(
                one for one in _entries(root, *directory) if node_edits.is_node(root, one.node)
            )
            for group in groups:
                paths = [path for one in group for path in (one.node, *links.of(one.node))]
                if kind == _GAUDI:
                    paths += _verbs(root, group[0].parent)
                index = str(len(found[kind]))
                found[kind].append(_device(root, group[0].parent, [index], paths, group))
        for path, paths in _passed_through(root):
            index = str(len(found[_GPU]))
            found[_GPU].append(_device(root, path, [index], paths, vfio.cdevs(root, path)))
        for gpu, entry in _mei(root):
            found[_MEI].append(_device(root, gpu, [], [entry.node], [entry]))
        return [Found(kind, devices) for kind, devices in found.items() if devices]

    def missing(self, root: Root) -> list[str]:
        """Return what keeps the devices from being used."""
        entries = [one for directory in _KINDS.values() for one in _entries(root, *directory)]
        if not entries and not self.find(root):
            is_gaudi = bool(sysfs.pci_gpus(root, _HABANA))
            said = [] if is_gaudi else sysfs.without_driver(root, "Intel", _VENDOR, *_DRM[2])
            load = "modprobe i915, xe, intel_vpu or habanalabs"
            return said or [f"no Intel GPU, NPU or Gaudi with a driver: {load}"]
        return [
            f"no {entry.node}, though the kernel has the device: udev has to make it"
            for entry in entries
            if not node_edits.is_node(root, entry.node)
        ]


def _device(
    root: Root, path: str, names: Sequence[str], paths: Sequence[str], entries: Sequence[SysfsEntry]
) -> FoundDevice:
    """Return a device; that it is at its address is shown by links of sysfs to what it has there."""
    address, model = sysfs.address(root, path), root.read(f"{path}/device")
    own = [
        name for name in (address, address and model and f"{re.sub('[:.]', '-', address)}-{model}") if name
    ]
    kernels = [entry.name for entry in entries]
    proof = sysfs.at(root, *(entry.link for entry in entries))
    order = [*names, *own, *kernels] if names else [*kernels, *own]
    return FoundDevice(order, node_edits.edits(root, paths), dict.fromkeys(own, proof))


def _entries(root: Root, directory: str, pattern: str, drivers: Sequence[str]) -> list[SysfsEntry]:
    return [
        one for one in sysfs.entries(root, pattern, directory) if sysfs.driver(root, one.parent) in drivers
    ]


def _verbs(root: Root, path: str) -> list[str]:
    """Return the nodes for the network of a Gaudi accelerator."""
    return [one.node for one in sysfs.entries(root, r"uverbs\d+", f"{path}/infiniband_verbs")]


def _passed_through(root: Root) -> list[tuple[str, list[str]]]:
    """Return the dir and the nodes of each GPU that is bound to VFIO."""
    found = []
    for address, driver in sysfs.pci_gpus(root, _VENDOR).items():
        if "vfio" in driver:
            path = root.resolved(f"{_PCI}/{address}")
            group = root.target(f"{path}/iommu_group").rpartition("/")[2]
            paths = [f"/dev/vfio/{group}", *(one.node for one in vfio.cdevs(root, path))]
            paths = [one for one in paths if node_edits.is_node(root, one)]
            found += [(path, [*vfio.SHARED, *paths])] if paths else []
    return found


def _mei(root: Root) -> list[tuple[str, SysfsEntry]]:
    """Return the MEI devices of GPUs, each with the GPU's dir."""
    gpus = dict.fromkeys(one.parent for one in _entries(root, *_DRM))
    return [
        (gpu, entry)
        for entry in sysfs.entries(root, r"mei\d+", "/sys/class/mei")
        for gpu in gpus
        if entry.path.startswith(f"{gpu}/") and node_edits.is_node(root, entry.node)
    ]


CLASSES = {"intel": Intel()}
