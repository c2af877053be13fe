# SPDX-License-Identifier: Apache-2.0
"""cdi-hook configure docker --reload, with a running dockerd: what is said to be done can be used at once."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from . import image, world
from .box import LAYOUT, ROOT, STANDARD_PATH, need
from .docker import ANNOTATIONS, CONFIGURATION

if TYPE_CHECKING:
    from collections.abc import Callable

    from .box import Box

pytestmark = pytest.mark.xdist_group("docker")

FILE = "/etc/docker/daemon.json"
BEFORE: dict[str, Any] = {name: CONFIGURATION[name] for name in ("bridge", "iptables", "ip6tables")}
# docker's unit sends the signal and doesn't wait until dockerd has read its file: here that takes half a second.
SYSTEMCTL = """\
#!/bin/sh
[ "$1" != reload ] || { sleep 0.5; kill -HUP $(cat /var/run/docker.pid); } >/dev/null 2>&1 &
"""


@pytest.fixture
def box(boxes: Callable[[str, str], Box]) -> Box:
    """A box with a dockerd that knows nothing of us."""
    made = boxes("dockerd", LAYOUT)
    made.write("/run/bin/systemctl", SYSTEMCTL, "755")
    made.write(FILE, json.dumps(BEFORE))
    made.daemon("dockerd", ready=("docker", "version"))
    made.do("docker", "load", "-i", world.ARCHIVE)
    return made


def call(box: Box, *command: str) -> None:
    """Call a command that finds our systemctl."""
    box.do(*command, environ={"PATH": f"/run/bin:{STANDARD_PATH}"})


def run(box: Box, *options: str) -> str:
    """Run a container that asks for a device; return what it prints."""
    need(*ANNOTATIONS)
    asks = ("--network", "none", "--annotation", f"{world.KEY}={world.FUSE}")
    return box.do("docker", "run", "--rm", *asks, *options, image.NAME, "sh", "-c", 'echo "$CDI_TEST"')


def test_what_is_configured_is_there(box: Box) -> None:
    """Once the command has ended, containers run by the runtime that it added, and after a removal by docker's own.

    The removal, also that of a package, takes no restart, although the file named no other default runtime.
    """
    configure = ("cdi-hook", "configure", "docker", "--reload")
    call(box, *configure)
    assert run(box, "--runtime", "cdi") == "injected"
    fill = [sys.executable, "-B", "packaging/fill.py", "packaging/leave.sh"]
    box.write("/run/leave.sh", subprocess.check_output(fill, cwd=ROOT, text=True))
    box.do("mkdir", "/run/systemd", "/run/systemd/system")
    for remove in ((*configure, "--remove"), ("sh", "-e", "/run/leave.sh")):
        call(box, *configure, "--set-default")
        assert run(box) == "injected"
        call(box, *remove)
        assert json.loads(box.read(FILE)) == BEFORE
        assert box.do("docker", "info", "--format", "{{.DefaultRuntime}}") == "runc"
        assert run(box) == ""


def test_dockerd_keeps_its_default(box: Box) -> None:
    """A removal takes a second reload because dockerd keeps a default runtime that the reloaded file no longer names."""
    call(box, "cdi-hook", "configure", "docker", "--set-default", "--reload")
    box.write(FILE, json.dumps({**BEFORE, "labels": ["a=1"]}))
    call(box, "systemctl", "reload", "docker")
    asked = ("docker", "info", "--format", "{{.DefaultRuntime}} {{.Labels}}")
    box.wait(lambda: "a=1" in box.do(*asked))
    assert box.do(*asked) == "cdi [a=1]"
