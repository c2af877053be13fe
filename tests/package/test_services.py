# SPDX-License-Identifier: Apache-2.0
"""What the system does for the package: systemd accepts its units, logrotate rotates its log."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from . import life
from .conftest import need
from .machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

pytestmark = pytest.mark.xdist_group("deb")

SERVICES = ("cdi-hook-generate.service", "cdi-hook-index.service")
UNITS = ("cdi-hook-generate.path", "cdi-hook-index.path", *SERVICES)
INDEX = "/run/cdi-hook/etc-cdi-var-run-cdi.strict.index"
CONF = "/etc/cdi-hook/cdi-hook.conf"


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
    assert all(runs(action, "misc/fuse") for action in ("add", "bind", "change", "remove"))
    assert not runs("add", "mem/null")


def test_log_is_rotated(unified: Machine) -> None:
    """A log at the place that the configuration suggests is rotated, and then written again."""
    need("logrotate", "runc")
    unified.write(CONF, "LOG=/var/log/cdi-hook.log\n")
    rotate = ("logrotate", "--force", "/etc/logrotate.d/cdi-hook")
    unified.do(*rotate)
    for name in ("first", "second"):
        unified.do("rm", "-f", INDEX)
        unified.create(name, "true")
        assert unified.read("/var/log/cdi-hook.log").count("\n") == 1
        assert unified.do("stat", "--format=%a %U:%G", "/var/log/cdi-hook.log") == "640 root:root"
        unified.do(*rotate)
        assert unified.read("/var/log/cdi-hook.log") == ""
        assert unified.do("stat", "--format=%a %U:%G", "/var/log/cdi-hook.log") == "640 root:root"
        if name == "first":
            unified.do("rm", "/var/log/cdi-hook.log")
