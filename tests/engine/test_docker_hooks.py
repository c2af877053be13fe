# SPDX-License-Identifier: Apache-2.0
"""The OCI hooks under docker; a user-defined runtime adds them to a container's config.json."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from . import hooks, world
from .box import LAYOUT
from .docker import ERROR

if TYPE_CHECKING:
    from collections.abc import Callable

    from .docker import Docker

pytestmark = pytest.mark.xdist_group("docker")
STAGES = ("createRuntime", "prestart")


@pytest.fixture
def engine(dockers: Callable[[str], Docker]) -> Callable[[str], Docker]:
    """A docker engine in a cgroup layout, and the hooks in its box."""

    def with_hooks(layout: str) -> Docker:
        docker = dockers(layout)
        hooks.furnish(docker.box)
        return docker

    return with_hooks


@pytest.fixture
def docker(engine: Callable[[str], Docker]) -> Docker:
    """A docker engine in the layout with cgroup v1."""
    return engine(LAYOUT)


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("layout", ["v1", "v2"])
def test_live(engine: Callable[[str], Docker], layout: str, stage: str) -> None:
    """A container that is being created gets its device, with the requested access and no other."""
    done = engine(layout).run("--rm", device=hooks.LIVE, runtime=stage, script=hooks.LOOK_LIVE)
    assert (done.returncode, done.stdout, done.stderr) == (0, hooks.SEEN_LIVE, "")


@pytest.mark.parametrize("stage", STAGES)
def test_live_again(docker: Docker, stage: str) -> None:
    """A container that is restarted gets its device again, and its hooks run once each time."""
    script = f"{hooks.LOOK_LIVE}; exec sleep 1000"
    started = docker.run("--detach", "--stop-timeout=0", device=hooks.LIVE, runtime=stage, script=script)
    container = started.stdout.strip()
    docker.box.wait(lambda: docker.do("logs", container) == hooks.SEEN_LIVE.strip())
    docker.do("restart", container)
    docker.box.wait(lambda: docker.do("logs", container) == (hooks.SEEN_LIVE * 2).strip())
    docker.do("rm", "--force", container)
    assert world.hooked(docker.box, container) == 2


@pytest.mark.parametrize("stage", STAGES)
def test_refusal(docker: Docker, stage: str) -> None:
    """Whoever runs the container gets the message that says which edits come too late."""
    done = docker.run("--rm", device=hooks.LATE, runtime=stage)
    assert (done.returncode, done.stdout, hooks.told(docker.box)) == (125, "", [hooks.TOO_LATE])
    # Before ours comes a prestart hook of docker's own, up to docker 28. runc 1.3 and newer name the stage.
    said = re.sub(rf"error running (hook #[01]: error running|{stage}) hook( #[01])?: ", "", done.stderr)
    assert said == (
        f"docker: {ERROR}runc create failed: unable to start container process: error during container init: "
        f"exit status 8, stdout: , stderr: {hooks.TOO_LATE}\n"
    )
