# SPDX-License-Identifier: Apache-2.0
"""docker, with cdi-runtime as its daemon's runtimes."""

from __future__ import annotations

import glob
import json
import shutil
from typing import TYPE_CHECKING

import pytest

from . import image, world
from .box import ENGINES_PATH, LAYOUT, need
from .containerd import plain
from .docker import ERROR

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from .docker import Docker

pytestmark = pytest.mark.xdist_group("docker")
BUNDLES = "/run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby"
RUNTIMES = ("cdi", "cdi-crun")


@pytest.fixture
def docker(dockers: Callable[[str], Docker]) -> Docker:
    """A docker engine with cgroup v1, whose default runtime is cdi-runtime."""
    return dockers(LAYOUT)


@pytest.fixture(params=RUNTIMES)
def container(request: pytest.FixtureRequest, docker: Docker) -> Generator[str]:
    """A running container that has the device, on each runtime."""
    script = f"{world.LOOK}; exec sleep 1000"
    started = docker.run("--detach", "--stop-timeout", "0", script=script, runtime=request.param)
    assert (started.returncode, started.stderr) == (0, "")
    container = started.stdout.strip()
    yield container
    docker.do("rm", "--force", container)


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("layout", ["v1", "v2"])
def test_device(dockers: Callable[[str], Docker], layout: str, runtime: str) -> None:
    """A container has the device that its annotation names, and sees nothing else."""
    docker = dockers(layout)
    if (layout, runtime) == ("v2", "cdi-crun") and "io" not in docker.box.controllers():
        pytest.skip("crun under docker needs cgroup v2's io controller, which is v1's on this machine")
    done = docker.run("--rm", script=world.LOOK, runtime=runtime)
    assert (done.returncode, done.stdout, done.stderr) == (0, world.SEEN, "")


def test_user_namespace(docker: Docker) -> None:
    """With userns-remap, a device's mounts are made: idmapped where the kernel can do that, and as they are elsewhere."""
    box, file = docker.box, "/etc/docker/daemon.json"
    before = box.read(file)
    mounts = [
        {"hostPath": source, "containerPath": target, "options": ["bind"]}
        for target, source in (("/opt/null", "/dev/null"), ("/opt/board", "/run/board"))
    ]
    device = {"name": "log", "containerEdits": {"mounts": mounts}}
    box.write(
        "/etc/cdi/kernel.json",
        json.dumps({"cdiVersion": "0.3.0", "kind": "vendor.com/kernel", "devices": [device]}),
    )
    lines = {"passwd": "remap:x:5000:5000::/:/bin/sh", "group": "remap:x:5000:"}
    for name, line in {**lines, **dict.fromkeys(("subuid", "subgid"), "remap:100000:65536")}.items():
        box.do("sh", "-c", f"echo {line} >>/etc/{name}")
    box.write(file, json.dumps({**json.loads(before), "userns-remap": "remap"}))
    try:
        docker.restart()
        box.do("docker", "load", "-i", world.ARCHIVE)
        script = "stat -c %F /opt/null /opt/board; cat /proc/self/uid_map"
        for runtime in RUNTIMES:
            done = docker.run("--rm", script=script, device="vendor.com/kernel=log", runtime=runtime)
            seen = f"character special file\ndirectory\n{0:10} {100000:10} {65536:10}\n"
            assert (done.returncode, done.stdout, done.stderr) == (0, seen, "")
    finally:
        box.write(file, before)
        docker.restart()


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_terminal(docker: Docker, runtime: str) -> None:
    """A container with a terminal, and so with a console socket, has the device."""
    done = docker.run("--rm", "--tty", script=f"tty; {world.LOOK}", runtime=runtime)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"/dev/pts/0\n{world.SEEN}", "")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_no_request(docker: Docker, runtime: str) -> None:
    """A container that asks for nothing gets nothing."""
    done = docker.call(
        "run", "--rm", "--network=none", f"--runtime={runtime}", image.NAME, "ls", "/dev/fuse", "/bin/sh"
    )
    assert (done.returncode, done.stdout, done.stderr) == (
        1, "/bin/sh\n", "ls: /dev/fuse: No such file or directory\n",
    )  # fmt: skip


def test_default_runtime(docker: Docker) -> None:
    """As the default runtime, cdi-runtime serves a container that names no runtime."""
    annotation = f"{world.KEY}={world.FUSE}"
    done = docker.call(
        "run", "--rm", "--network=none", "--annotation", annotation, image.NAME, "sh", "-c", world.LOOK
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, world.SEEN, "")


def test_runtime_arguments(docker: Docker) -> None:
    """With runtimeArgs docker puts a shell script before the runtime, and the arguments still arrive."""
    done = docker.run("--rm", script=world.LOOK, runtime="cdi-arguments")
    assert (done.returncode, done.stdout, done.stderr) == (0, world.SEEN, "")


