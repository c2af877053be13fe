# SPDX-License-Identifier: Apache-2.0
"""What real engines give by themselves, under EXCLUSIVE and DENY; and that their usual containers start."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from . import image, world
from .box import LAYOUT
from .cri import Pod, Refusal
from .docker import ERROR

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from .box import Box, Completed
    from .containerd import Containerd
    from .crio import Crio
    from .docker import Docker
    from .podman import Podman

CONF, LOG = "/etc/cdi-hook/cdi-hook.conf", "/run/board/own.log"
SPEC = "/etc/cdi/usual.json"
FUSE, OPEN = world.FUSE, "true </dev/fuse && echo opened"
PATTERNS = ["DENY=*", "EXCLUSIVE=*", "ALLOW_e='v.com/x=y from=engine'"]
GIFT = f"device {FUSE} (asked for by the engine, which lets it open c 10:229)"
DENIED = f"{world.FAILED}{GIFT} is not allowed on this host: DENY=vendor.com/* ({CONF}:1) refuses it"
MKNOD = "busybox mknod /tmp/f c 10 229; true </tmp/f && echo opened"


def furnish(box: Box, line: str) -> None:
    """Have this line in the configuration, a device for each node that containers usually have, and no leases."""
    paths = ["null", "zero", "full", "random", "urandom", "tty", "console", "ptmx", "net/tun"]
    devices = [
        {"name": one.replace("/", "-"), "containerEdits": {"deviceNodes": [{"path": f"/dev/{one}"}]}}
        for one in paths
    ]
    box.write(SPEC, json.dumps({"cdiVersion": "0.6.0", "kind": "v.com/usual", "devices": devices}))
    box.write(CONF, f"{line}\nLOG={LOG}\n")
    box.write(LOG, "", "666")
    world.forget_leases(box)


def clear(box: Box) -> None:
    box.do("rm", "-f", SPEC)
    box.write(CONF, world.FILES[CONF])


def log(box: Box) -> list[tuple[str, str]]:
    """Return the messages in LOG, with the devices and the source of each."""
    lines = [json.loads(line) for line in box.read(LOG).splitlines()]
    return [
        (line["msg"], " ".join(f"{one['name']} by {one['source']}" for one in line.get("devices", ())))
        for line in lines
    ]


GIVEN = ("CDI devices given by the engine", f"{FUSE} by the engine, which lets it open c 10:229")


class TestDocker:
    """docker."""

    pytestmark = pytest.mark.xdist_group("docker")

    @pytest.fixture(params=["cdi", "cdi-crun"])
    def runtime(self, request: pytest.FixtureRequest) -> str:
        """The runtime of the containers."""
        name: str = request.param
        return name

    @pytest.fixture
    def docker(self, dockers: Callable[[str], Docker]) -> Generator[Docker]:
        """A docker."""
        made = dockers(LAYOUT)
        yield made
        for one in made.do("ps", "--all", "--quiet").split():
            made.do("rm", "--force", one)
        clear(made.box)

    def run(self, docker: Docker, runtime: str, *options: str, script: str = OPEN) -> Completed:
        """Run a container that asks for nothing."""
        return docker.call(
            "run", "--network=none", f"--runtime={runtime}", *options, image.NAME, "sh", "-c", script
        )

    @pytest.mark.parametrize("line", PATTERNS)
    def test_usual(self, docker: Docker, runtime: str, line: str) -> None:
        """A usual container starts under any pattern, and nothing is said."""
        furnish(docker.box, line)
        done = self.run(docker, runtime, "--rm", script="cat /dev/null; echo started")
        assert (done.returncode, done.stdout, done.stderr) == (0, "started\n", "")
        assert log(docker.box) == []

    @pytest.mark.parametrize(
        "options",
        [("--device=/dev/fuse",), ("--device", FUSE), ("--device=/dev/fuse:/dev/x:r",)],
        ids=["device", "own CDI", "as another"],
    )
    def test_given(self, docker: Docker, runtime: str, options: tuple[str, ...]) -> None:
        """--device and docker's own CDI are refused, or leased, and not judged where a container also asks."""
        furnish(docker.box, "DENY=vendor.com/*")
        done = self.run(docker, runtime, "--rm", *options)
        assert (done.returncode, done.stdout, done.stderr) == (125, "", f"docker: {ERROR}{DENIED}\n")
        assert log(docker.box) == [(DENIED, GIVEN[1])]
        furnish(docker.box, "EXCLUSIVE=vendor.com/*")
        first = self.run(docker, runtime, "--detach", *options, script="exec sleep 1000")
        assert (first.returncode, first.stderr) == (0, "")
        done = self.run(docker, runtime, "--rm", *options)
        assert done.returncode == 125
        assert f"{FUSE} is in use by {first.stdout[:12]} (docker, since" in done.stderr
        assert "; asked for by the engine, which lets it open c 10:229" in done.stderr
        done = docker.run("--rm", runtime=runtime)
        assert f"{FUSE} is in use by {first.stdout[:12]} (docker, since" in done.stderr
        assert log(docker.box)[0] == GIVEN
        docker.do("rm", "--force", first.stdout.strip())
        done = docker.run("--rm", *options, script=OPEN, runtime=runtime)
        assert (done.stdout, done.stderr) == ("opened\n", "")

    def test_started_again(self, docker: Docker, runtime: str) -> None:
        """What docker gives is leased at each start."""
        furnish(docker.box, "EXCLUSIVE=vendor.com/*")
        container = self.run(
            docker, runtime, "--detach", "--device=/dev/fuse", "--stop-timeout=0", script="exec sleep 1000"
        ).stdout.strip()
        docker.do("restart", container)
        docker.do("stop", container)
        other = self.run(docker, runtime, "--detach", "--device=/dev/fuse", script="exec sleep 1000").stdout
        done = docker.call("start", container)
        assert done.returncode == 1
        assert f"{FUSE} is in use by {other[:12]}" in done.stderr

    def test_a_rule_and_mknod(self, docker: Docker, runtime: str) -> None:
        """A rule is enough, because a container may make the node itself; one for mknod alone isn't."""
        for rule in ("c 10:229 rm", "c 10:* rmw"):
            furnish(docker.box, "DENY=x.com/y=z")
            given = (f"--device-cgroup-rule={rule}", "--rm")
            if "*" not in rule or runtime == "cdi":  # crun can't write -1 on cgroup v1
                assert self.run(docker, runtime, *given, script=MKNOD).stdout == "opened\n"
                ((message, devices),) = log(docker.box)
                assert (message, devices[: len(GIVEN[1])]) == GIVEN
            furnish(docker.box, "DENY=vendor.com/*")
            done = self.run(docker, runtime, *given, script=MKNOD)
            assert (done.returncode, done.stdout, done.stderr) == (125, "", f"docker: {ERROR}{DENIED}\n")
        done = self.run(docker, runtime, "--device-cgroup-rule=c 10:229 m", "--rm", script=MKNOD)
        assert (done.returncode, done.stdout) == (1, "")
        assert "Operation not permitted" in done.stderr

    @pytest.mark.parametrize("option", ["--privileged", "--device-cgroup-rule=a *:* rwm"])
    def test_privileged(self, docker: Docker, runtime: str, option: str) -> None:
        """Who may have every device isn't judged, and LOG says so."""
        furnish(docker.box, "DENY=vendor.com/*")
        done = self.run(docker, runtime, "--rm", option, script=MKNOD)
        assert (done.stdout, done.stderr) == ("opened\n", "")
        ((message, _),) = log(docker.box)
        assert message.startswith("the container may open every device of this host")


