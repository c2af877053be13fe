# SPDX-License-Identifier: Apache-2.0
"""What people get wrong, and what they are told: by the engine that they use, or by the command that they call.

MISTAKES has a row for each kind of mistake. Of a message it has the words that matter: what is wrong,
and what to do. The whole of a message stands in the test of the module that makes it.

Some mistakes can't be seen when a container starts: cdi-runtime isn't called, or nothing says that
a device was meant. "cdi-hook doctor" sees these, and SEEN_BY_DOCTOR lists them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

import pytest

from cdi_hook.inject import explain
from cdi_hook.specs.versions import USABLE

from . import image, world
from .box import LAYOUT, USER
from .docker import Docker

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from .box import Box, Completed
    from .containerd import Containerd
    from .podman import Podman

PLACE = "/run/board/mistakes"
SPECS = f"{PLACE}/cdi"
CONF = "/etc/cdi-hook/cdi-hook.conf"
LOG = f"{PLACE}/log"
GPU = "vendor.com/gpu=gpu0"
BASE = "cdiVersion: 0.3.0\nkind: vendor.com/gpu\ndevices:\n"
EDITS = "- name: gpu0\n  containerEdits:\n    "
GOOD = f"{BASE}{EDITS}env: [GPU=0]\n"
BUNDLE = '{"ociVersion": "1.0.0", "annotations": {}, "process": {}, "linux": {"devices": []}}'
KNOWN = f"not one of {', '.join(USABLE)}"


class Case(NamedTuple):
    """Something that a person does, and the words that they see.

    A container asks for ``ask``, with files (path below PLACE: text) and commands that come
    before and after; or else ``command`` is called, as the user ``user``.
    """

    said: str
    ask: str = ""
    spec: str = GOOD  # of vendor.yaml
    files: Mapping[str, str] = {}
    conf: str = ""
    before: str = ""
    after: str = ""
    command: tuple[str, ...] = ()
    user: int = 0
    stdin: str = ""
    status: int = 1
    runtime: str = "cdi"


def edits(text: str, version: str = "0.3.0") -> str:
    """Return a spec whose device has these edits."""
    return f"{BASE}{EDITS}{text}\n".replace("0.3.0", version)


def refused(spec: str, said: str, **more: str) -> Case:
    """Return the case of a container whose spec can't be used."""
    return Case(f"refused: {SPECS}/vendor.yaml: {said}; ", GPU, spec, **more)  # type: ignore[arg-type] # they are strings


def validated(text: str, said: str, status: int = 1) -> Case:
    """Return the case of a spec that is validated."""
    return Case(f"stdin: {said}\n", command=("cdi-hook", "validate", "-"), stdin=text, status=status)


