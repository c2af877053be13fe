# SPDX-License-Identifier: Apache-2.0
"""A virtual machine with Debian on it: a kernel, cgroups, AppArmor or SELinux of its own.

Its disk is an overlay on an image that is made once, from a root dir that mmdebstrap
made; the kernel and the initrd are out of the same root. A second disk has what the
tests bring, at BOARD. It has no network. Commands come to an agent in it by a virtio
port, whose other end is a socket of the tests'. It ends when they end, in any way.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from tests.engine.box import STANDARD_PATH, Completed, Host
from tests.machine.machine import cached, run

if TYPE_CHECKING:
    from collections.abc import Sequence

BOARD = "/run/board"
# What a node of Kubernetes has besides an engine (tests/cluster).
KUBERNETES = (
    "containernetworking-plugins", "iptables", "iproute2", "conntrack", "ethtool", "etcd-server", "etcd-client",
    "kubectl", "ca-certificates", "openssl", "mount", "fuse3", "conmon",
)  # fmt: skip
PACKAGES = (
    "systemd-sysv", "dbus", "dbus-user-session", "libpam-systemd", "udev", "procps", "kmod", "initramfs-tools",
    "linux-image-cloud-amd64", "python3", "python3-yaml", "python3-pythonjsonlogger",
    "busybox-static", "runc", "crun", "containerd", "docker.io", "docker-cli", "docker-compose", "podman", "netavark",
    "apparmor", "selinux-policy-default", "policycoreutils", *KUBERNETES,
)  # fmt: skip
# What takes time at boot, and no test needs.
MASKED = (
    "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_reap.service", "fstrim.timer",
    "logrotate.timer", "systemd-timesyncd.service", "getty@tty1.service", "serial-getty@ttyS0.service",
    "netavark-dhcp-proxy.socket", "podman-auto-update.timer", "selinux-autorelabel-mark.service", "etcd.service",
)  # fmt: skip
AGENT = Path(__file__).with_name("agent.py").read_text("utf-8")
FILES = {
    "usr/local/sbin/board": AGENT,
    "etc/systemd/system/board.service": """\
