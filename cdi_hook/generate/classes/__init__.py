# SPDX-License-Identifier: Apache-2.0
"""The classes of devices that `cdi-hook generate` knows.

CLASSES is the one list of them. A class is a DeviceClass (../device_class.py) in the dict
CLASSES of its module, under its name. A plain class is a row of plain.py; a class with a
structure of its own has a module of its name.

A container's start imports this module if GENERATE is configured, so it imports nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cdi_hook.generate.device_class import DeviceClass

_PLAIN = "cdi_hook.generate.classes.plain"
_NVIDIA = "cdi_hook.generate.classes.nvidia_parts"
# A class's name: its module.
CLASSES = {
    "accel": _PLAIN,
    "amd": "cdi_hook.generate.classes.amd",
    "apex": _PLAIN,
    "ascend": "cdi_hook.generate.classes.ascend",
    "cambricon": _PLAIN,
    "cdrom": _PLAIN,
    "cec": _PLAIN,
    "deepx": _PLAIN,
    "dma_heap": _PLAIN,
    "dri": _PLAIN,
    "dvb": _PLAIN,
    "fastrpc": _PLAIN,
    "furiosa": _PLAIN,
    "fuse": _PLAIN,
    "gpio": _PLAIN,
    "hailo": _PLAIN,
    "hidraw": _PLAIN,
    "i2c": _PLAIN,
    "iio": _PLAIN,
    "iluvatar": _PLAIN,
    "infiniband": "cdi_hook.generate.classes.infiniband",
    "input": _PLAIN,
    "intel": "cdi_hook.generate.classes.intel",
    "kgsl": _PLAIN,
    "kvm": _PLAIN,
    "lirc": _PLAIN,
    "loop-control": _PLAIN,
    "mali": _PLAIN,
    "memryx": _PLAIN,
    "neuron": _PLAIN,
    "ntsync": _PLAIN,
    "nvidia": "cdi_hook.generate.classes.nvidia",
    "nvidia-gdrcopy": _NVIDIA,
    "nvidia-gds": _NVIDIA,
    "nvidia-imex": _NVIDIA,
    "nvidia-management": _NVIDIA,
    "nvidia-mofed": _NVIDIA,
    "nvidia-nvswitch": _NVIDIA,
    "ppp": _PLAIN,
    "pps": _PLAIN,
    "ptp": _PLAIN,
    "rebellions": "cdi_hook.generate.classes.rebellions",
    "rockchip": _PLAIN,
    "serial": _PLAIN,
    "sev-guest": _PLAIN,
    "sgx": _PLAIN,
    "snd": _PLAIN,
    "spi": _PLAIN,
    "tape": _PLAIN,
    "tdx_guest": _PLAIN,
    "tenstorrent": _PLAIN,
    "tpm": _PLAIN,
    "tun": _PLAIN,
    "udmabuf": _PLAIN,
    "uhid": _PLAIN,
    "uinput": _PLAIN,
    "uio": _PLAIN,
    "usb": "cdi_hook.generate.classes.usb",
    "v4l": "cdi_hook.generate.classes.v4l",
    "vchiq": _PLAIN,
    "vfio": "cdi_hook.generate.classes.vfio",
    "vhost-vdpa": _PLAIN,
    "watchdog": _PLAIN,
    "wwan": _PLAIN,
}


def get(name: str) -> DeviceClass:
    """Return the class with this name, which is in CLASSES."""
    import importlib

    found: DeviceClass = importlib.import_module(CLASSES[name]).CLASSES[name]
    return found
