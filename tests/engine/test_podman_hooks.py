# SPDX-License-Identifier: Apache-2.0
"""The OCI hooks called by podman, as root and as a user: precreate, createRuntime, prestart."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from . import hooks, image, world
from .box import ENGINES_PATH

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from .box import Completed
    from .podman import Podman

pytestmark = pytest.mark.xdist_group("podman")
# The user, the cgroup layout, the runtime, and the same runtime with cdi-runtime.
PLACES = {
    "root-runc-v1": (False, "v1", "runc", "cdi"),
    "root-crun-v2": (False, "v2", "crun", "cdi-crun"),
    "user-runc-v2": (True, "v2", "runc", "cdi"),
    "user-crun-v1": (True, "v1", "crun", "cdi-crun"),
}
ROOTS = [place for place, (rootless, *_) in PLACES.items() if not rootless]
BY_RUNC = [place for place in PLACES if "runc" in place]


class Hooked:
    """A podman that has hooks."""

    def __init__(self, podman: Podman, runtime: str, ours: str) -> None:
        self.podman = podman
        self.box = podman.box
        self.runtime = runtime
        self.ours = ours
        if not self.box.read(hooks.CONF):
            hooks.furnish(self.box)
        hooks.configure(self.box)
        hooks.told(self.box)

    def call(self, stage: str, *arguments: str, runtime: str = "") -> Completed:
        """Call podman with a stage's hooks dir."""
        environ = {
            "CONTAINERS_CONF_OVERRIDE": f"{hooks.PLACE}/{stage}.conf",
            "CDI_HOOK_CONFIG": hooks.CONF,  # for cdi-runtime; a hook has it in its JSON
        }
        return self.podman.call("podman", f"--runtime={runtime or self.runtime}", *arguments, environ=environ)

    def run(self, stage: str, device: str, *options: str, script: str = "", runtime: str = "") -> Completed:
        """Run a container that asks for a device."""
        command = ("sh", "-c", script) if script else ()
        return self.call(
            stage, "run", "--annotation", f"{world.KEY}={device}", *options, image.NAME, *command, runtime=runtime
        )  # fmt: skip

    def seen_live(self) -> str:
        """Return what a container with the device LIVE prints."""
        return hooks.SEEN_LIVE_BY_USER if self.podman.user else hooks.SEEN_LIVE

    def config(self, container: str) -> Any:
        """Return a container's config.json."""
        return json.loads(self.box.read(self.podman.inspect(container, "OCIConfigPath")))


@pytest.fixture(params=PLACES)
def hooked(request: pytest.FixtureRequest, podmans: Callable[..., Podman]) -> Hooked:
    """A podman for each entry of PLACES."""
    rootless, layout, runtime, ours = PLACES[request.param]
    return Hooked(podmans(rootless=rootless, layout=layout), runtime, ours)


@pytest.fixture
def start(hooked: Hooked) -> Generator[Callable[..., str]]:
    """Start containers that are removed at the end."""
    started: list[str] = []

    def run(stage: str, device: str, look: str, **options: str) -> str:
        done = hooked.run(
            stage, device, "--detach", "--stop-timeout=0", script=f"{look}; exec sleep 1000", **options
        )
        assert (done.returncode, done.stderr) == (0, "")
        started.append(done.stdout.strip())
        return started[-1]

    yield run
    for container in started:
        hooked.podman.do("podman", "rm", "--force", "--time=0", container)


def logged(hooked: Hooked, container: str, text: str) -> None:
    """Wait until a container has printed this."""
    hooked.box.wait(lambda: hooked.podman.do("podman", "logs", container) == text.strip())


def test_precreate(hooked: Hooked) -> None:
    """A container that is created with precreate has every edit of a device."""
    done = hooked.run("precreate", hooks.ALL, "--rm", script=hooks.LOOK_ALL)
    assert (done.returncode, done.stdout, done.stderr) == (0, hooks.SEEN_ALL, "")
    assert hooks.told(hooked.box) == []


@pytest.mark.parametrize("with_us", [False, True], ids=["", "cdi-runtime"])
def test_precreate_adds_each_once(hooked: Hooked, start: Callable[..., str], with_us: bool) -> None:
    """Each part of the device is there once, also after a restart, and also if cdi-runtime adds them too."""
    container = start("precreate", hooks.ALL, hooks.LOOK_ALL, runtime=hooked.ours if with_us else "")
    logged(hooked, container, hooks.SEEN_ALL)
    for _ in range(2):
        found = world.injected(hooked.config(container)) | ({"rule": 1} if hooked.podman.user else {})
        assert found == world.ONCE
        done = hooked.call("precreate", "restart", container)
        assert (done.returncode, done.stderr) == (0, "")
    logged(hooked, container, hooks.SEEN_ALL * 3)
    assert world.hooked(hooked.box, container) == 3


