# SPDX-License-Identifier: Apache-2.0
"""The package's units under systemd: the index at boot and whenever specs change, and a boot that doesn't wait for it."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .machine import Machine

pytestmark = pytest.mark.xdist_group("machine")

INDEX = "/run/cdi-hook/etc-cdi-var-run-cdi.strict.index"
SERVICE = "cdi-hook-index.service"
SLOW = f"/etc/systemd/system/{SERVICE}.d/slow.conf"


def spec(machine: Machine, path: str, name: str) -> None:
    """Write a spec with one kind."""
    machine.write(
        path,
        f'cdiVersion: "0.6.0"\nkind: example.com/{name}\n'
        "devices: [{name: one, containerEdits: {env: [THING=one]}}]\n",
    )


def has(machine: Machine, name: str) -> bool:
    """Say whether the index has the device of a kind."""
    return f"example.com/{name}=one" in machine.read(INDEX)


def is_idle(machine: Machine) -> bool:
    """Say whether the service has ended."""
    return machine.call("systemctl", "is-active", SERVICE).stdout.strip() == "inactive"


def test_index_follows_the_specs(installed: Machine) -> None:
    """After boot a machine has an index, and after new specs or a new spec dir the index has their devices too."""
    installed.do("rm", "-rf", "/etc/cdi", "/run/cdi")
    installed.reboot()
    for number in range(6):  # more often in a row than systemd starts a service by default
        installed.wait(functools.partial(is_idle, installed))
        directory = "/run/cdi" if number else "/etc/cdi"  # both are made only now
        spec(installed, f"{directory}/{number}.yaml", f"thing{number}")
        installed.wait(functools.partial(has, installed, f"thing{number}"))
    # while it is still running
    installed.do("rm", "-r", "/run/cdi")
    installed.wait(lambda: not has(installed, "thing5"))
    installed.reboot()
    assert has(installed, "thing0")


def reached(machine: Machine, unit: str, what: str) -> int:
    """Return when a unit became active or inactive, in microseconds since the kernel's start."""
    return int(machine.do("systemctl", "show", "-P", f"{what}EnterTimestampMonotonic", unit))


def test_boot_does_not_wait(installed: Machine) -> None:
    """multi-user.target is reached while the index is still being compiled, however long that takes."""
    installed.write(SLOW, "[Service]\nExecStartPre=/usr/bin/sleep 2\n")
    try:
        installed.reboot()
        done = reached(installed, SERVICE, "Inactive")
        assert done - reached(installed, "sysinit.target", "Active") > 2_000_000
        assert done - reached(installed, "multi-user.target", "Active") > 1_000_000
    finally:
        installed.do("rm", SLOW)
        installed.do("systemctl", "daemon-reload")
