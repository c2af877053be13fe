# SPDX-License-Identifier: Apache-2.0
"""For each class of devices: a host that has some, and what containers get of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.cases.driverroot import make

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .fakehost import FakeHost


@dataclass(frozen=True)
class Case:
    """A host, and the devices by kind: each with its nodes, a link as "LINK -> NODE".

    "" is what all devices of the kind get. "all" isn't listed: it has the nodes of all devices.
    """

    build: Callable[[FakeHost], None]
    kinds: Mapping[str, Mapping[str, Sequence[str]]]
    missing: Sequence[str] = field(default_factory=list)


def _accel(host: FakeHost) -> None:
    host.device("pci0000:00/0000:00:0b.0", "pci")
    host.device("pci0000:00/0000:00:0b.0/accel/accel0", "accel", "accel/accel0", gid=44)
    host.device("pci0000:80/0000:83:00.0", "pci")
    for name in ("accel1", "accel_controlD1"):
        host.device(f"pci0000:80/0000:83:00.0/accel/{name}", "accel", f"accel/{name}", gid=44)


def _amd(host: FakeHost) -> None:
    host.node("/dev/kfd", 44)
    topology = "/sys/class/kfd/kfd/topology/nodes"
    host.file(f"{topology}/0/properties", "drm_render_minor 0")
    # 0: a GPU on its own; 1 and 2: a GPU in two partitions, of which the second is a platform device
    gpus = (
        ("1", "pci0000:00/0000:03:00.0", "card1", 129, 0x300, 0, 42),
        ("2", "pci0000:c0/0002:c1:00.0", "card0", 128, 0xC100, 2, 43),
        ("10", "platform/amdgpu_xcp_0", "card2", 130, 0xC100, 2, 43),
    )
    for number, path, card, render, location, domain, unique in gpus:
        host.device(path, "platform" if path.startswith("platform") else "pci")
        for name in (card, f"renderD{render}"):
            host.device(f"{path}/drm/{name}", "drm", f"dri/{name}", gid=44)
        host.file(
            f"{topology}/{number}/properties",
            f"cpu_cores_count 0\nlocation_id {location}\ndomain {domain}\ndrm_render_minor {render}\nunique_id {unique}",
        )
    host.link("/dev/dri/by-path/pci-0000:03:00.0-render", "../renderD129")


def _dri(host: FakeHost) -> None:
    host.device("pci0000:00/0000:00:02.0", "pci")
    host.device("pci0000:00/0000:00:02.0/drm/card1", "drm", "dri/card1", gid=44)
    host.device("pci0000:00/0000:00:02.0/drm/card1/card1-HDMI-A-1", "drm")
    host.device("pci0000:00/0000:00:02.0/drm/renderD128", "drm", "dri/renderD128", gid=45)
    host.device("pci0000:00/0000:00:05.0", "pci")
    host.device("pci0000:00/0000:00:05.0/virtio3", "virtio")
    host.device("pci0000:00/0000:00:05.0/virtio3/drm/card0", "drm", "dri/card0", gid=44)
    host.link("/dev/dri/by-path/pci-0000:00:02.0-card", "../card1")
    host.link("/dev/dri/by-path/pci-0000:00:02.0-render", "../renderD128")


def _gpio(host: FakeHost) -> None:
    host.device("platform/fe200000.gpio", "platform")
    host.device("platform/fe200000.gpio/gpiochip0", "gpio", "gpiochip0", gid=46)


def _hidraw(host: FakeHost) -> None:
    port = "pci0000:00/0000:00:14.0/usb1/1-3"
    for path, subsystem in (
        (f"{port}", "usb"),
        (f"{port}/1-3:1.0", "usb"),
        (f"{port}/1-3:1.0/0003:1050:0407.0001", "hid"),
    ):
        host.device(path, subsystem)
    host.device(f"{port}/1-3:1.0/0003:1050:0407.0001/hidraw/hidraw0", "hidraw", "hidraw0")


def _i2c(host: FakeHost) -> None:
    host.device("platform/fe804000.i2c", "platform")
    host.device("platform/fe804000.i2c/i2c-1", "i2c")
    host.device("platform/fe804000.i2c/i2c-1/i2c-dev/i2c-1", "i2c-dev", "i2c-1", gid=47)
    host.device("pci0000:00/0000:00:02.0", "pci")  # two buses at one address: it names neither
    for number in (10, 9):
        host.device(f"pci0000:00/0000:00:02.0/i2c-{number}", "i2c")
        host.device(
            f"pci0000:00/0000:00:02.0/i2c-{number}/i2c-dev/i2c-{number}", "i2c-dev", f"i2c-{number}", gid=47
        )


def _infiniband(host: FakeHost) -> None:
    for number, address in enumerate(("0000:b1:00.0", "0000:b1:00.1")):
        pci = f"pci0000:b0/{address}"
        host.device(pci, "pci")
        host.device(f"{pci}/infiniband/mlx5_{number}", "infiniband")
        host.device(
            f"{pci}/infiniband_verbs/uverbs{number}",
            "infiniband_verbs",
            f"infiniband/uverbs{number}",
            files={"ibdev": f"mlx5_{number}"},
        )
        for name in (f"issm{number}", f"umad{number}"):
            host.device(
                f"{pci}/infiniband_mad/{name}",
                "infiniband_mad",
                f"infiniband/{name}",
                files={"ibdev": f"mlx5_{number}"},
            )
    host.node("/dev/infiniband/rdma_cm")


def _input(host: FakeHost) -> None:
    usb = "pci0000:00/0000:00:14.0/usb1/1-1/1-1:1.0"
    host.device(usb, "usb")
    host.device(f"{usb}/input/input5", "input")
    for name in ("event3", "mouse0"):
        path = f"{usb}/input/input5/{name}"
        host.device(path, "input", f"input/{name}", gid=48)
        host.link(f"/sys/devices/{path}/device", "..")
    host.device("virtual/input/mice", "input", "input/mice", gid=48)
    host.link("/dev/input/by-id/usb-Maker_Mouse-event-mouse", "../event3")


def _intel(host: FakeHost) -> None:
    for address, card, render, driver, model in (
        ("0000:00:02.0", "card1", "renderD128", "i915", "0x46a6"),
        ("0000:03:00.0", "card0", "renderD129", "xe", "0x56a0"),
        ("0000:04:00.0", "card2", "renderD130", "nouveau", "0x1234"),
    ):
        host.device(f"pci0000:00/{address}", "pci", driver=driver, files={"device": model})
        for name in (card, render):
            host.device(f"pci0000:00/{address}/drm/{name}", "drm", f"dri/{name}", gid=44)
    host.link("/dev/dri/by-path/pci-0000:03:00.0-card", "../card0")
    host.device("pci0000:00/0000:00:0b.0", "pci", driver="intel_vpu", files={"device": "0x7d1d"})
    host.device("pci0000:00/0000:00:0b.0/accel/accel0", "accel", "accel/accel0", gid=45)
    host.device("pci0000:00/0000:03:00.0/xe.mei-gscfi.768", "auxiliary")
    host.device("pci0000:00/0000:03:00.0/xe.mei-gscfi.768/mei/mei1", "mei", "mei1")
    host.device("pci0000:00/0000:00:16.0", "pci")
    host.device("pci0000:00/0000:00:16.0/mei/mei0", "mei", "mei0")  # of no GPU
    passed = {"vendor": "0x8086", "class": "0x038000", "device": "0x56c0"}
    host.device("pci0000:00/0000:05:00.0", "pci", driver="xe-vfio-pci", files=passed)
    host.link("/sys/devices/pci0000:00/0000:05:00.0/iommu_group", "../../../kernel/iommu_groups/42")
    host.device("pci0000:00/0000:05:00.0/vfio-dev/vfio0", "vfio-dev", "vfio/devices/vfio0")
    for node in ("42", "vfio"):
        host.node(f"/dev/vfio/{node}")
    gaudi = "pci0000:80/0000:83:00.0"
    host.device(gaudi, "pci", driver="habanalabs", files={"device": "0x1020"})
    for name in ("accel1", "accel_controlD1"):
        host.device(f"{gaudi}/accel/{name}", "accel", f"accel/{name}")
    host.device(f"{gaudi}/infiniband_verbs/uverbs3", "infiniband_verbs", "infiniband/uverbs3")


def _serial(host: FakeHost) -> None:
    usb = "pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0"
    host.device(usb, "usb")
    host.device(f"{usb}/ttyUSB0", "usb-serial")
    host.device(f"{usb}/ttyUSB0/tty/ttyUSB0", "tty", "ttyUSB0", gid=20)
    host.link("/dev/serial/by-id/usb-FTDI_FT232R_A50285BI-if00-port0", "../../ttyUSB0")
    host.link("/dev/serial/by-path/pci-0000:00:14.0-usb-0:2:1.0-port0", "../../ttyUSB0")
    host.device("pnp0/00:05", "pnp")
    host.device("pnp0/00:05/tty/ttyS0", "tty", "ttyS0", gid=20, files={"type": "4"})
    host.device("platform/serial8250", "platform")
    host.device(
        "platform/serial8250/tty/ttyS1", "tty", "ttyS1", gid=20, files={"type": "0"}
    )  # nothing is there
    host.device("virtual/tty/tty1", "tty", "tty1", gid=5)
    (host.root / "sys/devices/virtual/tty/tty1/device").unlink()  # a console has no parent


def _snd(host: FakeHost) -> None:
    for address, card, label in (("0000:00:1f.3", "card0", "PCH"), ("0000:01:00.1", "card1", "NVidia")):
        path = f"pci0000:00/{address}/sound/{card}"
        host.device(f"pci0000:00/{address}", "pci")
        host.device(path, "sound", files={"id": label})
        number = card[-1]
        for name in (f"controlC{number}", f"pcmC{number}D0c", f"pcmC{number}D0p"):
            host.device(f"{path}/{name}", "sound", f"snd/{name}", gid=29)
            host.link(f"/sys/devices/{path}/{name}/device", "..")
    for name in ("seq", "timer"):
        host.device(f"virtual/sound/{name}", "sound", f"snd/{name}", gid=29)
    host.link("/dev/snd/by-path/pci-0000:00:1f.3", "../controlC0")


def _spi(host: FakeHost) -> None:
    host.device("platform/fe204000.spi", "platform")
    for name in ("spidev0.0", "spidev0.1"):
        host.device(f"platform/fe204000.spi/spi_master/spi0/spi{name[6:]}", "spi")
        host.device(f"platform/fe204000.spi/spi_master/spi0/spi{name[6:]}/spidev/{name}", "spidev", name)


def _tpm(host: FakeHost) -> None:
    host.device("platform/MSFT0101:00", "platform")
    host.device("platform/MSFT0101:00/tpm/tpm0", "tpm", "tpm0", gid=49)
    host.device("platform/MSFT0101:00/tpmrm/tpmrm0", "tpmrm", "tpmrm0", gid=50)


def _usb(host: FakeHost) -> None:
    hub = "pci0000:00/0000:00:14.0/usb1"
    host.device(hub, "usb", "bus/usb/001/001", files={"bDeviceClass": "09"})
    for port, node, vendor, product, serial in (
        ("1-1", "002", "0403", "6001", "A50285BI"),
        ("1-2", "003", "046d", "0825", ""),
        ("1-10", "004", "1d6b", "0104", "same one"),
        ("1-3", "005", "1d6b", "0104", "same one"),
    ):
        model = {"idVendor": vendor, "idProduct": product, **({"serial": serial} if serial else {})}
        host.device(f"{hub}/{port}", "usb", f"bus/usb/001/{node}", files={"bDeviceClass": "00", **model})
        host.device(f"{hub}/{port}/{port}:1.0", "usb")
    host.device(f"{hub}/1-1/1-1:1.0/ttyUSB0", "usb-serial")
    host.device(f"{hub}/1-1/1-1:1.0/ttyUSB0/tty/ttyUSB0", "tty", "ttyUSB0", gid=20)
    host.link("/dev/serial/by-id/usb-FTDI-if00-port0", "../../ttyUSB0")
    host.device(f"{hub}/1-2/1-2:1.0/video4linux/video0", "video4linux", "video0", gid=44)
    host.device(f"{hub}/1-2/1-2:1.0/media0", "media", "media0", gid=44)
    host.device(f"{hub}/1-2/1-2:1.2/sound/card1/controlC1", "sound", "snd/controlC1", gid=29)
    host.device(f"{hub}/1-3/1-3:1.0/hid/hidraw/hidraw0", "hidraw", "hidraw0")
    host.device(f"{hub}/1-3/1-3:1.0/hid/input/input5/event3", "input", "input/event3", gid=48)
    host.link("/dev/input/by-id/usb-Maker_Mouse-event-mouse", "../event3")
    host.device(f"{hub}/1-3/1-3:1.0/host0/scsi_generic/sg0", "scsi_generic", "sg0", gid=6)
    host.device(f"{hub}/1-10/1-10:1.0/dvb/dvb0.frontend0", "dvb", "dvb/adapter0/frontend0", gid=44)
    host.device(f"{hub}/1-3/1-3:1.0/host0/block/sda", "block", "sda", gid=6)


def _v4l(host: FakeHost) -> None:
    usb = "pci0000:00/0000:00:14.0/usb1/1-2/1-2:1.0"
    host.device(usb, "usb")
    for name in ("video0", "video1"):
        host.device(f"{usb}/video4linux/{name}", "video4linux", name, gid=44)
    host.device(f"{usb}/media0", "media", "media0", gid=44)
    host.link("/dev/v4l/by-id/usb-Maker_Cam_AB12-video-index0", "../../video0")
    host.device("platform/codec", "platform")
    host.device("platform/codec/video4linux/video10", "video4linux", "video10", gid=44)
    # a receiver, a bridge and a sensor, wired one to the other; and a sensor of which nobody knows
    for path, bus, node, ends in (
        ("platform/isp", "platform", "isp", {"port/endpoint": (1, 2)}),
        (
            "i2c-1/1-000e",
            "i2c",
            "bridge",
            {"ports/port@0/endpoint@0": (2, 1), "ports/port@1/endpoint": (3, 4)},
        ),
        ("i2c-1/1-001a", "i2c", "sensor", {"port/endpoint": (4, 3)}),
        ("i2c-1/1-003c", "i2c", "other", {}),
    ):
        host.device(path, bus)
        host.link(
            f"/sys/devices/{path}/of_node", f"{'../' * (path.count('/') + 2)}firmware/devicetree/base/{node}"
        )
        for end, numbers in ends.items():
            for file, number in zip(("phandle", "remote-endpoint"), numbers):
                host.data(f"/sys/firmware/devicetree/base/{node}/{end}/{file}", number.to_bytes(4, "big"))
    host.device("platform/isp/video4linux/video20", "video4linux", "video20")
    host.device("platform/isp/media1", "media", "media1")
    for number, path in enumerate(("i2c-1/1-000e", "i2c-1/1-001a", "i2c-1/1-003c")):
        host.device(f"{path}/video4linux/v4l-subdev{number}", "video4linux", f"v4l-subdev{number}")


def _vfio(host: FakeHost) -> None:
    for node in ("vfio/vfio", "vfio/12", "vfio/13", "vfio/noiommu-3", "iommu"):
        host.node(f"/dev/{node}")
    for group, address, driver, cdev in (
        (12, "0000:65:00.0", "vfio-pci", "vfio0"),
        (12, "0000:65:00.1", "snd_hda_intel", ""),
        (13, "0000:65:01.0", "nvgrace_gpu_vfio_pci", "vfio1"),
        (14, "0000:65:02.0", "xe-vfio-pci", "vfio2"),  # /dev has no node of the group
        (3, "0000:66:00.0", "vfio-pci", ""),  # as before Linux 6.1
    ):
        path = f"pci0000:64/{address}"
        host.device(path, "pci", driver=driver)
        host.link(f"/sys/kernel/iommu_groups/{group}/devices/{address}", f"../../../../devices/{path}")
        if cdev:
            host.device(f"{path}/vfio-dev/{cdev}", "vfio-dev", f"vfio/devices/{cdev}")


def _nodes(*paths: str) -> Callable[[FakeHost], None]:
    """Return what makes a host that has these nodes."""

    def build(host: FakeHost) -> None:
        for path in paths:
            host.node(path)

    return build


def _one(subsystem: str, name: str, node: str = "") -> Callable[[FakeHost], None]:
    """Return what makes a host with one device of a subsystem, of the platform device "thing"."""

    def build(host: FakeHost) -> None:
        host.device("platform/thing", "platform")
        host.device(f"platform/thing/{subsystem}/{name}", subsystem, node or name, gid=44)

    return build


def _cdrom(host: FakeHost) -> None:
    scsi = "pci0000:00/0000:00:17.0/ata1/host0/target0:0:0/0:0:0:0"
    disk = "pci0000:00/0000:00:17.0/ata2/host1/target1:0:0/1:0:0:0"
    host.device("pci0000:00/0000:00:17.0", "pci")
    for path, kind, block, generic in ((scsi, "5", "sr0", "sg0"), (disk, "0", "sda", "sg1")):
        host.device(path, "scsi", files={"type": kind})
        host.device(f"{path}/block/{block}", "block", block, gid=24)
        host.device(f"{path}/scsi_generic/{generic}", "scsi_generic", generic, gid=24)
    host.link("/dev/disk/by-id/ata-Maker_DVD_1", "../../sr0")


def _dma_heap(host: FakeHost) -> None:
    for name in ("system", "linux,cma"):
        host.device(f"virtual/dma_heap/{name}", "dma_heap", f"dma_heap/{name}", gid=44)


def _dvb(host: FakeHost) -> None:
    host.device("pci0000:00/0000:05:00.0", "pci")
    for number, names in ((0, ("demux0", "frontend0")), (1, ("frontend0",))):
        for name in names:
            host.device(
                f"pci0000:00/0000:05:00.0/dvb/dvb{number}.{name}",
                "dvb",
                f"dvb/adapter{number}/{name}",
                gid=44,
            )


def _iio(host: FakeHost) -> None:
    host.device("platform/thing", "platform")
    host.device("platform/thing/iio:device0", "iio", "iio:device0")


def _management(host: FakeHost) -> None:
    make(host.root, {"usr/lib/x86_64-linux-gnu/libnvidia-ml.so.580.1": {"elf": "libnvidia-ml.so.1"}})
    nodes = ("nvidia0", "nvidiactl", "nvidia-fs0", "nvidia-nvswitchctl", "nvidia-caps/nvidia-cap1")
    for path in (*(f"/dev/{node}" for node in nodes), f"{_CHANNEL}0"):
        host.node(path)


def _rockchip(host: FakeHost) -> None:
    for subsystem, name in (("misc", "rga"), ("mpp_class", "mpp_service"), ("misc", "watchdog")):
        host.device(f"platform/{name}", "platform")
        host.device(f"platform/{name}/{subsystem}/{name}", subsystem, name)


def _wwan(host: FakeHost) -> None:
    host.device("pci0000:00/0000:06:00.0", "pci")
    host.device("pci0000:00/0000:06:00.0/wwan/wwan0", "wwan")
    for name in ("wwan0at0", "wwan0mbim0"):
        host.device(f"pci0000:00/0000:06:00.0/wwan/wwan0/{name}", "wwan", name)
        host.link(f"/sys/devices/pci0000:00/0000:06:00.0/wwan/wwan0/{name}/device", "..")
    usb = "pci0000:00/0000:00:14.0/usb1/1-4/1-4:1.0"
    host.device(usb, "usb")
    host.device(f"{usb}/usbmisc/cdc-wdm0", "usbmisc", "cdc-wdm0")
    host.device(f"{usb}/usbmisc/hiddev0", "usbmisc", "usb/hiddev0")


def _on_pci(subsystem: str, *names: str, folder: str = "") -> Callable[[FakeHost], None]:
    """Return what makes a host with PCI devices of a subsystem; in a folder, a node is called by the number."""

    def build(host: FakeHost) -> None:
        for number, name in enumerate(names):
            address = f"pci0000:00/0000:0{number}:00.0"
            host.device(address, "pci")
            node = f"{folder}/{name.rpartition('!')[2]}" if folder else name
            host.device(f"{address}/{subsystem}/{name}", subsystem, node)

    return build


def _tenstorrent(host: FakeHost) -> None:
    _on_pci("tenstorrent", "tenstorrent!0", folder="tenstorrent")(host)
    host.link("/dev/tenstorrent/by-id/blackhole-CEF5", "../0")


def _tape(host: FakeHost) -> None:
    host.device("pci0000:00/0000:00:17.0", "pci")
    at = "pci0000:00/0000:00:17.0/host0/target0:0:{0}/0:0:{0}:0"
    for number, kind, own in ((0, "1", ("st0", "nst0", "st0a")), (1, "8", ("sch0",)), (2, "0", ())):
        path = at.format(number)
        host.device(path, "scsi", files={"type": kind})
        for name in own:
            of = "scsi_changer" if name == "sch0" else "scsi_tape"
            host.device(f"{path}/{of}/{name}", of, name, gid=26)
        host.device(f"{path}/scsi_generic/sg{number}", "scsi_generic", f"sg{number}", gid=26)
    host.link("/dev/tape/by-id/scsi-350-nst", "../../nst0")


def _memryx(host: FakeHost) -> None:
    _nodes("/dev/memx0", "/dev/memx0_feature", "/dev/memx10", "/dev/memxy")(host)
    host.file("/run/mxa_manager/socket")


def _ascend(host: FakeHost) -> None:
    _nodes("/dev/davinci0", "/dev/davinci11", "/dev/davinci_manager", "/dev/devmm_svm", "/dev/vdavinci0")(
        host
    )
    for path in ("driver/lib64/common", "driver/lib64/driver", "driver/include"):
        host.file(f"/usr/local/Ascend/{path}/x")
    host.file("/usr/local/bin/npu-smi")


def _rebellions(host: FakeHost) -> None:
    _on_pci("rebellions", "rbln0", "rbln1")(host)
    host.device("virtual/rebellions/rsd0", "rebellions", "rsd0")
    host.node("/dev/rblnfs0")
    library = "/usr/lib/x86_64-linux-gnu/librbln-ml.so"
    host.file(f"{library}.1.2")
    host.link(f"{library}.1", "librbln-ml.so.1.2")
    host.file("/usr/bin/rbln-smi")


def _fastrpc(host: FakeHost) -> None:
    for name in ("fastrpc-adsp-secure", "fastrpc-cdsp", "fastrpc-cdsp-secure", "fastrpc-cdsp1", "fastrpc"):
        host.device(f"virtual/misc/{name}", "misc", name, gid=44)


_RNGD = [f"/dev/rngd/npu0{name}" for name in ("bar4", "ch0", "ch0r", "dmar", "mgmt", "pe0", "pe0-1")]


def _under(names: Sequence[str], nodes: Sequence[str]) -> dict[str, Sequence[str]]:
    """Return nodes under several names."""
    return dict.fromkeys(names, nodes)


_UVERBS = {
    number: [f"/dev/infiniband/{name}{number}" for name in ("uverbs", "issm", "umad")] for number in (0, 1)
}
_CARD1 = [
    "/dev/dri/card1",
    "/dev/dri/renderD129",
    "/dev/dri/by-path/pci-0000:03:00.0-render -> /dev/dri/renderD129",
]
_PART1 = ["/dev/dri/card0", "/dev/dri/renderD128"]
_PART2 = ["/dev/dri/card2", "/dev/dri/renderD130"]
_GPU = [
    "/dev/dri/card1",
    "/dev/dri/by-path/pci-0000:00:02.0-card -> /dev/dri/card1",
    "/dev/dri/renderD128",
    "/dev/dri/by-path/pci-0000:00:02.0-render -> /dev/dri/renderD128",
]
_MOUSE = [
    "/dev/input/event3",
    "/dev/input/by-id/usb-Maker_Mouse-event-mouse -> /dev/input/event3",
    "/dev/input/mouse0",
]
_I915 = ["/dev/dri/card1", "/dev/dri/renderD128"]
_XE = ["/dev/dri/card0", "/dev/dri/by-path/pci-0000:03:00.0-card -> /dev/dri/card0", "/dev/dri/renderD129"]
_CHANNEL = "/dev/nvidia-caps-imex-channels/channel"
_PASSED = ["/dev/vfio/vfio", "/dev/vfio/42", "/dev/vfio/devices/vfio0"]
_GAUDI = ["/dev/accel/accel1", "/dev/accel/accel_controlD1", "/dev/infiniband/uverbs3"]
_USB0 = [
    "/dev/ttyUSB0",
    "/dev/serial/by-id/usb-FTDI_FT232R_A50285BI-if00-port0 -> /dev/ttyUSB0",
    "/dev/serial/by-path/pci-0000:00:14.0-usb-0:2:1.0-port0 -> /dev/ttyUSB0",
]
_PCH = [
    "/dev/snd/controlC0",
    "/dev/snd/by-path/pci-0000:00:1f.3 -> /dev/snd/controlC0",
    "/dev/snd/pcmC0D0c",
    "/dev/snd/pcmC0D0p",
]
_NVIDIA = [f"/dev/snd/{name}" for name in ("controlC1", "pcmC1D0c", "pcmC1D0p")]
_SENSOR = [f"/dev/{name}" for name in ("video20", "media1", "v4l-subdev0", "v4l-subdev1")]
_HID = [
    *("/dev/bus/usb/001/005", "/dev/hidraw0", "/dev/sg0", "/dev/input/event3"),
    "/dev/input/by-id/usb-Maker_Mouse-event-mouse -> /dev/input/event3",
]
_TUNER = ["/dev/bus/usb/001/004", "/dev/dvb/adapter0/frontend0"]
_FTDI = ["/dev/bus/usb/001/002", "/dev/ttyUSB0", "/dev/serial/by-id/usb-FTDI-if00-port0 -> /dev/ttyUSB0"]
_CAM = ["/dev/bus/usb/001/003", "/dev/media0", "/dev/video0", "/dev/snd/controlC1"]
_VIDEO = [
    "/dev/video0",
    "/dev/v4l/by-id/usb-Maker_Cam_AB12-video-index0 -> /dev/video0",
    "/dev/video1",
    "/dev/media0",
]
CASES = {
    "accel": Case(
        _accel,
        {
            "host.local/accel": {
                **_under(("accel0", "0000:00:0b.0"), ["/dev/accel/accel0"]),
                **_under(
                    ("accel1", "accel_controlD1", "0000:83:00.0"),
                    ["/dev/accel/accel1", "/dev/accel/accel_controlD1"],
                ),
            }
        },
    ),
    "amd": Case(
        _amd,
        {
            "amd.com/gpu": {
                "": ["/dev/kfd"],
                **_under(("0", "0000:03:00.0", "GPU-000000000000002a", "card1", "renderD129"), _CARD1),
                **_under(("1", "card0", "renderD128"), _PART1),
                **_under(("2", "card2", "renderD130"), _PART2),
                **_under(("0002:c1:00.0", "GPU-000000000000002b"), [*_PART1, *_PART2]),
            }
        },
    ),
    "dri": Case(
        _dri,
        {
            "host.local/dri": {
                **_under(("card0", "0000:00:05.0"), ["/dev/dri/card0"]),
                **_under(("card1", "renderD128", "0000:00:02.0"), _GPU),
            }
        },
    ),
    "fuse": Case(lambda host: host.node("/dev/fuse"), {"host.local/fuse": {"fuse": ["/dev/fuse"]}}),
    "gpio": Case(_gpio, {"host.local/gpio": _under(("gpiochip0", "fe200000.gpio"), ["/dev/gpiochip0"])}),
    "hidraw": Case(_hidraw, {"host.local/hidraw": _under(("hidraw0", "1-3:1.0"), ["/dev/hidraw0"])}),
    "i2c": Case(
        _i2c,
        {
            "host.local/i2c": {
                **_under(("i2c-1", "fe804000.i2c"), ["/dev/i2c-1"]),
                "i2c-9": ["/dev/i2c-9"],
                "i2c-10": ["/dev/i2c-10"],
            }
        },
    ),
    "infiniband": Case(
        _infiniband,
        {
            "host.local/infiniband": {
                "": ["/dev/infiniband/rdma_cm"],
                **_under(("mlx5_0", "0000:b1:00.0"), _UVERBS[0]),
                **_under(("mlx5_1", "0000:b1:00.1"), _UVERBS[1]),
            }
        },
    ),
    "input": Case(
        _input,
        {
            "host.local/input": _under(
                ("event3", "mouse0", "usb-Maker_Mouse-event-mouse", "1-1:1.0"), _MOUSE
            )
        },
    ),
    "intel": Case(
        _intel,
        {
            "intel.com/gpu": {
                **_under(("0", "0000:03:00.0", "0000-03-00-0-0x56a0", "card0", "renderD129"), _XE),
                **_under(("1", "0000:00:02.0", "0000-00-02-0-0x46a6", "card1", "renderD128"), _I915),
                **_under(("2", "0000:05:00.0", "0000-05-00-0-0x56c0", "vfio0"), _PASSED),
            },
            "intel.com/gpu-mei": _under(("mei1", "0000:03:00.0", "0000-03-00-0-0x56a0"), ["/dev/mei1"]),
            "intel.com/npu": _under(
                ("0", "0000:00:0b.0", "0000-00-0b-0-0x7d1d", "accel0"), ["/dev/accel/accel0"]
            ),
            "intel.com/gaudi": _under(
                ("0", "0000:83:00.0", "0000-83-00-0-0x1020", "accel1", "accel_controlD1"), _GAUDI
            ),
        },
    ),
    "kvm": Case(
        _nodes("/dev/kvm", "/dev/vhost-net", "/dev/net/tun"),
        {"host.local/kvm": {"kvm": ["/dev/kvm"], "vhost-net": ["/dev/vhost-net"], "tun": ["/dev/net/tun"]}},
        ["no /dev/vhost-vsock: modprobe vhost_vsock"],
    ),
    "serial": Case(
        _serial,
        {
            "host.local/serial": {
                **_under(("ttyS0", "00:05"), ["/dev/ttyS0"]),
                **_under(("ttyUSB0", "usb-FTDI_FT232R_A50285BI-if00-port0", "1-2:1.0"), _USB0),
            }
        },
    ),
    "sgx": Case(
        _nodes("/dev/sgx_enclave", "/dev/sgx_provision"),
        {"host.local/sgx": {"enclave": ["/dev/sgx_enclave"], "provision": ["/dev/sgx_provision"]}},
    ),
    "snd": Case(
        _snd,
        {
            "host.local/snd": {
                "": ["/dev/snd/timer", "/dev/snd/seq"],
                **_under(("card0", "PCH", "0000:00:1f.3"), _PCH),
                **_under(("card1", "NVidia", "0000:01:00.1"), _NVIDIA),
            }
        },
    ),
    "spi": Case(
        _spi, {"host.local/spi": {"spidev0.0": ["/dev/spidev0.0"], "spidev0.1": ["/dev/spidev0.1"]}}
    ),
    "tpm": Case(_tpm, {"host.local/tpm": {"tpm0": ["/dev/tpm0"], "tpmrm0": ["/dev/tpmrm0"]}}),
    "usb": Case(
        _usb,
        {
            "host.local/usb": {
                **_under(("1-1", "0403:6001:A50285BI", "0403:6001"), _FTDI),
                **_under(("1-2", "046d:0825"), _CAM),
                **_under(
                    ("1-3", "1d6b:0104:same_one-2c43ecb2-1-3"), _HID
                ),
                **_under(("1-10", "1d6b:0104:same_one-2c43ecb2-1-10"), _TUNER),
            }
        },
    ),
    "v4l": Case(
        _v4l,
        {
            "host.local/v4l": {
                **_under(
                    ("video0", "video1", "media0", "usb-Maker_Cam_AB12-video-index0", "1-2:1.0"), _VIDEO
                ),
                **_under(("video10", "codec"), ["/dev/video10"]),
                **_under(("video20", "media1", "v4l-subdev0", "v4l-subdev1", "isp"), _SENSOR),
                **_under(("v4l-subdev2",), ["/dev/v4l-subdev2"]),
            }
        },
    ),
    "vfio": Case(
        _vfio,
        {
            "host.local/vfio": {
                "": ["/dev/vfio/vfio", "/dev/iommu"],
                **_under(("12", "0000:65:00.0", "vfio0"), ["/dev/vfio/12", "/dev/vfio/devices/vfio0"]),
                **_under(("13", "0000:65:01.0", "vfio1"), ["/dev/vfio/13", "/dev/vfio/devices/vfio1"]),
                **_under(("vfio2", "0000:65:02.0"), ["/dev/vfio/devices/vfio2"]),
                **_under(("noiommu-3", "0000:66:00.0"), ["/dev/vfio/noiommu-3"]),
            }
        },
    ),
    "apex": Case(_one("apex", "apex_0"), {"host.local/apex": _under(("apex_0", "thing"), ["/dev/apex_0"])}),
    "ascend": Case(
        _ascend,
        {
            "ascend.com/npu": {
                "": ["/dev/davinci_manager", "/dev/devmm_svm"],
                "0": ["/dev/davinci0"],
                "11": ["/dev/davinci11"],
            }
        },
    ),
    "cambricon": Case(
        _nodes("/dev/cambricon_dev0", "/dev/cambricon_ipcm0", "/dev/cambricon_dev1", "/dev/cambricon_ctl"),
        {
            "host.local/cambricon": {
                "": ["/dev/cambricon_ctl"],
                "0": ["/dev/cambricon_dev0", "/dev/cambricon_ipcm0"],
                "1": ["/dev/cambricon_dev1"],
            }
        },
    ),
    "deepx": Case(
        _on_pci("dxrt", "dxrt0"), {"host.local/deepx": _under(("dxrt0", "0000:00:00.0"), ["/dev/dxrt0"])}
    ),
    "fastrpc": Case(
        _fastrpc,
        {
            "host.local/fastrpc": {
                "fastrpc-adsp": ["/dev/fastrpc-adsp-secure"],
                "fastrpc-cdsp": ["/dev/fastrpc-cdsp", "/dev/fastrpc-cdsp-secure"],
                "fastrpc-cdsp1": ["/dev/fastrpc-cdsp1"],
            }
        },
    ),
    "furiosa": Case(
        _nodes(*_RNGD, "/dev/rngd/npu1mgmt", "/dev/rngd/other"),
        {"host.local/furiosa": {"npu0": _RNGD, "npu1": ["/dev/rngd/npu1mgmt"]}},
    ),
    "iluvatar": Case(
        _nodes("/dev/iluvatar0", "/dev/iluvatar-other"), {"host.local/iluvatar": {"iluvatar0": ["/dev/iluvatar0"]}}
    ),
    "memryx": Case(
        _memryx,
        {"host.local/memryx": {"memx0": ["/dev/memx0", "/dev/memx0_feature"], "memx10": ["/dev/memx10"]}},
    ),
    "neuron": Case(
        _on_pci("neuron_device", "neuron0"),
        {"host.local/neuron": _under(("neuron0", "0000:00:00.0"), ["/dev/neuron0"])},
    ),
    "ntsync": Case(_nodes("/dev/ntsync"), {"host.local/ntsync": {"ntsync": ["/dev/ntsync"]}}),
    "rebellions": Case(
        _rebellions,
        {
            "rebellions.ai/npu": {
                **_under(("0", "0000:00:00.0"), ["/dev/rbln0"]),
                **_under(("1", "0000:01:00.0"), ["/dev/rbln1"]),
                "rsd0": ["/dev/rsd0"],
                "runtime": ["/dev/rbln0", "/dev/rbln1", "/dev/rsd0"],
            }
        },
    ),
    "tape": Case(
        _tape,
        {
            "host.local/tape": {
                **_under(
                    ("nst0", "st0", "st0a", "sg0", "scsi-350-nst"),
                    ["/dev/nst0", "/dev/tape/by-id/scsi-350-nst -> /dev/nst0", "/dev/st0", "/dev/st0a", "/dev/sg0"],
                ),
                **_under(("sch0", "sg1"), ["/dev/sch0", "/dev/sg1"]),
            }
        },
    ),
    "tenstorrent": Case(
        _tenstorrent,
        {
            "host.local/tenstorrent": _under(
                ("0", "blackhole-CEF5", "0000:00:00.0"),
                ["/dev/tenstorrent/0", "/dev/tenstorrent/by-id/blackhole-CEF5 -> /dev/tenstorrent/0"],
            )
        },
    ),
    "uhid": Case(_nodes("/dev/uhid"), {"host.local/uhid": {"uhid": ["/dev/uhid"]}}),
    "cdrom": Case(
        _cdrom,
        {
            "host.local/cdrom": _under(
                ("sr0", "sg0", "ata-Maker_DVD_1", "0000:00:17.0"),
                ["/dev/sr0", "/dev/disk/by-id/ata-Maker_DVD_1 -> /dev/sr0", "/dev/sg0"],
            )
        },
    ),
    "cec": Case(_one("cec", "cec0"), {"host.local/cec": _under(("cec0", "thing"), ["/dev/cec0"])}),
    "dma_heap": Case(
        _dma_heap,
        {
            "host.local/dma_heap": {
                "system": ["/dev/dma_heap/system"],
                "linux_cma-aa5310f9": ["/dev/dma_heap/linux,cma"],
            }
        },
    ),
    "dvb": Case(
        _dvb,
        {
            "host.local/dvb": {
                "adapter0": ["/dev/dvb/adapter0/demux0", "/dev/dvb/adapter0/frontend0"],
                "adapter1": ["/dev/dvb/adapter1/frontend0"],
            }
        },
    ),
    "hailo": Case(
        _one("hailo_chardev", "hailo0"), {"host.local/hailo": _under(("hailo0", "thing"), ["/dev/hailo0"])}
    ),
    "iio": Case(_iio, {"host.local/iio": _under(("iio:device0", "thing"), ["/dev/iio:device0"])}),
    "kgsl": Case(
        _one("kgsl", "kgsl-3d0"), {"host.local/kgsl": _under(("kgsl-3d0", "thing"), ["/dev/kgsl-3d0"])}
    ),
    "lirc": Case(_one("lirc", "lirc0"), {"host.local/lirc": _under(("lirc0", "thing"), ["/dev/lirc0"])}),
    "loop-control": Case(
        _nodes("/dev/loop-control"), {"host.local/loop-control": {"loop-control": ["/dev/loop-control"]}}
    ),
    "mali": Case(_one("misc", "mali0"), {"host.local/mali": _under(("mali0", "thing"), ["/dev/mali0"])}),
    "ppp": Case(_nodes("/dev/ppp"), {"host.local/ppp": {"ppp": ["/dev/ppp"]}}),
    "nvidia-gdrcopy": Case(_nodes("/dev/gdrdrv"), {"nvidia.com/gdrcopy": {"all": ["/dev/gdrdrv"]}}),
    "nvidia-gds": Case(
        _nodes("/dev/nvidia-fs0", "/dev/nvidia-fs1"),
        {"nvidia.com/gds": {"all": ["/dev/nvidia-fs0", "/dev/nvidia-fs1"]}},
    ),
    "nvidia-imex": Case(
        _nodes(f"{_CHANNEL}0", f"{_CHANNEL}2"),
        {"nvidia.com/imex-channel": {"0": [f"{_CHANNEL}0"], "2": [f"{_CHANNEL}2"]}},
    ),
    "nvidia-management": Case(
        _management,
        {
            "management.nvidia.com/gpu": {
                "all": ["/dev/nvidia0", "/dev/nvidiactl", "/dev/nvidia-caps/nvidia-cap1", f"{_CHANNEL}0"]
            }
        },
    ),
    "nvidia-mofed": Case(
        _nodes("/dev/infiniband/uverbs0", "/dev/infiniband/rdma_cm", "/dev/infiniband/umad0"),
        {"nvidia.com/mofed": {"all": ["/dev/infiniband/uverbs0", "/dev/infiniband/rdma_cm"]}},
    ),
    "nvidia-nvswitch": Case(
        _nodes("/dev/nvidia-nvswitch0", "/dev/nvidia-nvswitchctl"),
        {"nvidia.com/nvswitch": {"all": ["/dev/nvidia-nvswitchctl", "/dev/nvidia-nvswitch0"]}},
    ),
    "pps": Case(_one("pps", "pps0"), {"host.local/pps": _under(("pps0", "thing"), ["/dev/pps0"])}),
    "ptp": Case(_one("ptp", "ptp0"), {"host.local/ptp": _under(("ptp0", "thing"), ["/dev/ptp0"])}),
    "rockchip": Case(
        _rockchip, {"host.local/rockchip": {"mpp_service": ["/dev/mpp_service"], "rga": ["/dev/rga"]}}
    ),
    "sev-guest": Case(
        _nodes("/dev/sev-guest"), {"host.local/sev-guest": {"sev-guest": ["/dev/sev-guest"]}}
    ),
    "tdx_guest": Case(
        _nodes("/dev/tdx_guest"), {"host.local/tdx_guest": {"tdx_guest": ["/dev/tdx_guest"]}}
    ),
    "tun": Case(_nodes("/dev/net/tun"), {"host.local/tun": {"tun": ["/dev/net/tun"]}}),
    "udmabuf": Case(_nodes("/dev/udmabuf"), {"host.local/udmabuf": {"udmabuf": ["/dev/udmabuf"]}}),
    "uinput": Case(_nodes("/dev/uinput"), {"host.local/uinput": {"uinput": ["/dev/uinput"]}}),
    "uio": Case(_one("uio", "uio0"), {"host.local/uio": _under(("uio0", "thing"), ["/dev/uio0"])}),
    "vchiq": Case(_one("vchiq", "vchiq"), {"host.local/vchiq": _under(("vchiq", "thing"), ["/dev/vchiq"])}),
    "vhost-vdpa": Case(
        _nodes("/dev/vhost-vdpa-0", "/dev/vhost-vdpa-1"),
        {"host.local/vhost-vdpa": {f"vhost-vdpa-{number}": [f"/dev/vhost-vdpa-{number}"] for number in (0, 1)}},
    ),
    "watchdog": Case(
        _one("watchdog", "watchdog0"), {"host.local/watchdog": _under(("watchdog0", "thing"), ["/dev/watchdog0"])}
    ),
    "wwan": Case(
        _wwan,
        {
            "host.local/wwan": {
                **_under(("wwan0at0", "wwan0mbim0", "0000:06:00.0"), ["/dev/wwan0at0", "/dev/wwan0mbim0"]),
                **_under(("cdc-wdm0", "1-4:1.0"), ["/dev/cdc-wdm0"]),
            }
        },
    ),
}  # fmt: skip
