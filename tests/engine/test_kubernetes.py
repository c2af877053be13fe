# SPDX-License-Identifier: Apache-2.0
"""packaging/kubernetes on a node: the DaemonSet's pod installs cdi-runtime, pods use it, and it is removed again.

The pod is real: containerd's CRI makes it as the manifest says, from the files that
the Containerfile puts into its image. The node is a box. Only systemctl is a stub,
which records how it is called; the test restarts containerd.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tarfile
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.machine import base_images
from tests.machine.machine import make_root
from tests.package.conftest import run

from . import world
from .box import LAYOUT, ROOT, STANDARD_PATH
from .containerd import CONFIGURATION, HANDLERS, Containerd
from .cri import Pod, Refusal
from .crio import DROP_IN, Crio
from .k3s import TEMPLATES, K3s

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from .box import Box

tomllib = pytest.importorskip("tomllib", reason="Python before 3.11 has no tomllib to read a drop-in with")

pytestmark = pytest.mark.xdist_group("containerd")
KUBERNETES = ROOT / "packaging/kubernetes"
HOME = "/opt/cdi-hook"
RULES = "/etc/udev/rules.d/90-cdi-hook.rules"
CALLS, BROKEN = "/run/board/systemctl", "/run/board/broken"
SYSTEMCTL = f'#!/bin/sh\necho "$*" >>{CALLS}\n! [ -e {BROKEN} ]\n'
SEEN = "".join(f"stdout {line}\n" for line in world.SEEN.splitlines())


def manifest(file: str, kind: str) -> Any:
    """Return the object of a kind from a file of manifests."""
    objects = yaml.safe_load_all((KUBERNETES / file).read_text("utf-8"))
    return next(one for one in objects if one["kind"] == kind)


# podman's own state is no more the machine's than its images are.
APART = 'for place in /run /dev/shm; do mount -t tmpfs tmpfs $place; done; exec "$@"'


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, pytestconfig: pytest.Config) -> Path:
    """The image's files for nodes: README's podman builds the image from the Containerfile as it stands."""
    for program in ("podman", "buildah", "mmdebstrap"):
        if not shutil.which(program, path=STANDARD_PATH):
            pytest.skip(f"{program} isn't installed")
    place = tmp_path_factory.mktemp("image")
    settings = base_images.make(place, make_root(pytestconfig.cache.mkdir("machine")))

    def podman(*arguments: str) -> str:
        command = ["unshare", "--mount", "sh", "-ec", APART, "sh", "env", *settings, "podman", *arguments]
        return run(*command, timeout=300)

    podman(
        "build", "-f", "packaging/kubernetes/Containerfile", "-t", "registry.test/cdi-hook-installer:1.0", "."
    )
    name = podman("create", "registry.test/cdi-hook-installer:1.0").strip()
    podman("export", "--output", f"{place}/image.tar", name)
    with tarfile.open(place / "image.tar") as archive:
        options: Any = {"filter": "tar"} if hasattr(tarfile, "tar_filter") else {}  # since Python 3.11.4
        archive.extractall(place / "image", **options)
    shutil.copy(place / "image/install.sh", place / "image/stage")
    return place / "image/stage"


@pytest.fixture
def machine(boxes: Callable[[str, str], Box]) -> Generator[Box]:
    """A machine with an empty /opt and a stub of systemctl."""
    box = boxes("containerd", LAYOUT)
    # a node has no package of ours, and so none of its units
    for place in ("/opt", "/usr/local/bin", "/usr/lib/systemd/system"):
        box.do("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", place)
    box.write("/usr/local/bin/systemctl", SYSTEMCTL, "755")
    yield box
    box.close()


@pytest.fixture
def node(machine: Box) -> Containerd:
    """A node whose containerd knows only runc."""
    return Containerd(machine, handlers={"runc": HANDLERS["runc"]})


class Installer(Pod):
    """The DaemonSet's pod."""

    def __init__(self, engine: Containerd, stage: Path, **environ: str) -> None:
        template = manifest("install.yaml", "DaemonSet")["spec"]["template"]["spec"]
        (container,) = template["initContainers"]
        assert (template["hostPID"], container["securityContext"]) == (True, {"privileged": True})
        super().__init__(engine, "runc", privileged=True)
        self._stage = stage
        self._environ = {one["name"]: one["value"] for one in container["env"]} | environ
        self.container = ""

    def begin(self) -> None:
        """Start the container."""
        self.container = self.create(
            "busybox --install -s /bin; exec sh /stage/install.sh", {}, environ=self._environ,
            mounts={"/stage": str(self._stage)},
        )  # fmt: skip
        self.start(self.container)

    def finish(self) -> str:
        """Wait until the container has ended; return its log."""
        self.box.wait(self.has_ended)
        return self.log(self.container)

    def has_ended(self) -> bool:
        """Say whether the container has ended, which is when the kubelet starts the one that waits."""
        return bool(self.status(self.container).finished_at)


