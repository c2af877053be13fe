# SPDX-License-Identifier: Apache-2.0
"""EXCLUSIVE under real engines: how their containers come, stop, start again and go."""

from __future__ import annotations

import json
import re
import time
from typing import TYPE_CHECKING, ClassVar

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

CONF, SPEC = "/etc/cdi-hook/cdi-hook.conf", "/etc/cdi/seat.json"
ANY = "v.com/seat=any"
SAY = 'echo "$CDI_DEALT"; exec sleep 1000'
FAILED = "CDI device injection failed: "


def furnish(box: Box) -> None:
    """Have two seats, each for one container at a time, that nobody has."""
    devices = [{"name": str(one), "containerEdits": {"env": [f"SEAT={one}"]}} for one in range(2)]
    box.write(SPEC, json.dumps({"cdiVersion": "0.6.0", "kind": "v.com/seat", "devices": devices}))
    box.write(CONF, f"{world.FILES[CONF]}EXCLUSIVE=v.com/seat=*\n")
    world.forget_leases(box)


def clear(box: Box) -> None:
    box.do("rm", "-f", SPEC)
    box.write(CONF, world.FILES[CONF])


def in_use(first: str, second: str, engine: str) -> str:
    """Return a pattern of the words for seats 0 and 1 that two containers have."""
    who = [
        rf"{number} by {one[:12]} \({engine}, since \d\d:\d\d\)" for number, one in enumerate((first, second))
    ]
    return rf"{FAILED}all 2 devices of v\.com/seat are in use: {', '.join(who)}"


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
        """A docker with two seats."""
        made = dockers(LAYOUT)
        furnish(made.box)
        yield made
        for one in made.do("ps", "--all", "--quiet").split():
            made.do("rm", "--force", one)
        clear(made.box)

    def start(self, docker: Docker, runtime: str, *options: str, asked: str = ANY) -> str:
        """Start a container in the background; return its id."""
        done = docker.run("--detach", "--stop-timeout=0", *options, script=SAY, device=asked, runtime=runtime)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.strip()

    def refused(self, docker: Docker, runtime: str, asked: str = ANY) -> str:
        """Fail to run a container; return what docker says."""
        done = docker.run("--rm", device=asked, runtime=runtime)
        assert (done.returncode, done.stdout) == (125, "")
        assert done.stderr.startswith(f"docker: {ERROR}")
        return done.stderr.removeprefix(f"docker: {ERROR}").rstrip()

    def dealt(self, docker: Docker, container: str, starts: int = 1) -> list[str]:
        """Return what a container was dealt, once it has started so often."""
        docker.box.wait(lambda: len(docker.do("logs", container).split()) >= starts)
        return docker.do("logs", container).split()

    def test_until_all_are_in_use(self, docker: Docker, runtime: str) -> None:
        """Two containers get one each, a third hears who has them, and paused they keep them; `rm` frees."""
        first, second = self.start(docker, runtime), self.start(docker, runtime)
        assert [self.dealt(docker, one) for one in (first, second)] == [["v.com/seat=0"], ["v.com/seat=1"]]
        assert re.fullmatch(in_use(first, second, "docker"), self.refused(docker, runtime))
        docker.do("pause", first)
        assert f"v.com/seat=0 is in use by {first[:12]} (docker, since" in self.refused(
            docker, runtime, "v.com/seat=0"
        )
        docker.do("unpause", first)
        listed = docker.box.do("cdi-hook", "list", "v.com/*").splitlines()
        assert [f"in use by {one[:12]} (docker" in line for one, line in zip((first, second), listed)] == [
            True,
            True,
        ]
        told = docker.box.call("cdi-hook", "doctor", first).stdout
        assert (
            f"no other container may have v.com/seat=0, which docker's container {first[:12]} holds" in told
        )
        docker.do("rm", "--force", first)
        assert self.dealt(docker, self.start(docker, runtime)) == ["v.com/seat=0"]

    def test_stop_and_another_s_run(self, docker: Docker, runtime: str) -> None:
        """What a stopped container had is free, and started again it gets what is free then, or hears who has it."""
        first, second = self.start(docker, runtime), self.start(docker, runtime)
        docker.do("stop", first)
        told = docker.box.call("cdi-hook", "doctor", first).stdout
        assert (
            f"docker's container {first[:12]} isn't running; it gets what is free then when it starts" in told
        )
        third = self.start(docker, runtime)
        assert self.dealt(docker, third) == ["v.com/seat=0"]
        done = docker.call("start", first)
        assert done.returncode == 1
        assert re.search(in_use(third, second, "docker"), done.stderr)
        docker.do("stop", second)
        docker.do("start", first)
        assert self.dealt(docker, first, 2) == ["v.com/seat=0", "v.com/seat=1"]
        assert re.search(in_use(third, first, "docker"), self.refused(docker, runtime))

    def test_restart(self, docker: Docker, runtime: str) -> None:
        """`docker restart` and --restart=always deal anew, and never what another has."""
        first = self.start(docker, runtime, "--restart=always")
        second = self.start(docker, runtime, asked="v.com/seat=1")
        for number in range(2, 4):
            docker.do("restart", first)
            assert self.dealt(docker, first, number)[-1] == "v.com/seat=0"
        pid = docker.inspect(first, "State.Pid")
        docker.box.do("kill", "-9", str(pid))
        assert set(self.dealt(docker, first, 4)) == {"v.com/seat=0"}
        assert re.fullmatch(in_use(first, second, "docker"), self.refused(docker, runtime))

    def test_a_restart_that_comes_second(self, docker: Docker, runtime: str) -> None:
        """While docker waits to restart a container, its device is free; without it docker gives up, until `start`."""
        done = docker.run(
            "--detach", "--restart=always", script="exit 1", device="v.com/seat=0", runtime=runtime
        )
        first = done.stdout.strip()
        docker.box.wait(lambda: docker.inspect(first, "RestartCount") >= 5)  # then it waits for 3.2 s
        docker.box.wait(lambda: docker.inspect(first, "State.Pid") == 0)
        second = self.start(docker, runtime, asked="v.com/seat=0")
        docker.box.wait(lambda: docker.inspect(first, "State.Status") == "exited")
        assert f"v.com/seat=0 is in use by {second[:12]} (docker" in docker.inspect(first, "State.Error")
        docker.do("rm", "--force", second)
        time.sleep(8)
        assert docker.inspect(first, "State.Status") == "exited"
        docker.do("start", first)
        docker.box.wait(lambda: docker.inspect(first, "RestartCount") >= 2)

    def test_create_without_start(self, docker: Docker, runtime: str) -> None:
        """docker calls no runtime then, so nothing is taken."""
        command = (
            "create",
            "--network=none",
            f"--runtime={runtime}",
            f"--annotation={world.KEY}=v.com/seat=0",
        )
        container = docker.do(*command, image.NAME)
        other = self.start(docker, runtime, asked="v.com/seat=0")
        done = docker.call("start", container)
        assert f"v.com/seat=0 is in use by {other[:12]} (docker" in done.stderr

    def test_the_daemon_is_killed(self, docker: Docker, runtime: str) -> None:
        """With live-restore, its containers live on and keep what they have."""
        daemon = "/etc/docker/daemon.json"
        before = docker.box.read(daemon)
        docker.box.write(daemon, json.dumps({**json.loads(before), "live-restore": True}))
        docker.restart()
        try:
            first, second = self.start(docker, runtime), self.start(docker, runtime)
            docker.box.do("sh", "-c", "kill -9 $(busybox pidof dockerd)")
            docker.box.wait(lambda: docker.box.call("busybox", "pidof", "dockerd").returncode)
            docker.box.do(
                "sh", "-c", "kill -9 $(busybox pidof containerd) 2>/dev/null; sleep 1; rm -f /run/docker.pid"
            )
            docker.box.do("rm", "-f", "/run/docker/containerd/containerd.pid")
            docker._start()
            assert docker.inspect(first, "State.Status") == "running"
            assert re.fullmatch(in_use(first, second, "docker"), self.refused(docker, runtime))
            docker.do("rm", "--force", first)
            assert self.dealt(docker, self.start(docker, runtime)) == ["v.com/seat=0"]
        finally:
            for one in docker.do("ps", "--all", "--quiet").split():
                docker.do("rm", "--force", one)
            docker.box.write(daemon, before)
            docker.restart()


