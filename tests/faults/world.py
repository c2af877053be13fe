# SPDX-License-Identifier: Apache-2.0
"""A host of its own for the attacks: cdi-hook as installed, specs, a bundle, a spy for the runtime, a /run.

/run is a tmpfs in a mount namespace of its own, so that nothing of the machine's
indexes is touched, and no other test's lock is waited for.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import subprocess
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from cdi_hook.base import files
from cdi_hook.leases import same
from tests.runtime.lab import DEVICE as DEVICE_NODE
from tests.runtime.lab import ROOT, STANDARD_PATH

from .faults import Attack

if TYPE_CHECKING:
    from typing import Any

DEVICE = "vendor.com/device=one"
# For these two the runtime is asked for its features: it has the first one's, and not the second's.
NET_DEVICE, CACHE_DEVICE = "vendor.com/device=net", "vendor.com/device=cache"
FEATURES = {"linux": {"netDevices": {"enabled": True}}}
SETTLE_S = 2.1  # a configuration or a spec that changed a moment ago isn't remembered
_ORIGIN = re.compile(r"(/cdi-hook-claims\.)[0-9a-f-]+")  # the number of the leases' dir
_HOLD = "mount -t tmpfs -o mode=755 none /run; echo; exec sleep infinity"

_V1 = Path("/sys/fs/cgroup/devices")  # else a cgroup of v2 has no device rules, unless a runtime makes some
LIVE: dict[str, Any] = {
    "deviceNodes": [{"path": "/dev/cdi/node", "hostPath": str(DEVICE_NODE)}],
    "mounts": [{"hostPath": "/usr/share", "containerPath": "/data", "options": ["bind", "ro"]}],
    "hooks": [{"hookName": name, "path": "/bin/true"} for name in ("createRuntime", "createContainer")],
}


def _same(data: bytes) -> bytes:
    """Return a file without what differs from lease to lease: the token, the time, the process."""
    if b'"format"' not in data and b"cdi-hook.lease" not in data:
        return data
    data = re.sub(rb'"[0-9a-f]{32}"', b'"TOKEN"', data)
    return re.sub(rb'"since":[0-9.]+|"creators":\[\[.*?\]\]', b"", data)


class World:
    """The host; ``directory`` has all of its files but those in /run."""

    def __init__(self, directory: Path, spy: Path, injector: Path) -> None:
        self.directory = directory
        for name in ("cdi", "bundle", "etc", "runtimes", "engine", "logs"):
            (directory / name).mkdir()
        self.bin = directory / "usr/bin"
        subprocess.run(
            ["make", "-s", "-C", ROOT, "install", f"PREFIX={directory}/usr", f"SYSCONFDIR={directory}/none"],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        self.runtime = Path(shutil.copy(spy, directory / "runtimes/spy"))
        Path(f"{self.runtime}.features").write_text(json.dumps(FEATURES), "utf-8")
        Path(f"{self.runtime}.state").write_text('level=error msg="container does not exist"\n', "utf-8")
        # What is called if the configuration is lost, which must never be.
        self.wrong_runtime = Path(shutil.copy(spy, directory / "runtimes/runc"))
        self.config = directory / "bundle/config.json"
        self.log, self.own_log = directory / "logs/log.json", directory / "logs/own.json"
        self.conf = directory / "etc/cdi-hook.conf"
        settings = {"RUNTIMES": self.runtime, "SPEC_DIRS": directory / "cdi", "LOG": self.own_log}
        self.conf.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        self.exclusive = directory / "etc/exclusive.conf"  # with DEVICE for one container at a time
        self.exclusive.write_text(f"{self.conf.read_text()}EXCLUSIVE={DEVICE}\n")
        self.environ = {"PATH": f"{directory}/runtimes:{STANDARD_PATH}", "CDI_HOOK_CONFIG": str(self.conf)}
        devices = [
            {"name": "one", "containerEdits": {"env": ["ONE=1"]}},
            {"name": "one-live", "containerEdits": LIVE},
            {"name": "net", "containerEdits": {"netDevices": [{"hostInterfaceName": "lo", "name": "ONE"}]}},
            {"name": "cache", "containerEdits": {"intelRdt": {"enableMonitoring": True}}},
        ]
        spec = {"cdiVersion": "1.1.0", "kind": "vendor.com/device", "devices": devices}
        (directory / "cdi/device.yaml").write_text(json.dumps(spec), "utf-8")
        self._read: dict[tuple[int, ...], bytes] = {}
        self._container: subprocess.Popen[bytes] | None = None
        self._cgroup = (_V1 if _V1.is_dir() else _V1.parent) / f"cdi-hook-test-{uuid.uuid4().hex[:12]}"
        # so that a call whose path is here is for our own work
        self.marks = [str(directory / name) for name in ("usr", "cdi", "bundle", "etc", "engine")]
        self._holder = subprocess.Popen(
            ["unshare", "-m", "--propagation", "private", "sh", "-ec", _HOLD],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        )  # fmt: skip
        assert self._holder.stdout
        self._holder.stdout.readline()
        self.run = Path(f"/proc/{self._holder.pid}/root/run")
        self.attack = Attack(injector, directory, ("nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt"))
        time.sleep(SETTLE_S)
        self._kept = directory / "kept"
        self.ask(DEVICE)
        command = [str(self.bin / "cdi-runtime"), "create", "--bundle", str(self.config.parent), "id"]
        outcome = self.attack.run(command, self.environ)
        assert (outcome.status, outcome.out, outcome.err) == (0, "", "")
        shutil.copytree(self.run, self._kept)

    def ask(self, device: str) -> None:
        """Write a config.json that asks for a device, or for nothing with ""."""
        annotations = {"cdi.k8s.io/test": device} if device else {}
        oci = {"ociVersion": "1.0.2", "annotations": annotations, "x-kept": [1.50]}
        self.config.write_text(json.dumps(oci))

    def have_run(self, *, kept: bool) -> None:
        """Have /run as it is after a first container, or empty."""
        for path in self.run.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()  # the leases' claims
        if kept:
            shutil.copytree(self._kept, self.run, dirs_exist_ok=True)

    def kept(self) -> list[Path]:
        """Return the files that cdi-hook keeps in /run: the index, and the lines of the configuration."""
        return [
            path for path in self.run.rglob("*") if path.is_file() and not path.name.endswith(files.TEMPORARY)
        ]

    def called(self) -> list[Path]:
        """Return the runtimes that were called since this was last asked."""
        records = [path for path in (self.directory / "runtimes").iterdir() if path.suffix == ".record"]
        for record in records:
            record.unlink()
        return [record.with_suffix("") for record in records]

    def have_engine(self, path: str, text: str) -> None:
        """Have nothing in the engines' dir but a file with this text."""
        for old in (self.directory / "engine").iterdir():
            old.unlink()
        Path(path).write_text(text, "utf-8")

    def have_container(self) -> None:
        """Have a process in a mount namespace and a cgroup of its own, and a new rootfs: a container being created."""
        self._end_container()
        rootfs = self.config.parent / "rootfs"
        shutil.rmtree(rootfs, ignore_errors=True)
        rootfs.mkdir()
        self.ask(f"{DEVICE}-live")
        oci = json.loads(self.config.read_text("utf-8"))
        self.config.write_text(json.dumps({**oci, "root": {"path": "rootfs"}}), "utf-8")
        self.have_run(kept=True)
        script = 'mount --bind "$1" "$1" && echo && exec sleep infinity'  # as runtimes do
        hold = ("unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh", str(rootfs))
        self._container = subprocess.Popen(
            [*self.attack.prefix, *hold], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        assert self._container.stdout
        self._container.stdout.readline()
        self._cgroup.mkdir(exist_ok=True)
        (self._cgroup / "cgroup.procs").write_text(str(self._container.pid))
        if (self._cgroup / "devices.deny").exists():
            (self._cgroup / "devices.deny").write_text("a")

    def container_state(self) -> str:
        """Return the state that a runtime gives its hooks."""
        assert self._container
        state = {"ociVersion": "1.0.2", "id": "id", "status": "creating", "pid": self._container.pid}
        return json.dumps({**state, "bundle": str(self.config.parent)})

    def is_allowed(self) -> bool:
        """Say whether the container's cgroup allows the device."""
        rules = self._cgroup / "devices.list"
        return not rules.exists() or "c 10:229 rwm" in rules.read_text("utf-8")

    def in_container(self) -> list[str]:
        """Return what of the device is in the container: its node, its mount."""
        assert self._container
        found = []
        node = self.config.parent / "rootfs/dev/cdi/node"
        if node.is_char_device() and node.stat().st_rdev == DEVICE_NODE.stat().st_rdev:
            found.append("node")
        if "/rootfs/data " in Path(f"/proc/{self._container.pid}/mountinfo").read_text("utf-8"):
            found.append("mount")
        return found

    def _end_container(self) -> None:
        if self._container:
            with self._container:
                self._container.kill()

    def state(self) -> dict[str, bytes]:
        """Return everything that cdi-hook could have left: the data of all files, by path, and of the rest its kind."""
        found = {}
        for top in (*self.marks, str(self.run)):
            for where, directories, names in os.walk(top):
                for path in (f"{where}/{name}" for name in (*directories, *names)):
                    status = os.lstat(path)
                    data = (
                        self._data(path, status)
                        if stat.S_ISREG(status.st_mode)
                        else oct(status.st_mode).encode()
                    )
                    found[_ORIGIN.sub(r"\1ORIGIN", path)] = data
        return found

    def _data(self, path: str, status: os.stat_result) -> bytes:
        """Return what is in a file; of one that hasn't changed for a while, what was."""
        key = (status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns)
        if key not in self._read:
            data = _same(Path(path).read_bytes())
            if time.time() - status.st_ctime < SETTLE_S:
                return data
            self._read[key] = data
        return self._read[key]

    def leases(self) -> list[dict[str, Any]]:
        """Return the leases that are kept; raises ValueError for half a file."""
        file = self.run / "cdi-hook-leases/leases"
        found: list[dict[str, Any]] = json.loads(file.read_text("utf-8"))["leases"] if file.exists() else []
        return found

    def have_lease(self) -> None:
        """Have a lease of a container that is gone in the way of DEVICE."""
        lease = {
            "token": "x", "id": "gone", "root": "", "bundle": "/b", "engine": "", "since": 1, "creators": [],
            "state": [str(self.runtime), "state", "gone"], "xdg": None,
            "devices": [["other", sorted(same.of_edits("other", {"env": ["ONE=1"]}).keys), []]],
        }  # fmt: skip
        directory = self.run / "cdi-hook-leases"
        directory.mkdir(mode=0o700)
        (directory / "leases").write_text(json.dumps({"format": 1, "leases": [lease]}))

    def close(self) -> None:
        """End the namespaces, and remove the cgroup."""
        self._end_container()
        with self._holder:
            self._holder.kill()
        if self._cgroup.exists():
            self._cgroup.rmdir()
