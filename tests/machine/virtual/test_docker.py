# SPDX-License-Identifier: Apache-2.0
"""docker and containerd as systemd starts them, with cgroup v2 and AppArmor: containers keep their devices all their life."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.engine import hooks, image
from tests.engine.docker import RUNC_WITH_HOOK
from tests.package import life

from .conftest import ARCHIVE

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from .vm import Virtual

DAEMON = "/etc/docker/daemon.json"
CONFIGURE = ("cdi-hook", "configure", "docker", "--reload")
ASKS = ("--annotation", "cdi.k8s.io/test=example.com/thing=fuse")
SPEC = """\
cdiVersion: "0.6.0"
kind: example.com/thing
devices: [{name: fuse, containerEdits: {deviceNodes: [{path: /dev/fuse}]}}]
"""
OPEN = "[ -c /dev/fuse ] || exit 0; (: </dev/fuse) 2>/dev/null && echo read; (: >/dev/fuse) 2>/dev/null && echo write; :"
OPENED = "read\nwrite"
RUNTIMES = ["cdi", "cdi-crun", "createRuntime"]


@pytest.fixture(scope="module")
def docker(installed: Virtual) -> Virtual:
    """A machine with docker, which knows our runtimes."""
    installed.write("/etc/cdi/thing.yaml", SPEC)
    program = f"{hooks.PLACE}/createRuntime/runc"
    installed.write(program, RUNC_WITH_HOOK, "755")
    installed.write(hooks.CONF, "")
    mine = json.loads(installed.read(DAEMON))
    runtimes = {"cdi-crun": {"path": "/usr/bin/cdi-crun"}, "createRuntime": {"path": program}}
    installed.write(DAEMON, json.dumps({**mine, "live-restore": True, "runtimes": runtimes}))
    # The tests restart it more often in a minute than its unit allows.
    installed.write("/etc/systemd/system/docker.service.d/often.conf", "[Unit]\nStartLimitIntervalSec=0\n")
    installed.do("systemctl", "daemon-reload")
    installed.do("systemctl", "enable", "--now", "docker.service")
    installed.do("docker", "load", "-i", ARCHIVE)
    installed.do(*CONFIGURE)
    return installed


@pytest.fixture(params=RUNTIMES)
def container(docker: Virtual, request: pytest.FixtureRequest) -> Generator[str]:
    """A running container that asks for a device."""
    options = ("--detach", "--network=none", "--restart=always", f"--runtime={request.param}")
    name = docker.do("docker", "run", *options, *ASKS, image.NAME)
    yield name
    docker.do("docker", "rm", "--force", name)


def opens(machine: Virtual, container: str) -> str:
    """Return for what a container may open the device."""
    return machine.do("docker", "exec", container, "sh", "-c", OPEN)


def run(machine: Virtual) -> str:
    """Return for what a new container that asks may open the device."""
    return machine.do("docker", "run", "--rm", "--network=none", *ASKS, image.NAME, "sh", "-c", OPEN)


def test_a_containers_life(docker: Virtual, container: str) -> None:
    """A container has its device, also after docker's update, systemd's reload, a restart of docker, and its own."""
    assert docker.do("docker", "info", "--format", "{{.CgroupDriver}} {{.CgroupVersion}}") == "systemd 2"
    assert opens(docker, container) == OPENED
    docker.do("docker", "update", "--memory=64m", "--memory-swap=64m", container)
    assert opens(docker, container) == OPENED
    docker.do("systemctl", "daemon-reload")
    docker.do("systemd-run", "--quiet", "--wait", "--slice=system.slice", "true")
    assert opens(docker, container) == OPENED
    docker.do("systemctl", "restart", "docker")
    assert opens(docker, container) == OPENED
    docker.do("docker", "restart", "--time=0", container)
    assert opens(docker, container) == OPENED


def test_compose(docker: Virtual) -> None:
    """A service of a compose file has its device, also after docker was restarted."""
    service = {
        "image": image.NAME,
        "runtime": "cdi",
        "annotations": {"cdi.k8s.io/test": "example.com/thing=fuse"},
        "network_mode": "none",
        "restart": "always",
    }
    docker.write("/srv/app/compose.yaml", json.dumps({"services": {"app": service}}))
    compose = ("docker", "compose", "--file", "/srv/app/compose.yaml")
    docker.do(*compose, "up", "--detach")
    container = docker.do(*compose, "ps", "--quiet")
    assert opens(docker, container) == OPENED
    docker.do("systemctl", "restart", "docker")
    assert opens(docker, container) == OPENED
    docker.do(*compose, "down", "--timeout=0")


def test_default_runtime_and_removal(docker: Virtual, packages: Callable[..., Path]) -> None:
    """The default runtime gives devices; without it and without the package containers start, and none was stopped."""
    package = life.Dpkg(docker, packages)
    running = docker.do("docker", "run", "--detach", "--network=none", image.NAME)
    removals: list[Callable[[], str]] = [lambda: docker.do(*CONFIGURE, "--remove"), package.remove]
    for remove in removals:
        docker.do(*CONFIGURE, "--set-default")
        assert run(docker) == OPENED
        remove()
        assert docker.do("docker", "info", "--format", "{{.DefaultRuntime}}") == "runc"
        assert run(docker) == ""
    assert docker.do("docker", "ps", "--quiet", "--no-trunc") == running
    docker.do("docker", "rm", "--force", running)
    package.install()
    docker.do(*CONFIGURE)


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_containerd(docker: Virtual, runtime: str) -> None:
    """A container of containerd in a scope keeps its device when systemd reloads and when containerd is restarted."""
    docker.do("ctr", "images", "import", ARCHIVE)
    options = (
        "--runc-systemd-cgroup",
        f"--runc-binary=/usr/bin/cdi-{runtime}",
        "--cgroup=system.slice:ctr:tested",
    )
    docker.do("ctr", "run", "--detach", *options, *ASKS, image.NAME, "tested")
    look = ("ctr", "tasks", "exec", "--exec-id=look", "tested", "sh", "-c", OPEN)
    assert docker.do(*look) == OPENED
    docker.do("systemctl", "daemon-reload")
    docker.do("systemd-run", "--quiet", "--wait", "--slice=system.slice", "true")
    assert docker.do(*look) == OPENED
    docker.do("systemctl", "restart", "containerd")
    assert docker.do(*look) == OPENED
    docker.do("ctr", "tasks", "delete", "--force", "tested")
    docker.do("ctr", "containers", "delete", "tested")


def test_nothing_is_denied(docker: Virtual) -> None:
    """AppArmor confines docker's containers, and denies nothing of what is done for a device."""
    profile = docker.do(
        "docker",
        "run",
        "--rm",
        "--network=none",
        *ASKS,
        "--runtime=cdi",
        image.NAME,
        "cat",
        "/proc/self/attr/current",
    )
    assert profile == "docker-default (enforce)"
    asks = ("--runtime=/usr/bin/cdi-runtime", "--network=none", *ASKS)
    docker.do("podman", "load", "--input", ARCHIVE)
    profile = docker.do("podman", "run", "--rm", *asks, image.NAME, "cat", "/proc/self/attr/current")
    assert profile.startswith("containers-default-")
    assert docker.call("journalctl", "--quiet", "--grep=apparmor=.DENIED").stdout == ""
    found = json.loads(docker.do("cdi-hook", "doctor", "--json"))["items"]
    assert [one["message"] for one in found if one["level"] not in ("ok", "unknown")] == []
