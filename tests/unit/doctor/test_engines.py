# SPDX-License-Identifier: Apache-2.0
"""doctor.engines: whether an engine runs cdi-runtime, by its files and by what its daemon says.

The engines here are scripts that say what the real ones say; tests/engine/test_doctor.py has those.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cdi_hook.base import selinux
from cdi_hook.doctor.checks import of_engines
from cdi_hook.engines import ENGINES
from cdi_hook.engines.containerd import ContainerdProber

from .conftest import said

if TYPE_CHECKING:
    from .conftest import Place

SUDO = "" if os.geteuid() == 0 else "sudo "
CONFIGURE = f"{SUDO}cdi-hook configure docker --reload"
OFF = "; its own CDI is off"
NO_DAEMON = (
    "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
)
FORBIDDEN = (
    "permission denied while trying to connect to the Docker daemon socket at unix:///x: permission denied"
)


@pytest.fixture(autouse=True)
def files(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each engine's files are below the test's own dir, a user's own too."""
    for engine in ENGINES.values():
        monkeypatch.setattr(engine, "file", str(place.root) + engine.file)
        monkeypatch.setattr(engine, "user_file", "")
        monkeypatch.setattr(engine, "hooks_dirs", tuple(f"{place.root}{one}" for one in engine.hooks_dirs))


class Docker:
    """A docker that says what it is told to say."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.runtime = place.program("cdi-runtime", "")
        self.version = "26.1.5"
        self.says()

    def says(self, *runtimes: str, default: str = "runc", error: str = "") -> None:
        """Set what the daemon says."""
        info = {
            "ServerVersion": "" if error else self.version,
            "ServerErrors": [error] if error else None,
            "Runtimes": {name: {"path": self.runtime} for name in runtimes} | {"runc": {"path": "runc"}},
            "DefaultRuntime": default,
        }
        script = (
            f"[ $1 = info ] && echo '{json.dumps(info)}' || echo 'Docker version {self.version}, build 1'"
        )
        self._place.program("docker", script)

    def file(self, **values: object) -> None:
        """Write daemon.json."""
        self._place.write(f"{self._place.root}/etc/docker/daemon.json", json.dumps(values))


@pytest.fixture
def docker(place: Place) -> Docker:
    """The host has docker."""
    return Docker(place)


def test_no_engine(place: Place) -> None:
    """A host without an engine is told so."""
    fact = f"no container engine is on this host ({', '.join(ENGINES)})"
    assert said(of_engines.check, place) == [("warning", fact, "")]


def test_not_configured(place: Place, docker: Docker) -> None:
    """If no engine runs cdi-runtime, the command that makes it do so is given; podman needs none."""
    docker.file(debug=True)
    fact = "docker 26.1.5 isn't configured to run cdi-runtime"
    assert said(of_engines.check, place) == [("error", fact, CONFIGURE)]
    place.program("podman", "echo podman version 5.4.2")
    request = (
        "podman --runtime /T/bin/cdi-runtime run --annotation cdi.k8s.io/NAME=vendor.com/class=name IMAGE"
    )
    podman = f"podman 5.4.2 isn't configured to run cdi-runtime; `{request}` does so"
    assert said(of_engines.check, place)[1:] == [("ok", podman, "")]
    place.configure(ANNOTATION_PREFIXES="example.com/")
    assert "--annotation example.com/NAME=" in said(of_engines.check, place)[1][1]


def test_configured(place: Place, docker: Docker) -> None:
    """An engine that runs cdi-runtime is said in one line, and others then needn't."""
    docker.file(runtimes={"cdi": {"path": docker.runtime}, "cdi-crun": {"path": docker.runtime}})
    docker.says("cdi", "cdi-crun")
    place.program("containerd", "echo containerd github.com/containerd/containerd 1.7.24 x")
    assert said(of_engines.check, place) == [
        (
            "ok",
            f"docker 26.1.5 runs cdi-runtime as its runtimes cdi, cdi-crun (the default is runc){OFF}",
            "",
        ),
        ("ok", "containerd 1.7.24 isn't configured to run cdi-runtime", ""),
    ]


