# SPDX-License-Identifier: Apache-2.0
"""Containers of real runtimes get their devices: what a spec says holds inside, and without a request nothing changes."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.engine.box import version

from .lab import DEVICE, INDEX_DIR, NATIVE, Bundle, indexes

if TYPE_CHECKING:
    from .lab import Lab
    from .spy import Spy

# gVisor has no device rules, runs no createContainer or startContainer hooks, and
# passes descriptors with an option of its own.
native = pytest.mark.parametrize("runtime", NATIVE, indirect=True)

OPEN = f"(: <{DEVICE}) && echo read; (: <>{DEVICE}) && echo write; true"
REFUSED = f"sh: can't open {DEVICE}: Operation not permitted\n"
REFUSED_TO_WRITE = f"sh: can't create {DEVICE}: Operation not permitted\n"
FUSE = {"deviceNodes": [{"path": str(DEVICE)}]}


@native
@pytest.mark.parametrize(
    ("permissions", "output"),
    [
        (None, "read\nwrite\n"),
        ("rwm", "read\nwrite\n"),
        ("rw", "read\nwrite\n"),
        ("r", f"read\n{REFUSED_TO_WRITE}"),
        ("w", f"{REFUSED}sh: can't create {DEVICE}: Operation not permitted\n"),
    ],
    ids=["default", "rwm", "rw", "r", "w"],
)
def test_device_opens_as_its_rule_says(lab: Lab, permissions: str | None, output: str) -> None:
    """A device can be opened for what the spec's permissions allow, and for nothing else."""
    node = {"path": str(DEVICE)} | ({"permissions": permissions} if permissions else {})
    device = lab.spec({"deviceNodes": [node]})
    assert lab.run(lab.bundle(OPEN, [device])) == output


@pytest.mark.parametrize("runtime", ["crun-v2"], indirect=True)
def test_device_without_permissions(lab: Lab) -> None:
    """Permissions "none" make a node that can't be opened (runc refuses a rule without access)."""
    device = lab.spec({"deviceNodes": [{"path": str(DEVICE), "permissions": "none"}]})
    assert lab.run(lab.bundle(OPEN, [device])) == f"{REFUSED}{REFUSED_TO_WRITE}"


@native
def test_device_stays_shut_without_annotation(lab: Lab) -> None:
    """A container can open a device with the annotation and can't without it, and then its bundle isn't written to."""
    lab.spec(FUSE)
    bundle = lab.bundle(OPEN)
    before = bundle.identity()
    assert lab.run(bundle) == f"{REFUSED}{REFUSED_TO_WRITE}"
    assert bundle.identity() == before


@native
def test_an_id_that_begins_with_a_dash(lab: Lab) -> None:
    """Such a container has its device."""
    bundle = lab.bundle("echo $ONE", [lab.spec({"env": ["ONE=1"]})])
    container = lab.container(f"-{os.getpid()}")
    done = lab.call("run", "--bundle", str(bundle.path), "--", container)
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


@pytest.mark.parametrize("runtime", ["runc-v1"], indirect=True)
def test_an_id_that_only_runc_takes_for_one(lab: Lab) -> None:
    """Such a container has its device where runc alone takes the word for an id."""
    bundle = lab.bundle("echo $ONE", [lab.spec({"env": ["ONE=1"]})])
    done = lab.call("run", "--bundle", str(bundle.path), lab.container(f"-{os.getpid()}"), "--")
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


@native
def test_untouched_bundle(lab: Lab) -> None:
    """If a bundle asks for nothing, nothing is written to it or beside it from create to delete."""
    lab.spec(FUSE)
    bundle = lab.bundle()
    before = bundle.identity()
    container = lab.create(bundle)
    assert lab.call("start", container).returncode == 0
    lab.wait(container, "stopped")
    assert lab.call("delete", container).returncode == 0
    assert bundle.identity() == before


def test_device_node_in_container(lab: Lab) -> None:
    """A device node has the path, numbers, mode and owner that the spec gives it."""
    node = {
        "path": "/dev/cdi/node", "hostPath": str(DEVICE),
        "fileMode": 0o640, "uid": 5, "gid": 6, "permissions": "rw",
    }  # fmt: skip
    device = lab.spec({"deviceNodes": [node]})
    if not lab.runtime.is_native:
        plain = lab.bundle("ls /dev/node || true", name="plain")
        plain.config["linux"]["devices"][0]["path"] = "/dev/node"
        plain.write()
        if lab.run(plain, program=lab.runtime.name) != "/dev/node\n":
            pytest.skip(f"this {lab.runtime.name} makes no device nodes, whoever asks")
    output = lab.run(lab.bundle("stat -c '%F %t:%T %a %u %g' /dev/cdi/node", [device]))
    assert output == "character special file a:e5 640 5 6\n"