FORM = "a device is written vendor.com/class=name, several with commas and no spaces between"
# A row of the table of mistakes: the mistake, and its cases.
MISTAKES: dict[str, list[Case]] = {
    "typo device/vendor/class": [
        Case(f"did you mean {GPU}?", name) for name in ("vendor.com/gpu=gpu1", "vender.com/gpu=gpu0", "vendor.com/gpus=gpu0")
    ],
    "=all with no `all`": [Case(f"did you mean {GPU}?", "vendor.com/gpu=all")],
    "short name, host path, slash for =": [
        Case(f'invalid CDI device name "gpu0" (unqualified device "gpu0", missing vendor); {FORM}', "gpu0"),
        Case(f'(unqualified device "/dev/gpu0", missing vendor); {FORM}', "/dev/gpu0"),
        Case(f'(unqualified device "vendor.com/gpu/gpu0", missing vendor); {FORM}', "vendor.com/gpu/gpu0"),
    ],
    "space after comma": [
        Case(f'invalid CDI device name " {GPU}" (there is a space in it); {FORM}', f"{GPU}, {GPU}"),
    ],
    "runtime not configured / wrong name / path": [  # docker's own words
        Case("unknown or invalid runtime name: cdi-typo", GPU, runtime="cdi-typo", status=125),
        Case("unknown or invalid runtime name: cdi-runtime", GPU, runtime="cdi-runtime", status=125),
    ],
    "YAML indent, tab": [
        refused(f"{BASE}\t- name: gpu0\n", "line 4: found character that cannot start any token; YAML is indented with spaces, not with tabs"),
        refused(f"{BASE}- name: gpu0\n   containerEdits: {{}}\n", "line 5: mapping values are not allowed in this context; "
                "is this line, or the one above it, indented as its neighbours are?"),
    ],
    "edits at the wrong level": [
        refused(f"{BASE}- name: gpu0\n  deviceNodes: []\n", '.devices[0]: unknown field "deviceNodes" (line 5); it belongs in containerEdits'),
    ],
    "cdiVersion 0.6 / 2.0.0": [
        refused(GOOD.replace("0.3.0", "'0.6'"), f'.cdiVersion: invalid version "0.6", {KNOWN}; this spec needs 0.3.0'),
        refused(edits("netDevices: [{hostInterfaceName: a, name: b}]", "2.0.0"),
                '.cdiVersion: invalid version "2.0.0": a newer CDI than this knows (1.1.0); netDevices needs 1.1.0'),
    ],
    "version too low": [
        refused(edits("intelRdt: {}", "0.5.0"), ".cdiVersion: 0.5.0 is too low: intelRdt needs 0.7.0"),
        refused(edits("deviceNodes: [{path: /dev/a, hostPath: /dev/b}]"), ".cdiVersion: 0.3.0 is too low: hostPath in deviceNodes needs 0.5.0"),
    ],
    "kind missing / without class": [
        refused(GOOD.replace("kind: vendor.com/gpu", "annotations: {x: vendor.com/}").replace("0.3.0", "0.6.0"),
                ".kind: there is no kind; write one such as vendor.com/gpu"),
        refused(GOOD.replace("vendor.com/gpu", "vendor.com"), '.kind: "vendor.com" is not vendor/class; write one such as vendor.com/gpu'),
    ],
    "kind a.com/b (one letter)": [
        validated(GOOD.replace("vendor.com/gpu", "a.com/b"), 'warning: .kind: the class "b" has one letter, which crashes docker, podman and '
                  "other engines (CDI's own library up to 1.1.0); take a longer name", 0),
    ],
    ".yml": [
        Case(f"{SPECS}/gpu.yml isn't read, because its name ends neither in .json nor in .yaml: mv {SPECS}/gpu.yml {SPECS}/gpu.yaml",
             GPU, "", {"cdi/gpu.yml": GOOD}),
        Case(f": mv {SPECS}/gpu.yml {SPECS}/gpu.yaml\n", spec="", files={"cdi/gpu.yml": GOOD}, command=("cdi-hook", "list"), status=0),
    ],
    "device node gone": [
        Case(f'failed to stat CDI host device "/dev/gone": does not exist; device {GPU} (asked for by annotation "{world.KEY}") '
             f"is defined by {SPECS}/vendor.yaml; {explain.GENERATE}", GPU, edits("deviceNodes: [{path: /dev/gone}]")),
    ],
    "mount source gone, hook program gone (driver update)": [
        Case(f'the host has no "/none/lib.so", needed by the spec\'s mounts; device {GPU} ', GPU,
             edits("mounts: [{hostPath: /none/lib.so, containerPath: /lib.so, options: [bind]}]")),
        Case(f'the host has no "/none/hook", needed by the spec\'s hooks; device {GPU} ', GPU,
             edits("hooks: [{hookName: createContainer, path: /none/hook}]")),
        validated(edits("hooks: [{hookName: createContainer, path: /none/hook}]"),
                  'warning: .devices[0].containerEdits.hooks[0]: the host has no "/none/hook"', 0),
    ],
    "mount without bind": [
        Case(f'"options: [bind]" is missing for the mount of "/etc" at "/x", needed by the spec\'s mounts; device {GPU} ',
             GPU, edits("mounts: [{hostPath: /etc, containerPath: /x}]"), runtime=runtime) for runtime in ("cdi", "cdi-crun")
    ] + [
        validated(edits("mounts: [{hostPath: /etc, containerPath: /x}]"),
                  'warning: .devices[0].containerEdits.mounts[0]: "options: [bind]" is missing for the mount of "/etc" at "/x"', 0),
    ],
    "symlink as hostPath (/dev/serial/by-id/…)": [
        Case(f'{world.FAILED}"{PLACE}/link" is a link, and a node\'s host path can\'t be one: write hostPath: /dev/fuse; device {GPU} ', GPU,
             edits(f"deviceNodes: [{{path: /dev/tty0, hostPath: {PLACE}/link}}]", "0.5.0"), before=f"ln -s /dev/fuse {PLACE}/link"),
    ],
    "spec 0666, not root's, dir 0775": [
        Case(f"(mode 0666); to fix it: chmod go-w {SPECS}/vendor.yaml; ", GPU, before=f"chmod 666 {SPECS}/vendor.yaml"),
        Case(f"belongs to uid {USER}, not to root; to fix it: chown root {SPECS}/vendor.yaml; ", GPU,
             before=f"chown {USER} {SPECS}/vendor.yaml"),
        Case(f"{SPECS} is writable by others than root (mode 0775); to fix it: chmod go-w {SPECS}; ", GPU, before=f"chmod 775 {SPECS}"),
    ],
    "same device twice": [
        Case(f'two files of one dir define it ("{SPECS}/vendor.yaml", "{SPECS}/again.yaml"); neither counts, so rename or remove one', GPU,
             files={"cdi/again.yaml": GOOD}),
    ],
    "dangling link, empty file, spec 0600 as user": [
        Case(f"{SPECS}/vendor.yaml: can't read it: no such file or directory\n", command=("cdi-hook", "list"),
             before=f"ln -sf nowhere {SPECS}/vendor.yaml"),
        refused("---\n", "the file is empty"),
        Case(f"{SPECS}/vendor.yaml: can't read it: permission denied\n", command=("cdi-hook", "list"), user=USER,
             before=f"chmod 600 {SPECS}/vendor.yaml"),
    ],
    "config key typo": [Case(f"{CONF}:3: unknown key SPEC_DIR; did you mean SPEC_DIRS?", GPU, conf="SPEC_DIR=/x\n")],
    '`ALLOW = "x"`': [Case(f"{CONF}:3: ALLOW: it must begin the line, with no spaces around the =", GPU, conf='ALLOW = "x"\n')],
    "ALLOW refuses": [
        Case(f"it matches no pattern of ALLOW=other.com/* ({CONF}:3); whoever runs this host can add {GPU} there", GPU,
             conf="ALLOW=other.com/*\n"),
    ],
    "RUNTIMES wrong, no runc": [
        Case(f'there is no OCI runtime to call: none of "runk" (RUNTIMES, {CONF}:3) is on PATH or in the standard dirs; install one, '
             "or give its path in RUNTIMES", GPU, conf="RUNTIMES=runk\n"),
    ],
    "forgot sudo, configure docker": [
        Case(f"note: /home/user/.config/docker/daemon.json is the file of the user with uid {USER}, which only that user's own (rootless) "
             "docker reads; with sudo this command edits /etc/docker/daemon.json, which the host's docker reads\n",
             command=("cdi-hook", "configure", "docker", "--dry-run"), user=USER, status=0),
    ],
    "forgot sudo, configure containerd / index": [
        Case(": Permission denied; try it with sudo\n", command=("cdi-hook", "configure", "crio"), user=USER),
        Case("set XDG_RUNTIME_DIR; with sudo the host's index is made\n",
             command=("env", "XDG_RUNTIME_DIR=", "cdi-hook", "index"), user=USER),
    ],
    "configure --file typo": [
        Case('--file: there is no dir "/etc/dokcer"; did you mean /etc/docker?\n',
             command=("cdi-hook", "configure", "docker", "--file", "/etc/dokcer/daemon.json")),
        Case('--file: there is no dir "/none/at/all"; make it first, if the path is right\n',
             command=("cdi-hook", "configure", "docker", "--file", "/none/at/all/daemon.json")),
    ],
    "inject config.json instead of its dir": [
        Case(f'"{PLACE}/config.json" is a file; name the bundle, its dir: {PLACE}\n', files={"config.json": BUNDLE},
             command=("cdi-hook", "inject", f"{PLACE}/config.json")),
    ],
    "validate a config.json, validate - , list NAME, completion tcsh": [
        Case(f'{PLACE}/config.json: this is an OCI spec, no CDI spec; "cdi-hook inject --diff BUNDLE" shows what it asks for\n',
             files={"config.json": BUNDLE}, command=("cdi-hook", "validate", f"{PLACE}/config.json")),
        validated(GOOD, "vendor.com/gpu, 1 device, CDI 0.3.0", 0),
        Case(f"{GPU}  {SPECS}/vendor.yaml\n", command=("cdi-hook", "list", GPU), status=0),
        Case("invalid choice: 'tcsh' (choose from ", command=("cdi-hook", "completion", "tcsh"), status=2),
    ],
    "list with a class, or a part of a name": [
        Case(f'there is no device "gpu"; did you mean {GPU}?\n', command=("cdi-hook", "list", "gpu")),
        Case(f'there is no device "gpu0"; did you mean {GPU}?\n', command=("cdi-hook", "list", "gpu0")),
    ],
    "validate FILE, which others can write": [
        Case(f"(mode 0666); to fix it: chmod go-w {SPECS}/vendor.yaml", before=f"chmod 666 {SPECS}/vendor.yaml",
             command=("cdi-hook", "validate", f"{SPECS}/vendor.yaml"), status=0),
    ],
    "generate into a dir that isn't read": [
        Case(f'"{PLACE}/cdy" isn\'t one of SPEC_DIRS, as {SPECS} is: no container gets devices of its specs\n',
             command=("cdi-hook", "generate", "--device", "a=/dev/null", "--kind", "vendor.com/gpu", "--output", f"{PLACE}/cdy"), status=0),
    ],
    "generate --device without a name, with a bad kind": [
        Case('--device "/dev/null": there is no name; write --device null=/dev/null\n',
             command=("cdi-hook", "generate", "--kind", "vendor.com/gpu", "--device", "/dev/null")),
        Case('--kind: "camera" is not vendor/class; write one such as vendor.com/gpu\n',
             command=("cdi-hook", "generate", "--kind", "camera", "--device", "front=/dev/none")),
    ],
    "generate without --output, then run": [
        Case('; "cdi-hook generate kvm --output /etc/cdi" makes the spec of host.local/kvm; ', "host.local/kvm=kvm"),
    ],
    "a relative path in a spec": [
        Case(f'{world.FAILED}"dev/fuse" isn\'t an absolute path; write "/dev/fuse"; device {GPU} ', GPU,
             edits("deviceNodes: [{path: dev/fuse}]")),
        validated(edits("deviceNodes: [{path: dev/none}]"), 'warning: .devices[0].containerEdits.deviceNodes[0]: '
                  '"dev/none" isn\'t an absolute path; write "/dev/none"', 0),
    ],
    "typo in a class, a command or an option": [
        Case("; did you mean kvm?\n", command=("cdi-hook", "generate", "kmv"), status=2),
        Case("; did you mean list?\n", command=("cdi-hook", "lst"), status=2),
        Case("unrecognized arguments: --ouput x; did you mean --output?\n", command=("cdi-hook", "generate", "kvm", "--ouput", "x"), status=2),
    ],
    "a mode in decimal, ~ in a mount, a second document": [
        validated(edits("deviceNodes: [{path: /dev/null, fileMode: 666}]"), "warning: .devices[0].containerEdits.deviceNodes[0]."
                  "fileMode: fileMode 666 is decimal, and as a mode it is 01232; write 0666 (in JSON 438)", 0),
        validated(f"{GOOD}---\n{GOOD}", "warning: line 7: a file has one spec, and what begins here isn't read; make a file of its own of it", 0),
    ],
    "hardware that came after the spec was made": [
        Case(f"; this host has host.local/fuse=fuse, but {SPECS}/vendor.yaml doesn't: add it there; ", "host.local/fuse=fuse",
             "cdiVersion: 0.3.0\nkind: host.local/fuse\ndevices: [{name: other, containerEdits: {env: [A=1]}}]\n"),
    ],
    "two lines of one key": [
        Case(f"the configuration can't be used: {CONF}:4: GENERATE: {CONF}:3 says something else; write one line", GPU,
             conf="GENERATE=fuse\nGENERATE=kvm\n"),
    ],
    "validate /etc/passwd": [
        Case("/etc/passwd: this is no CDI spec: it has no cdiVersion, kind or devices\n", command=("cdi-hook", "validate", "/etc/passwd")),
    ],
}  # fmt: skip
# What only doctor sees, and where these rows have their tests.
SEEN_BY_DOCTOR = (
    "label instead",
    "no --runtime",
    "--device, --gpus, NVIDIA_VISIBLE_DEVICES with our runtime on docker 26",
    "labels in a compose file",
    "rootless, and not in the node's group",
)
# Rows with tests of their own below: a warning, and what is missing.
MISSING = {
    "PyYAML missing": f"{world.FAILED}PyYAML is missing, which reads CDI specs: install python3-yaml (Debian, Ubuntu), python3-pyyaml (Fedora, RHEL), or with pip PyYAML",
    "no python": "there is no /usr/bin/python3 to read /etc/cdi-hook/cdi-hook.conf, which names the runtime to call; "
    "install python3 (3.9 or newer) and python3-yaml",
}
MISSPELT = "key `cdi.k8s.io` without slash, `cdi.k8s/x`"


