# SPDX-License-Identifier: Apache-2.0
"""cdi-hook doctor, with real engines: mistakes that nothing else can see, each a row, and hosts where nothing is wrong."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from . import box, image, world
from .box import LAYOUT, USER, need
from .cri import Pod
from .docker import ANNOTATIONS, OWN_CDI

if TYPE_CHECKING:
    from collections.abc import Callable

    from .box import Box
    from .containerd import Containerd
    from .crio import Crio
    from .docker import Docker
    from .podman import Podman

KEY, FUSE = world.KEY, world.FUSE
SLEEP = (image.NAME, "sleep", "1000")
BROKEN = "/etc/cdi/broken.yaml"
RIGHT = f"--annotation cdi.k8s.io/NAME={FUSE}"
REFUSAL = world.REFUSALS["unknown device"]

# What somebody did with docker: the options, and the finding that says why there is no device.
DOCKER: dict[str, tuple[list[str], str, str]] = {
    "a label": (
        ["--runtime", "cdi", "--label", f"{KEY}={FUSE}"],
        f'has the label "{KEY}", which asks for nothing: it has to be an annotation',
        f"--annotation {KEY}={FUSE}",
    ),
    "a label in a compose file": (
        ["--runtime", "cdi", "--label", "com.docker.compose.project=x", "--label", f"{KEY}={FUSE}"],
        f'has the label "{KEY}", which asks for nothing: it has to be an annotation',
        f'annotations: {{{KEY}: "{FUSE}"}}',
    ),
    "a key without its slash": (
        ["--runtime", "cdi", "--annotation", f"cdi.k8s.io={FUSE}"],
        'has the annotation "cdi.k8s.io", which asks for nothing: the key has to begin with cdi.k8s.io/',
        RIGHT,
    ),
    "a key that is near": (
        ["--runtime", "cdi", "--annotation", f"cdi.k8s/x={FUSE}"],
        'has the annotation "cdi.k8s/x", which asks for nothing: the key has to begin with cdi.k8s.io/',
        RIGHT,
    ),
    "no --runtime": (
        ["--annotation", f"{KEY}={FUSE}"],
        "was created with the runtime runc, which isn't cdi-runtime; docker always restarts it with that",
        f"create it again: docker run --runtime cdi --annotation cdi.k8s.io/NAME={FUSE} IMAGE",
    ),
    "another runtime": (
        ["--runtime", "io.containerd.runc.v2", "--annotation", f"{KEY}={FUSE}"],
        "was created with the runtime io.containerd.runc.v2 (runc), which isn't cdi-runtime; docker always restarts it "
        "with that",
        f"create it again: docker run --runtime cdi --annotation cdi.k8s.io/NAME={FUSE} IMAGE",
    ),
    "a variable of nvidia's": (
        ["--runtime", "cdi", "--env", "NVIDIA_VISIBLE_DEVICES=all"],
        "has the variable NVIDIA_VISIBLE_DEVICES=all, which asks for nothing",
        "--annotation cdi.k8s.io/NAME=vendor.com/class=name, or DEVICE_ENV=NVIDIA_VISIBLE_DEVICES in cdi-hook.conf",
    ),
    "--gpus": (
        ["--runtime", "cdi", "--gpus", "all"],
        'didn\'t start: could not select device driver "" with capabilities: [[gpu]]',
        "--annotation cdi.k8s.io/NAME=nvidia.com/gpu=all",
    ),
    "a device that isn't known": (
        ["--runtime", "cdi", "--annotation", f"{KEY}={REFUSAL[0]}"],
        REFUSAL[1].removeprefix(world.FAILED),
        "cdi-hook doctor",
    ),
    "nothing asked": (
        ["--runtime", "cdi"],
        "asks for no device",
        "--annotation cdi.k8s.io/NAME=vendor.com/class=name; cdi-hook list shows the names",
    ),
}
# What docker says of --gpus where it looks for a CDI spec, as newer releases do.
GPUS_BY_CDI = "didn't start: failed to discover GPU vendor from CDI: no known GPU vendor found"


def said(box: Box, *arguments: str, user: int = 0) -> tuple[int, list[dict[str, Any]]]:
    """Return the exit status, and the findings."""
    done = box.call("cdi-hook", "doctor", "--json", *arguments, user=user)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)["items"]


def examined(box: Box, *arguments: str, user: int = 0) -> tuple[int, list[tuple[str, str, str | None]]]:
    """Return the exit status, and each finding's level, fact and fix."""
    status, found = said(box, *arguments, user=user)
    return status, [(one["level"], one["message"], one["fix"] or None) for one in found]