def install(engine: Containerd, stage: Path, **environ: str) -> str:
    """Run a pod of the DaemonSet until it has done its work, remove it, and return its log."""
    with Installer(engine, stage, **environ) as pod:
        pod.begin()
        return pod.finish()


def restarts(box: Box) -> list[str]:
    """Return which engines systemctl was told to restart."""
    return [line[8:] for line in box.read(CALLS).splitlines() if line.startswith("restart ")]


def handlers(dump: str) -> list[str]:
    """Return the handlers that containerd has."""
    return sorted(set(re.findall(r"containerd\.runtimes\.([\w-]+)\]", dump)))


def test_a_node_gets_the_handler_and_loses_it_again(node: Containerd, stage: Path, tmp_path: Path) -> None:
    """The example pod has its device after the installation, through an upgrade, and until the pod itself ends."""
    box = node.box
    before = box.read(CONFIGURATION)
    example, handler = manifest("pod.yaml", "Pod"), manifest("runtimeclass.yaml", "RuntimeClass")["handler"]
    annotations = example["metadata"]["annotations"]
    with pytest.raises(Refusal) as refused, Pod(node, handler, annotations):
        pass
    assert str(refused.value).endswith(': no runtime for "cdi" is configured')

    log = install(node, stage, POD_ANNOTATIONS="true")
    first = box.do("readlink", f"{HOME}/current")
    # stdout and stderr have separate pipes, so their order isn't known
    assert f"stdout cdi-hook: installed {first} for containerd" in log.splitlines(), log
    assert restarts(box) == ["containerd"]
    assert log.count("whoever may create a pod writes its annotations") == 1
    assert box.do("readlink", RULES) == f"{HOME}/current/lib/udev/rules.d/90-cdi-hook.rules"
    units = [f"{HOME}/current/lib/systemd/system/cdi-hook-generate.{kind}" for kind in ("path", "service")]
    assert f"--quiet enable {' '.join(units)}" in box.read(CALLS).splitlines()
    for unit in units:
        assert "/usr/bin/cdi-" not in box.read(unit)
    assert handlers(box.do("containerd", "config", "dump")) == ["cdi", "runc"]
    assert f"\ncdi_lib='{HOME}/{first}/lib' " in box.read(f"{HOME}/current/bin/cdi-runtime")
    node.restart()
    assert sorted(box.do("ls", HOME).split()) == sorted([first, "current"])

    box.do(f"{HOME}/current/bin/cdi-hook", "generate", "fuse", "--output", "/etc/cdi")
    with Pod(node, handler, annotations) as pod:
        _, log = pod.run(example["spec"]["containers"][0]["command"][2], {})
        assert re.fullmatch(r"stdout c.* 10, 229 .*/dev/fuse\n", log)
        container = pod.create("true", {world.KEY: "host.local/fuse=fuze"})
        with pytest.raises(Refusal, match=f'"{HOME}/current/bin/cdi-hook list" shows the known devices'):
            pod.start(container)
    annotations[world.KEY] = world.FUSE
    with contextlib.ExitStack() as stack:
        pod = stack.enter_context(Pod(node, handler, annotations))
        container, log = pod.run(world.LOOK, {})
        assert log == SEEN
        # the same version again changes nothing, and another version keeps the former one
        install(node, stage, POD_ANNOTATIONS="true")
        newer = tmp_path / "stage"
        shutil.copytree(stage, newer, symlinks=True)
        with (newer / "opt/cdi-hook/current/lib/cdi_hook/__init__.py").open("a") as file:
            file.write("# newer\n")
        install(node, newer, POD_ANNOTATIONS="true")
        second = box.do("readlink", f"{HOME}/current")
        assert sorted(box.do("ls", HOME).split()) == sorted([first, second, "current"])
        assert restarts(box) == ["containerd"]
        assert pod.run(world.LOOK, {})[1] == SEEN
        assert pod.exec(container, "sh", "-c", world.LOOK_AGAIN) == (0, world.SEEN_AGAIN, "")

        with Installer(node, newer, ACTION="remove") as remover:
            remover.begin()
            waiting = f"stdout cdi-hook: not removed while there are containers of default/{pod.name}\n"
            box.wait(lambda: remover.log(remover.container))
            assert (remover.log(remover.container), remover.has_ended()) == (waiting, False)
            assert pod.run(world.LOOK, {})[1] == SEEN
            stack.close()
            assert remover.finish().splitlines()[-1] == "stdout cdi-hook: removed"
    box.do("rm", "/etc/cdi/host.local-fuse.yaml")
    assert box.read(CONFIGURATION) == before
    assert restarts(box) == ["containerd"] * 2
    assert [box.call("test", "-e", one).returncode for one in (HOME, "/run/cdi-hook", RULES)] == [1, 1, 1]
    disabled = "--quiet disable --now cdi-hook-generate.path cdi-hook-generate.service"
    assert disabled in box.read(CALLS).splitlines()
    assert handlers(box.do("containerd", "config", "dump")) == ["runc"]
    box.write(f"{HOME}/.new/bin/cdi-hook", "an install that broke off")
    spec = "/etc/cdi/hooked.yaml"
    box.write(spec, f"path: {HOME}/current/bin/cdi-hook\n")
    assert install(node, stage, ACTION="remove") == (
        f"stdout cdi-hook: {spec} still names a program in {HOME}; without it, containers fail\n"
        "stdout cdi-hook: removed\n"
    )
    box.do("rm", spec)
    assert box.call("test", "-e", HOME).returncode == 1