def test_every_row_is_here() -> None:
    """Every kind of mistake is a row here, and none is there twice."""
    rows = {*MISTAKES, *SEEN_BY_DOCTOR, *MISSING, MISSPELT}
    assert len(rows) == len(MISTAKES) + len(SEEN_BY_DOCTOR) + len(MISSING) + 1 == 47


def furnish(box: Box, case: Case) -> None:
    """Put a case's files and configuration into a box."""
    box.do("rm", "-rf", PLACE)
    box.do("mkdir", "-p", SPECS, "/home/user")
    box.do("chown", str(USER), "/home/user")
    for path, text in {**case.files, **({"cdi/vendor.yaml": case.spec} if case.spec else {})}.items():
        box.write(f"{PLACE}/{path}", text)
    box.write(CONF, f"SPEC_DIRS={SPECS}\nLOG={LOG}\n{case.conf}")
    if case.before:
        box.do("sh", "-c", case.before)


def restore(box: Box, case: Case) -> None:
    """Give a box its own configuration again."""
    if case.after:
        box.do("sh", "-c", case.after)
    box.write(CONF, world.FILES[CONF])


def cases() -> Generator[object]:
    """Yield each case, with its row as the name."""
    for row, found in MISTAKES.items():
        for number, case in enumerate(found):
            yield pytest.param(case, id=f"{row} {number}".replace("/", "|"))