def host(box: Box, user: int = 0) -> tuple[int, list[str], list[str]]:
    """Return, of the host without the world's broken spec, the exit status, the facts, and those that aren't ok.

    How old the index is depends on the tests before.
    """
    box.do("mv", BROKEN, "/run/board/")
    status, found = said(box, user=user)
    box.do("mv", f"/run/board/{BROKEN.rpartition('/')[2]}", BROKEN)
    found = [one for one in found if one["check"] != "index"]
    return (
        status,
        [one["message"] for one in found],
        [one["message"] for one in found if one["level"] != "ok"],
    )


@pytest.fixture
def docker(dockers: Callable[[str], Docker]) -> Docker:
    """A docker with cgroup v2, whose default runtime is runc."""
    return dockers("v2")


@pytest.mark.xdist_group("docker")
@pytest.mark.parametrize("mistake", DOCKER)
def test_docker(docker: Docker, mistake: str) -> None:
    """A mistake with docker is the error that is found, with what mends it."""
    need(*ANNOTATIONS)  # which the fixes name, too
    options, fact, fix = DOCKER[mistake]
    docker.call("run", "--detach", "--name=mistake", "--stop-timeout=0", "--network=none", *options, *SLEEP)
    identity = docker.inspect("mistake", "Id")
    status, findings = examined(docker.box, "mistake")
    docker.do("rm", "--force", "mistake")
    who = f"docker's container {identity[:12]}"
    between = ":" if mistake == "a device that isn't known" else ""
    errors = [(said, what) for level, said, what in findings if level == "error"]
    facts = (fact, GPUS_BY_CDI) if mistake == "--gpus" else (fact,)
    assert errors[-1] in [(f"{who}{between} {one}", fix) for one in facts]
    assert [what for _, what in errors if what] == [fix]  # nothing that mends nothing
    assert status == 1


@pytest.mark.xdist_group("docker")
@pytest.mark.parametrize("runtime", ["cdi", "cdi-crun"])
def test_docker_that_is_right(docker: Docker, runtime: str) -> None:
    """A container that has its device has no error, and is found by the beginning of its id."""
    if runtime == "cdi-crun" and "io" not in docker.box.controllers():
        pytest.skip("crun under docker needs cgroup v2's io controller, which is v1's on this machine")
    identity = docker.run("--detach", "--stop-timeout=0", script="sleep 1000", runtime=runtime).stdout.strip()
    status, findings = examined(docker.box, identity[:12])
    docker.do("rm", "--force", identity)
    who = f"docker's container {identity[:12]}"
    assert findings[0] == ("ok", f'{who} asks for {FUSE} (annotation "{KEY}")', None)
    assert findings[1] == ("ok", f"{who} was given all of that", None)
    assert (status, {level for level, _, _ in findings}) == (0, {"ok"})


@pytest.mark.xdist_group("docker")
def test_docker_itself_gives_it(docker: Docker) -> None:
    """A device that docker itself was asked for is said to be docker's to give."""
    command = ("run", "--detach", "--stop-timeout=0", "--network=none", "--device", FUSE, *SLEEP)
    identity = docker.do(*command)
    status, findings = examined(docker.box, identity)
    docker.do("rm", "--force", identity)
    who = f"docker's container {identity[:12]}"
    fact = f"{who} asks docker itself: --device {FUSE}; that isn't cdi-runtime's to give"
    assert (status, findings[0]) == (0, ("ok", fact, None))


