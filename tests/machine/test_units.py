# SPDX-License-Identifier: Apache-2.0
"""The package's units under systemd: the index at boot and whenever specs change, and a boot that doesn't wait for it."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .machine import Machine

pytestmark = pytest.mark.xdist_group("machine")

INDEX = "/run/cdi-hook/etc-cdi-var-run-cdi.strict.index"
SERVICE = "cdi-hook-index.service"
SERVICES = ("cdi-hook-generate.service", SERVICE)
SLOW = "/etc/systemd/system/{}.d/slow.conf"
CONF = "/etc/cdi-hook/cdi-hook.conf"


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


def is_idle(machine: Machine, service: str = SERVICE) -> bool:
    """Say whether a service has ended."""
    return machine.call("systemctl", "is-active", service).stdout.strip() == "inactive"


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


def test_index_follows_extensions(installed: Machine) -> None:
    """When systemd merges another configuration extension into /etc, the index has its specs."""
    for number in range(2):
        top = "/var/lib/confexts/specs/etc"
        spec(installed, f"{top}/cdi/extension.yaml", f"extension{number}")
        installed.do("touch", "-d", "@1", f"{top}/cdi/extension.yaml")
        installed.write(f"{top}/extension-release.d/extension-release.specs", "ID=_any\n")
        installed.wait(functools.partial(is_idle, installed))
        installed.do("systemctl", "restart", "systemd-confext.service")
        installed.wait(functools.partial(has, installed, f"extension{number}"))
    installed.do("systemctl", "stop", "systemd-confext.service")
    installed.do("rm", "-r", "/var/lib/confexts/specs")


def test_specs_follow_the_configuration(installed: Machine) -> None:
    """After boot a machine has the specs of GENERATE, compiled, and when GENERATE changes, they change."""
    fuse = "/run/cdi/host.local-fuse.yaml"
    installed.write(CONF, "GENERATE=fuse\n")
    installed.reboot()
    installed.wait(lambda: "host.local/fuse=fuse" in installed.read(INDEX))
    assert installed.do("stat", "-c", "%U %a", fuse) == "root 644"
    assert installed.do("cdi-hook", "validate", fuse) == f"{fuse}: host.local/fuse, 2 devices, CDI 0.3.0"
    assert installed.call("test", "-e", "/run/cdi-hook/generate").returncode == 0
    spec(installed, "/run/cdi/mine.yaml", "mine")
    installed.write(CONF, "GENERATE=\n")
    installed.wait(lambda: installed.call("test", "-e", fuse).returncode)
    assert installed.call("test", "-e", "/run/cdi-hook/generate").returncode == 1
    assert installed.do("ls", "/run/cdi") == "mine.yaml"
    installed.do("rm", "-r", "/run/cdi")


def test_specs_follow_mig_devices(installed: Machine) -> None:
    """When NVIDIA's driver makes a node for a MIG device, or takes one away, specs are made again."""
    fuse, capability = "/run/cdi/host.local-fuse.yaml", "/dev/nvidia-caps/nvidia-cap21"
    installed.write(CONF, "GENERATE=fuse\n")
    for change in (("mkdir", "/dev/nvidia-caps"), ("mknod", capability, "c", "1", "3"), ("rm", capability)):
        installed.wait(lambda: installed.call("test", "-e", fuse).returncode == 0)
        installed.wait(functools.partial(is_idle, installed, SERVICES[0]))
        installed.do("rm", fuse)
        installed.do(*change)
    installed.wait(lambda: installed.call("test", "-e", fuse).returncode == 0)
    installed.do("rm", "-r", "/dev/nvidia-caps", CONF)


def reached(machine: Machine, unit: str, what: str) -> int:
    """Return when a unit became active or inactive, in microseconds since the kernel's start."""
    return int(machine.do("systemctl", "show", "-P", f"{what}EnterTimestampMonotonic", unit))


def test_boot_does_not_wait(installed: Machine) -> None:
    """multi-user.target is reached while specs are still made and compiled, however long that takes."""
    installed.write(CONF, "GENERATE=fuse\n")
    for service in SERVICES:
        installed.write(SLOW.format(service), "[Service]\nExecStartPre=/usr/bin/sleep 2\n")
    try:
        installed.reboot()
        for service in SERVICES:
            done = reached(installed, service, "Inactive")
            assert done - reached(installed, "sysinit.target", "Active") > 2_000_000
            assert done - reached(installed, "multi-user.target", "Active") > 1_000_000
    finally:
        installed.do("rm", CONF, *map(SLOW.format, SERVICES))
        installed.do("systemctl", "daemon-reload")


def test_without_classes_nothing_is_made(installed: Machine) -> None:
    """Without GENERATE, the service ends before it starts Python."""
    installed.write(CONF, "# GENERATE=fuse\nGENERATE=\n")
    installed.do("systemctl", "start", SERVICES[0])  # what was made before is removed
    installed.wait(functools.partial(is_idle, installed, SERVICES[0]))
    installed.do("systemctl", "start", SERVICES[0])
    assert installed.do("systemctl", "show", "-P", "Result", SERVICES[0]) == "exec-condition"


def units(machine: Machine) -> list[tuple[str, str, str | None]]:
    """Return what doctor says of the units."""
    found = json.loads(machine.call("cdi-hook", "doctor", "--json").stdout)["items"]
    return [(one["level"], one["message"], one["fix"] or None) for one in found if one["check"] == "units"]


def test_doctor_asks_systemd(installed: Machine) -> None:
    """cdi-hook doctor says of the units that they are enabled, that one isn't, and that one has failed."""
    path = "cdi-hook-index.path"
    names = ", ".join(sorted(("cdi-hook-generate.path", path, *SERVICES)))
    installed.wait(functools.partial(is_idle, installed))
    assert units(installed) == [("ok", f"enabled: {names}", None)]
    broken = SLOW.format(SERVICE)
    installed.do("systemctl", "disable", path)
    installed.write(broken, "[Service]\nExecStartPre=/bin/false\n")
    try:
        installed.do("systemctl", "daemon-reload")
        # the path unit may have started it a moment ago, and then this is a second start of one that still succeeds
        installed.wait(lambda: installed.call("systemctl", "start", SERVICE).returncode == 1)
        assert units(installed)[:2] == [
            (
                "error",
                f"the unit {SERVICE} has failed",
                f"systemctl status {SERVICE}; journalctl -u {SERVICE}",
            ),
            ("warning", f"not enabled: {path}", f"systemctl enable --now {path}"),
        ]
    finally:
        installed.do("rm", broken)
        installed.do("systemctl", "enable", path)
        installed.do("systemctl", "daemon-reload")
        installed.do("systemctl", "reset-failed", SERVICE)
