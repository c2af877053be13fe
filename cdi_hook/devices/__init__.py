# SPDX-License-Identifier: Apache-2.0
"""What a host has -> CDI specs: the classes of devices that `cdi-hook generate` knows.

CLASSES is the one list of them. A class is a DeviceClass (deviceclass.py) in the dict
CLASSES of its module, under its name. A plain class is a row of plain.py; a class with a
structure of its own has a module of its name. root.py reads the host, nodes.py makes the
edits for device nodes, generate.py makes specs, and specfiles.py writes them.

A container's start imports this module if GENERATE is configured, so it imports nothing.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cdi_hook.devices.deviceclass import DeviceClass

_PLAIN = "cdi_hook.devices.plain"
# A class's name: its module.
CLASSES = {
    "accel": _PLAIN,
    "amd": "cdi_hook.devices.amd",
    "dri": _PLAIN,
    "fuse": _PLAIN,
    "gpio": _PLAIN,
    "hidraw": _PLAIN,
    "i2c": _PLAIN,
    "infiniband": "cdi_hook.devices.infiniband",
    "input": _PLAIN,
    "intel": "cdi_hook.devices.intel",
    "kvm": _PLAIN,
    "nvidia": "cdi_hook.devices.nvidia",
    "serial": _PLAIN,
    "sgx": _PLAIN,
    "snd": _PLAIN,
    "spi": _PLAIN,
    "tpm": _PLAIN,
    "usb": "cdi_hook.devices.usb",
    "v4l": _PLAIN,
    "vfio": "cdi_hook.devices.vfio",
}


def get(name: str) -> DeviceClass:
    """Return the class with this name, which is in CLASSES."""
    import importlib

    found: DeviceClass = importlib.import_module(CLASSES[name]).CLASSES[name]
    return found