def test_features(docker: Docker) -> None:
    """docker knows about cdi-runtime what it knows about runc, including the version."""
    need("dockerd", (25, 0), "features of runtimes")
    runtimes = json.loads(docker.do("info", "--format", "{{json .Runtimes}}"))
    assert runtimes["cdi"]["status"] == runtimes["runc"]["status"]
    version = docker.box.do("runc", "--version").splitlines()[0].split()[-1]
    assert (
        docker.do(
            "version",
            "--format",
            '{{range .Server.Components}}{{if eq .Name "cdi"}}{{.Version}}{{end}}{{end}}',
        )
        == version
    )


def test_config_has_each_once(docker: Docker, container: str) -> None:
    """The container's config.json has each part of the device once, and the hook ran once."""
    config = docker.box.read(f"{BUNDLES}/{container}/config.json")
    assert world.injected(json.loads(config)) == world.ONCE
    assert world.hooked(docker.box, container) == 1


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_beside_docker(docker: Docker, runtime: str) -> None:
    """A device that docker injects too, by its own option, is added once."""
    container = docker.run("--detach", "--device", world.FUSE, runtime=runtime).stdout.strip()
    config = docker.box.read(f"{BUNDLES}/{container}/config.json")
    docker.do("rm", "--force", container)
    assert world.injected(json.loads(config)) == world.ONCE
    assert world.hooked(docker.box, container) == 1


def test_restart(docker: Docker, container: str) -> None:
    """A container that is restarted has the device again."""
    docker.box.wait(lambda: docker.do("logs", container) == world.SEEN.strip())
    docker.do("restart", container)
    docker.box.wait(lambda: docker.do("logs", container) == (world.SEEN + world.SEEN).strip())
    assert world.hooked(docker.box, container) == 2


def test_exec(docker: Docker, container: str) -> None:
    """A process that joins the container has the device, but not the first process's environment."""
    done = docker.call("exec", container, "sh", "-c", world.LOOK_AGAIN)
    assert (done.returncode, done.stdout, done.stderr) == (0, world.SEEN_AGAIN, "")


def test_exec_passes_on_the_exit_status(docker: Docker, container: str) -> None:
    """A process that joins the container ends with its own exit status."""
    done = docker.call("exec", container, "sh", "-c", "exit 42")
    assert (done.returncode, done.stdout, done.stderr) == (42, "", "")


def test_top(docker: Docker, container: str) -> None:
    """The container's processes can be listed."""
    docker.box.wait(lambda: docker.do("logs", container) == world.SEEN.strip())
    assert docker.do("top", container, "-o", "pid,args").splitlines()[1].split()[1:] == ["sleep", "1000"]


def test_pause(docker: Docker, container: str) -> None:
    """The container can be paused and unpaused."""
    assert docker.do("pause", container) == container
    assert docker.inspect(container, "State.Status") == "paused"
    assert docker.do("unpause", container) == container
    assert docker.inspect(container, "State.Status") == "running"


def test_update(docker: Docker, container: str) -> None:
    """The container's limits can be changed, and it keeps its device."""
    # docker 29 says then that a box has no network
    assert docker.do("update", "--pids-limit", "123", container).splitlines()[0] == container
    assert docker.box.read(f"/sys/fs/cgroup/pids/docker/{container}/pids.max") == "123\n"
    assert docker.do("exec", container, "sh", "-c", world.LOOK_AGAIN) == world.SEEN_AGAIN.strip()


def test_stop(docker: Docker, container: str) -> None:
    """The container can be killed, and its exit status is known."""
    assert docker.do("kill", "--signal", "KILL", container) == container
    assert docker.do("wait", container) == "137"


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_checkpoint_is_refused(docker: Docker, runtime: str) -> None:
    """Errors of the real runtime keep its own words, and the container keeps running."""
    container = docker.run("--detach", "--stop-timeout=0", runtime=runtime).stdout.strip()
    criu = [*glob.glob("/usr/lib/*/libcriu.so.2"), *filter(None, [shutil.which("criu", path=ENGINES_PATH)])]
    for path in criu:  # with it, a container would be checkpointed
        docker.box.do("mount", "--bind", "/dev/null", path)
    done = docker.call("checkpoint", "create", container, "one")
    for path in criu:
        docker.box.do("umount", path)
    status = docker.inspect(container, "State.Status")
    docker.do("rm", "--force", container)
    program, *reasons = {
        "cdi": ("cdi-runtime", 'CRIU version check failed: exec: "criu": executable file not found in $PATH'),
        # the latter if it is built without CRIU
        "cdi-crun": ("cdi-crun", "could not load `libcriu.so.2`", "unknown command checkpoint"),
    }[runtime]
    assert (done.returncode, done.stdout, status) == (1, "", "running")
    assert done.stderr in [
        f"Error response from daemon: Cannot checkpoint container {container}: "
        f"/usr/bin/{program} did not terminate successfully: exit status 1: {reason} "
        f"path= /var{BUNDLES}/{container}/criu-dump.log\n"
        for reason in reasons
    ]