# What a DaemonSet's variables can say of a node.
STATES: tuple[dict[str, str], ...] = (
    {"POD_ANNOTATIONS": "false"},
    {"POD_ANNOTATIONS": "true"},
    {"POD_ANNOTATIONS": "true", "CONFIG": "/etc/containerd/other.toml"},
    {"ENGINE": "crio"},
)


def test_a_variable_is_a_state(node: Containerd, stage: Path) -> None:
    """From each state to each other, the engines' files become those of a node that never had another."""
    box = node.box
    box.do("mkdir", "-p", "/etc/crio")

    def files() -> str:
        found = box.do("find", "/etc/containerd", "/etc/crio", "-type", "f", "-exec", "sha256sum", "{}", ";")
        return "\n".join(sorted(found.splitlines()))

    before, fresh = files(), []
    for state in STATES:
        install(node, stage, **state)
        fresh.append(files())
        install(node, stage, ACTION="remove", **state)
        assert files() == before, state
    assert len({before, *fresh}) == 1 + len(STATES)
    for former in STATES:
        for state, expected in zip(STATES, fresh):
            install(node, stage, **former)
            install(node, stage, **state)
            assert files() == expected, (former, state)
    # whoever removes it need not know where it is
    install(node, stage, ACTION="remove")
    assert files() == before
    wrong = install(node, stage, POD_ANNOTATIONS="yes")
    assert wrong == "stderr cdi-hook: POD_ANNOTATIONS is true or false, not yes\n"