class TestPodman:
    """podman, as root and as a user, in user namespaces too."""

    pytestmark = pytest.mark.xdist_group("podman")

    @pytest.fixture(params=[False, True], ids=["root", "user"])
    def podman(self, request: pytest.FixtureRequest, podmans: Callable[..., Podman]) -> Generator[Podman]:
        """A podman."""
        made = podmans(rootless=request.param, layout="v2")
        yield made
        made.do("podman", "rm", "--all", "--force", "--time=0")
        clear(made.box)

    @pytest.fixture(params=["cdi", "cdi-crun"])
    def runtime(self, request: pytest.FixtureRequest) -> str:
        """The runtime of the containers."""
        name: str = request.param
        return name

    @pytest.fixture(params=[False, True], ids=["", "userns"])
    def namespace(self, request: pytest.FixtureRequest, podman: Podman) -> list[str]:
        """What gives the container another user namespace than podman's."""
        own = "--userns=keep-id" if podman.user else "--uidmap=0:100000:5000"
        return [own] if request.param else []

    def run(self, podman: Podman, runtime: str, *options: str, script: str = OPEN) -> Completed:
        """Run a container that asks for nothing."""
        return podman.call("podman", "--runtime", runtime, "run", *options, image.NAME, "sh", "-c", script)

    @pytest.mark.parametrize("line", PATTERNS)
    def test_usual(self, podman: Podman, runtime: str, namespace: list[str], line: str) -> None:
        """A usual container starts under any pattern, and nothing is said."""
        furnish(podman.box, line)
        done = self.run(podman, runtime, "--rm", *namespace, script="cat /dev/null; echo started")
        assert (done.returncode, done.stdout, done.stderr) == (0, "started\n", "")
        assert log(podman.box) == []

    @pytest.mark.parametrize(
        "options",
        [("--device=/dev/fuse",), ("--device", FUSE), ("--volume=/dev/fuse:/dev/fuse:dev",)],
        ids=["device", "own CDI", "volume"],
    )
    def test_given(
        self, podman: Podman, runtime: str, namespace: list[str], options: tuple[str, ...]
    ) -> None:
        """--device and podman's own CDI, and a volume in a user namespace, are refused, or leased."""
        has_rules = not podman.user and not namespace
        if has_rules and "--volume" in options[0]:
            return  # the node can't be opened then
        furnish(podman.box, "DENY=vendor.com/*")
        done = self.run(podman, runtime, "--rm", *namespace, *options)
        assert (done.returncode, done.stdout) == (126, "")
        assert DENIED in done.stderr
        furnish(podman.box, "EXCLUSIVE=vendor.com/*")
        first = self.run(podman, runtime, "--detach", *namespace, *options, script=f"{OPEN}; exec sleep 1000")
        assert (first.returncode, first.stderr) == (0, "")
        if (
            podman.user or runtime == "cdi-crun" or "--volume" not in options[0]
        ):  # runc forbids it all the same
            podman.box.wait(lambda: podman.do("podman", "logs", first.stdout.strip()) == "opened")
        for done in (
            self.run(podman, runtime, "--rm", *namespace, *options),
            podman.run("--rm", runtime=runtime),
        ):
            assert done.returncode == 126
            assert f"{FUSE} is in use by {first.stdout[:12]} (podman, since" in done.stderr
        podman.do("podman", "rm", "--force", "--time=0", first.stdout.strip())
        done = podman.run("--rm", *namespace, *options, script="echo started", runtime=runtime)
        assert (done.stdout, done.stderr) == ("started\n", "")

    def test_volumes(self, podman: Podman, runtime: str) -> None:
        """A user's volume that shows /dev gives what is in there; root's has rules, and nodev hides it."""
        furnish(podman.box, "DENY=vendor.com/*")
        for volume in ("/dev:/host", "/:/host", "/dev/fuse:/host/dev/fuse:nodev"):
            look = "true </host/fuse || true </host/dev/fuse || echo closed"
            done = self.run(podman, runtime, "--rm", f"--volume={volume}", script=look)
            if podman.user and "nodev" not in volume:
                assert done.returncode == 126, volume
                assert DENIED in done.stderr
            else:
                assert (done.returncode, done.stdout) == (0, "closed\n"), volume

    def test_privileged(self, podman: Podman, runtime: str) -> None:
        """Root's may have every device, which LOG says; a user's has those that the user gives it."""
        furnish(podman.box, "DENY=vendor.com/*")
        done = self.run(podman, runtime, "--rm", "--privileged")
        if podman.user:
            assert DENIED in done.stderr
        else:
            assert (done.stdout, done.stderr) == ("opened\n", "")
            ((message, _),) = log(podman.box)
            assert message.startswith("the container may open every device of this host")