@pytest.mark.parametrize("hooked", BY_RUNC, indirect=True)
def test_as_shipped(hooked: Hooked) -> None:
    """The installed files work unchanged, also with podman's option."""
    flags = ("--hooks-dir", f"{hooks.SHIPPED}/precreate")
    done = hooked.podman.run("--rm", runtime="runc", flags=flags, script=world.LOOK)
    assert (done.returncode, done.stdout, done.stderr) == (0, world.SEEN, "")
    flags = ("--hooks-dir", f"{hooks.SHIPPED}/createRuntime")
    done = hooked.podman.run("--rm", runtime="runc", flags=flags, script=world.LOOK)
    assert (done.returncode, done.stdout) == (126, "")
    assert 'needs variable \\"CDI_TEST=injected\\": too late' in done.stderr


@pytest.mark.parametrize("hooked", ROOTS, indirect=True)
@pytest.mark.parametrize("stage", ["precreate", "createRuntime"])
def test_not_called(hooked: Hooked, stage: str) -> None:
    """A hook isn't called for a container that asks for nothing."""
    path = f"{hooks.PLACE}/{stage}/cdi-hook.json"
    text = hooked.box.read(path)
    hooked.box.write(path, text.replace("/usr/bin/cdi-hook", "/bin/false"))
    asking = hooked.run(stage, hooks.LIVE, "--rm", script="true")
    other = hooked.call(stage, "run", "--rm", "--annotation=org.example=1", image.NAME, "true")
    hooked.box.write(path, text)
    assert asking.returncode == 126
    assert (other.returncode, other.stdout, other.stderr) == (0, "", "")


@pytest.mark.parametrize("case", hooks.REFUSALS)
@pytest.mark.parametrize("hooked", BY_RUNC, indirect=True)
def test_precreate_refuses(hooked: Hooked, case: str) -> None:
    """podman shows the exit status, which tells the kinds of failure apart, and LOG has the message."""
    device, settings, status, message = hooks.REFUSALS[case]
    hooks.configure(hooked.box, **settings)
    done = hooked.run("precreate", device, "--rm")
    assert (done.returncode, done.stdout) == (126, "")
    error = f"setting up OCI Hooks: executing [cdi-hook precreate]: exit status {status}"
    assert done.stderr.splitlines()[-1] == f"Error: {error}"
    assert hooks.told(hooked.box) == [message]


# The test neither asks a machine's own syslogd nor writes to its /dev.
_WITH_DEV = """
mkdir -p /run/board/dev /run/board/work
mount -t overlay -o lowerdir=/dev,upperdir=/run/board/dev,workdir=/run/board/work overlay /dev
rm -f /dev/log
exec python3 -c "$SYSLOGD" "$@"
"""
_SYSLOGD = """
import socket, subprocess, sys
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.bind("/dev/log")
log.settimeout(10)
subprocess.run(sys.argv[1:], stderr=subprocess.DEVNULL)
print(log.recv(1 << 16).decode())
"""


@pytest.mark.parametrize("hooked", ["root-runc-v1"], indirect=True)
def test_syslog(hooked: Hooked) -> None:
    """Without LOG the message goes to syslog."""
    device, message = world.REFUSALS["malformed annotation"]
    said = hooked.box.do(
        "unshare", "-m", "sh", "-ec", _WITH_DEV, "sh", "podman", f"--hooks-dir={hooks.SHIPPED}/precreate",
        "run", "--rm", f"--annotation={world.KEY}={device}", image.NAME,
        environ={"SYSLOGD": _SYSLOGD},
    )  # fmt: skip
    prefix, _, text = said.partition(" cdi-hook: ")
    assert (prefix[:4], text) == ("<27>", message)


@pytest.mark.parametrize("hooked", ["root-runc-v1"], indirect=True)
@pytest.mark.parametrize("program", ["podman", "buildah"])
def test_builds(hooked: Hooked, program: str) -> None:
    """precreate in the system's hooks dir breaks builds, so it is shipped in a dir of its own."""
    if not shutil.which(program, path=ENGINES_PATH):
        pytest.skip(f"{program} isn't installed")
    hooked.box.write(f"{hooks.PLACE}/build/Containerfile", f"FROM {image.NAME}\nRUN true\n")
    build = (
        program, "build", "--quiet", "--runtime=runc", "--isolation=oci", "--network=none",
        "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024", f"{hooks.PLACE}/build",
    )  # fmt: skip
    environ = {"CONTAINERS_CONF_OVERRIDE": f"{hooks.PLACE}/precreate.conf"}
    done = hooked.podman.call(*build, environ=environ)
    assert (done.returncode, done.stderr) == (0, "")
    in_system = "/etc/containers/oci/hooks.d/cdi-hook.json"
    hooked.box.write(in_system, hooked.box.read(f"{hooks.SHIPPED}/precreate/cdi-hook.json"))
    done = hooked.podman.call(*build)
    hooked.box.do("rm", in_system)
    assert done.returncode == 125
    assert (
        done.stderr
        == 'Error: building at STEP "RUN true": unable to setup OCI hooks: unknown stage "precreate"\n'
    )