@pytest.mark.xdist_group("docker")
def test_docker_container_that_was_stopped(docker: Docker) -> None:
    """Of a container that isn't running, it is said that it could be given its device."""
    identity = docker.run("--detach", "--stop-timeout=0", script="sleep 1000").stdout.strip()
    docker.do("kill", identity)
    docker.do("wait", identity)
    status, findings = examined(docker.box, identity)
    docker.do("rm", identity)
    fact = f"docker's container {identity[:12]} isn't running; cdi-runtime could give it all of that"
    assert (status, findings[1]) == (0, ("ok", fact, None))


@pytest.mark.xdist_group("docker")
def test_docker_for_a_user(docker: Docker) -> None:
    """A user who may ask docker learns what a running container asks for; only root may read what it was given."""
    identity = docker.run("--detach", "--stop-timeout=0", script="sleep 1000").stdout.strip()
    docker.box.do("chmod", "666", "/run/docker.sock")
    status, findings = examined(docker.box, identity, user=USER)
    docker.box.do("chmod", "660", "/run/docker.sock")
    docker.do("rm", "--force", identity)
    who = f"docker's container {identity[:12]}"
    assert findings[0] == ("ok", f'{who} asks for {FUSE} (annotation "{KEY}")', None)
    fact = f"only root may read the config.json of {who}, which says what it was given"
    assert findings[1][:2] == ("unknown", fact)
    assert str(findings[1][2]).startswith("sudo cdi-hook doctor ")
    assert status == 0


@pytest.mark.xdist_group("docker")
def test_docker_host(docker: Docker) -> None:
    """On a host where docker runs cdi-runtime nothing is wrong; a user can't ask its daemon, and is told so."""
    version = docker.do("version", "--format", "{{.Server.Version}}")
    named = f"docker {version} runs cdi-runtime as its runtimes cdi, cdi-arguments, cdi-crun (the default is runc)"
    status, facts, bad = host(docker.box)
    own = "on: " if box.version("dockerd") >= OWN_CDI[1] else "off"
    assert facts[0].startswith(f"{named}; its own CDI is {own}")
    assert (status, bad) == (0, [])
    status, facts, bad = host(docker.box, USER)
    assert facts[1].startswith(f"docker {version} runs cdi-runtime as its runtimes cdi, ")
    assert (status, bad) == (0, [f"docker {version}: only root may ask its daemon"])
    assert examined(docker.box, "x", user=USER)[1][0] == (
        "unknown", "only root may ask docker", "sudo cdi-hook doctor x",
    )  # fmt: skip


DAEMON = "/etc/docker/daemon.json"
# What is wrong with daemon.json's runtimes, and what is found.
CONFIGURED: dict[str, tuple[dict[str, Any], str, str]] = {
    "a wrong path": (
        {"cdi": {"path": "/usr/bin/cdi-runtim"}},
        'the runtime cdi is "/usr/bin/cdi-runtim", which isn\'t cdi-runtime',
        f"give it the path /usr/bin/cdi-runtime in {DAEMON}",
    ),
    "a path where nothing is": (
        {"cdi": {"path": "/opt/cdi-runtime"}},
        "the runtime cdi is /opt/cdi-runtime, and there is no such program",
        "cdi-hook configure docker --reload",
    ),
}


@pytest.mark.xdist_group("docker")
@pytest.mark.parametrize("mistake", CONFIGURED)
def test_docker_configured_wrong(docker: Docker, mistake: str) -> None:
    """A runtime with a wrong program is found in the file."""
    runtimes, fact, fix = CONFIGURED[mistake]
    before = docker.box.read(DAEMON)
    docker.box.write(DAEMON, json.dumps({"runtimes": runtimes}))
    status, findings = examined(docker.box)
    docker.box.write(DAEMON, before)
    version = docker.do("version", "--format", "{{.Server.Version}}")
    assert findings[0] == ("error", f"docker {version}: {DAEMON}: {fact}", fix)
    assert status == 1


