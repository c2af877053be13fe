# SPDX-License-Identifier: Apache-2.0
"""The plain classes of devices: each is a row that says where its nodes are and what they are called.

CONTRIBUTING.md says which devices get no row, because they would be as good as the host.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from cdi_hook.generate import node_edits, sysfs
from cdi_hook.generate.device_class import HOST, DeviceClass, Found, FoundDevice
from cdi_hook.generate.node_edits import SOCKET
from cdi_hook.generate.sysfs import SysfsEntry

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from cdi_hook.edits.proof import Proof
    from cdi_hook.generate.root import Root


class Fixed(DeviceClass):
    """A class whose nodes always have the same paths.

    ``nodes`` maps a device's name to its node, and to what makes the node appear. A path may
    be a pattern, with the name "": each node is then called by its own name. ``events`` are
    udev's matches for the nodes, if their subsystem isn't misc.
    """

    def __init__(
        self,
        name: str,
        about: str,
        called: str,
        nodes: Mapping[str, tuple[str, str]],
        events: Sequence[str] = (),
    ) -> None:
        self.name = name
        self.about = about
        self.called = called
        self.kinds = (f"{HOST}/{name}",)
        kernels = "|".join(path.rpartition("/")[2] for path, _ in nodes.values())
        self.events = events or (f'SUBSYSTEM=="misc", KERNEL=="{kernels}"',)
        self._nodes = nodes

    def find(self, root: Root) -> list[Found]:
        """Return the nodes that there are."""
        devices = [
            FoundDevice((name or path.rpartition("/")[2],), node_edits.edits(root, (path,)))
            for name, (pattern, _) in self._nodes.items()
            for path in root.glob(pattern)
            if node_edits.is_node(root, path)
        ]
        return [Found(self.kinds[0], devices)] if devices else []

    def missing(self, root: Root) -> list[str]:
        """Return the nodes that there aren't."""
        return [
            f"no {pattern}: {maker}"
            for pattern, maker in self._nodes.values()
            if not any(node_edits.is_node(root, path) for path in root.glob(pattern))
        ]


