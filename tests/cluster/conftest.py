# SPDX-License-Identifier: Apache-2.0
"""Fixtures: the binaries, the images, and a node for each engine."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.engine.box import ROOT, STANDARD_PATH
from tests.machine import base_images
from tests.machine.virtual import vm
from tests.package.conftest import run
from tests.runtime.glibc import driver_root

from .node import Node, VirtualNode, engine_of, furnish, make_root

if TYPE_CHECKING:
    from collections.abc import Generator

    from .node import Kubernetes

REGISTRY = "registry.test"
_BINARIES = os.environ.get("CDI_HOOK_CLUSTER", "")
# The dir of an engine's programs, and whether the node is a virtual machine.
_NODES = {
    "containerd 1.7": ("", False),
    "containerd 2": ("containerd-2", False),
    "CRI-O": ("crio", False),
    "cgroup v2": ("", True),
}
# What Debian's packages of the images' base are; apt finds there all that a Containerfile asks for.
_BASE = (
    "apt", "make", "python3", "python3-yaml", "python3-tomli", "python3-pythonjsonlogger", "python3-typing-extensions",
    "python3-grpcio", "python3-grpc-tools", "python3-protobuf",
)  # fmt: skip
_APART = 'for place in /run /dev/shm; do mount -t tmpfs tmpfs $place; done; exec "$@"'
_TAGS = {"cdi-hook-installer": ("v1", "1.0"), "cdi-hook-device-plugin": ("1.0",)}


@pytest.fixture(scope="session")
def binaries() -> Path:
    """The dir of the binaries."""
    if not _BINARIES or os.geteuid() != 0:
        pytest.fail("a cluster needs root, and CDI_HOOK_CLUSTER, a dir with the binaries of Kubernetes")
    for program in ("mmdebstrap", "systemd-nspawn", "podman", "buildah"):
        if not shutil.which(program, path=STANDARD_PATH):
            pytest.skip(f"{program} isn't installed")
    return Path(_BINARIES).absolute()


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> list[Path]:
    """Archives of the images: those that README builds, as it builds them, busybox, and the kubelet's own."""
    place = tmp_path_factory.mktemp("images")
    root = base_images.make_root(pytestconfig.cache.mkdir("images"), _BASE)
    settings = base_images.make(place, root)

    newer = place / "newer"  # the next release
    for name in ("cdi_hook", "packaging", "tests/bench/results"):
        shutil.copytree(ROOT / name, newer / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("Makefile", "README.md", "SECURITY.md"):
        shutil.copy(ROOT / name, newer)
    with (newer / "cdi_hook/__init__.py").open("a") as file:
        file.write("# newer\n")

    def podman(*arguments: str | Path, cwd: Path = ROOT) -> str:
        command = ["unshare", "--mount", "sh", "-ec", _APART, "sh", "env", *settings, "podman", *arguments]
        return run(*command, cwd=cwd, timeout=600)

    found: list[Path] = []

    def save(name: str) -> None:
        found.append(place / f"{len(found)}.image.tar")
        podman("save", "-q", "-o", found[-1], name)

    for command in readme("install", "plugin"):
        if command.startswith("podman build"):
            words = command.split()
            image = words[words.index("-t") + 1].partition("/")[2].partition(":")[0]
            for tag in _TAGS[image]:
                podman(*filled(command, tag).split()[1:], cwd=ROOT if tag == "v1" else newer)
                save(f"{REGISTRY}/{image}:{tag}")
    save("docker.io/library/busybox:1.37")
    pause = place / "pause"
    pause.write_text(
        'FROM docker.io/library/busybox:1.37\nENTRYPOINT ["/bin/busybox", "sleep", "infinity"]\n'
    )
    for tag in ("3.8", "3.10", "3.10.1", "3.10.2"):
        podman("build", "-q", "-f", pause, "-t", f"registry.k8s.io/pause:{tag}", place / "bin")
        save(f"registry.k8s.io/pause:{tag}")
    return found


@pytest.fixture(scope="module", params=_NODES)
def node(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    pytestconfig: pytest.Config,
    binaries: Path,
    images: list[Path],
) -> Generator[Kubernetes]:
    """A node that is Ready, with the images, the clone's packaging, and nothing of ours installed."""
    name, is_virtual = _NODES[request.param]
    programs = binaries / name if name else None
    if programs and not programs.is_dir():
        pytest.skip(f"CDI_HOOK_CLUSTER has no {name}")
    place = tmp_path_factory.mktemp("node")
    board = place / "board"
    board.mkdir()
    for archive in images:
        shutil.copy(archive, board)
    shutil.copytree(ROOT / "packaging", board / "packaging")
    driver_root(board / "driver", "GPU-0aa6b5a1-0000-4000-8000-000000000001")
    if is_virtual:
        furnish(board / "files", binaries, programs)
        image = vm.make_image(pytestconfig.cache.mkdir("virtual"))
        accelerator = vm.find_accelerator(image, place / "probe")
        made: Kubernetes = vm.boot(VirtualNode, place, image, accelerator, memory="4096", board="2G")
    else:
        (place / "files").mkdir(mode=0o755)
        root = make_root(pytestconfig.cache.mkdir("cluster"), place / "files", binaries, programs)
        made = Node(place, root)
    made.engine = engine_of(programs)
    made.load(images)
    made.do("cp", "-r", f"{vm.BOARD}/packaging", "/root/packaging")
    yield made
    made.close()


def filled(text: str, tag: str) -> str:
    """Return a text with what an admin writes for the registry and the tag."""
    return text.replace("REGISTRY/", f"{REGISTRY}/").replace("VERSION", tag)


def readme(*names: str) -> list[str]:
    """Return the commands of README's blocks with these names, in its order."""
    text = (ROOT / "packaging/kubernetes/README.md").read_text("utf-8")
    found = []
    for name in names:
        block = text.partition(f"<!-- {name} -->\n```\n")[2].partition("```")[0]
        assert block, f"README has no block {name}"
        found += block.splitlines()
    return found