def test_health_check(docker: Docker) -> None:
    """A health check sees the device."""
    check = ("--health-cmd", ": </dev/fuse", "--health-interval", "100ms", "--stop-timeout", "0")
    container = docker.run("--detach", *check).stdout.strip()
    docker.box.wait(lambda: docker.inspect(container, "State.Health.Status") != "starting")
    assert docker.inspect(container, "State.Health.Status") == "healthy"
    docker.do("rm", "--force", container)


def test_build(docker: Docker) -> None:
    """The legacy builder uses the default runtime: a build step has the device that an argument names."""
    conf = "/etc/cdi-hook/cdi-hook.conf"
    docker.box.write(conf, f"{world.FILES[conf]}DEVICE_ENV=CDI_DEVICES\n")
    steps = f"FROM {image.NAME}\nARG CDI_DEVICES\nRUN cat /greeting >/made\n"
    docker.box.write("/root/build/Dockerfile", steps)
    done = docker.call(
        "build", "--network=none", "--quiet", f"--build-arg=CDI_DEVICES={world.FUSE}", "/root/build",
        environ={"DOCKER_BUILDKIT": "0"},
    )  # fmt: skip
    docker.box.write(conf, world.FILES[conf])
    assert done.returncode == 0, done.stderr
    assert docker.do("run", "--rm", "--network=none", done.stdout.strip(), "cat", "/made") == "hello"


@pytest.mark.parametrize("case", world.REFUSALS)
def test_refusal(docker: Docker, case: str) -> None:
    """Whoever runs the container gets the message that says why it fails, and docker inspect keeps it."""
    device, message = world.REFUSALS[case]
    done = docker.run("--name", "refused", device=device)
    known = docker.inspect("refused", "State")
    docker.do("rm", "refused")
    assert (done.returncode, done.stderr) == (125, f"docker: {ERROR}{message}\n")
    assert (known["Status"], known["ExitCode"], plain(known["Error"])) == (
        "created", 128, f"{ERROR.removeprefix('Error response from daemon: ')}{message}",
    )  # fmt: skip


def test_nobody_claims_a_namespace(docker: Docker) -> None:
    """An annotation that names a namespace of Kubernetes doesn't make a container of docker a pod's."""
    conf = "/etc/cdi-hook/cdi-hook.conf"
    before = docker.box.read(conf)
    docker.box.write(conf, f'ALLOW_ml="{world.FUSE} namespace=ml-*"\n')
    keys = ("io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace")
    done = docker.run("--rm", *(f"--annotation={key}=ml-1" for key in keys))
    docker.box.write(conf, before)
    assert (done.returncode, "; the container is in no namespace of Kubernetes" in done.stderr) == (
        125,
        True,
    )


def test_refusal_at_start(docker: Docker) -> None:
    """A container that was created before fails with the message when it is started."""
    device, message = world.REFUSALS["refused policy"]
    create = (
        "create",
        "--network=none",
        "--runtime=cdi",
        "--annotation",
        f"{world.KEY}={device}",
        image.NAME,
    )
    container = docker.do(*create)
    done = docker.call("start", container)
    docker.do("rm", container)
    assert (done.returncode, done.stdout) == (1, "")
    last = done.stderr.splitlines()[-1].removeprefix("Error: ")  # not in newer releases
    assert (done.stderr.splitlines()[:-1], last) == (
        [f"{ERROR}{message}"], f"failed to start containers: {container}",
    )  # fmt: skip


def test_compose(docker: Docker) -> None:
    """A service of a compose file has the device that its annotation names."""
    if docker.call("compose", "version").returncode:
        pytest.skip("docker compose isn't installed")
    service = {
        "image": image.NAME,
        "command": ["sh", "-c", world.LOOK.replace("$", "$$")],
        "runtime": "cdi",
        "annotations": {world.KEY: world.FUSE},
        "network_mode": "none",
    }
    compose = ("compose", "--file", "-", "--project-name", "cdi-test")
    file = json.dumps({"services": {"app": service}}).encode()
    docker.do(*compose, "up", stdin=file)
    container = docker.do(*compose, "ps", "--all", "--quiet", stdin=file)
    assert docker.do("logs", container) == world.SEEN.rstrip()
    docker.do(*compose, "down", stdin=file)