@pytest.mark.xdist_group("docker")
@pytest.mark.parametrize("case", [*cases()])
def test_mistake(dockers: Callable[[str], Docker], case: Case) -> None:
    """Whoever makes the mistake, with docker or a command, sees what is wrong and what to do."""
    docker = dockers(LAYOUT)
    furnish(docker.box, case)
    try:
        if case.command:
            done = docker.box.call(*case.command, user=case.user, stdin=case.stdin.encode())
        else:
            done = docker.run("--rm", device=case.ask, runtime=case.runtime, script=":")
    finally:
        restore(docker.box, case)
    assert case.said in done.stdout + done.stderr
    assert done.returncode == (case.status if case.command else 125)


@pytest.mark.xdist_group("docker")
@pytest.mark.parametrize("key", ["cdi.k8s.io", "cdi.k8s/x"])
def test_misspelt_key(dockers: Callable[[str], Docker], key: str) -> None:
    """A container whose key is nearly right starts, and the runtime's log and LOG say what the key has to be."""
    docker = dockers(LAYOUT)
    furnish(docker.box, Case(""))
    try:
        container = docker.do(
            "run", "--detach", "--stop-timeout=0", "--network=none", "--runtime=cdi", "--annotation", f"{key}={GPU}",
            image.NAME, "sleep", "1000",
        )  # fmt: skip
        bundle = f"/run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby/{container}"
        log, own = docker.box.read(f"{bundle}/log.json"), docker.box.read(LOG)
        docker.do("rm", "--force", container)
    finally:
        restore(docker.box, Case(""))
    name = key.partition("/")[2] or "device"
    said = f'annotation "{key}" asks for no device, because its key doesn\'t begin with "cdi.k8s.io/"; write the key as cdi.k8s.io/{name}'
    for line in log, own:
        told = json.loads(line)
        assert (told["level"].lower(), told["msg"]) == ("warning", said)


