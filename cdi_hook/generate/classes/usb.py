# SPDX-License-Identifier: Apache-2.0
"""USB: the node of the device itself, and those that drivers make for its functions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdi_hook.generate import node_edits, sysfs
from cdi_hook.generate.device_class import HOST, DeviceClass, Found, FoundDevice

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdi_hook.generate.root import Root

_DEVICES = "/sys/bus/usb/devices"
_HUB = "09"  # a device class of USB
# Of what drivers make of a device, a disk is left out: it gets no class.
_SUBSYSTEMS = (
    *("cec", "drm", "dvb", "gpio", "hidraw", "i2c-dev", "iio", "input", "lirc", "media", "scsi_generic"),
    *("sound", "tty", "usbmisc", "video4linux", "wwan"),
)
_EVENTS = (
    f'SUBSYSTEM=="{"|".join(name for name in _SUBSYSTEMS if name != "tty")}"',
    'SUBSYSTEM=="tty", KERNEL!="tty|tty[0-9]*|console|ptmx"',
)
_LINKS = [f"/dev/{place}/{by}" for place in ("serial", "v4l", "input", "snd") for by in ("by-id", "by-path")]
# What becomes another device when a program first uses it: before, and after.
_CHANGING = {
    "1a6e:089a": ("a Coral accelerator", "18d1:9302"),
    "03e7:2485": ("a Myriad X (Neural Compute Stick 2, OAK)", "03e7:f63b"),
}


class Usb(DeviceClass):
    """The USB devices that aren't hubs."""

    name = "usb"
    kinds = (f"{HOST}/usb",)
    about = "USB devices with their serial ports, cameras, sound, tuners, input and HID nodes"
    called = "port (1-2), VENDOR:PRODUCT:SERIAL, VENDOR:PRODUCT if only one has it."
    events = ('SUBSYSTEM=="usb", ENV{DEVTYPE}=="usb_device"', *_EVENTS)

    def find(self, root: Root) -> list[Found]:
        """Return the devices: by port, by VENDOR:PRODUCT:SERIAL, and by VENDOR:PRODUCT if no other has it."""
        links = sysfs.Links(root, _LINKS)
        found = {
            port: path for port, path in _devices(root) if node_edits.is_node(root, sysfs.node_of(root, path))
        }
        models = {port: _model(root, path) for port, path in found.items()}
        devices = []
        for port, path in found.items():
            names, model, node = [port], models[port], sysfs.node_of(root, path)
            here = sysfs.says(root, f"{_DEVICES}/{port}/uevent", f"DEVNAME={node.removeprefix('/dev/')}")
            for file in ("idVendor", "idProduct"):
                here += sysfs.says(root, f"{_DEVICES}/{port}/{file}", root.read(f"{path}/{file}"))
            proofs = {port: here[:1], model: here}
            if serial := root.read(f"{path}/serial"):
                names.append(f"{model}:{serial}")
                proofs[names[-1]] = [*here, *sysfs.says(root, f"{_DEVICES}/{port}/serial", serial)]
            if list(models.values()).count(model) == 1:
                names.append(model)
            paths = [node]
            for node in _nodes_below(root, path):
                paths += [node, *links.of(node)]
            devices.append(FoundDevice(names, node_edits.edits(root, paths), proofs))
        return [Found(self.kinds[0], devices)] if devices else []

    def missing(self, root: Root) -> list[str]:
        """Return the devices without a node."""
        found = [sysfs.node_of(root, path) for _, path in _devices(root)]
        if not found:
            return ["no USB device: plug one in"]
        return [
            f"no {node}, though the kernel has the device: udev has to make it"
            for node in found
            if not node_edits.is_node(root, node)
        ]

    def notes(self, root: Root) -> list[str]:
        """Say which devices become other ones."""
        models = {port: _model(root, path) for port, path in _devices(root)}
        return [
            f"{port} is {_CHANGING[model][0]} that no program has used yet: at its first use it becomes "
            f"{_CHANGING[model][1]}, with another node. Use it once on the host, or ask for it again then"
            for port, model in models.items()
            if model in _CHANGING
        ]


def _devices(root: Root) -> Iterator[tuple[str, str]]:
    """Yield the port and the dir in sysfs of each device that isn't a hub."""
    for port in root.names(_DEVICES):
        path = root.resolved(f"{_DEVICES}/{port}")
        if sysfs.node_of(root, path) and root.read(f"{path}/bDeviceClass") != _HUB:
            yield port, path


def _model(root: Root, path: str) -> str:
    return f"{root.read(f'{path}/idVendor')}:{root.read(f'{path}/idProduct')}"


def _nodes_below(root: Root, path: str) -> list[str]:
    """Return the nodes that drivers made of a device."""
    return [
        node
        for directory in root.tree(path)
        if sysfs.subsystem(root, directory) in _SUBSYSTEMS and (node := sysfs.node_of(root, directory))
    ]


CLASSES = {"usb": Usb()}
