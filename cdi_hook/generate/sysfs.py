# SPDX-License-Identifier: Apache-2.0
"""sysfs and udev's links: a subsystem's devices, their nodes, their stable names."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Callable

    from cdi_hook.edits.proof import Proof
    from cdi_hook.generate.root import Root

# Buses that give a device an address which stays while it is plugged in at the same place.
_BUSES = ("pci", "usb", "platform", "pnp", "amba", "acpi", "vmbus", "ccw")


_PCI = "/sys/bus/pci/devices"
_GPUS = ("0x03", "0x1200")  # classes of the PCI bus: displays, accelerators
_WSL = "/dev/dxg"


@dataclass(frozen=True)
class SysfsEntry:
    """A device with a node: the kernel's name, its dir in sysfs, a link to that, its node, its parent."""

    name: str
    path: str
    link: str
    node: str
    parent: str


def entries(root: Root, pattern: str, *dirs: str) -> list[SysfsEntry]:
    """Return the devices in these dirs of sysfs that have a node, by a regular expression for their names."""
    found: dict[str, SysfsEntry] = {}
    for directory in dirs:
        for name in root.names(directory):
            link = f"{directory}/{name}"
            path = root.resolved(link) if re.fullmatch(pattern, name) else ""
            if path and path not in found and (node := node_of(root, path)):
                parent = root.resolved(f"{path}/device") or path.rpartition("/")[0]
                found[path] = SysfsEntry(name, path, link, node, parent)
    return [*found.values()]


def node_of(root: Root, path: str) -> str:
    """Return the path of a device's node; "" if the kernel doesn't give it one."""
    name = variables(root, path).get("DEVNAME", "")
    return f"/dev/{name}" if name and ".." not in name.split("/") else ""


def variables(root: Root, path: str) -> dict[str, str]:
    """Return what the kernel tells udev of a device."""
    lines = root.read(f"{path}/uevent").splitlines()
    return {name: value for name, equals, value in (line.partition("=") for line in lines) if equals}


def subsystem(root: Root, path: str) -> str:
    """Return the name of a device's subsystem; "" if it has none."""
    return root.target(f"{path}/subsystem").rpartition("/")[2]


def driver(root: Root, path: str) -> str:
    """Return the name of the driver that a device is bound to; "" if there is none."""
    return root.target(f"{path}/driver").rpartition("/")[2]


def address(root: Root, path: str) -> str:
    """Return the first address (``0000:03:00.0``, ``1-2:1.0``) that a device or one above it has."""
    while path.startswith("/sys/devices/"):
        if subsystem(root, path) in _BUSES:
            return path.rpartition("/")[2]
        path = path.rpartition("/")[0]
    return ""


def without_driver(root: Root, maker: str, vendor: str, *wanted: str) -> list[str]:
    """Say why the host has no GPU of a maker with a driver; [] if it only isn't loaded, or nobody can tell.

    ``vendor`` is the maker's number on the PCI bus, ``wanted`` are the drivers that the GPUs need.
    """
    if root.exists(_WSL):
        return [f"no {maker} GPU with a driver of Linux: this is WSL, where Windows has the drivers"]
    addresses = root.names(_PCI)
    found = pci_gpus(root, vendor)
    others = [
        f"{address} is an {maker} GPU with the driver {bound}, which class "
        f"{'vfio' if 'vfio' in bound else 'dri'} is for: this class needs {' or '.join(wanted)}"
        for address, bound in found.items()
        if bound not in ("", *wanted)
    ]
    if len(others) < len(found):
        return []
    return others or ([f"no {maker} GPU on the PCI bus"] if addresses else [])


def pci_gpus(root: Root, vendor: str) -> dict[str, str]:
    """Return the addresses of a maker's GPUs on the PCI bus, each with the driver that it is bound to."""
    found = {}
    for address in root.names(_PCI):
        path = root.resolved(f"{_PCI}/{address}")
        if root.read(f"{path}/vendor") == vendor and root.read(f"{path}/class").startswith(_GPUS):
            found[address] = driver(root, path)
    return found


def at(root: Root, *links: str) -> list[Proof]:
    """Return the proof that devices are where they are, by links to their dirs; for this host only."""
    return [] if root.path else [(link, root.resolved(link)) for link in links]


def says(root: Root, path: str, *lines: str) -> list[Proof]:
    """Return the proof that a file has these lines; for this host only."""
    return [] if root.path else [(path, " ".join(line.split())) for line in lines if line]


def by_parent(found: Iterable[SysfsEntry]) -> list[list[SysfsEntry]]:
    """Return the devices in groups: those of one parent belong together."""
    return groups(found, lambda entry: entry.parent)


def groups(found: Iterable[SysfsEntry], key: Callable[[SysfsEntry], str]) -> list[list[SysfsEntry]]:
    """Return the devices in groups: those with one key belong together."""
    made: dict[str, list[SysfsEntry]] = {}
    for entry in found:
        made.setdefault(key(entry), []).append(entry)
    return list(made.values())


class Links:
    """The links that udev keeps in some dirs, by the node that they lead to."""

    def __init__(self, root: Root, dirs: Iterable[str]) -> None:
        self._root = root
        self._links: dict[str, list[str]] = {}
        for directory in dirs:
            for name in root.names(directory):
                link = f"{directory}/{name}"
                self._links.setdefault(root.resolved(link), []).append(link)

    def of(self, node: str) -> list[str]:
        """Return the links to a node, dir by dir."""
        real = self._root.resolved(node)
        return self._links.get(real, []) if real else []

    def ids(self, node: str) -> list[str]:
        """Return the names of a node that say what the device is, not where it is plugged in."""
        return [
            link.rpartition("/")[2] for link in self.of(node) if link.rpartition("/")[0].endswith("/by-id")
        ]
