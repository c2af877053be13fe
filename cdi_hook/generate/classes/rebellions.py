# SPDX-License-Identifier: Apache-2.0
"""Rebellions' NPUs and their groups, with the driver's libraries and tools, as rbln-ctk makes them.

Which group an NPU is in, only a library of Rebellions' knows: a container asks for both.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cdi_hook.generate import node_edits
from cdi_hook.generate.classes.nvidia_hooks import DriverFiles
from cdi_hook.generate.classes.plain import Subsystem
from cdi_hook.generate.device_class import FoundDevice

if TYPE_CHECKING:
    from cdi_hook.generate.device_class import Found
    from cdi_hook.generate.root import Root

_DIRS = ("/usr/lib64", "/usr/lib/x86_64-linux-gnu", "/usr/lib", "/usr/local/lib", "/usr/local/lib64")
_TOOLS = [
    f"{directory}/{name}"
    for name in ("rbln-smi", "rbln-stat", "rblnBandwidthLatencyTest")
    for directory in ("/usr/bin", "/usr/local/bin")
]


class Rebellions(Subsystem):
    """The class."""

    def find(self, root: Root) -> list[Found]:
        """Return the NPUs, called by their numbers, their groups, called rsd0, and runtime, which is all."""
        found = [_with_runtime(each) for each in super().find(root)]
        paths = root.glob(*(f"{directory}/librbln-*.so*" for directory in _DIRS)) if found else []
        libraries = list(dict.fromkeys(real for path in paths if (real := root.resolved(path))))
        links = [(root.target(path), path) for path in paths if root.target(path)]
        dirs = list(dict.fromkeys(path.rpartition("/")[0] for path in libraries))
        files = [*libraries, *(path for path in _TOOLS if root.exists(path))]
        for each in found if files else ():
            edits = DriverFiles([(path, path) for path in files], links, dirs, libraries).edits(root, "")
            each.edits.update({"mounts": edits["mounts"], "hooks": edits["hooks"]})
        return found


def _with_runtime(found: Found) -> Found:
    """Return what was found, with rbln-ctk's older name for all of it."""
    everything = node_edits.together(device.edits for device in found.devices)
    return replace(found, devices=[*found.devices, FoundDevice(("runtime",), everything)])


_REBELLIONS = Rebellions(
    "rebellions", "Rebellions' NPUs, with the driver's libraries",
    "0, 1, address; rsd0 is a group, which each of its NPUs needs beside itself; runtime is all.",
    of="rebellions", pattern=r"(rbln|rsd)\d+", named=r"rsd\d+|\d+",
    without="no Rebellions NPU: install Rebellions' driver",
)  # fmt: skip
_REBELLIONS.kinds = ("rebellions.ai/npu",)
CLASSES = {_REBELLIONS.name: _REBELLIONS}