@pytest.mark.parametrize(
    ("version", "features", "is_on"),
    [
        ("26.1.5", None, False),
        ("20.10.24", {"cdi": True}, False),  # it knows nothing of that switch
        ("26.1.5", {"cdi": True}, True),
        ("28.1.0", None, False),
        ("28.2.0", None, True),
        ("29.7.2", {"cdi": False}, False),
    ],
)
def test_docker_has_cdi(
    place: Place, docker: Docker, monkeypatch: pytest.MonkeyPatch, version: str, features: object, is_on: bool
) -> None:
    """The engine docker's own CDI is on by its switch, or from 28.2 on without one; an engine may have none."""
    docker.version = version
    docker.file(runtimes={"cdi": {"path": docker.runtime}}, **({"features": features} if features else {}))
    docker.says("cdi")
    ((_, fact, _),) = said(of_engines.check, place)
    on = "on: it injects what --device vendor.com/class=name asks for itself; of rules only DENY, and ALLOW with from=engine, judge that"
    assert fact.partition("; its own CDI is ")[2] == (on if is_on else "off")
    monkeypatch.setattr(ENGINES["docker"], "own_cdi", None)  # as of an engine that has none
    assert said(of_engines.check, place)[0][1].endswith("; it has no CDI of its own")


def test_wrong_program(place: Place, docker: Docker) -> None:
    """An entry whose program isn't there, or isn't cdi-runtime, is found."""
    docker.file(runtimes={"cdi": {"path": "/nowhere/cdi-runtime"}})
    assert said(of_engines.check, place)[0] == (
        "error",
        "docker 26.1.5: /T/etc/docker/daemon.json: the runtime cdi is /nowhere/cdi-runtime, and there is no such program",
        CONFIGURE,
    )
    docker.file(runtimes={"cdi": {"path": "/usr/bin/env"}})
    assert said(of_engines.check, place)[0] == (
        "error",
        'docker 26.1.5: /T/etc/docker/daemon.json: the runtime cdi is "/usr/bin/env", which isn\'t cdi-runtime',
        "give it the path /T/bin/cdi-runtime in /T/etc/docker/daemon.json",
    )


def test_daemon_that_has_not_read_it(place: Place, docker: Docker) -> None:
    """A daemon that doesn't know what is in its file has to read it again."""
    docker.file(**{"runtimes": {"cdi": {"path": docker.runtime}}, "default-runtime": "cdi"})
    fix = f"{SUDO}systemctl reload docker"
    assert said(of_engines.check, place)[0] == (
        "error",
        "docker 26.1.5: its daemon doesn't know the runtime cdi of /T/etc/docker/daemon.json",
        fix,
    )
    docker.says("cdi")
    assert said(of_engines.check, place)[0] == (
        "error",
        "docker 26.1.5: its daemon has the default runtime runc, and its configuration has cdi",
        fix,
    )
    docker.says("cdi", default="cdi")
    assert [line[0] for line in said(of_engines.check, place)] == ["ok"]


