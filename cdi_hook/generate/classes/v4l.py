# SPDX-License-Identifier: Apache-2.0
"""Cameras and video codecs: the nodes of one parent are one device, and a sensor's are its camera's.

A camera of a phone or a single-board computer is several devices of the kernel: a receiver, which has the
media node, and a sensor on an I2C bus. Which belong together is in the device tree: two ports that name
each other are wired to each other.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from cdi_hook.generate.classes.plain import Subsystem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdi_hook.generate.root import Root
    from cdi_hook.generate.sysfs import SysfsEntry

_RECEIVER = re.compile(r"csi|cif|cfe|camss|ipu\d")  # how what receives a sensor's images is called


class V4l(Subsystem):
    """The cameras and codecs."""

    def __init__(self) -> None:
        super().__init__(
            "v4l",
            "cameras and video codecs, all nodes of one together",
            "video0, by-id name, address.",
            of="video4linux media",
            pattern=r"(video|v4l-subdev|vbi|radio|media)\d+",
            links=("/dev/v4l/by-id", "/dev/v4l/by-path"),
            together=True,
            without="no camera: plug one in, or load its module (uvcvideo)",
        )

    def notes(self, root: Root) -> list[str]:
        """Say what else libcamera needs, if there is a camera for it."""
        if not any(entry.name.startswith("v4l-subdev") for entry in self._entries(root)):
            return []
        return ["libcamera also reads /run/udev: mount it into the container, read-only"]

    def _groups(self, root: Root, found: Sequence[SysfsEntry]) -> list[list[SysfsEntry]]:
        """Return the nodes of each device; a sensor's go to the media node of its camera."""
        groups = [_Group(root, group) for group in super()._groups(root, found)]
        cameras = [group for group in groups if group.has("media")]
        sensors = [group for group in groups if not group.has("media", "video", "vbi", "radio")]
        # A sensor may be wired to a camera by way of another one.
        while wired := [(camera, one) for one in sensors for camera in cameras if camera.is_wired_to(one)]:
            camera, sensor = wired[0]
            camera.take(sensor)
            sensors.remove(sensor)
            groups.remove(sensor)
        receivers = [group for group in cameras if _RECEIVER.search(group.parent)]
        if len(receivers) == 1:  # where no device tree says it, only this one can be meant
            for sensor in sensors:
                receivers[0].take(sensor)
                groups.remove(sensor)
        return [group.entries for group in groups]


class _Group:
    """Nodes that belong together, and the ends of the wires of their device, by the device tree's numbers."""

    def __init__(self, root: Root, entries: list[SysfsEntry]) -> None:
        self.entries = entries
        self.parent = entries[0].parent.rpartition("/")[2]
        node = f"{entries[0].parent}/of_node"
        ends = root.glob(f"{node}/port*/endpoint*", f"{node}/ports/port*/endpoint*")
        self._here = {root.read_number(f"{end}/phandle") for end in ends} - {0}
        self._there = {root.read_number(f"{end}/remote-endpoint") for end in ends} - {0}

    def has(self, *names: str) -> bool:
        """Say whether it has a node whose name begins so."""
        return any(entry.name.startswith(names) for entry in self.entries)

    def is_wired_to(self, other: _Group) -> bool:
        """Say whether a wire leads from one to the other."""
        return bool(self._here & other._there or self._there & other._here)

    def take(self, other: _Group) -> None:
        """Take the other's nodes and wires."""
        self.entries = [*self.entries, *other.entries]
        self._here |= other._here
        self._there |= other._there


CLASSES = {"v4l": V4l()}