def test_device_node_absent_without_annotation(lab: Lab) -> None:
    """A device node that wasn't requested isn't there."""
    lab.spec({"deviceNodes": [{"path": "/dev/cdi-node", "hostPath": str(DEVICE)}]})
    output = lab.run(lab.bundle("ls /dev/cdi-node 2>&1 || true"))
    assert output == "ls: /dev/cdi-node: No such file or directory\n"


def test_mounts_are_there_and_read_only(lab: Lab) -> None:
    """A dir and a file of the host are mounted read-only."""
    data = lab.directory / "data"
    data.mkdir()
    (data / "file").write_text("of the host\n", "utf-8")
    options = ["ro", "bind", "nosuid", "nodev"]
    device = lab.spec(
        {
            "mounts": [
                {"hostPath": str(data), "containerPath": "/opt/data", "options": options},
                {"hostPath": str(data / "file"), "containerPath": "/etc/file", "options": options},
            ]
        }
    )
    script = "cat /opt/data/file /etc/file; (: >/opt/data/new); (: >/opt/data/file); (: >/etc/file); true"
    assert lab.run(lab.bundle(script, [device])) == (
        "of the host\nof the host\n"
        "sh: can't create /opt/data/new: Read-only file system\n"
        "sh: can't create /opt/data/file: Read-only file system\n"
        "sh: can't create /etc/file: Read-only file system\n"
    )
    assert [path.name for path in data.iterdir()] == ["file"]


def test_mount_is_writable_without_ro(lab: Lab) -> None:
    """A mount without ro is writable."""
    data = lab.directory / "data"
    data.mkdir()
    device = lab.spec(
        {"mounts": [{"hostPath": str(data), "containerPath": "/data", "options": ["rw", "rbind"]}]}
    )
    assert lab.run(lab.bundle("echo from inside >/data/new", [device])) == ""
    assert (data / "new").read_text("utf-8") == "from inside\n"


def test_environment_arrives(lab: Lab) -> None:
    """The spec's variables replace and extend the container's; a device's come after its spec's own."""
    device = lab.spec({"env": ["ONE=of the device", "TERM=dumb"]}, env=["ALL=of the file", "ONE=of the file"])
    output = lab.run(lab.bundle('echo "$ONE, $ALL, $TERM"', [device]))
    assert output == "of the device, of the file, dumb\n"


def test_additional_gids(lab: Lab) -> None:
    """The process is in the spec's additional groups."""
    device = lab.spec({"additionalGids": [4711, 0, 4712]})
    assert lab.run(lab.bundle("id -G", [device])) == "0 4711 4712\n"


def test_several_devices(lab: Lab) -> None:
    """Devices of several annotations and specs are injected together."""
    devices = [lab.spec({"env": [f"DEVICE_{name}={name}"]}, name=name) for name in ("a", "b", "c")]
    bundle = lab.bundle('echo "$DEVICE_a$DEVICE_b$DEVICE_c"', devices[:2])
    bundle.config["annotations"]["cdi.k8s.io/another"] = devices[2]
    bundle.write()
    assert lab.run(bundle) == "abc\n"


def hook(stage: str, log: str) -> dict[str, Any]:
    """Return a hook that appends its stage, mount namespace and stdin to a file."""
    script = f'echo "{stage} $(/bin/busybox readlink /proc/self/ns/mnt) $STAGE $(/bin/busybox cat)" >>{log}'
    args = ["busybox", "sh", "-c", script]
    return {"hookName": stage, "path": "/bin/busybox", "args": args, "env": [f"STAGE={stage}"], "timeout": 10}


def hooks_run(lab: Lab, stages: list[str]) -> tuple[str, dict[str, tuple[str, str, dict[str, Any]]]]:
    """Run a container's life with hooks at some stages; return its mount namespace, and the hooks' output in order."""
    log = lab.directory / "hooks.log"
    log.touch()
    device = lab.spec(
        {
            "hooks": [
                hook(stage, "/hooks.log" if stage == "startContainer" else str(log)) for stage in stages
            ],
            "mounts": [{"hostPath": str(log), "containerPath": "/hooks.log", "options": ["rw", "bind"]}],
        }
    )
    bundle = lab.bundle("readlink /proc/self/ns/mnt >/namespace", [device])
    container = lab.create(bundle)
    assert lab.call("start", container).returncode == 0
    lab.wait(container, "stopped")
    assert lab.call("delete", container).returncode == 0
    begin = rf"^(?=(?:{'|'.join(stages)}) )"  # newer releases of crun write the state in several lines
    lines = [one.split(" ", 3) for one in re.split(begin, log.read_text("utf-8"), flags=re.MULTILINE) if one]
    assert len(lines) == len(stages), "a hook ran twice, or not at all"
    namespace = bundle.rootfs / "namespace"
    inside = namespace.read_text("utf-8").strip() if namespace.exists() else ""
    return inside, {stage: (where, variable, json.loads(state)) for stage, where, variable, state in lines}