@pytest.mark.xdist_group("docker")
def test_docker_that_has_not_read_its_file(docker: Docker) -> None:
    """A runtime that is in the file and not in the daemon is found, and after a reload all is well."""

    def write(text: str) -> None:
        docker.box.write(DAEMON, text)

    before = docker.box.read(DAEMON)
    tree = json.loads(before)
    tree["runtimes"]["cdi-new"] = {"path": "/usr/bin/cdi-runtime"}
    write(json.dumps(tree))
    status, findings = examined(docker.box)
    docker.box.do("sh", "-c", "kill -HUP $(busybox pidof dockerd)")
    docker.box.wait(lambda: "cdi-new" in json.loads(docker.do("info", "--format", "{{json .Runtimes}}")))
    after = host(docker.box)[0]
    write(before)
    docker.restart()  # docker 20.10 keeps what it has, at a reload
    version = docker.do("version", "--format", "{{.Server.Version}}")
    fact = f"docker {version}: its daemon doesn't know the runtime cdi-new of {DAEMON}"
    assert (status, findings[0]) == (1, ("error", fact, "systemctl reload docker"))
    assert after == 0


@pytest.mark.xdist_group("docker")
def test_spec_with_another_ending(docker: Docker) -> None:
    """A spec whose name ends in .yml is found, which docker and list pass over without a word."""
    docker.box.write("/etc/cdi/mine.yml", world.FILES["/etc/cdi/vendor.json"])
    status, findings = examined(docker.box)
    docker.box.do("rm", "/etc/cdi/mine.yml")
    fact = "/etc/cdi/mine.yml isn't read, because its name ends neither in .json nor in .yaml"
    assert ("error", fact, "mv /etc/cdi/mine.yml /etc/cdi/mine.yaml") in findings
    assert status == 1


@pytest.fixture
def containerd(containerds: Callable[..., Containerd]) -> Containerd:
    """A containerd with cgroup v1."""
    return containerds()


# What somebody did with ctr: the options, and the error.
CTR: dict[str, tuple[list[str], str, str]] = {
    "no --runc-binary": (
        ["--annotation", f"{KEY}={FUSE}"],
        "was created with the runtime io.containerd.runc.v2 (runc), which isn't cdi-runtime",
        f"create it again: ctr run --runc-binary /usr/bin/cdi-runtime --annotation cdi.k8s.io/NAME={FUSE} IMAGE ID",
    ),
    "a label": (
        ["--runc-binary", "/usr/bin/cdi-runtime", "--label", f"{KEY}={FUSE}"],
        f'has the label "{KEY}", which asks for nothing: it has to be an annotation',
        f"--annotation {KEY}={FUSE}",
    ),
}


def end(containerd: Containerd, container: str) -> None:
    """Remove a container of ctr's."""
    containerd.box.do("ctr", "task", "kill", "-s", "9", container)
    containerd.box.wait(lambda: "STOPPED" in containerd.box.do("ctr", "task", "ls"))
    containerd.box.do("ctr", "task", "rm", container)
    containerd.box.do("ctr", "container", "rm", container)


@pytest.mark.xdist_group("containerd")
@pytest.mark.parametrize("mistake", CTR)
def test_ctr(containerd: Containerd, mistake: str) -> None:
    """A mistake with ctr is the error that is found, with what mends it."""
    options, fact, fix = CTR[mistake]
    containerd.box.do("ctr", "run", "--detach", *options, image.NAME, "mistake", "sleep", "1000")
    status, findings = examined(containerd.box, "mistake")
    end(containerd, "mistake")
    errors = [(said, what) for level, said, what in findings if level == "error"]
    assert errors[-1] == (f"containerd's container mistake {fact}", fix)
    assert status == 1


@pytest.mark.xdist_group("containerd")
def test_ctr_that_is_right(containerd: Containerd) -> None:
    """A container that has its device has no error, and the beginning of its id is enough."""
    containerd.run("right-one", "--detach", script="sleep 1000")
    status, findings = examined(containerd.box, "right")
    end(containerd, "right-one")
    who = "containerd's container right-one"
    made = f"{who} was created with the runtime io.containerd.runc.v2 (/usr/bin/cdi-runtime), which is cdi-runtime"
    assert (status, findings[1:]) == (0, [("ok", f"{who} was given all of that", None), ("ok", made, None)])


