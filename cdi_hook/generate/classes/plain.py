# SPDX-License-Identifier: Apache-2.0
"""The plain classes of devices: each is a row that says where its nodes are and what they are called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdi_hook.generate import node_edits, sysfs
from cdi_hook.generate.device_class import HOST, DeviceClass, Found, FoundDevice

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cdi_hook.edits.proof import Proof
    from cdi_hook.generate.root import Root
    from cdi_hook.generate.sysfs import SysfsEntry


class Fixed(DeviceClass):
    """A class whose nodes always have the same paths.

    ``paths`` maps a device's name to its node, ``makers`` to what makes the node appear.
    """

    def __init__(
        self,
        name: str,
        about: str,
        paths: Mapping[str, str],
        makers: Mapping[str, str],
        events: Sequence[str],
    ) -> None:
        self.name = name
        self.about = about
        self.kinds = (f"{HOST}/{name}",)
        self.events = events
        self._paths = paths
        self._makers = makers

    def find(self, root: Root) -> list[Found]:
        """Return the nodes that there are."""
        devices = [
            FoundDevice((name,), node_edits.edits(root, (path,)))
            for name, path in self._paths.items()
            if node_edits.is_node(root, path)
        ]
        return [Found(self.kinds[0], devices)] if devices else []

    def missing(self, root: Root) -> list[str]:
        """Return the nodes that there aren't."""
        return [
            f"no {path}: {self._makers[name]}"
            for name, path in self._paths.items()
            if not node_edits.is_node(root, path)
        ]


class Subsystem(DeviceClass):
    """A class whose devices are those of a subsystem of the kernel.

    ``dirs`` is where sysfs has them; ``pattern`` is a regular expression for their names.
    ``links`` are the dirs of udev's links to the nodes. With ``together``, nodes of one
    parent are one device. ``label`` is the file in the parent's dir that has its name; the
    device is then called by that and the parent. ``shared`` are nodes that all devices
    need. ``only`` says which devices are meant. ``without`` says what to do if there is none.
    """

    def __init__(
        self,
        name: str,
        about: str,
        *,
        dirs: Sequence[str],
        pattern: str,
        events: Sequence[str],
        without: str,
        links: Sequence[str] = (),
        together: bool = False,
        label: str = "",
        shared: Sequence[str] = (),
        only: Callable[[Root, SysfsEntry], bool] = lambda _root, _entry: True,
    ) -> None:
        self.name = name
        self.about = about
        self.kinds = (f"{HOST}/{name}",)
        self.events = events
        self._dirs = dirs
        self._pattern = pattern
        self._without = without
        self._links = links
        self._together = together
        self._label = label
        self._shared = shared
        self._only = only

    def find(self, root: Root) -> list[Found]:
        """Return the devices that have a node."""
        found = [entry for entry in self._entries(root) if node_edits.is_node(root, entry.node)]
        groups = sysfs.by_parent(found) if self._together else [[entry] for entry in found]
        links = sysfs.Links(root, self._links)
        addresses = [sysfs.address(root, group[0].parent) for group in groups]
        devices = [
            FoundDevice(
                [
                    *self._names(root, group),
                    *(name for entry in group for name in links.ids(entry.node)),
                    *([address] if address and addresses.count(address) == 1 else []),
                ],
                node_edits.edits(root, (path for one in group for path in (one.node, *links.of(one.node)))),
                self._proofs(root, group, address),
            )
            for group, address in zip(groups, addresses)
        ]
        return [Found(self.kinds[0], devices, node_edits.edits(root, self._shared))] if devices else []

    def missing(self, root: Root) -> list[str]:
        """Return the nodes that the kernel has a device for, but /dev doesn't have."""
        found = self._entries(root)
        if not found:
            return [self._without]
        return [
            f"no {entry.node}, though the kernel has the device: udev has to make it"
            for entry in found
            if not node_edits.is_node(root, entry.node)
        ]

    def _entries(self, root: Root) -> list[SysfsEntry]:
        return [entry for entry in sysfs.entries(root, self._pattern, *self._dirs) if self._only(root, entry)]

    def _names(self, root: Root, group: Sequence[SysfsEntry]) -> list[str]:
        """Return the kernel's names for the devices of a group."""
        if not self._label:
            return [entry.name for entry in group]
        parent = group[0].parent
        label = root.read(f"{parent}/{self._label}")
        return [parent.rpartition("/")[2], *([label] if label else [])]

    def _proofs(self, root: Root, group: Sequence[SysfsEntry], address: str) -> dict[str, list[Proof]]:
        path = f"{group[0].parent}/{self._label}"
        label = root.read(path) if self._label else ""
        return {
            label: sysfs.says(root, path, label),
            address: sysfs.at(root, *(entry.link for entry in group)),
        }


def _is_serial_port(root: Root, entry: SysfsEntry) -> bool:
    """Say whether a tty is a port of hardware that is there: consoles have no parent, empty ports no type."""
    return root.exists(f"{entry.path}/device") and root.read(f"{entry.path}/type") != "0"


