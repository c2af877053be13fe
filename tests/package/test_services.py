# SPDX-License-Identifier: Apache-2.0
"""What the system does for the package: systemd builds the index, logrotate rotates the log."""

from __future__ import annotations

import functools
import json
import os
from typing import TYPE_CHECKING

import pytest

from . import life
from .conftest import need
from .machine import SPEC, Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("deb")

SERVICES = ("cdi-hook-generate.service", "cdi-hook-index.service")
UNITS = ("cdi-hook-generate.path", "cdi-hook-index.path", *SERVICES)
INDEX = "/run/cdi-hook/etc-cdi-var-run-cdi.strict.index"
# It exists while the box runs.
SERVICE = "/sys/fs/cgroup/boot/system.slice/cdi-hook-index.service"
TARGET = """\
[Unit]
DefaultDependencies=no
Wants=cdi-hook-{0}.path cdi-hook-{0}.service
"""
CONF = "/etc/cdi-hook/cdi-hook.conf"
# As in a container: the machine's own files can't be written, above all /proc/sys.
BOOT = """
mkdir /sys/fs/cgroup/boot
echo 0 >/sys/fs/cgroup/boot/cgroup.procs
exec env -i container=other PATH="$PATH" unshare -p -f -m -C --propagation private sh -ec "$1"
"""
INIT = """
umount /sys/fs/cgroup
mount -o remount,bind,ro /sys
mount -t cgroup2 none /sys/fs/cgroup
mount -t proc proc /proc
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
exec /usr/lib/systemd/systemd --system --unit=boot.target --log-target=console --show-status=no
"""


@pytest.fixture
def unified(tmp_path: Path, packages: Callable[..., Path]) -> Generator[Machine]:
    """A machine with the package, and with cgroup v2, which systemd needs."""
    if os.geteuid() != 0:
        pytest.skip("a machine of its own needs root")
    need("busybox", "systemd-analyze")
    machine = Machine(tmp_path, "v2")
    life.Dpkg(machine, packages).install()
    yield machine
    machine.close()


def test_units_are_sound(unified: Machine) -> None:
    """systemd accepts the units, and finds that the services can do little harm."""
    units = [f"/usr/lib/systemd/system/{name}" for name in UNITS]
    done = unified.call("systemd-analyze", "verify", "--man=no", *units)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    security = ("systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=15")
    for service in SERVICES:
        done = unified.call(*security, f"/usr/lib/systemd/system/{service}")
        assert done.returncode == 0, done.stdout


def has(machine: Machine, kind: str) -> bool:
    """Say whether the index has the device of a kind."""
    return f"{kind}=one" in machine.read(INDEX)


def test_index_follows_the_specs(unified: Machine) -> None:
    """After boot a machine has an index, and after new specs or a new spec dir the index has their devices too."""
    unified.write("/etc/systemd/system/boot.target", TARGET.format("index"))
    unified.do("rm", "-rf", "/run/cdi-hook")
    log = unified.daemon("sh", "-c", BOOT, "sh", INIT, ready=("test", "-e", INDEX))
    assert has(unified, "example.com/thing")
    spec = unified.read(SPEC)
    for number in range(6):  # more often in a row than systemd starts a service by default
        unified.wait(lambda: unified.call("test", "-e", SERVICE).returncode, log=log)
        kind = f"example.com/thing{number}"
        unified.write(
            f"{'/run/cdi' if number else '/etc/cdi'}/{number}.yaml", spec.replace("example.com/thing", kind)
        )
        unified.wait(functools.partial(has, unified, kind), log=log)
    # while it is still running
    unified.do("rm", "-r", "/run/cdi")
    unified.wait(lambda: not has(unified, kind), log=log)