class Subsystem(DeviceClass):
    """A class whose devices are those of subsystems of the kernel, ``of``, in words.

    If it isn't known what a driver calls its subsystem, ``nodes`` is the dir of its nodes
    instead. ``pattern`` is a regular expression for the devices' names; ``kernel`` is one as udev has
    them, where a subsystem has much else. ``links`` are the dirs of udev's links to the nodes. With
    ``together``, nodes of one parent are one device; with ``folder``, those of one dir of /dev are,
    which is called by that; with ``named``, those in whose names this regular expression finds the
    same, which is the device's name. ``label`` is the file in the parent's dir that has its name; the
    device is then called by that and the parent. ``shared`` are nodes that all devices need,
    ``files`` and ``sockets`` what all of them have mounted, as far as the host has it. ``only`` says
    which devices are meant. ``without`` says what to do if there is none.
    """

    def __init__(
        self,
        name: str,
        about: str,
        called: str,
        *,
        of: str = "",
        nodes: str = "",
        pattern: str,
        without: str,
        kernel: str = "",
        events: Sequence[str] = (),
        links: Sequence[str] = (),
        together: bool = False,
        folder: bool = False,
        named: str = "",
        label: str = "",
        shared: Sequence[str] = (),
        files: Sequence[str] = (),
        sockets: Sequence[str] = (),
        only: Callable[[Root, SysfsEntry], bool] = lambda _root, _entry: True,
    ) -> None:
        self.name = name
        self.about = about
        self.called = called
        self.kinds = (f"{HOST}/{name}",)
        subsystems = of.split()
        matches = [("SUBSYSTEM", "|".join(subsystems)), ("KERNEL", kernel)]
        self.events = events or (", ".join(f'{key}=="{value}"' for key, value in matches if value),)
        self._dirs = [path for one in subsystems for path in (f"/sys/class/{one}", f"/sys/bus/{one}/devices")]
        self._nodes = nodes
        self._pattern = pattern
        self._without = without
        self._links = links
        self._together = together
        self._folder = folder
        self._named = named
        self._label = label
        self._shared = shared
        self._files = files
        self._sockets = sockets
        self._only = only

    def find(self, root: Root) -> list[Found]:
        """Return the devices that have a node."""
        found = [entry for entry in self._entries(root) if node_edits.is_node(root, entry.node)]
        groups = self._groups(root, found)
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
        return [Found(self.kinds[0], devices, self._for_all(root))] if devices else []

    def _for_all(self, root: Root) -> dict[str, Any]:
        """Return what all devices have beside their own nodes."""
        edits = node_edits.edits(root, self._shared)
        mounts = [node_edits.mount(root, path) for path in self._files if root.exists(path)]
        mounts += [
            node_edits.mount(root, path, options=SOCKET) for path in self._sockets if root.exists(path)
        ]
        return {**edits, "mounts": mounts} if mounts else edits

    def missing(self, root: Root) -> list[str]:
        """Return the nodes of devices that /dev doesn't have, or has a file in place of."""
        found = self._entries(root)
        if not found:
            return [self._without]
        why = (
            "but a file of that name: remove it, and load the driver again"
            if self._nodes
            else "though the kernel has the device: udev has to make it"
        )
        return [
            f"no {'node ' if self._nodes else ''}{entry.node}, {why}"
            for entry in found
            if not node_edits.is_node(root, entry.node)
        ]

    def _entries(self, root: Root) -> list[SysfsEntry]:
        found = sysfs.entries(root, self._pattern, *self._dirs)
        for name in root.names(self._nodes) if self._nodes else ():
            if re.fullmatch(self._pattern, name):
                found.append(SysfsEntry(name, "", "", f"{self._nodes}/{name}", ""))
        return [entry for entry in found if self._only(root, entry)]

    def _groups(self, root: Root, found: Sequence[SysfsEntry]) -> list[list[SysfsEntry]]:  # noqa: ARG002 # a subclass reads it
        """Return the nodes of each device."""
        if self._folder:
            return sysfs.groups(found, _folder)
        if self._named:
            return sysfs.groups(found, self._name_in)
        return sysfs.by_parent(found) if self._together else [[entry] for entry in found]

    def _names(self, root: Root, group: Sequence[SysfsEntry]) -> list[str]:
        """Return the kernel's names for the devices of a group."""
        if self._folder:
            return [_folder(group[0]).rpartition("/")[2]]
        if self._named:
            return [self._name_in(group[0])]
        if not self._label:
            return [entry.name for entry in group]
        parent = group[0].parent
        label = root.read(f"{parent}/{self._label}")
        return [parent.rpartition("/")[2], *([label] if label else [])]

    def _name_in(self, entry: SysfsEntry) -> str:
        found = re.search(self._named, entry.name)
        return found[0] if found else entry.name

    def _proofs(self, root: Root, group: Sequence[SysfsEntry], address: str) -> dict[str, list[Proof]]:
        path = f"{group[0].parent}/{self._label}"
        label = root.read(path) if self._label else ""
        return {
            label: sysfs.says(root, path, label),
            address: sysfs.at(root, *(entry.link for entry in group)),
        }


def _folder(entry: SysfsEntry) -> str:
    return entry.node.rpartition("/")[0]


def _is_serial_port(root: Root, entry: SysfsEntry) -> bool:
    """Say whether a tty is a port of hardware that is there: consoles have no parent, empty ports no type."""
    return root.exists(f"{entry.path}/device") and root.read(f"{entry.path}/type") != "0"


def _is_cd(root: Root, entry: SysfsEntry) -> bool:
    """Say whether a device is a drive for CDs, or the SCSI node of one (type 5)."""
    return entry.name.startswith("sr") or root.read(f"{entry.parent}/type") == "5"


def _is_tape(root: Root, entry: SysfsEntry) -> bool:
    """Say whether a device is a tape drive (type 1) or changer (type 8), or the SCSI node of one."""
    return root.read(f"{entry.parent}/type") in ("1", "8")


def _misc(name: str, about: str, maker: str) -> Fixed:
    """Return a class that is one node in /dev, with the class's name."""
    return Fixed(name, about, f"{name}.", {name: (f"/dev/{name}", maker)})


