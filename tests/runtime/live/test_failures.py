# SPDX-License-Identifier: Apache-2.0
"""Containers get their devices while they are created: what comes too late, and what fails and is taken back."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.runtime.lab import BUSYBOX, DEVICE, NATIVE

from .hooked import NODE, OPEN, user_namespace

if TYPE_CHECKING:
    from .hooked import Live

pytestmark = pytest.mark.parametrize("runtime", NATIVE, indirect=True)

LATE = {
    "env": ["A=1", "B=2"],
    "additionalGids": [44],
    "hooks": [{"hookName": "startContainer", "path": "/bin/x"}, {"hookName": "poststop", "path": "/bin/y"}],
    "deviceNodes": [{"path": NODE, "hostPath": str(DEVICE)}],
}
TOO_LATE = (
    'device vendor.com/device=one ({}/one.json) needs variable "A=1", variable "B=2", startContainer hook "/bin/x", '
    'poststop hook "/bin/y", additional group 44: too late for a container that is being created'
)


def test_too_late_is_refused(live: Live) -> None:
    """What can't be given to a container that is being created is named, with its device, and nothing is done."""
    bundle = live.bundle(OPEN, LATE)
    before = bundle.identity()
    assert live.refused(bundle) == (
        f"CDI device injection failed: {TOO_LATE.format(live.lab.specs)}; asked for by annotation "
        '"cdi.k8s.io/test"; use cdi-runtime or the precreate hook, which come earlier, or set HOOK_UNSUPPORTED=warn '
        "to have it left out"
    )
    assert bundle.identity() == before


def test_too_late_is_left_out(live: Live) -> None:
    """With HOOK_UNSUPPORTED=warn the rest is done, and a warning says what is not."""
    live.configure(HOOK_UNSUPPORTED="warn")
    bundle = live.bundle(f"{OPEN}; echo $A; id -G", LATE)
    completed = live.call("run", bundle)
    assert completed.stdout == "read\nwrite\n\n0\n"
    assert [(line["level"], line["msg"]) for line in live.logged()] == [
        ("WARNING", f"{TOO_LATE.format(live.lab.specs)}, and left out because of HOOK_UNSUPPORTED=warn")
    ]
    config = bundle.injected()
    assert config["process"] == bundle.config["process"]
    assert config["hooks"] == bundle.config["hooks"]


def test_failure_when_the_specs_are_compiled(live: Live) -> None:
    """An error is the same when the specs needn't be read any more, as from the second container on."""
    bundle = live.bundle("true", {"deviceNodes": [{"path": "/dev/null", "hostPath": str(DEVICE)}]})
    message = live.refused(bundle)
    live.log.unlink()
    assert live.refused(bundle) == message


@user_namespace
def test_failure_leaves_nothing(live: Live, userns: bool) -> None:
    """When a later step fails, what was made in the rootfs and what was mounted there is gone again."""
    failing = {
        "hookName": "createContainer", "path": str(BUSYBOX),
        "args": ["busybox", "sh", "-c", "$B ls made; echo no luck >&2; exit 3"], "env": [f"B={BUSYBOX}"],
    }  # fmt: skip
    edits = {
        "mounts": [
            {"hostPath": str(live.data), "containerPath": "/made/dir", "options": ["bind"]},
            {"hostPath": str(live.data / "file"), "containerPath": "/made/file", "options": ["bind"]},
        ],
        "deviceNodes": [{"path": "/made/nodes/node", "hostPath": str(DEVICE)}],
        "hooks": [failing],
    }
    bundle = live.bundle("true", edits, userns=userns)
    before, identity = sorted(bundle.rootfs.rglob("*")), bundle.identity()
    assert live.refused(bundle) == (
        f'CDI device injection failed: the createContainer hook "{BUSYBOX}" failed with exit status 3: dir file nodes '
        'no luck; asked for by annotation "cdi.k8s.io/test"'
    )
    made_by_the_runtime = {"proc", "dev", "sys"}
    after = sorted(path for path in bundle.rootfs.rglob("*") if path.name not in made_by_the_runtime)
    assert after == [path for path in before if path.name not in made_by_the_runtime]
    assert bundle.identity() == identity


@pytest.mark.parametrize("fault", ["error=EIO", "error=ENOMEM", "signal=KILL"])
@pytest.mark.parametrize(
    "call", ["setns", "mknodat", "open_tree", "move_mount", "fchownat", "rename,renameat,renameat2"]
)
def test_a_call_that_fails(live: Live, call: str, fault: str) -> None:
    """Whichever call of the hook fails, the container has its device or isn't created, and the next one has it."""
    if not Path("/usr/bin/strace").exists():
        pytest.skip("strace isn't installed")
    edits = {
        "mounts": [{"hostPath": str(live.data), "containerPath": "/data", "options": ["bind"]}],
        "deviceNodes": [{"path": NODE, "hostPath": str(DEVICE)}],
    }
    inject = ("/usr/bin/strace", "-f", "-qq", "-o", "/dev/null", "-e", f"inject={call}:{fault}:when=1")
    bundle = live.bundle(f"{OPEN}; cat /data/file", edits, before=inject)
    before, mounts = bundle.config_file.read_bytes(), Path("/proc/self/mountinfo").read_text("utf-8")
    completed = live.call("run", bundle)
    whole = "read\nwrite\nof the host\n"
    assert completed.returncode == 0 or whole not in completed.stdout
    assert completed.returncode != 0 or completed.stdout == whole
    if completed.returncode and fault != "signal=KILL":
        assert [line["level"] for line in live.logged()] == ["ERROR"]
        assert bundle.config_file.read_bytes() == before
    assert Path("/proc/self/mountinfo").read_text("utf-8") == mounts
    bundle.config["hooks"] = {"createRuntime": [live.hook("createRuntime")]}
    bundle.write()
    live.log.unlink(missing_ok=True)
    assert live.run(bundle) == whole
