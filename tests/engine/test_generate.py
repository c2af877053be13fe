# SPDX-License-Identifier: Apache-2.0
"""A person's first minutes: a spec that `cdi-hook generate` makes, and a container that asks for its device."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from . import image, world
from .box import LAYOUT, USER, version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .box import Box
    from .docker import Docker
    from .podman import Podman

GROUP = 4242
NODE = "/var/lib/node"  # not in /run, where podman 4.3 mounts something
# Looks at both devices, and opens one, as a user who is in no group of the image.
LOOK = f"id -u; test -c /dev/fuse && echo fuse; stat -c '%g %a' {NODE}; : <{NODE} && echo node"
SEEN = f"{USER}\nfuse\n{GROUP} 660\nnode\n"
DEVICES = "host.local/fuse=fuse,example.com/grouped=one"


@contextlib.contextmanager
def generated(box: Box) -> Iterator[None]:
    """Have the spec of a class, and one by hand of a node that belongs to a group; both made as a person does."""
    if box.call("test", "-e", NODE).returncode:
        box.do("mknod", "-m", "660", NODE, "c", "10", "229")
        box.do("chown", f"0:{GROUP}", NODE)
    assert box.do("cdi-hook", "generate", "fuse", "--output", "/etc/cdi") == (
        "/etc/cdi/host.local-fuse.yaml: host.local/fuse, 2 devices, CDI 0.3.0"
    )
    by_hand = ("--device", f"one={NODE}", "--kind", "example.com/grouped", "--output", "/etc/cdi")
    assert box.do("cdi-hook", "generate", *by_hand) == (
        "/etc/cdi/example.com-grouped.yaml: example.com/grouped, 2 devices, CDI 0.7.0"
    )
    try:
        yield
    finally:
        box.do("rm", "/etc/cdi/host.local-fuse.yaml", "/etc/cdi/example.com-grouped.yaml")


@pytest.mark.xdist_group("docker")
@pytest.mark.parametrize("runtime", ["cdi", "cdi-crun"])
def test_docker(dockers: Callable[[str], Docker], runtime: str) -> None:
    """A docker container has generated devices, and a user in it may open a node of a group that the user isn't in."""
    docker = dockers(LAYOUT)
    with generated(docker.box):
        done = docker.run("--rm", "--user", f"{USER}:{USER}", script=LOOK, device=DEVICES, runtime=runtime)
        assert (done.returncode, done.stdout, done.stderr) == (0, SEEN, "")
        annotation = f"{world.KEY}=host.local/fuse=all"
        done = docker.call(
            "run", "--rm", "--network=none", "--annotation", annotation, image.NAME, "ls", "/dev/fuse"
        )
    assert (done.returncode, done.stdout, done.stderr) == (0, "/dev/fuse\n", "")


@pytest.mark.xdist_group("podman")
@pytest.mark.parametrize("runtime", ["cdi", "cdi-crun"])
def test_podman(podmans: Callable[..., Podman], runtime: str) -> None:
    """A podman container has them too."""
    if version("podman") < (5, 0):
        pytest.skip("this podman may take a comma in --annotation for its end, as 4.3 does")
    podman = podmans(rootless=False, layout=LAYOUT)
    with generated(podman.box):
        done = podman.run("--rm", "--user", f"{USER}:{USER}", script=LOOK, device=DEVICES, runtime=runtime)
    assert (done.returncode, done.stdout, done.stderr) == (0, SEEN, "")
