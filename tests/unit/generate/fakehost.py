# SPDX-License-Identifier: Apache-2.0
"""A dir that looks like a host: sysfs with devices, their nodes, udev's links. The nodes are real ones, of /dev/null."""

from __future__ import annotations

import os
import stat
from types import MappingProxyType
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

# Other subsystems are classes.
_BUSES = ("auxiliary", "gpio", "i2c", "iio", "media", "pci", "platform", "pnp", "scsi", "usb", "virtio")


class FakeHost:
    """The dir is ``root``; paths below it are as on a host."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def file(self, path: str, text: str = "") -> None:
        """Make a file with a line."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(f"{text}\n")

    def data(self, path: str, data: bytes) -> None:
        """Make a file with these bytes."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(data)

    def link(self, path: str, target: str) -> None:
        """Make a link."""
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(target)

    def node(self, path: str, gid: int = 0) -> None:
        """Make a device node that belongs to a group."""
        if os.geteuid() != 0:
            pytest.skip("device nodes need root")
        place = self.root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        os.mknod(place, stat.S_IFCHR | 0o660, os.makedev(1, 3))
        os.chown(place, 0, gid)

    def device(
        self,
        path: str,
        subsystem: str,
        node: str = "",
        *,
        gid: int = 0,
        driver: str = "",
        files: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        """Make a device below /sys/devices, with its node in /dev and files of sysfs.

        A device of a class, whose path ends in SUBSYSTEM/NAME, has a link to its parent.
        """
        path = f"/sys/devices/{path}"
        parent, _, name = path.rpartition("/")
        up = "../" * (path.count("/") - 1)
        self.file(f"{path}/uevent", f"DEVNAME={node}" if node else "")
        if subsystem in _BUSES:
            self.link(f"{path}/subsystem", f"{up}bus/{subsystem}")
            self.link(f"/sys/bus/{subsystem}/devices/{name}", f"../../..{path.removeprefix('/sys')}")
        else:
            self.link(f"{path}/subsystem", f"{up}class/{subsystem}")
            self.link(f"/sys/class/{subsystem}/{name}", f"../..{path.removeprefix('/sys')}")
            if parent.rpartition("/")[2] == subsystem:
                self.link(f"{path}/device", "../..")
        if driver:
            self.link(f"{path}/driver", f"{up}bus/{subsystem}/drivers/{driver}")
        for file, text in files.items():
            self.file(f"{path}/{file}", text)
        if node:
            self.node(f"/dev/{node}", gid)
