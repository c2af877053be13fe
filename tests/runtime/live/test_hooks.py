# SPDX-License-Identifier: Apache-2.0
"""Containers get their devices while they are created: the CDI spec's own hooks."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.runtime.lab import BUSYBOX, DEVICE, NATIVE

from .hooked import identity

if TYPE_CHECKING:
    from .hooked import Live

pytestmark = pytest.mark.parametrize("runtime", NATIVE, indirect=True)


def test_vendor_hook_that_hangs(live: Live) -> None:
    """A spec's hook that takes longer than its timeout is ended, with what it started, and the container isn't started."""
    started = live.lab.directory / "started"
    script = f"{BUSYBOX} sleep 60 & echo $! >{started}; wait"
    hook = {
        "hookName": "createRuntime",
        "path": str(BUSYBOX),
        "args": ["busybox", "sh", "-c", script],
        "timeout": 1,
    }
    assert live.refused(live.bundle("true", {"hooks": [hook]})) == (
        f'CDI device injection failed: the createRuntime hook "{BUSYBOX}" ran longer than its timeout of 1 s; asked for by '
        'annotation "cdi.k8s.io/test"'
    )
    begin = time.monotonic()
    while Path(f"/proc/{started.read_text('utf-8').strip()}").exists():  # until somebody reaps it
        assert time.monotonic() - begin < 15
        time.sleep(0.01)


def test_vendor_hook_with_all_the_time(live: Live) -> None:
    """A spec's hook may have a timeout of years."""
    hook = {
        "hookName": "createRuntime",
        "path": str(BUSYBOX),
        "args": ["busybox", "true"],
        "timeout": (1 << 63) - 1,
    }
    assert live.run(live.bundle("echo alone", {"hooks": [hook]})) == "alone\n"


@pytest.mark.parametrize("stage", ["createRuntime", "createContainer"])
def test_hook_that_is_killed(live: Live, stage: str) -> None:
    """When the hook's own time is over, the runtime doesn't wait for a spec's hook, and all is taken back."""
    started = live.lab.directory / "started"
    script = f": >{started}; exec {BUSYBOX} sleep 25"
    edits = {
        "mounts": [{"hostPath": str(live.data), "containerPath": "/made/dir", "options": ["bind"]}],
        "deviceNodes": [{"path": "/made/nodes/node", "hostPath": str(DEVICE)}],
        "hooks": [{"hookName": stage, "path": str(BUSYBOX), "args": ["busybox", "sh", "-c", script]}],
    }
    bundle = live.bundle("true", edits)
    bundle.config["hooks"]["createRuntime"][0]["timeout"] = 2
    bundle.write()
    identity = bundle.identity()
    begin = time.monotonic()
    assert live.call("run", bundle).returncode != 0
    assert (time.monotonic() - begin < 15, started.exists()) == (True, True)
    while (bundle.rootfs / "made").exists():  # crun doesn't wait until that is done
        assert time.monotonic() - begin < 15
        time.sleep(0.01)
    assert bundle.identity() == identity


def test_vendor_hook_has_the_umask_of_the_hook(live: Live) -> None:
    """What a spec's hook makes has the mode that it would have if the runtime itself had run it."""
    made = live.lab.directory / "made"
    hook = {
        "hookName": "createContainer",
        "path": str(BUSYBOX),
        "args": ["busybox", "sh", "-c", f": >{made}"],
    }
    live.run(live.bundle("true", {"hooks": [hook]}))
    native = live.lab.directory / "native"
    bundle = live.lab.bundle("true", name="native-bundle")
    del hook["hookName"]
    bundle.config["hooks"] = {"createContainer": [hook | {"args": ["busybox", "sh", "-c", f": >{native}"]}]}
    bundle.write()
    live.run(bundle)
    assert identity(made) == identity(native)
