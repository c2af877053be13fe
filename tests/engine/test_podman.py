# SPDX-License-Identifier: Apache-2.0
"""podman, as root and as a user, with cdi-runtime as its runtimes."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from . import image, world
from .box import LAYOUT, need, version
from .podman import AS_DEFAULT, without_warning

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from .podman import Podman

pytestmark = pytest.mark.xdist_group("podman")
RUNTIMES = ("cdi", "cdi-crun")
# The user, the cgroup layout, and the runtime that tests with one runtime use.
PLACES = {
    "root-v1": (False, "v1", "cdi"),
    "root-v2": (False, "v2", "cdi-crun"),
    "user-v1": (True, "v1", "cdi-crun"),
    "user-v2": (True, "v2", "cdi"),
}
ROOTS = [place for place, (rootless, _, _) in PLACES.items() if not rootless]
USERS = [place for place, (rootless, _, _) in PLACES.items() if rootless]
POD = f"""apiVersion: v1
kind: Pod
metadata:
  name: pod
  annotations:
    {world.KEY}: {{device}}
spec:
  restartPolicy: Never
  containers:
  - name: one
    image: {image.NAME}
    imagePullPolicy: Never
    command: [sh, -c, '{world.LOOK}; exec sleep 1000']
"""


@pytest.fixture(params=PLACES)
def podman(request: pytest.FixtureRequest, podmans: Callable[..., Podman]) -> Podman:
    """A podman for each entry of PLACES."""
    rootless, layout, _ = PLACES[request.param]
    return podmans(rootless=rootless, layout=layout)


@pytest.fixture
def runtime(podman: Podman) -> str:
    """The runtime that tests with one runtime use."""
    return {(bool(user), layout): name for user, layout, name in PLACES.values()}[
        bool(podman.user), podman.layout
    ]


@pytest.fixture
def container(podman: Podman, runtime: str) -> Generator[str]:
    """A running container that has the device."""
    script = f"{world.LOOK}; exec sleep 1000"
    started = podman.run("--detach", "--stop-timeout=0", script=script, runtime=runtime)
    assert (started.returncode, started.stderr) == (0, "")
    container = started.stdout.strip()
    yield container
    podman.do("podman", "rm", "--force", "--time=0", container)


@pytest.mark.parametrize("name", RUNTIMES)
@pytest.mark.parametrize("terminal", [False, True], ids=["", "terminal"])
def test_device(podman: Podman, name: str, terminal: bool) -> None:
    """A container has the device that its annotation names, and sees nothing else."""
    if terminal:
        done = podman.run("--rm", "--tty", script=f"tty; {world.LOOK}", runtime=name)
        assert (done.returncode, done.stdout, done.stderr) == (0, f"/dev/pts/0\n{world.SEEN}", "")
    else:
        done = podman.run("--rm", script=world.LOOK, runtime=name)
        assert (done.returncode, done.stdout, done.stderr) == (0, world.SEEN, "")


@pytest.mark.parametrize("name", RUNTIMES)
@pytest.mark.parametrize("podman", USERS, indirect=True)
def test_user_namespace(podman: Podman, name: str) -> None:
    """A container whose user is the calling user has the device too, with its mounts."""
    done = podman.run("--rm", "--userns=keep-id", script=f"id -u; {world.LOOK}", runtime=name)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{podman.user}\n{world.SEEN}", "")


@pytest.mark.usefixtures("runsc")
@pytest.mark.parametrize("name", RUNTIMES)
def test_mounts_that_cannot_be_mapped(podmans: Callable[..., Podman], name: str) -> None:
    """In a user namespace, mounts from devtmpfs and sysfs are made without idmap, which the kernel can't give them."""
    podman = podmans(rootless=False, layout="v2")
    sources = {"/opt/null": "/dev/null", "/opt/module": "/sys/module"}
    mounts = [
        {"hostPath": source, "containerPath": target, "options": ["bind"]}
        for target, source in sources.items()
    ]
    device = {"name": "log", "containerEdits": {"mounts": mounts}}
    spec = {"cdiVersion": "0.3.0", "kind": "vendor.com/kernel", "devices": [device]}
    podman.box.write("/etc/cdi/kernel.json", json.dumps(spec))
    done = podman.run(
        "--rm", "--uidmap=0:100000:65536", script="stat -c %F /opt/null /opt/module", runtime=name,
        device="vendor.com/kernel=log",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "character special file\ndirectory\n"), done.stderr


