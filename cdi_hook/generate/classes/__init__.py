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
# A class's name: its module.
CLASSES = {
    "accel": _PLAIN,
    "amd": "cdi_hook.generate.classes.amd",
    "dri": _PLAIN,
    "fuse": _PLAIN,
    "gpio": _PLAIN,
    "hidraw": _PLAIN,
    "i2c": _PLAIN,
    "infiniband": "cdi_hook.generate.classes.infiniband",
    "input": _PLAIN,
    "intel": "cdi_hook.generate.classes.intel",
    "kvm": _PLAIN,
    "nvidia": "cdi_hook.generate.classes.nvidia",
    "serial": _PLAIN,
    "sgx": _PLAIN,
    "snd": _PLAIN,
    "spi": _PLAIN,
    "tpm": _PLAIN,
    "usb": "cdi_hook.generate.classes.usb",
    "v4l": _PLAIN,
    "vfio": "cdi_hook.generate.classes.vfio",
}


def get(name: str) -> DeviceClass:
    """Return the class with this name, which is in CLASSES."""
    import importlib

    found: DeviceClass = importlib.import_module(CLASSES[name]).CLASSES[name]
    return found