@pytest.mark.xdist_group("containerd")
def test_containerd_host(containerd: Containerd) -> None:
    """On a host where containerd has cdi-runtime as a handler nothing is wrong."""
    status, facts, bad = host(containerd.box)
    assert " runs cdi-runtime as its runtimes cdi, cdi-crun, " in facts[0]
    assert (status, bad) == (0, [])


@pytest.mark.xdist_group("containerd")
def test_pod(containerd: Containerd) -> None:
    """Annotations that containerd doesn't pass on are found, a container's and a pod's, and so is another handler."""
    lost = "gets nothing by {}'s annotation " + f"{KEY}={world.SOFT}: containerd doesn't pass it on"
    fix = "cdi-hook configure containerd{} --reload"
    again = f"create it again: cdi-hook show {world.SOFT} says how"
    with Pod(containerd, "runc", {KEY: world.SOFT}) as pod:
        container = pod.create("sleep 1000", {KEY: world.SOFT})
        pod.start(container)
        status, findings = examined(containerd.box, container[:20])
    who = f"containerd's container {container[:12]}"
    of_pod = ("error", f"{who} {lost.format('its pod')}", fix.format(" --pod-annotations"))
    assert status == 1
    assert findings == [
        ("error", f"{who} {lost.format('the container')}", fix.format("")),
        of_pod,
        ("error", f"{who} was created with the runtime runc, which isn't cdi-runtime", again),
    ]
    with Pod(containerd, "cdi", {KEY: world.SOFT, f"{KEY}3": FUSE}) as pod:
        container, _ = pod.run("true", {f"{KEY}2": FUSE})
        status, findings = examined(containerd.box, container)
    who = f"containerd's container {container[:12]}"
    of_pod = ("error", f"{who} {lost.format('its pod')}", fix.format(" --pod-annotations"))
    made = f"{who} was created with the runtime cdi (/usr/bin/cdi-runtime), which is cdi-runtime"
    given = ("ok", f"{who} was given all of that", None)
    assert (status, findings[1:]) == (1, [given, of_pod, ("ok", made, None)])


@pytest.mark.xdist_group("containerd")
def test_crio_host(crios: Callable[[], Crio]) -> None:
    """On a host where CRI-O has cdi-runtime as a handler nothing is wrong."""
    status, facts, bad = host(crios().box)
    assert " runs cdi-runtime as its runtimes cdi, cdi-crun " in facts[0]
    assert (status, bad) == (0, [])


@pytest.mark.xdist_group("containerd")
def test_crio_pod(crios: Callable[[], Crio]) -> None:
    """A container of CRI-O's whose pod has another handler is found, and one with ours has no error."""
    engine = crios()
    if engine.box.call("crictl", "--version").returncode:
        pytest.skip("crictl isn't installed")
    found = {}
    for handler in ("runc", "cdi"):
        with Pod(engine, handler, {KEY: FUSE}) as pod:
            container, _ = pod.run("true", {})
            status, findings = examined(engine.box, container)
        level, fact, _ = findings[-1]
        assert fact.startswith(f"crio's container {container[:12]} was ")
        found[handler] = status, level, fact.partition(" with the runtime ")[2]
    assert found == {
        "runc": (1, "error", "runc, which isn't cdi-runtime"),
        "cdi": (0, "ok", "cdi (/usr/bin/cdi-runtime), which is cdi-runtime"),
    }


PODMAN: dict[str, tuple[str, list[str], str, str]] = {
    "no --runtime": (
        "runc",
        ["--annotation", f"{KEY}={FUSE}"],
        "was created with the runtime runc, which isn't cdi-runtime; podman always restarts it with that",
        f"create it again: podman --runtime /usr/bin/cdi-runtime run --annotation cdi.k8s.io/NAME={FUSE} IMAGE",
    ),
    "a label": (
        "cdi",
        ["--label", f"{KEY}={FUSE}"],
        f'has the label "{KEY}", which asks for nothing: it has to be an annotation',
        f"--annotation {KEY}={FUSE}",
    ),
    "a key without its slash": (
        "cdi",
        ["--annotation", f"cdi.k8s.io={FUSE}"],
        'has the annotation "cdi.k8s.io", which asks for nothing: the key has to begin with cdi.k8s.io/',
        RIGHT,
    ),
}