@pytest.mark.xdist_group("docker")
def test_device_option(boxes: Callable[[str, str], Box]) -> None:
    """Where docker's own CDI is off, docker says so for --device; what configure advises turns it on."""
    box = boxes("dockerd", LAYOUT)
    docker = Docker(box, features={"cdi": False})  # which newer releases have on
    option = ("run", "--rm", "--network=none", "--device", world.FUSE, image.NAME, "sh", "-c", world.LOOK)
    done = docker.call(*option)
    assert 'could not select device driver "cdi" with capabilities: []' in done.stderr
    advice = docker.box.call("cdi-hook", "configure", "docker", "--enable-cdi")
    assert advice.stdout.endswith("docker reads it after: systemctl restart docker\n")
    box.do("sh", "-c", "kill -HUP $(busybox pidof dockerd)")
    assert docker.call(*option).returncode == 125  # a reload isn't enough
    docker.restart()
    done = docker.call(*option)
    assert (done.returncode, done.stdout, done.stderr) == (0, world.SEEN, "")


# How each of the two is made missing in a box, and brought back.
HIDE = {
    "PyYAML missing": (
        f"mkdir {PLACE}/lib && cp -a /usr/lib/python3/dist-packages/cdi_hook {PLACE}/lib && "
        f"mount --bind {PLACE}/lib /usr/lib/python3/dist-packages",
        "umount /usr/lib/python3/dist-packages",
    ),
    "no python": (
        "mount --bind /run/board/null $(readlink -f /usr/bin/python3)",
        "umount $(readlink -f /usr/bin/python3)",
    ),
}