_ROWS = (
    Subsystem(
        "accel",
        "AI accelerators",
        dirs=("/sys/class/accel",),
        pattern=r"accel(_controlD)?\d+",
        together=True,
        events=('SUBSYSTEM=="accel"',),
        without="no AI accelerator with a driver of the kernel's accel subsystem",
    ),
    Subsystem(
        "dri",
        "GPUs, for graphics and video",
        dirs=("/sys/class/drm",),
        pattern=r"(card|renderD)\d+",
        links=("/dev/dri/by-path",),
        together=True,
        events=('SUBSYSTEM=="drm"',),
        without="no GPU with a driver: load its module (i915, xe, amdgpu, nvidia-drm, virtio-gpu)",
    ),
    Fixed(
        "fuse",
        "filesystems in user space",
        {"fuse": "/dev/fuse"},
        {"fuse": "modprobe fuse"},
        events=('SUBSYSTEM=="misc", KERNEL=="fuse"',),
    ),
    Subsystem(
        "gpio",
        "GPIO chips",
        dirs=("/sys/bus/gpio/devices",),
        pattern=r"gpiochip\d+",
        events=('SUBSYSTEM=="gpio"',),
        without="no GPIO chip",
    ),
    Subsystem(
        "hidraw",
        "HID devices, raw",
        dirs=("/sys/class/hidraw",),
        pattern=r"hidraw\d+",
        events=('SUBSYSTEM=="hidraw"',),
        without="no HID device: plug one in",
    ),
    Subsystem(
        "i2c",
        "I2C buses",
        dirs=("/sys/class/i2c-dev",),
        pattern=r"i2c-\d+",
        events=('SUBSYSTEM=="i2c-dev"',),
        without="no I2C bus: modprobe i2c-dev",
    ),
    Subsystem(
        "input",
        "keyboards, mice, joysticks",
        dirs=("/sys/class/input",),
        pattern=r"(event|mouse|js)\d+",
        links=("/dev/input/by-id", "/dev/input/by-path"),
        together=True,
        events=('SUBSYSTEM=="input"',),
        without="no input device: plug one in, or modprobe evdev",
    ),
    Fixed(
        "kvm",
        "virtual machines and their networks",
        {
            "kvm": "/dev/kvm",
            "vhost-net": "/dev/vhost-net",
            "vhost-vsock": "/dev/vhost-vsock",
            "tun": "/dev/net/tun",
        },
        {
            "kvm": "modprobe kvm_intel or kvm_amd, with virtualization enabled in the firmware",
            "vhost-net": "modprobe vhost_net",
            "vhost-vsock": "modprobe vhost_vsock",
            "tun": "modprobe tun",
        },
        events=('SUBSYSTEM=="misc", KERNEL=="kvm|vhost-net|vhost-vsock|tun"',),
    ),
    Subsystem(
        "serial",
        "serial ports",
        dirs=("/sys/class/tty",),
        pattern=r".*",
        links=("/dev/serial/by-id", "/dev/serial/by-path"),
        only=_is_serial_port,
        events=('SUBSYSTEM=="tty", KERNEL!="tty|tty[0-9]*|console|ptmx"',),
        without="no serial port: plug one in, or load its module (ftdi_sio, cp210x, ch341, cdc_acm)",
    ),
    Fixed(
        "sgx",
        "Intel SGX enclaves",
        {"enclave": "/dev/sgx_enclave", "provision": "/dev/sgx_provision"},
        dict.fromkeys(("enclave", "provision"), "the CPU has no SGX, or the firmware has it disabled"),
        events=('SUBSYSTEM=="misc", KERNEL=="sgx_enclave|sgx_provision"',),
    ),
    Subsystem(
        "snd",
        "sound cards",
        dirs=("/sys/class/sound",),
        pattern=r"\w+C\d+(D\d+[cp]?)?",
        links=("/dev/snd/by-id", "/dev/snd/by-path"),
        together=True,
        label="id",
        shared=("/dev/snd/timer", "/dev/snd/seq"),
        events=('SUBSYSTEM=="sound"',),
        without="no sound card with a driver",
    ),
    Subsystem(
        "spi",
        "SPI devices",
        dirs=("/sys/class/spidev",),
        pattern=r"spidev\d+\.\d+",
        events=('SUBSYSTEM=="spidev"',),
        without="no SPI device: modprobe spidev, and name the device in the device tree",
    ),
    Subsystem(
        "tpm",
        "TPMs, and their resource managers",
        dirs=("/sys/class/tpm", "/sys/class/tpmrm"),
        pattern=r"tpm(rm)?\d+",
        events=('SUBSYSTEM=="tpm|tpmrm"',),
        without="no TPM: enable it in the firmware, or modprobe tpm_tis or tpm_crb",
    ),
    Subsystem(
        "v4l",
        "cameras and video codecs",
        dirs=("/sys/class/video4linux", "/sys/bus/media/devices"),
        pattern=r"(video|v4l-subdev|vbi|radio|media)\d+",
        links=("/dev/v4l/by-id", "/dev/v4l/by-path"),
        together=True,
        events=('SUBSYSTEM=="video4linux|media"',),
        without="no camera: plug one in, or load its module (uvcvideo)",
    ),
)
CLASSES = {row.name: row for row in _ROWS}
