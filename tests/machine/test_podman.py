# SPDX-License-Identifier: Apache-2.0
"""podman on a machine that boots, with systemd's cgroup driver: containers of root, of a user without a login, and of a quadlet."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.engine import image, world

from .machine import BOARD, USER

if TYPE_CHECKING:
    from .machine import Machine

pytestmark = pytest.mark.xdist_group("machine")

CONF = '[containers]\nnetns = "none"\npids_limit = 0\n[engine]\nevents_logger = "file"\n'
SPEC = """\
cdiVersion: "0.6.0"
kind: vendor.com/device
devices:
- {name: fuse, containerEdits: {env: [CDI_TEST=injected], deviceNodes: [{path: /dev/fuse}]}}
- {name: late, containerEdits: {deviceNodes: [{path: /dev/fuse}]}}
"""
LATE = "vendor.com/device=late"
HOOKS = "/usr/share/cdi-hook/hooks.d/createRuntime"
OPEN = ": <>/dev/fuse && echo opened"
LOOK = f'echo "$CDI_TEST"; {OPEN}'
QUADLET = "/etc/containers/systemd/quadlet.container"
UNIT = f"""\
[Container]
Image={image.NAME}
ContainerName=quadlet
PodmanArgs=--annotation={world.KEY}={world.FUSE}
[Install]
WantedBy=multi-user.target
"""


@pytest.fixture(scope="module")
def podman(installed: Machine, tmp_path_factory: pytest.TempPathFactory) -> Machine:
    """The machine with an image for root and the user, and with cdi-runtime as podman's default runtime."""
    archive = tmp_path_factory.mktemp("image") / "image.tar"
    image.make(archive, os.uname().machine)
    installed.write("/etc/containers/containers.conf", CONF)
    installed.write("/etc/cdi/vendor.yaml", SPEC)
    installed.write(world.ARCHIVE, archive.read_bytes())
    installed.do("chmod", "755", BOARD)
    installed.do("chmod", "666", "/dev/fuse")
    for user in (0, USER):
        installed.do("podman", "load", "--quiet", "--input", world.ARCHIVE, user=user)
    installed.do("cdi-hook", "configure", "podman", "--set-default")
    installed.do("cdi-hook", "configure", "podman", "--runtime", "crun")
    return installed


@pytest.mark.parametrize("user", [0, USER], ids=["root", "user"])
@pytest.mark.parametrize("runtime", ["cdi", "cdi-crun"])
def test_a_device(podman: Machine, user: int, runtime: str) -> None:
    """A container in a scope of the system's systemd, or of the user's, gets its device."""
    command = ("podman", "--runtime", runtime, "run", "--rm", f"--annotation={world.KEY}={world.FUSE}")
    done = podman.call(*command, image.NAME, "sh", "-c", LOOK, user=user)
    assert (done.returncode, done.stdout, done.stderr) == (0, "injected\nopened\n", "")


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_a_hooks_device_stays(podman: Machine, runtime: str) -> None:
    """What the createRuntime hook gave a container stays when systemd changes its scope, and is there after a restart."""
    command = ("podman", "--runtime", runtime, "--hooks-dir", HOOKS, "run", "--detach")
    container = podman.do(*command, f"--annotation={world.KEY}={LATE}", image.NAME)
    try:
        for _ in range(2):
            assert podman.do("podman", "exec", container, "sh", "-c", OPEN) == "opened"
            scope = f"libpod-{container}.scope"
            podman.do("systemctl", "set-property", "--runtime", scope, "CPUWeight=90")
            podman.do("systemctl", "daemon-reload")
            podman.do("systemd-run", "--quiet", "--wait", "--slice=machine.slice", "true")
            assert podman.do("podman", "exec", container, "sh", "-c", OPEN) == "opened"
            podman.do("podman", "restart", "--time=0", container)
    finally:
        podman.do("podman", "rm", "--force", "--time=0", container)


def test_a_users_device_by_the_hook(podman: Machine) -> None:
    """A user's systemd enforces no device rules, so that the createRuntime hook tells it nothing, and says nothing."""
    command = ("podman", "--runtime", "crun", "--hooks-dir", HOOKS, "run", "--rm")
    done = podman.call(*command, f"--annotation={world.KEY}={LATE}", image.NAME, "sh", "-c", OPEN, user=USER)
    assert (done.returncode, done.stdout, done.stderr) == (0, "opened\n", "")


def test_a_container_of_a_unit(podman: Machine) -> None:
    """A container that systemd starts at boot has its device."""
    podman.write(QUADLET, UNIT)
    try:
        podman.reboot()
        inside = f"tr '\\0' '\\n' </proc/1/environ | grep CDI_TEST; {OPEN}"
        assert podman.do("podman", "exec", "quadlet", "sh", "-c", inside) == "CDI_TEST=injected\nopened"
    finally:
        podman.do("rm", QUADLET)