_NO_CARD = "plug one in, or load its module"
# Each row: the class, what it is, what its devices are called; where they are; what to do without any.
# fmt: off
_ROWS = (
    Subsystem("accel", "AI accelerators", "accel0, address.",
        of="accel", pattern=r"accel(_controlD)?\d+", together=True,
        without="no AI accelerator with a driver of the kernel's accel subsystem"),
    Subsystem("apex", "Coral accelerators on PCI", "apex_0, address.",
        of="apex", pattern=r"apex_\d+",
        without="no Coral accelerator on PCI: load its modules (gasket, apex); "
                "for one on USB take class usb"),
    Subsystem("cambricon", "Cambricon's accelerators", "0, 1.",
        nodes="/dev", pattern=r"cambricon_(dev|ipcm)\d+", named=r"\d+", kernel="cambricon_dev[0-9]*",
        shared=("/dev/cambricon_ctl", "/dev/cambricon_gdr"),
        without="no Cambricon accelerator: install Cambricon's driver"),
    Subsystem("cdrom", "CD, DVD and Blu-ray drives, each with its SCSI node", "sr0, by-id name, address.",
        of="block scsi_generic", pattern=r"s[rg]\d+", kernel="sr[0-9]*|sg[0-9]*",
        links=("/dev/disk/by-id", "/dev/disk/by-path"), together=True, only=_is_cd,
        without="no CD drive: plug one in, or modprobe sr_mod"),
    Subsystem("cec", "HDMI CEC adapters", "cec0, address.",
        of="cec", pattern=r"cec\d+",
        without=f"no CEC adapter: {_NO_CARD} (pulse8-cec, vc4)"),
    Subsystem("deepx", "DeepX accelerators", "dxrt0, address.",
        of="dxrt", pattern=r"dxrt\d+",
        without="no DeepX accelerator: load its module (dxrt_driver)"),
    Subsystem("dma_heap", "DMA-BUF heaps, for cameras and video", "system, or the kernel's name.",
        of="dma_heap", pattern=r".+",
        without="no DMA-BUF heap: the kernel needs CONFIG_DMABUF_HEAPS"),
    Subsystem("dri", "GPUs of every maker, for graphics and video", "card0, renderD128, address.",
        of="drm", pattern=r"(card|renderD)\d+", links=("/dev/dri/by-path",), together=True,
        without="no GPU with a driver: load its module (i915, xe, amdgpu, nvidia-drm, virtio-gpu)"),
    Subsystem("dvb", "television tuners", "adapter0, address.",
        of="dvb", pattern=r"dvb\d+\.\w+", folder=True,
        without=f"no television tuner: {_NO_CARD}"),
    Subsystem("fastrpc", "Qualcomm's DSPs, each with its secure node", "fastrpc-cdsp, fastrpc-adsp.",
        of="misc", pattern=r"fastrpc-[a-z]+\d*(-secure)?", named=r"fastrpc-[a-z]+\d*", kernel="fastrpc-*",
        without="no Qualcomm DSP with the kernel's driver fastrpc: modprobe fastrpc"),
    Subsystem("furiosa", "FuriosaAI RNGD accelerators", "npu0.",
        nodes="/dev/rngd", pattern=r"npu\d+(mgmt|pe\d+(-\d+)?|ch\d+r?|dmar|bar[024])", named=r"npu\d+",
        kernel="*npu[0-9]*mgmt",
        without="no FuriosaAI RNGD accelerator: install FuriosaAI's driver"),
    _misc("fuse", "filesystems in user space", "modprobe fuse"),
    Subsystem("gpio", "GPIO chips", "gpiochip0, address.",
        of="gpio", pattern=r"gpiochip\d+",
        without="no GPIO chip"),
    Subsystem("hailo", "Hailo accelerators", "hailo0, address.",
        of="hailo_chardev", pattern=r"hailo\d+",
        without="no Hailo accelerator: load its module (hailo_pci)"),
    Subsystem("hidraw", "HID devices, raw", "hidraw0, address.",
        of="hidraw", pattern=r"hidraw\d+",
        without="no HID device: plug one in"),
    Subsystem("i2c", "I2C buses", "i2c-1, address.",
        of="i2c-dev", pattern=r"i2c-\d+",
        without="no I2C bus: modprobe i2c-dev"),
    Subsystem("iio", "sensors and converters of the kernel's IIO subsystem", "iio:device0, address.",
        of="iio", pattern=r"iio:device\d+",
        without=f"no IIO device: {_NO_CARD}"),
    Subsystem("iluvatar", "Iluvatar's GPUs", "iluvatar0.",
        nodes="/dev", pattern=r"iluvatar\d+", kernel="iluvatar[0-9]*",
        without="no Iluvatar GPU: install Iluvatar's driver"),
    Subsystem("input", "keyboards, mice, joysticks", "event3, by-id name, address.",
        of="input", pattern=r"(event|mouse|js)\d+", links=("/dev/input/by-id", "/dev/input/by-path"),
        together=True,
        without="no input device: plug one in, or modprobe evdev"),
    Subsystem("kgsl", "Qualcomm's GPUs with Qualcomm's driver", "kgsl-3d0.",
        of="kgsl misc", pattern=r"kgsl(-3d\d+)?", kernel="kgsl*",
        without="no GPU with Qualcomm's driver kgsl; with the kernel's own (msm) it is in class dri"),
    Fixed("kvm", "virtual machines and their networks",
        "kvm, vhost-net, vhost-vsock, tun: each is a device of its own.", {
            "kvm": ("/dev/kvm", "modprobe kvm_intel or kvm_amd, with virtualization enabled in the firmware"),
            "vhost-net": ("/dev/vhost-net", "modprobe vhost_net"),
            "vhost-vsock": ("/dev/vhost-vsock", "modprobe vhost_vsock"),
            "tun": ("/dev/net/tun", "modprobe tun")}),
    Subsystem("lirc", "infrared receivers and senders", "lirc0, address.",
        of="lirc", pattern=r"lirc\d+",
        without=f"no infrared receiver: {_NO_CARD} (gpio-ir-recv, mceusb)"),
    _misc("loop-control", "making loop devices", "modprobe loop"),
    Subsystem("mali", "Arm's GPUs with Arm's driver", "mali0, address.",
        of="misc", pattern=r"mali\d+", kernel="mali[0-9]*",
        without="no GPU with Arm's driver mali; "
                "with the kernel's own (panfrost, panthor) it is in class dri"),
    Subsystem("memryx", "MemryX accelerators, with /run/mxa_manager of MemryX's service", "memx0.",
        nodes="/dev", pattern=r"memx\d+(_feature)?", named=r"memx\d+", kernel="memx[0-9]*",
        sockets=("/run/mxa_manager",),
        without="no MemryX accelerator: install MemryX's driver"),
    Subsystem("neuron", "AWS Trainium and Inferentia", "neuron0, address.",
        of="neuron_device", pattern=r"neuron\d+",
        without="no AWS Neuron device: install aws-neuronx-dkms"),
    _misc("ntsync", "synchronization for Wine", "modprobe ntsync"),
    _misc("ppp", "point-to-point network connections", "modprobe ppp_generic"),
    Subsystem("pps", "pulse-per-second sources", "pps0, address.",
        of="pps", pattern=r"pps\d+",
        without="no pulse-per-second source: load its module (pps-gpio, pps-ldisc)"),
    Subsystem("ptp", "hardware clocks of network cards and hypervisors", "ptp0, address.",
        of="ptp", pattern=r"ptp\d+",
        without="no hardware clock: the driver of a network card with one, or ptp_kvm, makes it"),
    Subsystem("rockchip", "Rockchip's own drivers for video, scaling and AI",
        "mpp_service, rga, rknpu, each by itself.",
        of="mpp_class misc", pattern=r"mpp_service|rga|rknpu", kernel="mpp_service|rga|rknpu",
        without="no driver of Rockchip's own kernel (mpp_service, rga, rknpu)"),
    Subsystem("serial", "serial ports", "ttyUSB0, by-id name, address.",
        of="tty", pattern=r".*", links=("/dev/serial/by-id", "/dev/serial/by-path"), only=_is_serial_port,
        events=('SUBSYSTEM=="tty", KERNEL!="tty|tty[0-9]*|console|ptmx"',),
        without="no serial port: plug one in, or load its module (ftdi_sio, cp210x, ch341, cdc_acm)"),
    _misc("sev-guest", "attestation in a guest with AMD SEV-SNP",
        "this is no such guest, or modprobe sev-guest"),
    Fixed("sgx", "Intel SGX enclaves", "enclave, provision.",
        {name: (f"/dev/sgx_{name}", "the CPU has no SGX, or the firmware has it disabled")
         for name in ("enclave", "provision")}),
    Subsystem("snd", "sound cards",
        "card0, ALSA's name, address. Every device has /dev/snd/seq and /dev/snd/timer.",
        of="sound", pattern=r"\w+C\d+(D\d+[cp]?)?", links=("/dev/snd/by-id", "/dev/snd/by-path"),
        together=True, label="id", shared=("/dev/snd/timer", "/dev/snd/seq"),
        without="no sound card with a driver"),
    Subsystem("spi", "SPI devices", "spidev0.0, address.",
        of="spidev", pattern=r"spidev\d+\.\d+",
        without="no SPI device: modprobe spidev, and name the device in the device tree"),
    Subsystem("tape", "tape drives and changers, each with its SCSI node", "st0, nst0, by-id name, address.",
        of="scsi_tape scsi_changer scsi_generic", pattern=r"n?st\d+[alm]?|s(ch|g)\d+",
        kernel="st[0-9]*|nst[0-9]*|sch[0-9]*|sg[0-9]*", links=("/dev/tape/by-id", "/dev/tape/by-path"),
        together=True, only=_is_tape,
        without="no tape drive: plug one in, or modprobe st and ch"),
    _misc("tdx_guest", "attestation in a guest with Intel TDX",
        "this is no such guest, or modprobe tdx_guest"),
    Subsystem("tenstorrent", "Tenstorrent accelerators", "0, by-id name, address.",
        of="tenstorrent", pattern=r"tenstorrent!\d+", named=r"\d+", links=("/dev/tenstorrent/by-id",),
        without="no Tenstorrent accelerator: load its module (tenstorrent)"),
    Subsystem("tpm", "TPMs, and their resource managers",
        "tpm0 is the TPM itself, tpmrm0 its resource manager.",
        of="tpm tpmrm", pattern=r"tpm(rm)?\d+",
        without="no TPM: enable it in the firmware, or modprobe tpm_tis or tpm_crb"),
    Fixed("tun", "virtual network interfaces", "tun.", {"tun": ("/dev/net/tun", "modprobe tun")}),
    _misc("udmabuf", "DMA buffers of a program's own memory", "modprobe udmabuf"),
    _misc("uhid", "HID devices that a program makes", "modprobe uhid"),
    _misc("uinput", "input devices that a program makes", "modprobe uinput"),
    Subsystem("uio", "devices whose driver is a program", "uio0, address.",
        of="uio", pattern=r"uio\d+",
        without="no UIO device: bind one to uio_pci_generic or to a driver of its own"),
    Subsystem("vchiq", "the video processor of a Raspberry Pi", "vchiq. Its video codecs are in class v4l.",
        of="vchiq misc", pattern=r"vchiq", kernel="vchiq",
        without="no video processor of a Raspberry Pi: modprobe vchiq"),
    Fixed("vhost-vdpa", "virtio devices of network cards, for a program's own use", "vhost-vdpa-0.",
        {"": ("/dev/vhost-vdpa-*", "modprobe vhost_vdpa, and make a device with vdpa dev add")},
        events=('SUBSYSTEM=="vdpa"',)),
    Subsystem("watchdog", "timers that restart the host unless a program resets them", "watchdog0, address.",
        of="watchdog", pattern=r"watchdog\d+",
        without="no watchdog: load its module (iTCO_wdt, softdog)"),
    Subsystem("wwan", "cellular modems", "wwan0mbim0, cdc-wdm0, address.",
        of="wwan usbmisc", pattern=r"wwan\d+\w+\d+|cdc-wdm\d+", kernel="wwan*|cdc-wdm*", together=True,
        without=f"no cellular modem: {_NO_CARD} (cdc_mbim, qmi_wwan, iosm)"),
)
# fmt: on
CLASSES = {row.name: row for row in _ROWS}