@pytest.mark.xdist_group("podman")
@pytest.mark.parametrize("rootless", [False, True], ids=["root", "rootless"])
@pytest.mark.parametrize("mistake", PODMAN)
def test_podman(podmans: Callable[..., Podman], rootless: bool, mistake: str) -> None:
    """A mistake with podman, root's or a user's, is the error that is found, with what mends it."""
    podman = podmans(rootless=rootless, layout=LAYOUT)
    runtime, options, fact, fix = PODMAN[mistake]
    identity = podman.do(
        "podman", "--runtime", runtime, "run", "--detach", "--name=mistake", *options, *SLEEP
    )
    status, findings = examined(podman.box, "mistake", user=podman.user)
    podman.do("podman", "rm", "--force", "--time=0", "mistake")
    errors = [(said, what) for level, said, what in findings if level == "error"]
    assert errors[-1] == (f"podman's container {identity[:12]} {fact}", fix)
    assert status == 1


@pytest.mark.xdist_group("podman")
def test_a_node_for_a_group(podmans: Callable[..., Podman]) -> None:
    """A rootless container that was given a node, and can't open it, has the error, with the group to be in."""
    podman = podmans(rootless=True, layout=LAYOUT)
    box, node, spec = podman.box, "/dev/cdi-hook-closed", "/etc/cdi/closed.yaml"
    box.do("sh", "-c", f"mknod -m 660 {node} c 1 3 && chown 0:5 {node}")
    box.write(
        spec,
        "cdiVersion: 0.3.0\nkind: vendor.com/closed\ndevices: "
        f"[{{name: one, containerEdits: {{deviceNodes: [{{path: {node}}}]}}}}]\n",
    )
    try:
        podman.run("--detach", "--name=closed", device="vendor.com/closed=one", script="sleep 1000")
        status, findings = examined(box, "closed", user=podman.user)
        podman.do("podman", "rm", "--force", "--time=0", "closed")
    finally:
        box.do("rm", "-f", spec, node)
    errors = [(fact.partition(" can't open ")[2], fix) for level, fact, fix in findings if level == "error"]
    (group,) = [line.split(":")[0] for line in box.read("/etc/group").splitlines() if ":5:" in line]
    fact = f"{node}, which is for the group {group}: you aren't in it"
    assert (status, errors) == (1, [(fact, f"sudo usermod -aG {group} $USER; then log in again")])


@pytest.mark.xdist_group("podman")
@pytest.mark.parametrize("rootless", [False, True], ids=["root", "rootless"])
def test_podman_that_is_right(podmans: Callable[..., Podman], rootless: bool) -> None:
    """A container that has its device has no error, nor has the host; the other user's podman doesn't know it."""
    podman = podmans(rootless=rootless, layout=LAYOUT)
    identity = podman.run("--detach", script="sleep 1000").stdout.strip()
    status, findings = examined(podman.box, identity, user=podman.user)
    if rootless:
        unknown = examined(podman.box, identity)[1][-1]
        fact = f'no container and no bundle "{identity}" is known to root; asked: podman'
        assert unknown == ("error", fact, "a user's engine and root's don't know each other's containers")
    podman.do("podman", "rm", "--force", "--time=0", identity)
    who = f"podman's container {identity[:12]}"
    made = f"{who} was created with the runtime cdi (/usr/bin/cdi-runtime), which is cdi-runtime"
    assert (status, findings[1:]) == (0, [("ok", f"{who} was given all of that", None), ("ok", made, None)])
    status, facts, bad = host(podman.box, podman.user)
    assert " runs cdi-runtime as its runtimes cdi, " in facts[0]
    assert (status, bad) == (0, [])
