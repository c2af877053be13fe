# SPDX-License-Identifier: Apache-2.0
"""A hostile image under docker, podman and containerd, with a spec of class nvidia: the host stays as it is."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests import hostile
from tests.runtime.glibc import driver_root

from . import image, world
from .box import LAYOUT, need
from .cri import Pod

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from .box import Box
    from .containerd import Containerd
    from .docker import Docker
    from .podman import Podman

UUID = "GPU-00000001-0000-0000-0000-000000000000"
PLACE = "/run/board/hostile"
OWNED = f"{PLACE}/owned"
DRIVER = "/run/board/driver"
ARCHIVE = f"{PLACE}.tar"
# A spec as `cdi-hook generate` makes it, and the same without variables for the hook, as others have it.
NEW, OLD = "nvidia.com/gpu=all", "old.com/gpu=all"
NEW_SPEC, OLD_SPEC = "/etc/cdi/new.json", "/etc/cdi/old.json"
LOOK = ("/bin/sh", "-c", "test -s /etc/ld.so.cache && echo hooked")
PRECREATE = f"{PLACE}.conf"


@pytest.fixture(scope="session")
def hostile_image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dir with the image, and a driver."""
    if os.geteuid() != 0:
        pytest.skip("engines need root")
    place = tmp_path_factory.mktemp("hostile")
    driver_root(place / "driver", UUID)
    found = hostile.variables(OWNED)
    variables = {name: value for of_one in found.values() for name, value in of_one.items()}
    machine = os.uname().machine
    image.make(place / "image.tar", machine, image.HOSTILE, hostile.files(place, OWNED), variables)
    return place


@pytest.fixture
def furnished(hostile_image: Path) -> Generator[Callable[[Box, str], None]]:
    """Put the specs into a box, and load the image by a command; take the specs out at the end."""
    used: list[Box] = []

    def furnish(box: Box, load: str) -> None:
        used.append(box)
        box.do("sh", "-c", f"rm -rf {PLACE} && mkdir -m 777 {PLACE}")
        if box.call("test", "-e", ARCHIVE).returncode:
            box.write(ARCHIVE, (hostile_image / "image.tar").read_bytes())
            box.do("cp", "-a", str(hostile_image / "driver"), DRIVER)
            box.do(*load.split(), ARCHIVE)
        made = box.do("cdi-hook", "generate", "nvidia", "--root", DRIVER, "--output", "/etc/cdi")
        path = made.partition(":")[0]
        spec: dict[str, Any] = yaml.safe_load(box.read(path))
        # A user's runtime can't make nodes, and binds the machine's, which has no GPU.
        del spec["containerEdits"]["deviceNodes"]
        spec["devices"] = [{"name": "all", "containerEdits": {"env": ["GPU=all"]}}]
        box.write(NEW_SPEC, json.dumps(spec))
        box.do("rm", path)
        spec["kind"] = "old.com/gpu"
        for hook in spec["containerEdits"]["hooks"]:
            assert hook.pop("env")
        box.write(OLD_SPEC, json.dumps(spec))
        hooks = '"/usr/share/cdi-hook/hooks.d/precreate"'
        box.write(PRECREATE, f"[engine]\nhooks_dir = [{hooks}]\n")

    yield furnish
    for box in used:
        box.do("rm", NEW_SPEC, OLD_SPEC)


def untouched(box: Box) -> bool:
    """Say whether the image has left nothing on the host."""
    return box.do("ls", "-A", PLACE) == ""


