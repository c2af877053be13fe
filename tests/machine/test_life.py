# SPDX-License-Identifier: Apache-2.0
"""The package's life on a machine that boots: installed, used, booted again, removed, purged."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.package import life

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .machine import Machine

pytestmark = pytest.mark.xdist_group("machine")

PLACES = ("/etc", "/usr", "/var", "/run")
# What dpkg and podman keep, what is mounted at each boot, and what systemd says of its units.
NOT_OURS = re.compile(
    r"/(var/lib/(dpkg|containers|systemd)|var/log|var/cache|var/tmp|run/(board|proc|sysfs|systemd|containers|crun|libpod|user|dbus|log|udev|tmpfiles.d|lock|credentials))(/.*)?"
)
PODMAN = "/etc/containers/containers.conf.d/99-cdi-hook.conf"


def kept(machine: Machine) -> set[str]:
    """Return the files of the machine that could be ours."""
    found = machine.do("find", *PLACES, "-xdev", "!", "-type", "d", "-o", "-name", "*cdi*").splitlines()
    return {name for name in found if not NOT_OURS.fullmatch(name)}


def units(machine: Machine, *options: str) -> str:
    """Return the units of ours that run, wait or failed."""
    return machine.do("systemctl", "list-units", *options, "--plain", "--no-legend", "cdi-hook-*")


def test_a_life(machine: Machine, packages: Callable[..., Path]) -> None:
    """The package's units run once it is installed and after a boot; removed and purged, it leaves nothing, and the machine boots."""
    before = kept(machine)
    package = life.Dpkg(machine, packages)
    package.install()
    assert machine.do("systemctl", "is-active", "cdi-hook-index.path") == "active"
    assert machine.do("cdi-hook", "configure", "podman", "--set-default").startswith(f"{PODMAN}: written\n")
    machine.reboot()
    assert machine.do("systemctl", "is-active", "cdi-hook-index.path") == "active"
    assert machine.read(PODMAN)
    said = package.remove()
    assert f"{PODMAN}: removed\n" in said
    assert units(machine) == ""
    package.purge()
    assert kept(machine) - before == set()
    machine.reboot()
    assert units(machine, "--all") == ""
    assert kept(machine) - before == set()