class TestPodman:
    """podman, as root and as a user, whose leases are their own."""

    pytestmark = pytest.mark.xdist_group("podman")

    @pytest.fixture(params=[False, True], ids=["root", "user"])
    def podman(self, request: pytest.FixtureRequest, podmans: Callable[..., Podman]) -> Generator[Podman]:
        """A podman with two seats."""
        made = podmans(rootless=request.param, layout="v2")
        furnish(made.box)
        yield made
        made.do("podman", "rm", "--all", "--force", "--time=0")
        clear(made.box)

    @pytest.fixture(params=["cdi", "cdi-crun"])
    def runtime(self, request: pytest.FixtureRequest) -> str:
        """The runtime of the containers."""
        name: str = request.param
        return name

    def start(self, podman: Podman, runtime: str, asked: str = ANY) -> str:
        """Start a container in the background; return its id."""
        done = podman.run("--detach", "--stop-timeout=0", script=SAY, device=asked, runtime=runtime)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.strip()

    def refused(self, podman: Podman, runtime: str, asked: str = ANY) -> str:
        """Fail to run a container; return what podman says."""
        done = podman.run("--rm", device=asked, runtime=runtime)
        assert (done.returncode, done.stdout) == (126, ""), done
        return done.stderr

    def test_stop_and_start(self, podman: Podman, runtime: str) -> None:
        """Two get one each; paused they keep it; what a stopped one had is free; started again it is dealt anew."""
        first, second = self.start(podman, runtime), self.start(podman, runtime)
        assert re.search(in_use(first, second, "podman"), self.refused(podman, runtime))
        if not podman.user:  # who has no cgroup of their own here
            podman.do("podman", "pause", first)
            assert re.search(in_use(first, second, "podman"), self.refused(podman, runtime))
            podman.do("podman", "unpause", first)
        podman.do("podman", "stop", "--time=0", first)
        third = self.start(podman, runtime)
        done = podman.call("podman", "start", first)
        assert done.returncode != 0
        assert re.search(in_use(third, second, "podman"), done.stderr)
        podman.do("podman", "rm", "--force", "--time=0", second)
        podman.do("podman", "start", first)
        assert re.search(in_use(third, first, "podman"), self.refused(podman, runtime))
        assert podman.do("podman", "exec", first, "cat", "/proc/1/environ").find("CDI_DEALT=v.com/seat=1") > 0
        place = "/run/user/user" if podman.user else "/run"
        assert podman.box.read(f"{place}/cdi-hook-leases/leases")

    def test_created_and_never_started(self, podman: Podman, runtime: str) -> None:
        """Such a container has its device, and people hear how to remove it."""
        annotation = f"{world.KEY}=v.com/seat=0"
        command = ("podman", "--runtime", runtime, "create", "--annotation", annotation, image.NAME)
        container = podman.do(*command)
        done = podman.call("podman", "init", container)
        assert done.returncode == 0, done.stderr
        error = self.refused(podman, runtime, "v.com/seat=0")
        assert f"v.com/seat=0 is in use by {container[:12]} (podman, since" in error
        assert "to remove it" not in error  # somebody may just be starting it
        place = "/run/user/user" if podman.user else "/run"
        podman.box.do("sed", "-i", 's/"since": *[0-9]*/"since":1/', f"{place}/cdi-hook-leases/leases")
        error = self.refused(podman, runtime, "v.com/seat=0")
        fix = f"podman rm -f {container[:12]}"
        assert f"{container[:12]} was created and not started; to remove it, {fix}" in error
        podman.do(*fix.split())
        self.start(podman, runtime, "v.com/seat=0")


