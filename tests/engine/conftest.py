# SPDX-License-Identifier: Apache-2.0
"""Fixtures: the tree installed as a package would, an image, and boxes with an engine in each.

An engine's daemon is started once in each cgroup layout, for the first test that
needs it. All its tests are an xdist_group, so that with --dist loadgroup it is
started once for all workers.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from . import image, world
from .box import ENGINES_PATH, LAYOUT, ROOT, STANDARD_PATH, Box, why_not
from .containerd import Containerd
from .crio import Crio
from .docker import Docker
from .podman import Podman

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree as `make install` installs it, and a link for runsc beside it."""
    if not image.BUSYBOX.exists():
        pytest.skip(f"{image.BUSYBOX} (busybox-static) isn't there")
    place = tmp_path_factory.mktemp("installed")
    environ = {"PATH": STANDARD_PATH, "HOME": "/nonexistent"}
    subprocess.run(
        ["make", "-s", "-C", ROOT, "install", f"DESTDIR={place}"], env=environ, check=True, timeout=60
    )
    (place / "usr/bin/cdi-runsc").symlink_to("cdi-runtime")
    # gVisor would have to set up a network.
    program = place / "usr/local/bin/runsc"
    program.parent.mkdir(parents=True)
    program.write_text('#!/bin/sh\nexec /usr/bin/runsc --network=none "$@"\n', "ascii")
    program.chmod(0o755)
    return place


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The image's tar."""
    path = tmp_path_factory.mktemp("image") / "image.tar"
    image.make(path, os.uname().machine)
    return path.read_bytes()


@pytest.fixture(scope="session")
def boxes(
    tmp_path_factory: pytest.TempPathFactory, installed: Path, archive: bytes
) -> Generator[Callable[[str, str], Box]]:
    """A box for an engine in a cgroup layout, made at the first request."""
    made: list[Box] = []

    def make(program: str, layout: str) -> Box:
        reason = why_not(layout)
        if not reason and not shutil.which(program, path=ENGINES_PATH):
            reason = f"{program} isn't installed"
        if reason:
            pytest.skip(reason)
        box = Box(tmp_path_factory.mktemp(f"{program}-{layout}"), layout, installed)
        made.append(box)
        world.furnish(box, archive)
        return box

    yield make
    for box in made:
        box.close()


@pytest.fixture(scope="session")
def containerds(boxes: Callable[[str, str], Box]) -> Callable[..., Containerd]:
    """A containerd in a cgroup layout, with or without its own support for CDI."""
    started: dict[tuple[str, bool], Containerd] = {}

    def engine(*, layout: str = LAYOUT, enable_cdi: bool = False) -> Containerd:
        key = layout, enable_cdi
        if key not in started:
            started[key] = Containerd(boxes("containerd", layout), enable_cdi=enable_cdi)
        return started[key]

    return engine


@pytest.fixture(scope="session")
def crios(boxes: Callable[[str, str], Box]) -> Callable[..., Crio]:
    """A CRI-O, with our runtimes, or with our hook of a stage."""
    started: dict[str, Crio] = {}

    def engine(stage: str = "") -> Crio:
        if stage not in started:
            started[stage] = Crio(boxes("crio", LAYOUT), stage=stage)
        return started[stage]

    return engine


@pytest.fixture(scope="session")
def dockers(boxes: Callable[[str, str], Box]) -> Callable[[str], Docker]:
    """A docker in a cgroup layout; cdi-runtime is its default runtime with the machine's own, and else isn't."""
    started: dict[str, Docker] = {}

    def engine(layout: str) -> Docker:
        if layout not in started:
            more = {"default-runtime": "cdi"} if layout == LAYOUT else {}
            started[layout] = Docker(boxes("dockerd", layout), **more)
        return started[layout]

    return engine


@pytest.fixture(scope="session")
def podmans(boxes: Callable[[str, str], Box]) -> Callable[..., Podman]:
    """A podman in a cgroup layout, as root or as a user."""
    made: dict[tuple[str, bool], Podman] = {}

    def engine(*, rootless: bool, layout: str) -> Podman:
        if rootless and not shutil.which("newuidmap", path=STANDARD_PATH):
            pytest.skip("newuidmap (uidmap) isn't installed")
        key = layout, rootless
        if key not in made:
            made[key] = Podman(boxes("podman", layout), layout, rootless=rootless)
        return made[key]

    return engine


@pytest.fixture(scope="session")
def runsc() -> None:
    """gVisor's runsc is installed."""
    if not Path("/usr/bin/runsc").exists():
        pytest.skip("runsc isn't installed")
