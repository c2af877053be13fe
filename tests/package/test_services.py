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

UNITS = ("cdi-hook-index.path", "cdi-hook-index.service")
INDEX = "/run/cdi-hook/etc-cdi-var-run-cdi.strict.index"


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
    """systemd accepts the units, and finds that the service can do little harm."""
    units = [f"/usr/lib/systemd/system/{name}" for name in UNITS]
    done = unified.call("systemd-analyze", "verify", "--man=no", *units)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    security = ("systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=15")
    done = unified.call(*security, units[1])
    assert done.returncode == 0, done.stdout


def test_log_is_rotated(unified: Machine) -> None:
    """A log at the place that the configuration suggests is rotated, and then written again."""
    need("logrotate", "runc")
    unified.write("/etc/cdi-hook/cdi-hook.conf", "LOG=/var/log/cdi-hook.log\nLOG_LEVEL=debug\n")
    rotate = ("logrotate", "--force", "/etc/logrotate.d/cdi-hook")
    unified.do(*rotate)
    for name in ("first", "second"):
        unified.do("rm", "-f", INDEX)
        unified.create(name, "true")
        assert unified.read("/var/log/cdi-hook.log").count("\n") == 1
        unified.do(*rotate)
        assert unified.read("/var/log/cdi-hook.log") == ""