class TestNeighbours:
    """root and two users, each with a podman, on one host with one device."""

    pytestmark = pytest.mark.xdist_group("podman")
    _ADD_USER = """
    grep -q ^other: /etc/passwd && exit
    echo other:x:4712:4712::/home/other:/bin/sh >>/etc/passwd
    echo other:x:4712: >>/etc/group
    for file in /etc/subuid /etc/subgid; do echo other:200000:65536 >>$file; done
    for place in /home/other /run/user/other; do install -d -m 700 -o 4712 -g 4712 $place; done
    """
    _OTHER: ClassVar = {"HOME": "/home/other", "XDG_RUNTIME_DIR": "/run/user/other"}

    @pytest.fixture
    def podmans_of(self, podmans: Callable[..., Podman]) -> Generator[dict[str, Callable[..., Completed]]]:
        """What runs podman as each."""
        user = podmans(rootless=True, layout="v2")
        box = user.box
        box.do("sh", "-ec", self._ADD_USER)
        furnish(box)
        box.write(CONF, f"{world.FILES[CONF]}EXCLUSIVE={world.FUSE}\n")

        def of(uid: int, environ: dict[str, str]) -> Callable[..., Completed]:
            return lambda *arguments: box.call("podman", *arguments, user=uid, environ=environ)

        made = {"root": of(0, {}), "user": of(user.user, {}), "other": of(4712, self._OTHER)}
        for podman in made.values():
            assert podman("load", "--quiet", "--input", world.ARCHIVE).returncode == 0
        yield made
        for podman in made.values():
            podman("rm", "--all", "--force", "--time=0")
        clear(box)

    def run(self, podman: Callable[..., Completed], runtime: str) -> str:
        """Run a container; return its id, or why there is none."""
        ask = ("--annotation", f"{world.KEY}={world.FUSE}")
        done = podman("--runtime", runtime, "run", "--detach", *ask, image.NAME, "sleep", "1000")
        assert (done.returncode == 0) == (done.stderr == ""), done
        return done.stdout.strip() or done.stderr

    @pytest.mark.parametrize("runtime", ["cdi", "cdi-crun"])
    @pytest.mark.parametrize(
        ("first", "told"),
        [
            ("user", {"other": "another user", "root": "uid 4711"}),
            ("other", {"user": "another user", "root": "uid 4712"}),
            ("root", {"user": "root", "other": "root"}),
        ],
    )
    def test_one_device(
        self, podmans_of: dict[str, Callable[..., Completed]], runtime: str, first: str, told: dict[str, str]
    ) -> None:
        """One container has it, whosever that is, and once it is gone the next one, whosever that is."""
        container = self.run(podmans_of[first], runtime)
        assert re.fullmatch("[0-9a-f]{64}", container)
        for name, who in told.items():
            error = self.run(podmans_of[name], runtime)
            assert f"{world.FUSE} is in use by {container[:12]} ({who}, since " in error
            assert "can't be told" not in error
        assert podmans_of[first]("stop", "--time=0", container).returncode == 0
        second = next(iter(told))
        assert re.fullmatch("[0-9a-f]{64}", self.run(podmans_of[second], runtime))
        assert f"{world.FUSE} is in use by " in podmans_of[first]("start", container).stderr


