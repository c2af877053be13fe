# SPDX-License-Identifier: Apache-2.0
"""arm64: containers of runc and crun get their devices from the runtime and from the hook, with BPF's compiler on and off."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.runtime.lab import APPLETS, default_config

from .vm import boot_arm, make_arm

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from .vm import Virtual

OPEN = "(: </dev/fuse) && echo read; (: >/dev/fuse) && echo write; :"
SPEC = """\
cdiVersion: "0.6.0"
kind: example.com/thing
devices: [{name: fuse, containerEdits: {deviceNodes: [{path: /dev/fuse, permissions: r}]}}]
"""
ROOTFS = f"""\
mkdir -p /srv/rootfs/bin
cp /bin/busybox /srv/rootfs/bin
for applet in {" ".join(APPLETS)}; do ln -s busybox /srv/rootfs/bin/$applet; done
"""


@pytest.fixture(scope="module")
def arm(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory, packages: Callable[..., Path]
) -> Generator[Virtual]:
    """A machine for arm64 with a spec and a root dir for containers, which can't pivot out of an initramfs."""
    image = make_arm(pytestconfig.cache.mkdir("arm64"))
    machine = boot_arm(tmp_path_factory.mktemp("arm64"), image, packages("deb"))
    try:
        machine.write("/etc/cdi/thing.yaml", SPEC)
        machine.do("sh", "-ec", ROOTFS)
        yield machine
    finally:
        machine.close()


@pytest.mark.parametrize("jit", ["0", "1"])
@pytest.mark.parametrize("form", ["createRuntime", "runtime"])
@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_a_device(arm: Virtual, runtime: str, form: str, jit: str) -> None:
    """A container may do with its device what the spec says, and no more."""
    arm.do("sh", "-ec", f"echo {jit} >/proc/sys/net/core/bpf_jit_enable")
    config = default_config()
    config["root"] = {"path": "/srv/rootfs"}
    config["process"]["args"] = ["sh", "-c", OPEN]
    config["annotations"] = {"cdi.k8s.io/test": "example.com/thing=fuse"}
    if form == "createRuntime":
        config["hooks"] = {form: [{"path": "/usr/bin/cdi-hook", "args": ["cdi-hook", form]}]}
    arm.write("/srv/config.json", json.dumps(config))
    program = f"cdi-{runtime}" if form == "runtime" else runtime
    done = arm.call(program, "run", "--no-pivot", "--bundle", "/srv", "tested")
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "read\n",
        "sh: can't create /dev/fuse: Operation not permitted\n",
    )
