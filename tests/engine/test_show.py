# SPDX-License-Identifier: Apache-2.0
"""What `cdi-hook show` says to write gives a container the device, pasted as it is."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from . import image, world
from .box import LAYOUT, need
from .docker import ANNOTATIONS

if TYPE_CHECKING:
    from collections.abc import Callable

    from .box import Box
    from .containerd import Containerd
    from .docker import Docker
    from .podman import Podman

SCRIPT = ("sh", "-c", world.LOOK)


def pasted(box: Box, engine: str) -> str:
    """Return what show says for an engine, with our image."""
    (shown,) = json.loads(box.do("cdi-hook", "show", world.FUSE, "--json"))["items"]
    text: str = shown["requests"][engine]
    return text.replace("IMAGE", image.NAME)


@pytest.mark.xdist_group("docker")
def test_docker(dockers: Callable[[str], Docker]) -> None:
    """The line for docker works, where the runtime is configured under its usual name."""
    need(*ANNOTATIONS)
    box = dockers(LAYOUT).box
    line = pasted(box, "docker").replace(" run ", " run --rm --network=none ")
    done = box.call(*line.split(), *SCRIPT)
    assert (done.returncode, done.stdout, done.stderr) == (0, world.SEEN, "")


@pytest.mark.xdist_group("docker")
def test_compose(dockers: Callable[[str], Docker]) -> None:
    """The lines for docker compose are a file that it accepts."""
    box = dockers(LAYOUT).box
    if box.call("docker", "compose", "version").returncode:
        pytest.skip("docker-compose isn't installed")
    script = world.LOOK.replace("$", "$$")
    more = f"    network_mode: none\n    command: [sh, -c, '{script}']\n"
    box.write("/root/compose/compose.yaml", f"{pasted(box, 'compose').replace('NAME:', 'one:')}\n{more}")
    done = box.call("docker", "compose", "-f", "/root/compose/compose.yaml", "run", "--rm", "one")
    assert (done.returncode, done.stdout, done.stderr) == (0, world.SEEN, "")


@pytest.mark.xdist_group("containerd")
def test_ctr(containerds: Callable[[], Containerd]) -> None:
    """The line for ctr works."""
    containerd = containerds()
    line = pasted(containerd.box, "ctr").replace(" run ", " run --rm ").removeprefix("ctr ")
    done = containerd.ctr(*line.split(), *SCRIPT)
    assert (done.returncode, done.stdout, done.stderr) == (0, world.SEEN, "")


@pytest.mark.xdist_group("podman")
def test_podman(podmans: Callable[..., Podman]) -> None:
    """The line for podman works, without any configuration."""
    podman = podmans(rootless=False, layout=LAYOUT)
    line = pasted(podman.box, "podman").replace(" run ", " run --rm ")
    done = podman.call(*line.split(), *SCRIPT)
    assert (done.returncode, done.stdout, done.stderr) == (0, world.SEEN, "")