class TestContainerd:
    """containerd, by ctr."""

    pytestmark = pytest.mark.xdist_group("containerd")

    @pytest.fixture
    def containerd(self, containerds: Callable[..., Containerd]) -> Generator[Containerd]:
        """A containerd."""
        made = containerds()
        yield made
        clear(made.box)

    @pytest.mark.parametrize("program", ["cdi-runtime", "cdi-crun"])
    def test_usual_and_given(self, containerd: Containerd, program: str) -> None:
        """A usual container starts under any pattern; --device is refused."""

        def run(*options: str) -> Completed:
            return containerd.ctr(
                "run", "--rm", "--runc-binary", f"/usr/bin/{program}", *options, image.NAME, "one", "sh", "-c", OPEN
            )  # fmt: skip

        for line in PATTERNS:
            furnish(containerd.box, line)
            done = run()
            assert (done.returncode, log(containerd.box)) == (1, []), done
            assert "can't open /dev/fuse" in done.stderr
        furnish(containerd.box, "DENY=vendor.com/*")
        assert DENIED in run("--device", "/dev/fuse").stderr


class TestPods:
    """containerd and CRI-O by their API for Kubernetes."""

    pytestmark = pytest.mark.xdist_group("containerd")

    @pytest.fixture(params=["containerd", "crio"])
    def engine(
        self,
        request: pytest.FixtureRequest,
        containerds: Callable[..., Containerd],
        crios: Callable[..., Crio],
    ) -> Generator[Containerd | Crio]:
        """An engine."""
        made = containerds() if request.param == "containerd" else crios()
        yield made
        clear(made.box)

    @pytest.mark.parametrize("handler", ["cdi", "cdi-crun"])
    def test_usual_and_given(self, engine: Containerd | Crio, handler: str) -> None:
        """A usual pod starts under any pattern; what a device plugin gives is refused, or leased."""
        for line in PATTERNS:
            furnish(engine.box, line)
            with Pod(engine, handler) as pod:
                assert pod.run("echo started", {})[1] == "stdout started\n"
            assert log(engine.box) == []
        furnish(engine.box, "DENY=vendor.com/*")
        with Pod(engine, handler) as pod:
            with pytest.raises(Refusal) as refused:
                pod.start(pod.create(OPEN, {}, nodes=["/dev/fuse"]))
            assert DENIED in str(refused.value)
            furnish(engine.box, "EXCLUSIVE=vendor.com/*")
            first = pod.create(f"{OPEN}; exec sleep 1000", {}, nodes=["/dev/fuse"])
            pod.start(first)
            with pytest.raises(Refusal) as refused:
                pod.start(pod.create(OPEN, {}, nodes=["/dev/fuse"]))
            assert f"{FUSE} is in use by {first[:12]}" in str(refused.value)
            assert log(engine.box)[0] == GIVEN