@native
def test_hooks_of_all_stages_run(lab: Lab) -> None:
    """Hooks of all stages run once, in the specification's order and namespaces, with state and env."""
    stages = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"]
    inside, ran = hooks_run(lab, stages)
    order = [
        stage for stage in ran if stage != "poststart"
    ]  # at the same time as the process: before or after its start
    assert order == ["prestart", "createRuntime", "createContainer", "startContainer", "poststop"]
    # at poststop the container's namespace no longer exists, and another may have its number
    of_container = {stage for stage, (where, _, _) in ran.items() if where == inside and stage != "poststop"}
    assert of_container == {"createContainer", "startContainer"}
    assert {variable for _, variable, _ in ran.values()} == set(stages)
    assert {state["annotations"]["cdi.k8s.io/test"] for _, _, state in ran.values()} == {
        "vendor.com/device=one"
    }
    assert ran["poststop"][2]["status"] == "stopped"


@pytest.mark.parametrize("runtime", ["runsc"], indirect=True)
def test_hooks_of_gvisor_run(lab: Lab) -> None:
    """The hooks that gVisor knows run once and in order."""
    stages = ["prestart", "createRuntime", "poststart", "poststop"]
    _, ran = hooks_run(lab, stages)
    assert list(ran) == stages


@pytest.mark.parametrize("of_engine", [False, True], ids=["", "of-engine"])
def test_socket_of_a_service(lab: Lab, of_engine: bool) -> None:
    """A device may mount a service's socket, as NVIDIA's do, also if the engine's own CDI has injected it already."""
    path = lab.directory / "socket"
    with socket.socket(socket.AF_UNIX) as service:
        service.bind(str(path))
        target, options = (
            "/run/nvidia-persistenced/socket",
            ["nosuid", "nodev", "rbind", "rprivate", "noexec"],
        )
        edits = {"mounts": [{"hostPath": str(path), "containerPath": target, "options": options}]}
        bundle = lab.bundle("echo started", [lab.spec(edits)])
        if of_engine:
            bundle.config["mounts"].append({"destination": target, "source": str(path), "options": options})
            bundle.write()
        assert lab.run(bundle) == "started\n"
    assert [mount["destination"] for mount in bundle.injected()["mounts"]].count(target) == 1


@native
def test_second_create_changes_nothing(lab: Lab) -> None:
    """An injected bundle that is created from again, this time with the index, isn't changed by one byte."""
    device = lab.spec(
        {
            **FUSE,
            "env": ["ONE=1"],
            "mounts": [{"hostPath": "/bin", "containerPath": "/opt/bin", "options": ["ro", "bind"]}],
            "hooks": [{"hookName": "createRuntime", "path": "/bin/true"}],
            "additionalGids": [4711],
        }
    )
    bundle = lab.bundle("true", [device])
    original = bundle.config_file.read_bytes()
    contents = []
    for _ in range(3):
        container = lab.create(bundle)
        contents.append(bundle.identity())
        assert lab.call("delete", "--force", container).returncode == 0
        time.sleep(0.06)  # a spec as new as this one isn't put into the index
    assert contents[0][0] != original
    assert contents[1:] == contents[:1] * 2
    assert [path.parent for path in indexes(lab.directory)] == [INDEX_DIR]
    assert bundle.injected()["x-nobody-knows"] == {"kept": [1.50, "as it is"]}


@native
def test_index_gives_what_specs_give(lab: Lab) -> None:
    """With the index a bundle is injected as it was from the specs, until a spec changes."""
    device = lab.spec({**FUSE, "env": ["ONE=1"]})
    time.sleep(0.06)
    injected = []
    for _ in range(2):
        bundle = lab.bundle("true", [device])
        lab.create(bundle)
        injected.append(bundle.config_file.read_bytes())
        assert len(indexes(lab.directory)) == 1
        shutil.move(bundle.path, lab.directory / f"used-{len(injected)}")
    assert injected[0] == injected[1]
    lab.spec({"env": ["ONE=2"]})
    assert lab.run(lab.bundle("echo $ONE", [device])) == "2\n"