def test_gvisor(podmans: Callable[..., Podman]) -> None:
    """A gVisor container, which needs root and v1 or all of v2's controllers, has the edits that gVisor supports."""
    podman = podmans(rootless=False, layout=LAYOUT)
    done = podman.run("--rm", script=world.LOOK_SOFT, device=world.SOFT, runtime="cdi-runsc")
    assert (done.returncode, done.stdout, done.stderr) == (0, world.SEEN_SOFT, "")


@pytest.mark.parametrize("podman", ["root-v1", "user-v2"], indirect=True)
@pytest.mark.parametrize("name", RUNTIMES)
def test_no_request(podman: Podman, name: str) -> None:
    """A container that asks for nothing gets nothing."""
    done = podman.call("podman", f"--runtime={name}", "run", "--rm", image.NAME, "ls", "/dev/fuse", "/bin/sh")
    assert (done.returncode, done.stdout, done.stderr) == (
        1, "/bin/sh\n", "ls: /dev/fuse: No such file or directory\n",
    )  # fmt: skip


@pytest.mark.parametrize("podman", ["root-v1", "user-v2"], indirect=True)
def test_runtime_by_its_path(podman: Podman) -> None:
    """podman accepts the runtime by its path, without any configuration."""
    done = podman.run("--rm", script=world.LOOK, runtime="/usr/bin/cdi-runtime")
    assert (done.returncode, done.stdout, done.stderr) == (0, world.SEEN, "")


@pytest.mark.parametrize("podman", ["root-v1", "user-v2"], indirect=True)
def test_default_runtime(podman: Podman) -> None:
    """As the default runtime, cdi-runtime serves a container that names no runtime."""
    command = (
        "podman",
        "run",
        "--rm",
        "--annotation",
        f"{world.KEY}={world.FUSE}",
        image.NAME,
        "sh",
        "-c",
        world.LOOK,
    )
    done = podman.call(*command, environ={"CONTAINERS_CONF_OVERRIDE": AS_DEFAULT})
    assert (done.returncode, done.stdout, done.stderr) == (0, world.SEEN, "")


@pytest.mark.parametrize("podman", ["root-v1", "user-v2"], indirect=True)
def test_config_has_each_once(podman: Podman, container: str) -> None:
    """The container's config.json has each part of the device once, and the hook ran once."""
    config = json.loads(podman.box.read(podman.inspect(container, "OCIConfigPath")))
    found = world.injected(config) if not podman.user else world.injected(config) | {"rule": 1}
    assert found == world.ONCE
    assert world.hooked(podman.box, container) == 1


@pytest.mark.parametrize("podman", ["root-v1", "user-v2"], indirect=True)
def test_beside_podman(podman: Podman, runtime: str) -> None:
    """A device that podman injects too, by its own option, is added once."""
    need("podman", (4, 5), "CDI of the version that the world's specs have")
    started = podman.run("--detach", "--stop-timeout=0", "--device", world.FUSE, runtime=runtime)
    assert (started.returncode, started.stderr) == (0, "")
    container = started.stdout.strip()
    config = json.loads(podman.box.read(podman.inspect(container, "OCIConfigPath")))
    podman.do("podman", "rm", "--force", "--time=0", container)
    found = world.injected(config) if not podman.user else world.injected(config) | {"rule": 1}
    assert found == world.ONCE
    assert world.hooked(podman.box, container) == 1


def test_life(podman: Podman, container: str) -> None:
    """A container can be joined, listed and restarted, and has its device each time."""
    podman.box.wait(lambda: podman.do("podman", "logs", container) == world.SEEN.strip())
    done = podman.call("podman", "exec", container, "sh", "-c", world.LOOK_AGAIN)
    assert (done.returncode, done.stdout, done.stderr) == (0, world.SEEN_AGAIN, "")
    done = podman.call("podman", "exec", container, "sh", "-c", "exit 42")
    assert (done.returncode, done.stdout, done.stderr) == (42, "", "")
    assert podman.do("podman", "top", container, "pid", "args").splitlines()[1].split() == [
        "1",
        "sleep",
        "1000",
    ]
    assert podman.do("podman", "restart", container) == container
    podman.box.wait(lambda: podman.do("podman", "logs", container) == (world.SEEN + world.SEEN).strip())
    assert world.hooked(podman.box, container) == 2
    assert podman.do("podman", "kill", "--signal=KILL", container) == container
    assert podman.do("podman", "wait", container) == "137"


@pytest.mark.parametrize("podman", ROOTS, indirect=True)
def test_pause(podman: Podman, container: str) -> None:
    """The container can be paused and resumed; a user would need a cgroup of their own for that."""
    assert podman.do("podman", "pause", container) == container
    assert podman.inspect(container, "State.Status") == "paused"
    assert podman.do("podman", "unpause", container) == container
    assert podman.inspect(container, "State.Status") == "running"