def test_a_node_gets_the_handler_of_crio(node: Containerd, stage: Path) -> None:
    """CRI-O itself gets the handler, and the script waits for its pods, by what is really running."""
    box = node.box
    if box.call("crio", "--version").returncode:
        pytest.skip("crio isn't installed")
    engine = Crio(box, configured=False)
    with pytest.raises(Refusal) as refused, Pod(engine):
        pass
    assert str(refused.value).startswith("failed to find runtime handler cdi from runtime list ")
    # The pods of the script are containerd's: CRI-O gives a privileged one more than a box's root has.
    log = install(node, stage, ENGINE="crio")
    assert f"stdout cdi-hook: installed {box.do('readlink', f'{HOME}/current')} for crio" in log.splitlines()
    assert "crio" in restarts(box)
    engine.restart()
    with contextlib.ExitStack() as stack:
        pod = stack.enter_context(Pod(engine, "cdi", {world.KEY: world.FUSE}))
        container, log = pod.run(world.LOOK, {})
        assert (log, world.hooked(box, container)) == (SEEN, 1)
        with Installer(node, stage, ENGINE="crio", ACTION="remove") as remover:
            remover.begin()
            box.wait(lambda: remover.log(remover.container))
            waiting = f"stdout cdi-hook: not removed while there are containers of default/{pod.name}\n"
            assert (remover.log(remover.container), remover.has_ended()) == (waiting, False)
            stack.close()
            assert remover.finish().splitlines()[-1] == "stdout cdi-hook: removed"
    assert [box.call("test", "-e", place).returncode for place in (HOME, DROP_IN)] == [1, 1]


def test_a_node_that_cannot_have_it(node: Containerd, stage: Path) -> None:
    """Without Python, with a configuration that can't be edited, or with an engine that doesn't start, nothing has changed."""
    box = node.box
    before = box.read(CONFIGURATION)

    box.do("mount", "--bind", "/dev/null", "/usr/bin/python3")
    reason = "cdi-runtime needs /usr/bin/python3, 3.9 or newer, and this node has none"
    assert install(node, stage).splitlines()[-1] == f"stderr cdi-hook: {reason}"
    assert box.call("test", "-e", HOME).returncode == 1
    box.do("umount", "/usr/bin/python3")

    box.write(CONFIGURATION, "version = 1\n")
    problem, last = install(node, stage).splitlines()
    assert problem.startswith(f"stderr cdi-hook: {CONFIGURATION}: its version is 1; ")
    assert last == "stderr cdi-hook: containerd can't have the handler: see above"
    assert install(node, stage, ACTION="remove") == "stdout cdi-hook: removed\n"
    assert restarts(box) == []

    box.write(CONFIGURATION, before)
    box.write(BROKEN, "")
    lines = install(node, stage).splitlines()
    failed = "the configuration is written, but systemctl restart containerd failed: 1"
    assert [line for line in lines if failed in line] == [f"stderr cdi-hook: {failed}"] * 2
    last = "containerd didn't come up with the handler, and no longer has it: see above"
    assert f"stderr cdi-hook: {last}" in lines
    assert box.read(CONFIGURATION) == before
    assert restarts(box) == ["containerd"] * 2


def test_a_node_with_crio(node: Containerd, stage: Path) -> None:
    """CRI-O gets a drop-in, and the script waits for conmon and conmonrs, which have the program among their arguments."""
    box = node.box
    drop_in = "/etc/crio/crio.conf.d/99-cdi-hook.conf"
    program = f"{HOME}/current/bin/cdi-runtime"
    with Installer(node, stage, ENGINE="crio") as first, Installer(node, stage, ENGINE="crio") as second:
        first.begin()
        second.begin()  # as if a pod was replaced by force
        logs = [one.finish().splitlines() for one in (first, second)]
    installed = f"stdout cdi-hook: installed {box.do('readlink', f'{HOME}/current')} for crio"
    assert [log.count(installed) for log in logs] == [1, 1], logs
    table = yaml.safe_dump(tomllib.loads(box.read(drop_in)))
    sample = (KUBERNETES / "handler/crio.toml").read_text("utf-8").replace("/usr/bin/cdi-runtime", program)
    assert table == yaml.safe_dump(tomllib.loads(sample))
    conmon = "exec -a /usr/bin/conmon sh -c 'until [ -e /run/board/end ]; do sleep 0.1; done'"
    conmonrs = conmon.replace("conmon", "conmonrs")
    for user, command in (
        (0, f'{conmon} -n "k8s_it\'s" -r {program}'),
        (1000, f"{conmon} -n theirs -r {program}"),  # only root's counts
        (0, f"{conmonrs} --runtime {program} --runtime-dir /run/pod --runtime-root /run/runc"),
        (0, f"{conmonrs} --runtime /usr/bin/runc --runtime-dir /run/other --runtime-root /run/runc"),
    ):
        script = f"({command}) >/dev/null 2>&1 &"
        box.do("setpriv", f"--reuid={user}", "--clear-groups", "bash", "-c", script)
    with Installer(node, stage, ENGINE="crio", ACTION="remove") as remover:
        remover.begin()
        box.wait(lambda: remover.log(remover.container))
        assert remover.log(remover.container).endswith("containers of /run/pod k8s_it's\n")
        box.write("/run/board/end", "")
        assert remover.finish().splitlines()[-1] == "stdout cdi-hook: removed"
    assert [box.call("test", "-e", place).returncode for place in (HOME, drop_in)] == [1, 1]
    assert restarts(box) == ["crio"] * 2