@native
def test_mode_and_owner_of_config_survive(lab: Lab) -> None:
    """The injected config.json has the mode and the owner of the original, whatever the umask."""
    bundle = lab.bundle("true", [lab.spec({"env": ["ONE=1"]})])
    bundle.config_file.chmod(0o664)
    os.chown(bundle.config_file, 1234, 5678)
    before = bundle.config_file.stat()
    umask = os.umask(0o077)
    try:
        lab.create(bundle)
    finally:
        os.umask(umask)
    after = bundle.config_file.stat()
    assert before.st_ino != after.st_ino
    assert (after.st_mode & 0o7777, after.st_uid, after.st_gid) == (0o664, 1234, 5678)
    assert sorted(os.listdir(bundle.path)) == ["config.json", "rootfs"]


def test_bundle_is_the_working_directory(lab: Lab) -> None:
    """Without --bundle, the bundle is the cwd, whatever PWD says."""
    bundle = lab.bundle("echo $ONE", [lab.spec({"env": ["ONE=1"]})])
    lab.environ["PWD"] = "/"
    assert lab.run(bundle, in_bundle=True) == "1\n"


@pytest.mark.parametrize("runtime", NATIVE, indirect=True)
def test_mounts_in_user_namespace(lab: Lab) -> None:
    """In a container with a user namespace, a mount gets idmap if the kernel can map its source's file system.

    Files of the host's root then belong to root inside too, but for runc before 1.2, which knows no such option.
    """
    config = lab.bundle("stat -c '%u %g' /opt/data/file; cat /opt/data/file; stat -c %F /opt/null").config
    config["linux"]["namespaces"].append({"type": "user"})
    mapping = [{"containerID": 0, "hostID": 100000, "size": 65536}]
    config["linux"]["uidMappings"] = config["linux"]["gidMappings"] = mapping
    del config["linux"]["devices"]  # not made in a user namespace
    with tempfile.TemporaryDirectory(prefix="cdi-hook-") as name:  # pytest's own dirs let no other user in
        directory = Path(name)
        data = directory / "data"
        data.mkdir()
        (data / "file").write_text("of the host\n", "utf-8")
        mount = {"hostPath": str(data), "containerPath": "/opt/data", "options": ["ro", "bind"]}
        node = {"hostPath": "/dev/null", "containerPath": "/opt/null", "options": ["bind"]}
        tree = {"hostPath": "/sys/module", "containerPath": "/opt/sys", "options": ["rbind"]}
        config["annotations"]["cdi.k8s.io/test"] = lab.spec({"mounts": [mount, node, tree]})
        bundle = Bundle(directory / "bundle", lab.busybox, config)
        for one in (directory, bundle.path):
            one.chmod(0o755)
        for mount_point in ("proc", "sys", "dev", "opt/data", "opt/sys"):
            (bundle.rootfs / mount_point).mkdir(parents=True)
        (bundle.rootfs / "opt/null").touch()
        ids = "65534 65534" if lab.runtime.name == "runc" and version("runc") < (1, 2) else "0 0"
        assert lab.run(bundle) == f"{ids}\nof the host\ncharacter special file\n"
        injected = bundle.injected()
    options = [mount["options"] for mount in injected["mounts"][-3:]]
    assert options == [["ro", "bind", "idmap"], ["bind"], ["rbind"]]


def test_what_is_not_for_everybody_reaches_the_runtime(spy: Spy) -> None:
    """Net devices and Intel RDT are in the config.json that a runtime gets which says that it knows them."""
    edits = {
        "netDevices": [{"hostInterfaceName": "eth7", "name": "net0"}],
        "intelRdt": {"closID": "gold", "enableMonitoring": True},
    }
    devices = [{"name": "one", "containerEdits": edits}]
    spec = {"cdiVersion": "1.1.0", "kind": "vendor.com/net", "devices": devices}
    (spy.directory / "cdi").mkdir()
    (spy.directory / "cdi" / "net.json").write_text(json.dumps(spec), "utf-8")
    config = spy.directory / "config.json"
    config.write_text('{"annotations": {"cdi.k8s.io/net": "vendor.com/net=one"}}', "utf-8")
    runtime = spy.directory / "runtime"
    linux = {"netDevices": {"enabled": True}, "intelRdt": {"monitoring": True}}
    runtime.write_text(
        f"#!/bin/sh\n[ $1 = features ] || exec {spy.program} \"$@\"\necho '{json.dumps({'linux': linux})}'\n"
    )
    runtime.chmod(0o755)
    spy.configure(RUNTIMES=runtime, SPEC_DIRS=spy.directory / "cdi")
    completed = spy.call("create", "--bundle", str(spy.directory), "container")
    assert (completed.returncode, completed.stdout, completed.stderr) == (0, "", "")
    assert spy.record(spy.program)["argument"][-1] == b"container"
    assert json.loads(config.read_text("utf-8"))["linux"] == {
        "netDevices": {"eth7": {"name": "net0"}},
        "intelRdt": {"closID": "gold", "enableMonitoring": True},
    }