class TestContainerd:
    """containerd, by ctr."""

    pytestmark = pytest.mark.xdist_group("containerd")

    @pytest.fixture
    def containerd(self, containerds: Callable[..., Containerd]) -> Generator[Containerd]:
        """A containerd with two seats."""
        made = containerds()
        furnish(made.box)
        yield made
        clear(made.box)

    @pytest.mark.parametrize("program", ["cdi-runtime", "cdi-crun"])
    def test_an_id_used_again_at_once(self, containerd: Containerd, program: str) -> None:
        """It is another container, and what the first one had is free."""
        for name in ("one", "two", "one", "two"):
            done = containerd.run(name, "--detach", device=ANY, script=SAY, program=program)
            assert (done.returncode, done.stderr) == (0, "")
            if name == "two":
                done = containerd.run("three", "--rm", device=ANY, program=program)
                assert re.search(
                    r"all 2 devices of v\.com/seat are in use: 0 by (one|two) \(containerd, since",
                    done.stderr,
                )
                for old in ("one", "two"):
                    containerd.ctr("task", "rm", "--force", old)
                    containerd.box.do("ctr", "container", "rm", old)
        done = containerd.run("three", "--rm", device="v.com/seat=0", script='echo "$SEAT"', program=program)
        assert (done.returncode, done.stdout) == (0, "0\n")


class TestPods:
    """containerd and CRI-O by their API for Kubernetes; CRI-O takes any annotation to a container."""

    pytestmark = pytest.mark.xdist_group("containerd")

    @pytest.fixture(params=["containerd", "crio"])
    def engine(
        self,
        request: pytest.FixtureRequest,
        containerds: Callable[..., Containerd],
        crios: Callable[..., Crio],
    ) -> Generator[Containerd | Crio]:
        """An engine with two seats."""
        made = containerds() if request.param == "containerd" else crios()
        furnish(made.box)
        conf = made.box.read(CONF)
        made.box.write(CONF, f'{conf}ANNOTATION_PREFIXES="cdi.k8s.io/ seats.v.com/"\n')
        yield made
        clear(made.box)

    @pytest.mark.parametrize("handler", ["cdi", "cdi-crun"])
    def test_until_all_are_in_use(self, engine: Containerd | Crio, handler: str) -> None:
        """Two pods' containers get a seat each, a third hears who has them; a pod that goes frees its own."""
        name = type(engine).__name__.lower()
        # CRI-O's own CDI reads cdi.k8s.io/ and knows no "any".
        asked = {world.KEY if name == "containerd" else "seats.v.com/test": ANY}
        with Pod(engine, handler) as first:
            one, log = first.run('echo "$CDI_DEALT"', asked)
            assert log == "stdout v.com/seat=0\n"
            with Pod(engine, handler) as second:
                two, log = second.run('echo "$CDI_DEALT"', asked)
                assert log == "stdout v.com/seat=1\n"
                with pytest.raises(Refusal) as refused:
                    second.start(second.create("true", asked))
                assert re.search(in_use(one, two, name), str(refused.value))
            assert first.run('echo "$CDI_DEALT"', asked)[1] == "stdout v.com/seat=1\n"
        with Pod(engine, handler) as third:
            assert third.run('echo "$CDI_DEALT"', asked)[1] == "stdout v.com/seat=0\n"