FOREIGN = '{{ template "base" . }}\n{{/* the proxy */}}\n[debug]\n  level = "info"'
UNITS = {"k3s": "k3s-agent", "rke2": "rke2-agent"}


@pytest.mark.parametrize(
    ("name", "has"), [("k3s", ""), ("k3s", "a template"), ("k3s", "imports"), ("rke2", "")]
)
def test_a_node_with_a_containerd_of_its_own(machine: Box, stage: Path, name: str, has: str) -> None:
    """The engine is found by itself, its template or drop-in has the handler for as long as pods may need it."""
    box, unit = machine, UNITS[name]
    # an agent: the other unit doesn't run
    running = f'case $* in is-active*) [ "$3" = {unit} ] ;; esac\n'
    box.write("/usr/local/bin/systemctl", SYSTEMCTL + running, "755")
    node = K3s(box, name, imports=has == "imports")
    template = f"{node.etc}/{TEMPLATES[node.versions[0]]}"
    if has == "imports" and node.versions[0] == 3:
        template = f"{node.etc}/config-v3.toml.d/99-cdi-hook.toml"
    foreign = FOREIGN if has == "a template" else ""
    if foreign:
        box.write(template, foreign)
        node.restart()
    before = box.do("find", node.etc, "-type", "f")

    log = install(node, stage)
    installed = f"stdout cdi-hook: installed {box.do('readlink', f'{HOME}/current')} for {name}"
    assert (installed in log.splitlines(), "warning" in log) == (True, False), log
    assert unit in restarts(box)
    text = box.read(template)
    assert text.startswith(foreign or f"# Written by `cdi-hook configure {name}`")
    node.restart()
    assert handlers(node.dump()) == ["cdi", "runc"]
    with contextlib.ExitStack() as stack:
        pod = stack.enter_context(Pod(node, "cdi"))
        container, log = pod.run(world.LOOK, {world.KEY: world.FUSE})
        assert log == SEEN
        doctor = f"{HOME}/current/bin/cdi-hook", "doctor"
        said = box.call(*doctor).stdout
        uses = rf"ok       {name} [\d.]+\S* runs cdi-runtime as its runtime cdi; its own CDI is .*\n"
        calls = rf"ok       cdi-runtime calls /var/lib/rancher/{name}/(?:data/current/)?bin/runc .*\n"
        assert re.search(uses, said)
        assert re.search(rf"^{calls}", said, re.MULTILINE)
        given = f"ok       {name}'s container {container[:12]} was given all of that"
        assert given in box.do(*doctor, container).splitlines()
        install(node, stage)
        assert box.read(template) == text
        assert restarts(box) == [unit]
        with Installer(node, stage, ACTION="remove") as remover:
            remover.begin()
            waiting = f"stdout cdi-hook: not removed while there are containers of default/{pod.name}\n"
            box.wait(lambda: remover.log(remover.container))
            assert remover.log(remover.container) == waiting
            stack.close()
            assert remover.finish().splitlines()[-1] == "stdout cdi-hook: removed"
    assert (box.do("find", node.etc, "-type", "f"), box.read(template)) == (before, foreign)
    node.restart()
    assert handlers(node.dump()) == ["runc"]