[Unit]
Description=Run the tests' commands
[Service]
ExecStart=/usr/bin/python3 /usr/local/sbin/board
SELinuxContext=-unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023
KillMode=process
[Install]
WantedBy=multi-user.target
""",
    "etc/fstab": f"/dev/vda / ext4 defaults 0 0\n/dev/vdb {BOARD} ext4 defaults 0 0\n",
    "etc/selinux/config": "SELINUX=enforcing\nSELINUXTYPE=default\n",
    "etc/hostname": "virtual\n",
    # Emulated on a busy machine, a disk may take longer to come than systemd waits.
    "etc/systemd/system.conf.d/slow.conf": "[Manager]\nDefaultTimeoutStartSec=900\nDefaultDeviceTimeoutSec=900\n",
    "etc/docker/daemon.json": '{"bridge": "none", "iptables": false, "ip6tables": false}\n',
}
# Before the kernel's package makes the initrd: one that has only what this machine needs.
_BEFORE = """\
mkdir -p "$1/etc/initramfs-tools/conf.d"
echo MODULES=list >"$1/etc/initramfs-tools/conf.d/list"
printf '%s\\n' virtio_pci virtio_blk ext4 >"$1/etc/initramfs-tools/modules"
"""
_MMDEBSTRAP = (
    "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(PACKAGES)}",
    f"--essential-hook={_BEFORE}", "trixie",
)  # fmt: skip
# Nothing is labelled by a kernel that has no SELinux.
_IN_ROOT = f"""\
systemctl -q enable board.service
systemctl -q disable containerd.service docker.service docker.socket # a test starts them
systemctl -q mask {" ".join(MASKED)}
rm -rf /var/cache/apt/archives /var/lib/apt/lists/*
mv /boot/vmlinuz-* /boot/vmlinuz
mv /boot/initrd.img-* /boot/initrd
setfiles -F -e /proc -e /sys /etc/selinux/default/contexts/files/file_contexts /
"""
SIZE = "6G"
_ARM = (
    "mmdebstrap", "--quiet", "--mode=root", "--variant=extract", "--architectures=arm64",
    "--include=dash,coreutils,grep,busybox-static,python3,python3-yaml,runc,crun,linux-image-cloud-arm64", "trixie",
)  # fmt: skip
_ARM_INIT = """\
#!/bin/sh
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec python3 /agent.py
"""
_CPUS = {"kvm": "host", "tcg": "qemu64"}  # an emulated one is quicker without vectors
_SLOWER = {"kvm": 1, "tcg": 10}


def _make(directory: Path) -> None:
    root = directory / "root"
    run(*_MMDEBSTRAP, root, timeout=1800)
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, "utf-8")
    run("chroot", root, "sh", "-ec", _IN_ROOT)
    for name in ("vmlinuz", "initrd"):
        (root / "boot" / name).rename(directory / name)
    run("mke2fs", "-q", "-t", "ext4", "-d", root, directory / "disk", SIZE, timeout=300)
    shutil.rmtree(root)


def make_image(cache: Path) -> Path:
    """Return a dir with an image, its kernel and its initrd, which is in a cache or is made there."""
    return cached(cache, json.dumps([_MMDEBSTRAP, FILES, _IN_ROOT, SIZE]), _make)


class Virtual(Host):
    """A virtual machine that has booted; ``ready`` prints nothing when it came up well."""

    def __init__(self, directory: Path, qemu: Sequence[str | Path], accelerator: str, ready: str) -> None:
        self.directory = directory
        self._command = qemu
        self._accelerator = accelerator
        self._ready = ready
        self.timeout = 60 * _SLOWER[accelerator]
        self._boot()

    def _boot(self) -> None:
        ours, its = socket.socketpair()
        started = time.monotonic()
        with its, (self.directory / "qemu").open("wb") as log:
            self._qemu = subprocess.Popen(
                [
                    "setpriv", "--pdeathsig=KILL", *self._command, "-accel", self._accelerator,
                    "-nodefaults", "-no-user-config", "-display", "none", "-nic", "none", "-sandbox", "on", "-no-reboot",
                    "-serial", f"file:{self.directory}/console",
                    "-device", "virtio-serial-pci", "-chardev", f"socket,id=board,fd={its.fileno()}",
                    "-device", "virtserialport,chardev=board",
                ],
                env={"PATH": STANDARD_PATH}, cwd="/", stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=log, pass_fds=[its.fileno()],
            )  # fmt: skip
        self._port = ours
        self._lines = ours.makefile("rb")
        try:
            assert self.do("sh", "-c", self._ready) == ""
        except BaseException:
            self.close()
            raise
        print(f"booted by {self._accelerator} in {time.monotonic() - started:.0f} s")

    def call(
        self,
        *arguments: str,
        environ: dict[str, str] | None = None,
        stdin: bytes = b"",
        timeout: float | None = None,
    ) -> Completed:
        """Run a command in the machine to its end."""
        seconds = timeout or self.timeout
        command = {
            "arguments": arguments,
            "environ": {"PATH": STANDARD_PATH, "HOME": "/root", **(environ or {})},
            "stdin": stdin.decode("latin-1"),
            "timeout": seconds,
        }
        self._port.settimeout(seconds + 30)
        try:
            self._port.sendall(json.dumps(command).encode() + b"\n")
            line = self._lines.readline()
        except OSError:
            line = b""
        if not line:
            self.close()  # an answer that comes late would be taken for the next one's
        assert line, f"the machine doesn't answer to {arguments}: {self.console()}"
        status, out, err = json.loads(line)
        return Completed(list(arguments), status, out, err)

    def console(self) -> str:
        """Return the end of what qemu and the machine's console said."""
        names = (self.directory / "qemu", self.directory / "console")
        return "".join(name.read_text("utf-8", "replace")[-3000:] for name in names if name.exists())

    def reboot(self) -> None:
        """Shut down and boot again."""
        with contextlib.suppress(AssertionError):  # it may be down before it has answered
            self.call("systemctl", "--no-block", "poweroff")
        self._qemu.wait(self.timeout)
        self.close()
        self._boot()

    def close(self) -> None:
        """End the machine, as if its power were cut."""
        self._qemu.kill()
        self._qemu.wait()
        self._lines.close()
        self._port.close()


AnyVirtual = TypeVar("AnyVirtual", bound=Virtual)


def boot(
    kind: type[AnyVirtual],
    directory: Path,
    image: Path,
    accelerator: str,
    *parameters: str,
    memory: str = "2048",
    board: str = "128M",
) -> AnyVirtual:
    """Boot Debian, with all that is in ``directory / "board"`` at BOARD, and with more parameters of the kernel.

    ``memory`` is in MiB, ``board`` the size of the disk that is made of that dir.
    """
    (directory / "board").mkdir(parents=True, exist_ok=True)
    run("mke2fs", "-q", "-t", "ext4", "-d", directory / "board", directory / "board.disk", board)
    overlay = directory / "disk.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", image / "disk", overlay)
    given = " ".join(("root=/dev/vda rw console=ttyS0 panic=-1 quiet mitigations=off", *parameters))
    command = (
        "qemu-system-x86_64", "-machine", "q35", "-cpu", _CPUS[accelerator], "-smp", "2", "-m", memory,
        "-kernel", image / "vmlinuz", "-initrd", image / "initrd", "-append", given,
        "-drive", f"if=virtio,cache=unsafe,format=qcow2,file={overlay}",
        "-drive", f"if=virtio,cache=unsafe,format=raw,file={directory}/board.disk",
    )  # fmt: skip
    ready = "systemctl is-system-running --wait >/dev/null; systemctl --failed --plain --no-legend"
    return kind(directory, command, accelerator, ready)


def find_accelerator(image: Path, directory: Path) -> str:
    """Return KVM if a machine boots with it; an emulation otherwise, because /dev/kvm alone doesn't say that one does."""
    if os.access("/dev/kvm", os.R_OK | os.W_OK):
        try:
            boot(Virtual, directory, image, "kvm").close()
        except AssertionError:
            print("/dev/kvm is there, and no machine boots with it")
        else:
            return "kvm"
    return "tcg"


def _pack(root: Path, initrd: Path) -> None:
    run("sh", "-ec", 'cd "$1"; find . | busybox cpio -o -H newc >"$2"', "sh", root, initrd)
    shutil.rmtree(root)


def make_arm(cache: Path) -> Path:
    """Return a dir with a kernel for arm64, and an initramfs of packages that are unpacked and not configured."""

    def make(directory: Path) -> None:
        root = directory / "root"
        run(*_ARM, root, timeout=1800)
        (kernel,) = root.glob("boot/vmlinuz-*")
        kernel.rename(directory / "vmlinuz")
        for name in ("boot", "dev", "usr/lib/modules", "usr/share/doc", "usr/share/locale", "usr/share/man"):
            shutil.rmtree(root / name)
        for name in ("bin", "sbin", "lib"):
            (root / name).symlink_to(f"usr/{name}")
        for name in ("dev", "proc", "run", "sys"):
            (root / name).mkdir()
        (root / "init").write_text(_ARM_INIT, "ascii")
        (root / "init").chmod(0o755)
        (root / "agent.py").write_text(AGENT, "utf-8")
        _pack(root, directory / "initrd")

    return cached(cache, json.dumps([_ARM, _ARM_INIT, AGENT]), make)


def boot_arm(directory: Path, image: Path, package: Path) -> Virtual:
    """Boot a machine for arm64 from its initramfs, to which a package of ours is added."""
    run("dpkg-deb", "--extract", package, directory / "root")
    _pack(directory / "root", directory / "package")
    both = (image / "initrd").read_bytes() + (directory / "package").read_bytes()
    (directory / "initrd").write_bytes(both)
    command = (
        "qemu-system-aarch64", "-machine", "virt", "-cpu", "cortex-a57", "-smp", "2", "-m", "2048",
        "-kernel", image / "vmlinuz", "-initrd", directory / "initrd", "-append", "console=ttyAMA0 panic=-1 quiet",
    )  # fmt: skip
    return Virtual(directory, command, "tcg", ":")