def test_forgotten_sudo(place: Place, docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A user's own file, which somebody wrote for the host's docker, is found if its daemon can be asked."""
    monkeypatch.setattr(ENGINES["docker"], "user_file", "docker/daemon.json")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    text = json.dumps({"runtimes": {"cdi": {"path": docker.runtime}}})
    place.write(f"{place.root}/.config/docker/daemon.json", text)
    fix = "sudo cdi-hook configure docker --reload"
    assert said(of_engines.check, place) == [
        (
            "error",
            "docker 26.1.5: its daemon doesn't know the runtime cdi of /T/.config/docker/daemon.json, which only a "
            "user's own (rootless) docker reads",
            fix,
        )
    ]
    docker.says(error=FORBIDDEN)
    assert [line[0] for line in said(of_engines.check, place)] == ["unknown", "error"]
    assert said(of_engines.check, place)[1] == (
        "error", "docker 26.1.5 isn't configured to run cdi-runtime", fix,
    )  # fmt: skip


def test_daemon_that_is_not_there(place: Place, docker: Docker) -> None:
    """A daemon that doesn't run, and one that doesn't answer a user, are told apart."""
    docker.file(runtimes={"cdi": {"path": docker.runtime}})
    docker.says(error=NO_DAEMON)
    assert said(of_engines.check, place)[0] == (
        "warning",
        f"docker 26.1.5: its daemon doesn't answer: {NO_DAEMON}",
        f"{SUDO}systemctl start docker",
    )
    docker.says(error=FORBIDDEN)
    assert said(of_engines.check, place)[0] == (
        "unknown",
        "docker 26.1.5: only root may ask its daemon",
        "sudo cdi-hook doctor",
    )


def test_daemon_that_hangs(place: Place, docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that hangs is waited for only so long."""
    docker.file(runtimes={"cdi": {"path": docker.runtime}})
    program = place.program("docker", "[ $1 = info ] && exec /bin/sleep 60; echo Docker version 26.1.5,")
    monkeypatch.setattr("cdi_hook.base.process.TIMEOUT_S", 0.3)
    start = time.monotonic()
    ((level, fact, _), _) = said(of_engines.check, place)
    assert time.monotonic() - start < 10
    assert (level, fact.replace(program, "docker").replace("/T/bin/", "")) == (
        "warning",
        "docker 26.1.5: its daemon doesn't answer: docker info --format {{json .}} took longer than 0.3 s",
    )


@pytest.mark.usefixtures("docker")
def test_broken_file(place: Place) -> None:
    """A file that isn't valid is found, with the place in it."""
    place.write(f"{place.root}/etc/docker/daemon.json", '{"runtimes": }')
    ((level, fact, _),) = said(of_engines.check, place)
    assert level == "error"
    assert fact.startswith("docker 26.1.5: /T/etc/docker/daemon.json: not valid JSON: ")


def test_user_that_may_not_read(place: Place, docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that a user may not read is for root to look at."""
    docker.file()
    path = Path(f"{place.root}/etc/docker/daemon.json")
    if os.geteuid() == 0:

        def refuse(path: str) -> bytes:
            raise PermissionError(13, "Permission denied", path)

        monkeypatch.setattr("cdi_hook.base.files.read", refuse)
    else:
        path.chmod(0)
    assert said(of_engines.check, place) == [
        (
            "unknown",
            f'docker 26.1.5: can\'t read "/T{str(path)[len(str(place.root)) :]}": Permission denied: only root may look',
            "sudo cdi-hook doctor",
        )
    ]


CONTAINERD = """\
version = 2
[plugins."io.containerd.grpc.v1.cri"]
enable_cdi = true
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.cdi]
runtime_type = "io.containerd.runc.v2"
{}
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.cdi.options]
BinaryName = "{}"
"""


def test_containerd_filters(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """containerd's entry has to let the annotations through."""
    runtime = place.program("cdi-runtime", "")
    place.program("containerd", "echo containerd github.com/containerd/containerd 1.7.24 x")
    place.program("ctr", "exit 0")
    monkeypatch.setattr(ContainerdProber, "socket", str(place.root))
    path = f"{place.root}/etc/containerd/config.toml"
    place.write(path, CONTAINERD.format("", runtime))
    os.utime(path, (1, 1))  # before the daemon was started
    assert said(of_engines.check, place) == [
        (
            "error",
            "containerd 1.7.24: /T/etc/containerd/config.toml: the runtime cdi doesn't get all annotations: "
            "container_annotations doesn't have cdi.k8s.io/*, cdi-hook.local/*",
            f"{SUDO}cdi-hook configure containerd --reload",
        ),
        (
            "ok",
            "containerd 1.7.24 runs cdi-runtime as its runtime cdi; its own CDI is on: it injects what the kubelet's "
            "CDI field and containers' annotations cdi.k8s.io/ ask for itself; of rules only DENY, and ALLOW with from=engine, judge that",
            "",
        ),
    ]
    place.write(
        path, CONTAINERD.format('container_annotations = ["cdi.k8s.io/*", "cdi-hook.local/*"]', runtime)
    )
    os.utime(path, (1, 1))
    assert [line[0] for line in said(of_engines.check, place)] == ["ok"]