def test_update(podmans: Callable[..., Podman], runtime: str) -> None:
    """The container's limits can be changed, and it keeps its device."""
    podman = podmans(rootless=False, layout=LAYOUT)
    container = podman.run("--detach", "--stop-timeout=0", runtime=runtime).stdout.strip()
    assert podman.do("podman", "update", "--memory=64m", container) == container
    again = podman.call("podman", "exec", container, "sh", "-c", world.LOOK_AGAIN)
    limit = podman.box.read(f"/sys/fs/cgroup/memory/libpod_parent/libpod-{container}/memory.limit_in_bytes")
    podman.do("podman", "rm", "--force", "--time=0", container)
    assert (limit, again.returncode, again.stdout, again.stderr) == (f"{64 << 20}\n", 0, world.SEEN_AGAIN, "")


def test_kube_play(podman: Podman, runtime: str) -> None:
    """A pod's annotation applies to its container, and the pod's infra container is left alone."""
    file = "/run/board/pod.yaml"
    podman.box.write(file, POD.format(device=world.FUSE))
    played = podman.call("podman", f"--runtime={runtime}", "kube", "play", "--network=none", file)
    assert (played.returncode, played.stderr) == (0, "")
    try:
        podman.box.wait(lambda: podman.do("podman", "logs", "pod-one").endswith("opened"))
        assert podman.do("podman", "logs", "pod-one") == world.SEEN.strip()
        for container in podman.do("podman", "ps", "--no-trunc", "--quiet", "--filter=pod=pod").split():
            is_infra = podman.inspect(container, "Name").endswith("-infra")
            assert world.hooked(podman.box, container) == (0 if is_infra else 1)
    finally:
        podman.do("podman", "pod", "rm", "--force", "--time=0", "pod")


@pytest.mark.parametrize("podman", ["root-v1", "user-v2"], indirect=True)
def test_refusal_in_kube_play(podman: Podman) -> None:
    """Whoever plays a pod gets the message that says why its container fails."""
    device, message = world.REFUSALS["malformed annotation"]
    file = "/run/board/refused.yaml"
    podman.box.write(file, POD.format(device=device))
    played = podman.call("podman", "--runtime=cdi", "kube", "play", "--network=none", file)
    podman.do("podman", "pod", "rm", "--force", "--time=0", "pod")
    assert played.returncode == 125
    assert re.sub("[0-9a-f]{64}", "ID", played.stderr) == (
        f"starting container ID: cdi: {message}: OCI runtime error\nError: failed to start 1 containers\n"
    )


@pytest.mark.parametrize("case", world.REFUSALS)
@pytest.mark.parametrize("name", ["cdi", "cdi --log-format=json", "cdi-json"])
@pytest.mark.parametrize("podman", ["root-v1", "user-v2"], indirect=True)
def test_refusal(podman: Podman, name: str, case: str) -> None:
    """Whoever runs the container gets the message that says why it fails, and podman inspect keeps it."""
    device, message = world.REFUSALS[case]
    name, _, more = name.partition(" ")
    flags = (f"--runtime-flag={more.removeprefix('--')}",) if more else ()
    done = podman.run("--name=refused", device=device, runtime=name, flags=flags)
    known = podman.inspect("refused", "State")
    podman.do("podman", "rm", "refused")
    assert (done.returncode, done.stdout) == (126, "")
    stderr, error = (done.stderr, known["Error"] if version("podman") >= (5, 0) else "")  # 4.3 keeps none
    if name != "cdi-json":
        stderr, error = without_warning(stderr), without_warning(error)
    assert stderr == f"Error: OCI runtime error: {name}: {podman.told(message)}\n"
    kept = f"{name}: {podman.told(message)}: OCI runtime error" if version("podman") >= (5, 0) else ""
    assert (known["Status"], error) == ("created", kept)


@pytest.mark.parametrize("podman", USERS, indirect=True)
def test_a_users_own_spec(podman: Podman) -> None:
    """A user also has the devices of their own spec dir."""
    device = {"name": "own", "containerEdits": {"env": ["CDI_TEST=own"]}}
    spec = {"cdiVersion": "0.6.0", "kind": "user.com/device", "devices": [device]}
    podman.do("mkdir", "-p", "/home/user/.config/cdi")
    podman.box.write("/home/user/.config/cdi/own.json", json.dumps(spec))
    done = podman.run("--rm", script='echo "$CDI_TEST"', device="user.com/device=own")
    podman.do("rm", "-r", "/home/user/.config/cdi")
    assert (done.returncode, done.stdout, done.stderr) == (0, "own\n", "")
