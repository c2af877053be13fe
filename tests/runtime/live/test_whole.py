# SPDX-License-Identifier: Apache-2.0
"""Containers get their devices while they are created: all at once, and once only."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.runtime.lab import DEVICE, NATIVE, STANDARD_PATH

from .hooked import CDI_HOOK, NODE, OPEN, each_stage, user_namespace, vendor_hook

if TYPE_CHECKING:
    from .hooked import Live

pytestmark = pytest.mark.parametrize("runtime", NATIVE, indirect=True)


@each_stage
@user_namespace
def test_all_at_once(live: Live, stage: str, userns: bool) -> None:
    """A container gets node, rule, mounts and hooks, in a rootfs that is read-only to it; nothing is said."""
    log = live.lab.directory / "vendor.log"
    log.touch(0o666)
    log.chmod(0o666)
    edits = {
        "deviceNodes": [
            {"path": NODE, "hostPath": str(DEVICE), "permissions": "r", "fileMode": 0o646, "uid": 5, "gid": 6}
        ],
        "mounts": [
            {"hostPath": str(live.data), "containerPath": "/opt/data", "options": ["rbind", "ro", "nosuid"]},
            {"hostPath": str(live.data / "file"), "containerPath": "/etc/file", "options": ["bind"]},
            {
                "hostPath": "tmpfs",
                "containerPath": "/opt/tmp",
                "type": "tmpfs",
                "options": ["size=64k", "mode=1750"],
            },
        ],
        "hooks": [vendor_hook(name, log) for name in ("createContainer", "createRuntime", "prestart")],
    }
    script = (
        f"stat -c '%F %t:%T %a %u %g' {NODE}; {OPEN}; cat /opt/data/file /etc/file; stat -c %u /opt/data/file; (: >/opt/data/new);"
        "stat -c '%a %u' /opt/tmp; echo 1 >/opt/tmp/new && cat /opt/tmp/new; readlink /proc/self/ns/mnt; (: >/new)"
    )
    bundle = live.bundle(script, edits, stage=stage, userns=userns)
    bundle.config["root"]["readonly"] = True
    bundle.write()
    completed = live.call("run", bundle)
    *lines, inside, refused = completed.stdout.splitlines()
    assert (completed.stderr, live.logged()) == ("", [])
    (audited,) = live.audited()
    assert audited["devices"] == [{"name": "vendor.com/device=one", "source": 'annotation "cdi.k8s.io/test"'}]
    assert audited["changes"] == {"deviceNodes": 1, "hooks": 3, "mounts": 3}
    assert lines == [
        "character special file a:e5 646 5 6",
        "read",
        f"sh: can't create {NODE}: Operation not permitted",
        "of the host",
        "of the host",
        "0",
        "sh: can't create /opt/data/new: Read-only file system",
        "1750 0",
        "1",
    ]
    assert refused == "sh: can't create /new: Read-only file system"
    words = log.read_text("utf-8").splitlines()
    by_stage = [words[start : start + 5] for start in range(0, len(words), 5)]
    assert [one[0] for one in by_stage] == ["prestart", "createRuntime", "createContainer"]
    assert [one[1] for one in by_stage] == [str(bundle.path), str(bundle.path), str(bundle.rootfs)]
    assert [one[2] == inside for one in by_stage] == [False, False, True]
    assert [one[3] for one in by_stage] == ["prestart,", "createRuntime,", "createContainer,"]
    states = [json.loads(one[4]) for one in by_stage]
    assert states[0] == states[1] == states[2]
    assert (states[0]["bundle"], states[0]["annotations"]["org.example.keep"]) == (str(bundle.path), "this")
    config = bundle.injected()
    assert [mount["destination"] for mount in config["mounts"][-3:]] == ["/opt/data", "/etc/file", "/opt/tmp"]
    assert config["linux"]["devices"][-1]["path"] == NODE
    assert config["x-nobody-knows"] == {"kept": [1.50, "as it is"]}


@user_namespace
def test_second_run_changes_nothing(live: Live, userns: bool) -> None:
    """The hook again on the same container, and the same bundle again, do nothing that has been done."""
    log = live.lab.directory / "vendor.log"
    edits = {
        "mounts": [{"hostPath": str(live.data), "containerPath": "/data", "options": ["bind"]}],
        "deviceNodes": [{"path": NODE, "hostPath": str(DEVICE)}],
        "hooks": [vendor_hook("createRuntime", log)],
    }
    bundle = live.bundle(f"{OPEN}; grep -c /data /proc/self/mountinfo", edits, userns=userns)
    container = live.lab.container()
    assert live.call("create", bundle, container).returncode == 0, live.logged()
    config, ran = bundle.identity(), log.read_text("utf-8")
    state = live.lab.state(container) | {"bundle": str(bundle.path)}
    again = _by_hand(live, "createRuntime", state)
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert (bundle.identity(), log.read_text("utf-8")) == (config, ran)
    assert live.lab.call("delete", "--force", container).returncode == 0
    if userns:
        return  # there a runtime itself binds the host's node of that path, and there is none
    assert live.run(bundle) == "read\nwrite\n1\n"
    assert bundle.identity() == config


def test_bundle_as_written_again(live: Live) -> None:
    """A container that is made again in the same rootfs from a fresh config.json gets all of it again."""
    edits = {
        "mounts": [{"hostPath": str(live.data), "containerPath": "/data", "options": ["bind"]}],
        "deviceNodes": [{"path": "/nodes/node", "hostPath": str(DEVICE)}],
    }
    bundle = live.bundle("stat -c %t:%T /nodes/node; cat /data/file", edits)
    for _ in range(2):
        bundle.write()
        assert live.run(bundle) == "a:e5\nof the host\n"


def test_nothing_is_asked_for(live: Live) -> None:
    """A container that asks for nothing is left alone, also its bundle."""
    bundle = live.bundle("echo alone", {"env": ["A=1"]})
    del bundle.config["annotations"]["cdi.k8s.io/test"]
    bundle.write()
    before = bundle.identity()
    assert live.run(bundle) == "alone\n"
    assert bundle.identity() == before


def test_own_mount_namespace_is_refused(live: Live) -> None:
    """A state whose process is in the hook's own mount namespace gets nothing: it would be done to the host."""
    edits = {"mounts": [{"hostPath": str(live.data), "containerPath": "/m", "options": ["bind"]}]}
    bundle = live.bundle("true", edits)
    state = {
        "ociVersion": "1.0.2",
        "id": "x",
        "pid": os.getpid(),
        "bundle": str(bundle.path),
        "status": "creating",
    }
    completed = _by_hand(live, "prestart", state)
    assert (completed.returncode, completed.stdout) == (7, "")
    assert completed.stderr == (
        f"CDI device injection failed: process {os.getpid()} is in the mount namespace of the hook itself: what would be "
        'done to the container would be done to the host; asked for by annotation "cdi.k8s.io/test"\n'
    )


def _by_hand(live: Live, stage: str, state: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Call the hook as a runtime does, with this state."""
    environ = {"PATH": STANDARD_PATH, "CDI_HOOK_CONFIG": str(live.lab.configuration)}
    return subprocess.run(
        [CDI_HOOK, stage], input=json.dumps(state), env=environ, capture_output=True, text=True, check=False
    )