def test_older_daemon(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon that can't say what it has read is held against its configuration's time."""
    runtime = place.program("cdi-runtime", "")
    place.program("containerd", "echo containerd github.com/containerd/containerd 1.7.24 x")
    place.program("ctr", "exit 0")
    monkeypatch.setattr(ContainerdProber, "socket", str(place.root))
    path = f"{place.root}/etc/containerd/config.toml"
    place.write(
        path, CONTAINERD.format('container_annotations = ["cdi.k8s.io/*", "cdi-hook.local/*"]', runtime)
    )
    os.utime(path, (time.time() + 9, time.time() + 9))
    assert said(of_engines.check, place)[0] == (
        "error",
        "containerd 1.7.24: it was started before its configuration changed",
        f"{SUDO}systemctl restart containerd",
    )
    os.utime(path, (1, 1))
    assert [line[0] for line in said(of_engines.check, place)] == ["ok"]


def test_hooks(place: Place) -> None:
    """podman that calls our hook needs no runtime; the precreate hook in a dir that buildah reads is wrong."""
    place.program("podman", "echo podman version 5.4.2")
    hook = json.dumps({"hook": {"path": "/usr/bin/cdi-hook"}, "stages": ["precreate"]})
    own = place.write(f"{place.root}/hooks/cdi-hook.json", hook)
    place.write(f"{place.root}/hooks/other.json", '{"hook": {"path": "/bin/x"}, "stages": ["prestart"]}')
    conf = f"{place.root}/etc/containers/containers.conf"
    place.write(conf, f'[engine]\nhooks_dir = ["{Path(own).parent}"]\n')
    podman = "podman 5.4.2 calls the hook precreate in /T/{}; its own CDI is on: "
    ((level, fact, _),) = said(of_engines.check, place)
    assert (level, fact.startswith(podman.format("hooks/cdi-hook.json"))) == ("ok", True)
    Path(conf).unlink()
    wrong = place.write(f"{place.root}/etc/containers/oci/hooks.d/cdi-hook.json", hook)
    assert said(of_engines.check, place)[0] == (
        "error",
        "podman 5.4.2: /T/etc/containers/oci/hooks.d/cdi-hook.json has the stage precreate, at which buildah and CRI-O fail",
        f"{SUDO}rm {wrong}".replace(str(place.root), "/T"),
    )


def test_labels(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """What SELinux doesn't let an engine read is named with its label and what mends it: specs that fail, an index that is slow."""
    spec, index = place.spec(), place.patient().registry.index.path
    place.write("proc/attr/current", "docker's")
    hidden: list[str] = []
    monkeypatch.setattr(
        of_engines, "process", lambda daemon: str(place.root / "proc") * (daemon == "dockerd")
    )
    monkeypatch.setattr(
        selinux,
        "refused",
        lambda context, path, _: "x_t" if (context, path in hidden) == ("docker's", True) else "",
    )
    hidden += [spec, index]
    assert said(of_engines.check_labels, place) == []
    enforce = place.write("sys/fs/selinux/enforce", "1")
    says = "SELinux doesn't let dockerd read {}, which is labelled x_t"
    assert said(of_engines.check_labels, place) == [
        ("error", says.format("/T/cdi/vendor.json"), of_engines._mend("/T/cdi")),
        ("warning", says.format(f"/T/state/{os.path.basename(index)}"), of_engines._mend("/T/state")),
    ]
    hidden.clear()
    assert said(of_engines.check_labels, place) == []
    hidden.append(spec)
    Path(enforce).write_text("0")
    assert said(of_engines.check_labels, place) == []


@pytest.mark.parametrize("user", sorted({os.geteuid(), os.geteuid() or 65534}))
def test_only_root_has_daemons(user: int) -> None:
    """A process with a daemon's name is the daemon if it is root's."""
    name = f"cdi-{secrets.token_hex(4)}"  # of no process of another test
    command = ["/bin/sh", "-c", f"echo {name} >/proc/$$/comm; echo; read line"]
    other = None if user == os.geteuid() else user
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, user=other) as process:
        assert process.stdout
        process.stdout.read(1)
        assert of_engines.process(name) == ("" if user else f"/proc/{process.pid}")


def test_what_mends_a_label(monkeypatch: pytest.MonkeyPatch) -> None:
    """Below /run a dir gets the label of engines' own dirs, elsewhere the policy's."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert of_engines._mend("/etc/cdi") == "restorecon -R /etc/cdi"
    assert of_engines._mend("/run/cdi") == 'chcon -R "$(matchpathcon -n /run/containers)" /run/cdi'


def test_a_node_outside_dev(place: Place) -> None:
    """A node outside /dev is a warning where podman mounts a container's rootfs with nodev."""
    place.spec(deviceNodes=[{"path": "/opt/null", "hostPath": "/dev/null"}, {"path": "/dev/null"}])
    assert said(of_engines.check_nodes, place) == []
    place.program("podman", """echo '{"overlay.mountopt":"metacopy=on"}'""")
    assert said(of_engines.check_nodes, place) == []
    place.program("podman", """echo '{"overlay.mountopt":"nodev,metacopy=on"}'""")
    fact = (
        "/T/cdi/vendor.json: the node /opt/null can't be opened in podman's containers: it isn't in /dev, and mountopt of "
        "storage.conf has nodev"
    )
    assert said(of_engines.check_nodes, place) == [("warning", fact, "give it a path in /dev")]
