# SPDX-License-Identifier: Apache-2.0
"""Devices of containers in systemd's scopes: they stay when systemd makes the scope's device rules again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.runtime.lab import APPLETS, default_config

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from .machine import Machine

pytestmark = [pytest.mark.xdist_group("machine"), pytest.mark.parametrize("runtime", ["runc", "crun"])]

BUNDLE = "/srv/bundle"
NAME = "tested"
SCOPE = f"test-{NAME}.scope"
LOG = "/run/cdi-hook.log"
OPEN = "(: </dev/fuse) 2>/dev/null && echo read; (: >/dev/fuse) 2>/dev/null && echo write; :"
SPEC = """\
cdiVersion: "0.6.0"
kind: example.com/thing
devices:
- {name: fuse, containerEdits: {deviceNodes: [{path: /dev/fuse}]}}
- {name: half, containerEdits: {deviceNodes: [{path: /dev/fuse, permissions: w}]}}
"""
MAKE = f"""\
mkdir -p {BUNDLE}/rootfs/bin
cp /bin/busybox {BUNDLE}/rootfs/bin
for applet in {" ".join(APPLETS)}; do ln -sf busybox {BUNDLE}/rootfs/bin/$applet; done
"""
# What an engine sends, whose rules don't have the device.
RESOURCES = b'{"devices": [{"allow": false, "access": "rwm"}]}'
FORMS = ["createRuntime", "runtime"]


class Container:
    """A running container in a scope, which asks for a device; ``rules`` are the engine's own."""

    def __init__(
        self, machine: Machine, runtime: str, form: str, device: str = "fuse", rules: Sequence[Any] = ()
    ) -> None:
        self._machine = machine
        self._runtime = runtime
        config: dict[str, Any] = default_config()
        config["process"]["args"] = ["sleep", "1000"]
        config["annotations"] = {"cdi.k8s.io/test": f"example.com/thing={device}"}
        config["linux"]["cgroupsPath"] = f"system.slice:test:{NAME}"
        config["linux"]["resources"]["devices"] += rules
        if form == "createRuntime":
            config["hooks"] = {form: [{"path": "/usr/bin/cdi-hook", "args": ["cdi-hook", form]}]}
        machine.write(f"{BUNDLE}/config.json", json.dumps(config))
        program = f"cdi-{runtime}" if form == "runtime" else runtime
        machine.do(program, "--systemd-cgroup", "run", "--detach", "--bundle", BUNDLE, NAME)

    def opens(self) -> list[str]:
        """Return for what it may open the device."""
        return self._machine.do(self._runtime, "exec", NAME, "sh", "-c", OPEN).split()

    def delete(self) -> None:
        """Delete it."""
        self._machine.do(self._runtime, "delete", "--force", NAME)


@pytest.fixture
def run(installed: Machine, runtime: str) -> Generator[Callable[..., Container]]:
    """Run a container in one of FORMS."""
    installed.do("sh", "-ec", MAKE)
    installed.write("/etc/cdi/thing.yaml", SPEC)
    installed.write("/etc/cdi-hook/cdi-hook.conf", f"LOG={LOG}\n")
    installed.do("rm", "-f", LOG)
    made = []

    def make(form: str, *more: Any) -> Container:
        made.append(Container(installed, runtime, form, *more))
        return made[-1]

    yield make
    for container in made:
        container.delete()


def allowed(machine: Machine) -> set[str]:
    """Return the scope's DeviceAllow."""
    return set(machine.do("systemctl", "show", "--property=DeviceAllow", SCOPE).splitlines())


def warnings(machine: Machine) -> list[str]:
    """Return the warnings in the log."""
    lines = [json.loads(line) for line in machine.read(LOG).splitlines()]
    return [line["msg"] for line in lines if line["level"] == "WARNING"]


@pytest.mark.parametrize("form", FORMS)
def test_devices_stay(installed: Machine, run: Callable[..., Container], runtime: str, form: str) -> None:
    """A container keeps its devices when its scope is changed, when units are loaded again, and at an update."""
    container = run(form)
    assert container.opens() == ["read", "write"]
    installed.do("systemctl", "set-property", "--runtime", SCOPE, "CPUWeight=90")
    assert container.opens() == ["read", "write"]
    installed.do("systemctl", "daemon-reload")
    installed.do("systemd-run", "--quiet", "--wait", "--slice=system.slice", "true")
    assert container.opens() == ["read", "write"]
    installed.do(runtime, "update", "--resources=-", NAME, stdin=b"{}")
    assert container.opens() == ["read", "write"]
    installed.do(f"cdi-{runtime}", "update", "--resources=-", NAME, stdin=RESOURCES)
    assert container.opens() == ["read", "write"]
    assert warnings(installed) == []


def test_what_the_runtime_allowed_stays(installed: Machine, run: Callable[..., Container]) -> None:
    """The scope's DeviceAllow has what it would have with the runtime form, and nothing of it outlives the container."""
    kept = []
    for form in FORMS:
        container = run(form)
        kept.append(allowed(installed))
        container.delete()
        assert installed.do("find", "/run/systemd", "-name", f"{SCOPE}*") == ""
    assert kept[0] == kept[1]
    assert "DeviceAllow=/dev/char/10:229 rwm" in kept[0]


def test_access_that_the_runtime_gave(installed: Machine, run: Callable[..., Container]) -> None:
    """A device that the container had for reading, and gets for writing, it has for both."""
    rule = {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "r"}
    container = run("createRuntime", "half", [rule])
    installed.do("systemctl", "set-property", "--runtime", SCOPE, "CPUWeight=90")
    assert container.opens() == ["read", "write"]
    assert {one for one in allowed(installed) if "/10:229 " in one} == {"DeviceAllow=/dev/char/10:229 rw"}


def test_without_systemctl(installed: Machine, run: Callable[..., Container]) -> None:
    """A container whose scope systemd can't be told of starts with its devices, and a warning says what follows."""
    installed.write("/run/systemctl", "#!/bin/sh\necho 'no such thing' >&2\nexit 1\n", "755")
    installed.do("mount", "--bind", "/run/systemctl", "/usr/bin/systemctl")
    try:
        container = run("createRuntime")
    finally:
        installed.do("umount", "/usr/bin/systemctl")
    assert container.opens() == ["read", "write"]
    assert warnings(installed) == [
        f'systemd can\'t be told of the devices of "{SCOPE}": no such thing; the container may lose them when '
        "units change or are reloaded, but not if cdi-runtime is the engine's runtime"
    ]