@pytest.mark.parametrize("stage", ["createRuntime", "prestart"])
def test_live(hooked: Hooked, stage: str) -> None:
    """A container that is being created gets its device, with the requested access and no other."""
    done = hooked.run(stage, hooks.LIVE, "--rm", script=hooks.LOOK_LIVE)
    assert (done.returncode, done.stdout, done.stderr) == (0, hooked.seen_live(), "")


def test_live_in_a_read_only_container(hooked: Hooked) -> None:
    """A rootfs that will be read-only is still writable for the hook."""
    done = hooked.run("createRuntime", hooks.LIVE, "--rm", "--read-only", script=hooks.LOOK_LIVE)
    assert (done.returncode, done.stdout, done.stderr) == (0, hooked.seen_live(), "")


def test_live_in_a_user_namespace(hooked: Hooked) -> None:
    """In a container with a user namespace, the node's owner and mode are right in the container's own ids."""
    userns = "--userns=auto" if hooked.podman.user else "--uidmap=0:100000:65536"
    done = hooked.run("createRuntime", hooks.LIVE, "--rm", userns, script=hooks.LOOK_LIVE)
    seen = {hooked.seen_live()}
    if hooked.runtime == "crun" and not hooked.podman.user:
        seen.add(hooks.SEEN_LIVE_WITHOUT_RULES)  # as older releases have it
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout in seen


def test_live_again(hooked: Hooked, start: Callable[..., str]) -> None:
    """A container that is restarted gets its device again, and its hooks run once each time."""
    container = start("createRuntime", hooks.LIVE, hooks.LOOK_LIVE)
    logged(hooked, container, hooked.seen_live())
    assert hooked.call("createRuntime", "restart", container).returncode == 0
    logged(hooked, container, hooked.seen_live() * 2)
    assert world.hooked(hooked.box, container) == 2


def test_live_after_cdi_runtime(hooked: Hooked, start: Callable[..., str]) -> None:
    """What cdi-runtime has already injected isn't injected again."""
    container = start("createRuntime", hooks.ALL, hooks.LOOK_ALL, runtime=hooked.ours)
    logged(hooked, container, hooks.SEEN_ALL)
    assert world.hooked(hooked.box, container) == 1


def test_live_refuses(hooked: Hooked) -> None:
    """An edit that comes too late is refused: with runc podman shows why, with crun only the status, and LOG has the message."""
    done = hooked.run("createRuntime", hooks.LATE, "--rm")
    assert (done.returncode, done.stdout, hooks.told(hooked.box)) == (126, "", [hooks.TOO_LATE])
    if hooked.runtime == "crun":
        error = "crun: error executing hook `/usr/bin/cdi-hook` (exit code: 8)"
        assert done.stderr == f"Error: OCI runtime error: {error}\n"
    else:
        assert f"exit status 8, stdout: , stderr: {hooks.TOO_LATE}".replace('"', '\\"') in done.stderr


@pytest.mark.parametrize("hooked", ROOTS, indirect=True)
def test_live_leaves_out(hooked: Hooked) -> None:
    """With HOOK_UNSUPPORTED=warn the container has the other edits, and LOG says what is missing."""
    hooks.configure(hooked.box, HOOK_UNSUPPORTED="warn")
    done = hooked.run("createRuntime", hooks.LATE, "--rm", script='echo "${A-not set}"; cat /opt/greeting')
    assert (done.returncode, done.stdout, done.stderr) == (0, "not set\nhello\n", "")
    assert hooks.told(hooked.box) == [hooks.LEFT_OUT]


@pytest.mark.parametrize("case", hooks.REFUSALS)
@pytest.mark.parametrize("hooked", ["root-runc-v1"], indirect=True)
def test_live_tells_failures_apart(hooked: Hooked, case: str) -> None:
    """The exit status is the one that precreate has."""
    device, settings, status, message = hooks.REFUSALS[case]
    hooks.configure(hooked.box, **settings)
    done = hooked.run("createRuntime", device, "--rm")
    assert (done.returncode, hooks.told(hooked.box)) == (126, [message])
    assert f"exit status {status}, stdout: , stderr: {message}".replace('"', '\\"') in done.stderr
