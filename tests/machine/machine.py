# SPDX-License-Identifier: Apache-2.0
"""A machine of its own on this kernel: systemd is its first process, and cgroup v2 its only hierarchy.

systemd-nspawn boots it in a box, from a root dir that mmdebstrap made of Debian's
packages. The machine sees an overlay: what it writes is in memory, survives a reboot,
and disappears with the box. This machine's mounts, cgroups and network stay as they are.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.engine.box import SETTLE, STANDARD_PATH, TIMEOUT_S, Box

if TYPE_CHECKING:
    from collections.abc import Callable

# What the packages of Debian are that the machine has, and what else goes into its root.
PACKAGES = (
    "systemd-sysv", "dbus", "dbus-user-session", "libpam-systemd", "udev", "procps", "kmod",
    "python3", "python3-yaml", "python3-tomli", "python3-pythonjsonlogger",
    "runc", "crun", "busybox-static", "podman", "uidmap", "netavark",
    "curl", "make", "python3-typing-extensions",
)  # fmt: skip
# What takes time at boot, and no test needs.
MASKED = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_reap.service",
    "netavark-dhcp-proxy.socket", "podman-auto-update.timer", "systemd-udevd.service",
)  # fmt: skip
USER = 1000
BOARD = "/run/board"

_INIT = """
read -r pid rest </proc/self/stat
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o "lowerdir=$INSTALLED,upperdir=/mnt/upper,workdir=/mnt/work" overlay /mnt/root
"""
# systemd's own cgroup is the only one there that isn't a service's.
_ENTER = 'echo 0 >/sys/fs/cgroup/init.scope/cgroup.procs; cd /; exec "$@"'
# A user whose systemd starts at boot, and so without a login.
_PREPARE = f"""\
chroot "$1" useradd -m -u {USER} -s /bin/sh lingerer
mkdir -p "$1/var/lib/systemd/linger" "$1/etc/systemd/system"
touch "$1/var/lib/systemd/linger/lingerer"
mkdir -p "$1/etc/containers"
cat >"$1/etc/containers/storage.conf" <<'END' # overlays don't stack
[storage]
driver = "vfs"
runroot = "/run/containers/storage"
graphroot = "/var/lib/containers/storage"
END
for unit in {" ".join(MASKED)}; do ln -s /dev/null "$1/etc/systemd/system/$unit"; done
"""
_MAKE = (
    "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(PACKAGES)}",
    f"--customize-hook={_PREPARE}", "trixie",
)  # fmt: skip


def cached(cache: Path, key: str, make: Callable[[Path], None]) -> Path:
    """Return the dir of a key that is in a cache, or make it there in place of an older one; it is never changed."""
    made = cache / hashlib.sha256(key.encode()).hexdigest()[:12]
    if not made.exists():
        new = cache / f"{made.name}.{os.getpid()}"
        new.mkdir()
        try:
            make(new)
            for old in cache.iterdir():
                if "." not in old.name and old != made:  # with a dot, another run is making it
                    shutil.rmtree(old)
            if not made.exists():  # another run may have been quicker
                new.rename(made)
        finally:
            shutil.rmtree(new, ignore_errors=True)
    return made


def run(*command: str | Path, timeout: float = 300) -> None:
    """Run a program that must succeed; it ends when the tests do, and so do its children and its mounts."""
    alone = ("setpriv", "--pdeathsig=KILL", "unshare", "--mount", "--pid", "--fork", "--kill-child")
    done = subprocess.run(
        [*alone, *command], env={"PATH": STANDARD_PATH}, cwd="/", stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=timeout, check=False, umask=0o022,
    )  # fmt: skip
    assert done.returncode == 0, f"{command[0]}: {done.stderr[-3000:]}"


def make_root(cache: Path) -> Path:
    """Return the root dir that is in a cache, or make it there."""
    return cached(cache, "\0".join(_MAKE), lambda new: run(*_MAKE, new))


class Machine(Box):
    """A machine that has booted; ``root`` is a dir that ``make_root`` made."""

    init = _INIT + SETTLE

    def __init__(self, directory: Path, root: Path) -> None:
        self._first = ""  # the process id of the machine's init
        super().__init__(directory, "v2", root)
        try:
            self._boot()
        except BaseException:
            self.close()
            raise

    def _boot(self) -> None:
        environ = {
            "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1",
            "SYSTEMD_NSPAWN_LOCK": "0",
            "SYSTEMD_SECCOMP": "0",  # units may do what they may on a machine, such as make keyrings
        }
        command = super().command(
            "systemd-nspawn", "--quiet", "--keep-unit", "--register=no", "--directory=/mnt/root", "--boot",
            "--private-network", "--capability=all", "--console=pipe", "--machine=whole",
            "--bind=/dev/fuse", f"--bind={self.directory}:{BOARD}", environ=environ,
        )  # fmt: skip
        log = self._start_nspawn(command)
        self.wait(
            lambda: self.call("systemctl", "is-system-running", "--wait").stdout in ("running\n", "degraded\n"),
            process=self._nspawn, log=log,
        )  # fmt: skip
        failed = self.do("systemctl", "--failed", "--plain", "--no-legend")
        assert failed == "", (
            f"{failed}\n{self.call('journalctl', '--no-pager', '-p', 'notice').stdout[-3000:]}"
        )
        # nspawn hides parts of these; a user's container may mount one only where one is whole.
        for kind in ("proc", "sysfs"):
            self.do("mkdir", f"/run/{kind}")
            self.do("mount", "-t", kind, kind, f"/run/{kind}")

    def _start_nspawn(self, command: list[str]) -> Path:
        """Start the machine by systemd-nspawn, and wait for its init; return its console's file."""
        log = self.directory / "console"
        with log.open("wb") as output:
            self._nspawn = subprocess.Popen(
                command, env={"PATH": STANDARD_PATH, "LAYOUT": self.layout}, cwd="/",
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
        self._daemons.append(self._nspawn)
        self.wait(self._find_init, process=self._nspawn, log=log)
        return log

    def _find_init(self) -> bool:
        """Look for systemd among the descendants of nspawn's command."""
        of = [self._nspawn.pid]
        while of:
            of = [child for one in of for child in _children(one)]
            for one in of:
                if _is_systemd(one):
                    self._first = str(one)
                    return True
        return False

    def reboot(self) -> None:
        """Shut down and boot again, with all that was written on the machine's disk."""
        self.call("systemctl", "reboot")
        self._nspawn.wait(TIMEOUT_S)
        self._boot()

    def command(self, *arguments: str, user: int = 0, environ: dict[str, str] | None = None) -> list[str]:
        """Return the command line that runs a command in the machine."""
        base = {"PATH": STANDARD_PATH, "HOME": "/root"}
        if user:
            base |= {"HOME": "/home/lingerer", "XDG_RUNTIME_DIR": f"/run/user/{user}"}
        settings = [f"{key}={value}" for key, value in {**base, **(environ or {})}.items()]
        change = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
        return [
            "nsenter", "-t", self._first, "-r", "-m", "-p", "-n", "-u", "-i", "-C", "--",
            "sh", "-c", _ENTER, "sh", *change, "env", "-i", *settings, *arguments,
        ]  # fmt: skip


def _children(pid: int) -> list[int]:
    try:
        text = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii")
    except OSError:
        return []
    return [int(one) for one in text.split()]


def _is_systemd(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text("ascii") == "systemd\n"
    except OSError:
        return False
