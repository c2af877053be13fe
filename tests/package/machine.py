# SPDX-License-Identifier: Apache-2.0
"""A machine to install packages on: a box whose root is a copy-on-write copy of this machine's.

Everything that is installed on this machine is there, also the database of packages.
/run, /tmp and all changes are in memory, and disappear when the box ends.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.engine.box import LAYOUT, SETTLE, Box

if TYPE_CHECKING:
    from pathlib import Path

# The directory that it shares with the tests, and in it its spec and its bundle.
BOARD = "/run/board"
SPEC = "/etc/cdi/example.yaml"
BUNDLE = "/srv/bundle"
DEVICE = "example.com/thing=one"

# A box makes its /usr from $INSTALLED, which is this directory.
_INIT = """
read -r pid rest </proc/self/stat
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root
cd /mnt/root
rm -rf etc/cdi # of the copy
mount -t proc proc proc
mount --rbind /dev dev
mount --rbind /sys sys
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mkdir run/lock run/board
mount --bind "$INSTALLED" run/board
busybox pivot_root . mnt # util-linux's isn't everywhere
cd /
umount -l /mnt
"""


class Machine(Box):
    """A machine with a spec and a bundle that asks for its device."""

    init = _INIT + SETTLE

    def __init__(self, directory: Path, layout: str = "") -> None:
        super().__init__(directory, layout or LAYOUT, directory)
        self.write(
            SPEC,
            'cdiVersion: "0.6.0"\nkind: example.com/thing\n'
            "devices: [{name: one, containerEdits: {env: [THING=one]}}]\n",
        )
        self.write(f"{BUNDLE}/config.json", json.dumps(_CONFIG))
        self.do("mkdir", "-p", f"{BUNDLE}/rootfs/proc")
        self.do("cp", "/bin/busybox", f"{BUNDLE}/rootfs/busybox")

    def create(self, name: str, *command: str, runtime: str = "cdi-runtime") -> None:
        """Create a container as an engine does, from a fresh bundle, and start it."""
        config = {**_CONFIG, "process": {**_CONFIG["process"], "args": ["/busybox", *command]}}
        bundle = f"/run/{name}"
        self.do("cp", "-r", BUNDLE, bundle)
        self.write(f"{bundle}/config.json", json.dumps(config))
        self.do(runtime, "create", "--bundle", bundle, name)
        self.do(runtime, "start", name)

    def status(self, name: str) -> str:
        """Return a container's status."""
        status: str = json.loads(self.do("cdi-runtime", "state", name))["status"]
        return status

    def files(self, *places: str) -> set[str]:
        """Return all files and links below these places, and dirs that have our name."""
        return set(self.call("find", *places, "!", "-type", "d", "-o", "-name", "*cdi*").stdout.splitlines())


_CONFIG: dict[str, Any] = {
    "ociVersion": "1.0.2",
    "annotations": {"cdi.k8s.io/test": DEVICE},
    "process": {"user": {"uid": 0, "gid": 0}, "args": ["/busybox", "true"], "cwd": "/", "env": []},
    "root": {"path": "rootfs"},
    # Without a filesystem for /dev, newer releases of runc find what an earlier start has left in the rootfs.
    "mounts": [
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs"},
    ],
    "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}]},
}
