# SPDX-License-Identifier: Apache-2.0
"""containerd without Kubernetes: ctr, with cdi-runtime as its --runc-binary."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from . import image, world
from .containerd import BUNDLES, ERROR

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from .containerd import Containerd

pytestmark = pytest.mark.xdist_group("containerd")
PROGRAMS = ("cdi-runtime", "cdi-crun")


@pytest.fixture
def containerd(containerds: Callable[..., Containerd]) -> Containerd:
    """A containerd with cgroup v1."""
    return containerds()


@pytest.fixture(params=PROGRAMS)
def container(request: pytest.FixtureRequest, containerd: Containerd) -> Generator[str]:
    """A running container that has the device, on each runtime."""
    name = f"life-{request.param}"
    started = containerd.run(name, "--detach", program=request.param)
    assert (started.returncode, started.stdout, started.stderr) == (0, "", "")
    yield name
    containerd.ctr("task", "rm", "--force", name)
    containerd.box.do("ctr", "container", "rm", name)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("layout", ["v1", "v2"])
def test_device(containerds: Callable[..., Containerd], layout: str, program: str) -> None:
    """A container has the device that its annotation names, and sees nothing else."""
    containerd = containerds(layout=layout)
    if layout == "v2" and "cpu" not in containerd.box.controllers():
        pytest.skip("containerd needs cgroup v2's cpu controller, which is v1's on this machine")
    done = containerd.run("device", "--rm", script=world.LOOK, program=program)
    assert (done.returncode, done.stdout, done.stderr) == (0, world.SEEN, "")


@pytest.mark.usefixtures("runsc")
def test_gvisor(containerd: Containerd) -> None:
    """A container of gVisor has the edits that gVisor supports."""
    done = containerd.run("gvisor", "--rm", script=world.LOOK_SOFT, device=world.SOFT, program="cdi-runsc")
    assert (done.returncode, done.stdout, done.stderr) == (0, world.SEEN_SOFT, "")


@pytest.mark.parametrize("program", PROGRAMS)
def test_no_request(containerd: Containerd, program: str) -> None:
    """A container that asks for nothing gets nothing."""
    command = (
        "run",
        "--rm",
        f"--runc-binary=/usr/bin/{program}",
        image.NAME,
        "plain",
        "ls",
        "/dev/fuse",
        "/bin/sh",
    )
    done = containerd.ctr(*command)
    assert (done.returncode, done.stdout, done.stderr) == (
        1, "/bin/sh\n", "ls: /dev/fuse: No such file or directory\n",
    )  # fmt: skip


@pytest.mark.parametrize("case", world.REFUSALS)
@pytest.mark.parametrize("program", [*PROGRAMS, "cdi-runsc"])
def test_refusal(containerd: Containerd, program: str, case: str) -> None:
    """Whoever runs the container gets the message that says why it fails."""
    device, message = world.REFUSALS[case]
    done = containerd.run("refused", "--rm", device=device, program=program)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"ctr: {ERROR}{message}\n"


def test_config_has_each_once(containerd: Containerd, container: str) -> None:
    """The container's config.json has each part of the device once, and the hook ran."""
    config = containerd.box.read(f"{BUNDLES}/default/{container}/config.json")
    assert world.injected(json.loads(config)) == world.ONCE
    assert world.hooked(containerd.box, container) > 0


def test_exec(containerd: Containerd, container: str) -> None:
    """A process that joins the container has the device, but not the first process's environment."""
    done = containerd.ctr("task", "exec", "--exec-id=one", container, "sh", "-c", world.LOOK_AGAIN)
    assert (done.returncode, done.stdout, done.stderr) == (0, world.SEEN_AGAIN, "")


def test_pause(containerd: Containerd, container: str) -> None:
    """The container can be paused and resumed."""
    for command, status in (("pause", "PAUSED"), ("resume", "RUNNING")):
        containerd.box.do("ctr", "task", command, container)
        lines = [line.split() for line in containerd.box.do("ctr", "task", "ls").splitlines()]
        assert [words[2] for words in lines if words[0] == container] == [status]


def test_processes(containerd: Containerd, container: str) -> None:
    """The container's processes can be listed."""
    lines = containerd.box.do("ctr", "task", "ps", container).splitlines()
    assert [lines[0].split(), len(lines)] == [["PID", "INFO"], 2]


def test_kill(containerd: Containerd, container: str) -> None:
    """The container can be killed, and its exit status is known."""
    containerd.box.do("ctr", "task", "kill", "--signal", "KILL", container)
    done = containerd.ctr("task", "rm", container)
    assert "exit with non-zero exit code 137" in done.stderr
