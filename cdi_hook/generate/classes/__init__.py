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

# Classes that are a row or a part of another module, and those that have a module of their name.
_SHARED = {
    "plain": "accel apex cambricon cdrom cec deepx dma_heap dri dvb fastrpc furiosa fuse gpio hailo hidraw "
    "i2c iio iluvatar input kgsl kvm lirc loop-control mali memryx neuron ntsync ppp pps ptp rockchip serial "
    "sev-guest sgx snd spi tape tdx_guest tenstorrent tpm tun udmabuf uhid uinput uio vchiq vhost-vdpa "
    "watchdog wwan",
    "nvidia_parts": "nvidia-gdrcopy nvidia-gds nvidia-imex nvidia-management nvidia-mofed nvidia-nvswitch",
}
_OWN = "amd ascend infiniband intel nvidia rebellions usb v4l vfio"
_MODULES = {name: name for name in _OWN.split()}
_MODULES |= {name: module for module, names in _SHARED.items() for name in names.split()}
# A class's name: its module.
CLASSES = {name: f"cdi_hook.generate.classes.{_MODULES[name]}" for name in sorted(_MODULES)}


def get(name: str) -> DeviceClass:
    """Return the class with this name, which is in CLASSES."""
    import importlib

    found: DeviceClass = importlib.import_module(CLASSES[name]).CLASSES[name]
    return found