def test_specs_follow_the_configuration(unified: Machine) -> None:
    """After boot a machine has the specs of GENERATE, compiled, and when GENERATE changes, they change."""
    unified.write("/etc/systemd/system/boot.target", TARGET.format("generate"))
    unified.write(CONF, "GENERATE=fuse\n")
    unified.do("rm", "-rf", "/run/cdi-hook", "/run/cdi")
    fuse = "/run/cdi/host.local-fuse.yaml"
    log = unified.daemon("sh", "-c", BOOT, "sh", INIT, ready=("test", "-e", INDEX))
    assert unified.do("stat", "-c", "%U %a", fuse) == "root 644"
    assert "host.local/fuse=fuse" in unified.read(INDEX)
    assert unified.do("cdi-hook", "validate", fuse) == f"{fuse}: host.local/fuse, 2 devices, CDI 0.3.0"
    assert unified.call("test", "-e", "/run/cdi-hook/generate").returncode == 0
    unified.write("/run/cdi/mine.yaml", unified.read(SPEC))
    unified.write(CONF, "GENERATE=\n")
    unified.wait(lambda: unified.call("test", "-e", fuse).returncode, log=log)
    assert unified.call("test", "-e", "/run/cdi-hook/generate").returncode == 1
    assert unified.files("/run/cdi") == {"/run/cdi", "/run/cdi/mine.yaml"}


def test_udev_starts_the_service(unified: Machine) -> None:
    """When a device of a class comes or goes, udev starts the service, but only if GENERATE has a class."""
    need("udevadm")
    start = "/usr/bin/systemctl --no-block start cdi-hook-generate.service"

    def runs(action: str, device: str) -> bool:
        done = unified.call("udevadm", "test", f"--action={action}", f"/sys/class/{device}")
        return start in done.stdout + done.stderr

    assert not runs("add", "misc/fuse")
    unified.write(CONF, "GENERATE=fuse\n")
    unified.do("cdi-hook", "generate", "--configured")
    assert [runs(action, "misc/fuse") for action in ("add", "change", "remove", "bind")] == [True] * 3 + [
        False
    ]
    assert not runs("add", "mem/null")


# Runs a command in the namespaces of systemd, which answers nobody else.
_WITHIN = 'exec nsenter -t "$(busybox pidof systemd)" -m -p -C -- "$@"'


def within(machine: Machine, *command: str) -> str:
    """Return what a command prints where systemd runs."""
    return machine.call("sh", "-c", _WITHIN, "sh", *command).stdout


def units(machine: Machine) -> list[tuple[str, str, str | None]]:
    """Return what doctor says of the units."""
    found = json.loads(within(machine, "cdi-hook", "doctor", "--json"))
    return [(one["level"], one["fact"], one["fix"]) for one in found if one["check"] == "units"]


def test_doctor_asks_systemd(unified: Machine) -> None:
    """cdi-hook doctor says of the units that they are enabled, that one isn't, and that one has failed."""
    path, service = "cdi-hook-index.path", "cdi-hook-index.service"
    unified.write("/etc/systemd/system/boot.target", TARGET.format("index"))
    unified.do("rm", "-rf", "/run/cdi-hook")
    log = unified.daemon("sh", "-c", BOOT, "sh", INIT, ready=("test", "-e", INDEX))
    unified.wait(lambda: unified.call("test", "-e", SERVICE).returncode, log=log)
    assert units(unified) == [("ok", f"enabled: {', '.join(sorted(UNITS))}", None)]
    within(unified, "systemctl", "disable", path)
    unified.write(f"/run/systemd/system/{service}.d/x.conf", "[Service]\nExecStartPre=/bin/false\n")
    within(unified, "systemctl", "daemon-reload")
    within(unified, "systemctl", "start", service)
    failed = f"the unit {service} has failed"
    assert units(unified)[:2] == [
        ("error", failed, f"systemctl status {service}; journalctl -u {service}"),
        ("warning", f"not enabled: {path}", f"systemctl enable --now {path}"),
    ]


def test_log_is_rotated(unified: Machine) -> None:
    """A log at the place that the configuration suggests is rotated, and then written again."""
    need("logrotate", "runc")
    unified.write(CONF, "LOG=/var/log/cdi-hook.log\nLOG_LEVEL=debug\n")
    rotate = ("logrotate", "--force", "/etc/logrotate.d/cdi-hook")
    unified.do(*rotate)
    for name in ("first", "second"):
        unified.do("rm", "-f", INDEX)
        unified.create(name, "true")
        assert unified.read("/var/log/cdi-hook.log").count("\n") == 1
        unified.do(*rotate)
        assert unified.read("/var/log/cdi-hook.log") == ""
