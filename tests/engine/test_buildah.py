# SPDX-License-Identifier: Apache-2.0
"""buildah, with cdi-runtime as its --runtime.

A working container's annotations, from `buildah config` or `buildah build`, don't
reach config.json. So these tests name devices by a variable or a mount, which the
configuration allows.
"""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from . import image, world
from .box import LAYOUT, STANDARD_PATH
from .podman import without_warning

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from .podman import Podman

pytestmark = pytest.mark.xdist_group("podman")
PROGRAMS = ("/usr/bin/cdi-runtime", "/usr/bin/cdi-crun")
CONF = "/run/board/buildah.conf"
ENVIRON = {"CDI_HOOK_CONFIG": CONF}
SETTINGS = "DEVICE_ENV=CDI_DEVICES\nDEVICE_MOUNTS=/run/devices\nDENY=vendor.com/device=forb*\n"
# Root may not raise limits here, and a box can't set up a network.
LIMITS = ("--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024")
HOW = ("--network=none", "--isolation=oci")


@pytest.fixture(params=[False, True], ids=["root", "user"])
def buildah(request: pytest.FixtureRequest, podmans: Callable[..., Podman]) -> Podman:
    """Buildah in podman's box, with the same images."""
    if not shutil.which("buildah", path=STANDARD_PATH):
        pytest.skip("buildah isn't installed")
    podman = podmans(rootless=request.param, layout="v2" if request.param else LAYOUT)
    podman.box.write(CONF, SETTINGS)
    return podman


@pytest.fixture
def container(buildah: Podman) -> Generator[str]:
    """A working container."""
    name = buildah.do("buildah", "from", *LIMITS, image.NAME)
    yield name
    buildah.do("buildah", "rm", name)


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("by", ["variable", "mount"])
def test_run(buildah: Podman, container: str, program: str, by: str) -> None:
    """A command in a working container has the device that a variable or a mount names."""
    wish = {
        "variable": f"--env=CDI_DEVICES={world.FUSE}",
        "mount": "--volume=/run/board/greeting:/run/devices/vendor.com/device/fuse",
    }[by]
    command = ("buildah", "run", "--runtime", program, *HOW, wish, container, "--", "sh", "-c", world.LOOK)
    done = buildah.call(*command, environ=ENVIRON)
    assert (done.returncode, done.stdout, done.stderr) == (0, world.SEEN, "")


def test_what_show_says(buildah: Podman, container: str) -> None:
    """The line of `cdi-hook show` for buildah works, with a container and a command in their places."""
    (shown,) = json.loads(buildah.box.do("cdi-hook", "show", world.FUSE, "--json"))["items"]
    line, _, _ = (
        shown["requests"]["buildah"].replace(" run ", " run --network=none ").partition(" CONTAINER ")
    )
    done = buildah.call(*line.split(), container, "--", "sh", "-c", world.LOOK, environ=ENVIRON)
    assert (done.returncode, done.stdout, done.stderr) == (0, world.SEEN, "")


@pytest.mark.parametrize("program", PROGRAMS)
def test_no_request(buildah: Podman, container: str, program: str) -> None:
    """A command that asks for nothing gets nothing."""
    command = ("buildah", "run", "--runtime", program, *HOW, container, "--", "ls", "/dev/fuse", "/bin/sh")
    done = buildah.call(*command, environ=ENVIRON)
    assert (done.returncode, done.stdout, done.stderr) == (
        1, "/bin/sh\n",
        "ls: /dev/fuse: No such file or directory\nError: while running runtime: exit status 1\n",
    )  # fmt: skip


def test_build(buildah: Podman) -> None:
    """A step of a build has the device that an argument of the build names."""
    buildah.box.write(
        "/run/board/build/Containerfile", f"FROM {image.NAME}\nARG CDI_DEVICES\nRUN {world.LOOK}\n"
    )
    done = buildah.call(
        "buildah", "build", "--runtime", PROGRAMS[0], *HOW, *LIMITS, f"--build-arg=CDI_DEVICES={world.FUSE}",
        "/run/board/build", environ=ENVIRON,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert f" && echo opened\n{world.SEEN}COMMIT\n" in done.stdout


@pytest.mark.parametrize("case", world.REFUSALS)
def test_refusal(buildah: Podman, container: str, case: str) -> None:
    """Whoever runs the command gets the message that says why it fails."""
    device, message = world.REFUSALS[case]
    program = PROGRAMS[0]
    command = (
        "buildah",
        "run",
        "--runtime",
        program,
        *HOW,
        f"--env=CDI_DEVICES={device}",
        container,
        "--",
        "true",
    )
    done = buildah.call(*command, environ=ENVIRON)
    message = buildah.told(message).replace(f'annotation "{world.KEY}"', "environment variable CDI_DEVICES")
    message = message.replace("/etc/cdi-hook/cdi-hook.conf:1", f"{CONF}:3")
    assert (done.returncode, done.stdout) == (1, "")
    assert without_warning(done.stderr) == (
        f"error running container: from {program} creating container for [/bin/true]: {message}\n: exit status 1\n"
        "Error: while running runtime: exit status 1\n"
    )