@pytest.fixture(params=MISSING)
def missing(request: pytest.FixtureRequest) -> tuple[str, Case]:
    """What is said, and the case, for each thing that can be missing.

    Its spec is one that no other test has: what an index remembers is injected without PyYAML.
    """
    before, after = HIDE[request.param]
    return MISSING[request.param], Case("", spec=GOOD.replace("GPU=0", "GPU=new"), before=before, after=after)


@pytest.mark.xdist_group("docker")
def test_missing_with_docker(dockers: Callable[[str], Docker], missing: tuple[str, Case]) -> None:
    """docker shows what to install, and so does the command line."""
    said, case = missing
    docker = dockers(LAYOUT)
    furnish(docker.box, case)
    try:
        done = docker.run("--rm", device=GPU, script=":")
        called = docker.box.call("cdi-hook", "validate")
    finally:
        restore(docker.box, case)
    told(done, said)
    assert (called.returncode, called.stdout, called.stderr.count("\n")) == (1, "", 1)
    advice = said.removeprefix(world.FAILED).rpartition("; ")[2]
    assert called.stderr.endswith(f"{advice}\n")


@pytest.mark.xdist_group("podman")
def test_missing_with_podman(podmans: Callable[..., Podman], missing: tuple[str, Case]) -> None:
    """podman shows what to install, whether it reads the runtime's stderr or its log."""
    said, case = missing
    podman = podmans(rootless=False, layout=LAYOUT)
    for runtime in "cdi", "cdi-json":
        furnish(podman.box, case)
        try:
            done = podman.run("--rm", device=GPU, runtime=runtime, script=":")
        finally:
            restore(podman.box, case)
        told(done, said)


@pytest.mark.xdist_group("containerd")
def test_missing_with_ctr(containerds: Callable[[], Containerd], missing: tuple[str, Case]) -> None:
    """ctr shows what to install."""
    said, case = missing
    containerd = containerds()
    furnish(containerd.box, case)
    try:
        done = containerd.run("missing", "--rm", device=GPU, script=":")
    finally:
        restore(containerd.box, case)
        containerd.ctr("container", "rm", "missing")
    told(done, said)


def told(done: Completed, said: str) -> None:
    """Check that an engine showed the message, and didn't start the container."""
    assert said in done.stderr
    assert done.returncode != 0