@pytest.mark.xdist_group("docker")
@pytest.mark.parametrize(
    ("runtime", "ask"),
    [
        ("cdi", ("--annotation", f"{world.KEY}={NEW}")),
        ("cdi", ("--annotation", f"{world.KEY}={OLD}")),
        ("cdi-crun", ("--annotation", f"{world.KEY}={OLD}")),
        ("cdi", ("--annotation", f"{world.KEY}={OLD}", "--device", OLD)),
        ("runc", ("--device", NEW)),
        ("createRuntime", ("--annotation", f"{world.KEY}={OLD}")),
    ],
)
def test_docker(
    dockers: Callable[[str], Docker],
    furnished: Callable[[Box, str], None],
    runtime: str,
    ask: tuple[str, ...],
) -> None:
    """Under docker: by our runtime, by docker's own CDI, by both, and by our hook."""
    docker = dockers(LAYOUT)
    furnished(docker.box, "docker load -i")
    docker.box.write("/run/board/hooks/cdi-hook.conf", "HOOK_UNSUPPORTED=warn\n")  # the spec's variables
    done = docker.call("run", "--rm", "--network=none", "--runtime", runtime, *ask, image.HOSTILE, *LOOK)
    assert (done.returncode, done.stdout) == (0, "hooked\n"), done.stderr
    assert untouched(docker.box)


@pytest.mark.xdist_group("podman")
@pytest.mark.parametrize("rootless", [False, True], ids=["root", "user"])
@pytest.mark.parametrize(
    ("runtime", "ask"),
    [
        ("cdi", ("--annotation", f"{world.KEY}={OLD}")),
        ("cdi-crun", ("--annotation", f"{world.KEY}={OLD}")),
        ("runc", ("--device", NEW)),
        ("crun", ("--device", NEW)),
        ("runc", ("precreate", OLD)),
    ],
)
def test_podman(
    podmans: Callable[..., Podman],
    furnished: Callable[[Box, str], None],
    rootless: bool,
    runtime: str,
    ask: tuple[str, str],
) -> None:
    """Under podman, for root and for a user: by our runtime, by podman's own CDI, and by our precreate hook."""
    podman = podmans(rootless=rootless, layout=LAYOUT)
    load = "podman load --quiet --input"
    furnished(podman.box, load)
    if podman.call("podman", "image", "exists", image.HOSTILE).returncode:
        podman.do(*load.split(), ARCHIVE)
    environ = {}
    if ask[0] == "precreate":
        environ = {"CONTAINERS_CONF_OVERRIDE": PRECREATE}
        ask = ("--annotation", f"{world.KEY}={ask[1]}")
    words = ("podman", "--runtime", runtime, "run", "--rm", *ask, image.HOSTILE, *LOOK)
    done = podman.call(*words, environ=environ)
    assert (done.returncode, done.stdout) == (0, "hooked\n"), done.stderr
    assert untouched(podman.box)


@pytest.mark.xdist_group("containerd")
@pytest.mark.parametrize("program", ["cdi-runtime", "cdi-crun"])
@pytest.mark.parametrize("device", [NEW, OLD])
def test_ctr(
    containerds: Callable[..., Containerd], furnished: Callable[[Box, str], None], program: str, device: str
) -> None:
    """Under containerd by our runtime."""
    containerd = containerds()
    furnished(containerd.box, "ctr images import")
    words = ("--runc-binary", f"/usr/bin/{program}", "--annotation", f"{world.KEY}={device}")
    done = containerd.ctr("run", "--rm", *words, image.HOSTILE, "hostile", *LOOK)
    assert (done.returncode, done.stdout) == (0, "hooked\n"), done.stderr
    assert untouched(containerd.box)


@pytest.mark.xdist_group("containerd")
@pytest.mark.parametrize(("handler", "device"), [("cdi", OLD), ("runc", NEW)])
def test_pod(
    containerds: Callable[..., Containerd], furnished: Callable[[Box, str], None], handler: str, device: str
) -> None:
    """In a pod, where containerd injects too: by both, and by containerd alone."""
    if handler == "runc":
        need("containerd", (1, 7), "CDI of its own")
    containerd = containerds(enable_cdi=True)
    furnished(containerd.box, "ctr -n k8s.io images import")
    with Pod(containerd, handler) as pod:
        container = pod.create(f"{LOOK[-1]}; exec sleep 1000", {world.KEY: device}, of=image.HOSTILE)
        pod.start(container)
        pod.box.wait(lambda: pod.log(container))
        assert pod.log(container) == "stdout hooked\n"
    assert untouched(containerd.box)
