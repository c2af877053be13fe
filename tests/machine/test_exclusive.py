# SPDX-License-Identifier: Apache-2.0
"""EXCLUSIVE on a machine that boots: its containers start together at boot, and packages come and go while they run."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.engine import image, world
from tests.package import life

from .machine import BOARD

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .machine import Machine

pytestmark = pytest.mark.xdist_group("machine")

SEATS = 3
LEASES = "/run/cdi-hook-leases/leases"
CONF = '[containers]\nnetns = "none"\npids_limit = 0\n[engine]\nevents_logger = "file"\n'
ANNOTATION = f"--annotation={world.KEY}=v.com/seat=any"
# What stands in /etc/containers/systemd: podman makes a unit of each.
UNIT = f"""\
[Container]
Image={image.NAME}
ContainerName=seat{{number}}
PodmanArgs={ANNOTATION}
[Install]
WantedBy=multi-user.target
"""


def dealt(machine: Machine) -> dict[str, str]:
    """Return what each running container was dealt."""
    names = machine.do("podman", "ps", "--format", "{{.Names}}").split()
    look = "tr '\\0' '\\n' </proc/1/environ | sed -n s/^CDI_DEALT=//p"
    return {name: machine.do("podman", "exec", name, "busybox", "sh", "-c", look) for name in sorted(names)}


def test_a_boot_and_a_removal(machine: Machine, packages: Callable[..., Path], tmp_path: Path) -> None:
    """After a boot each has a device of its own; a removal and an installation later the leases are still there."""
    archive = tmp_path / "image.tar"
    image.make(archive, os.uname().machine)
    devices = [{"name": str(one), "containerEdits": {"env": [f"SEAT={one}"]}} for one in range(SEATS)]
    package = life.Dpkg(machine, packages)
    package.install()
    machine.write("/etc/containers/containers.conf", CONF)
    machine.write(
        "/etc/cdi/seat.json", json.dumps({"cdiVersion": "0.6.0", "kind": "v.com/seat", "devices": devices})
    )
    machine.write("/etc/cdi-hook/cdi-hook.conf", "EXCLUSIVE=v.com/seat=*\n")
    machine.write(world.ARCHIVE, archive.read_bytes())
    machine.do("chmod", "755", BOARD)
    machine.do("podman", "load", "--quiet", "--input", world.ARCHIVE)
    machine.do("cdi-hook", "configure", "podman", "--set-default")
    for number in range(SEATS):
        machine.write(f"/etc/containers/systemd/seat{number}.container", UNIT.format(number=number))
    for _ in range(2):
        machine.reboot()
        assert sorted(dealt(machine).values()) == [f"v.com/seat={one}" for one in range(SEATS)]
    before = machine.read(LEASES)
    package.remove()
    assert machine.read(LEASES) == before
    package.install()
    machine.do("cdi-hook", "configure", "podman", "--set-default")
    done = machine.call("podman", "run", "--rm", ANNOTATION, image.NAME)
    assert f"all {SEATS} devices of v.com/seat are in use: 0 by" in done.stderr
    machine.do("podman", "rm", "--force", "--time=0", "seat1")
    assert machine.do("podman", "run", "--rm", ANNOTATION, image.NAME, "sh", "-c", "echo $SEAT")
