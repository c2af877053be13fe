# SPDX-License-Identifier: Apache-2.0
"""cdi-hook show: what a device gives, which file defines it, what the host lacks, and how to ask for it."""

from __future__ import annotations

import json
import re
from textwrap import indent
from typing import TYPE_CHECKING, Any

import pytest

from cdi_hook.engines import ENGINES
from tests.unit.cli.conftest import PLACE, PROGRAM, Shape

if TYPE_CHECKING:
    from tests.unit.cli.conftest import World

SHAPE = Shape((*PLACE, "edits", "refused", "requests"), "vendor.com/gpu=gpu1", "vendor.com/gpu=gpu9")
RUNTIME = PROGRAM.with_name("cdi-runtime")
SPEC: dict[str, Any] = {
    "cdiVersion": "0.5.0",
    "kind": "vendor.com/gpu",
    "containerEdits": {
        "env": ["DRIVER=1"],
        "hooks": [{"hookName": "createContainer", "path": "/none/hook"}],
    },
    "devices": [
        {
            "name": "0",
            "containerEdits": {
                "deviceNodes": [{"path": "/dev/null"}, {"path": "/none/node"}],
                "mounts": [
                    {"hostPath": "/", "containerPath": "/host", "options": ["bind"]},
                    {"hostPath": "/none/source", "containerPath": "/source", "options": ["bind"]},
                ],
            },
        },
        {"name": "1", "containerEdits": {"env": ["GPU=1"]}},
    ],
}
NAME = "vendor.com/gpu=0"


@pytest.fixture(autouse=True)
def docker(cdi_hook: World) -> None:
    """A docker that knows --annotation, whatever this machine has."""
    directory = cdi_hook.root / "bin"
    directory.mkdir()
    for name in ("docker", "dockerd"):
        (directory / name).write_text("#!/bin/sh\necho 29.0.0\n")
        (directory / name).chmod(0o755)
    cdi_hook.environ["PATH"] = f"{directory}:{cdi_hook.environ['PATH']}"


def requests(names: str) -> str:
    """Return the lines that say what to write for a container."""
    words = {"program": RUNTIME, "key": "cdi.k8s.io/device", "names": names}
    asks = [one for engine in ENGINES.values() for one in engine.help.requests.items()]
    return "".join(f"{name}:\n{indent(text.format(**words), '  ')}\n" for name, text in dict(asks).items())


def test_what_a_device_gives(cdi_hook: World) -> None:
    """Each edit is a line, those of the whole spec first, and below it what this host lacks for it."""
    path = cdi_hook.spec("vendor.json", SPEC)
    shared = "  # all devices of this spec"
    expected = f"""{NAME}
  defined by {path}
  env DRIVER=1{shared}
  hooks {{"hookName":"createContainer","path":"/none/hook"}}{shared}
    missing: the host has no "/none/hook"
  deviceNodes {{"path":"/dev/null"}}
  deviceNodes {{"path":"/none/node"}}
    missing: the host has no "/none/node"
  mounts {{"hostPath":"/","containerPath":"/host","options":["bind"]}}
  mounts {{"hostPath":"/none/source","containerPath":"/source","options":["bind"]}}
    missing: the host has no "/none/source"

{requests(NAME)}"""
    assert cdi_hook("show", NAME) == (0, expected, "")
    podman = f"podman --runtime {RUNTIME} run --annotation cdi.k8s.io/device={NAME} IMAGE"
    assert f"\npodman:\n  {podman}\n" in expected


def test_which_file_defines_it(cdi_hook: World) -> None:
    """The file of the dir with the highest priority counts, and the others are named."""
    low = cdi_hook.spec("vendor.json", SPEC)
    high = cdi_hook.root / "high"
    high.mkdir()
    devices = [{"name": "0", "containerEdits": {"env": ["HIGH=1"]}}]
    (high / "other.json").write_text(json.dumps({**SPEC, "containerEdits": {}, "devices": devices}))
    status, out, err = cdi_hook("show", NAME, "--spec-dir", cdi_hook.specs, "--spec-dir", high)
    assert (status, err) == (0, "")
    assert out.splitlines()[:4] == [
        NAME,
        f"  defined by {high}/other.json",
        f"  also defined by {low}, which doesn't count: its dir has lower priority",
        "  env HIGH=1",
    ]


def test_several_devices(cdi_hook: World) -> None:
    """Several devices are shown one after another, and one annotation asks for them all."""
    cdi_hook.spec("vendor.json", SPEC)
    status, out, err = cdi_hook("show", NAME, "vendor.com/gpu=1", NAME)
    assert (status, err) == (0, "")
    first, second, rest = out.split("\n\n")
    assert [first.splitlines()[0], second.splitlines()[0]] == [NAME, "vendor.com/gpu=1"]
    assert rest == requests(f"{NAME},vendor.com/gpu=1")


def test_json(cdi_hook: World) -> None:
    """--json has the same, each edit with its kind, whether the spec shares it, and what the host lacks."""
    path = cdi_hook.spec("vendor.json", SPEC)
    (one,) = cdi_hook.json("show", "vendor.com/gpu=1", "--json")
    assert set(one.pop("requests")) == set(re.findall(r"^(\w+):$", requests(""), re.MULTILINE))
    hook = SPEC["containerEdits"]["hooks"][0]
    assert one == {
        "name": "vendor.com/gpu=1",
        "path": path,
        "priority": 0,
        "shadowed": [],
        "holder": None,
        "edits": [
            {"kind": "env", "edit": "DRIVER=1", "is_shared": True, "missing": None},
            {"kind": "hooks", "edit": hook, "is_shared": True, "missing": 'the host has no "/none/hook"'},
            {"kind": "env", "edit": "GPU=1", "is_shared": False, "missing": None},
        ],
        "refused": None,
    }


def test_a_device_that_the_policy_refuses(cdi_hook: World) -> None:
    """Where ALLOW or DENY refuses the device, the line of the configuration is shown."""
    cdi_hook.spec("vendor.json", SPEC)
    cdi_hook.configure(DENY="*=0")
    line = (
        f"  device {NAME} (asked for by --device) is not allowed on this host: DENY=*=0 ({cdi_hook.config}:2)"
    )
    assert f"{line} refuses it\n" in cdi_hook("show", NAME)[1]


def test_a_name_that_no_spec_defines(cdi_hook: World) -> None:
    """An unknown device is an error with near names and what is wrong with specs; the known ones are shown."""
    cdi_hook.spec("vendor.json", SPEC)
    bad = cdi_hook.spec("bad.json", {**SPEC, "cdiVersion": "9"})
    status, out, err = cdi_hook("show", "vendor.com/gpu=2", NAME)
    assert (status, out.splitlines()[0]) == (1, NAME)
    first, second = err.splitlines()
    near = "did you mean vendor.com/gpu=1 or vendor.com/gpu=0?"
    assert first == f'cdi-hook: there is no device "vendor.com/gpu=2"; {near}'
    assert second.startswith(f"cdi-hook: warning: {bad}: .cdiVersion: ")


def test_configuration(cdi_hook: World) -> None:
    """A name without a kind has the default kind, and the annotation's key has the configured prefix."""
    cdi_hook.spec("vendor.json", SPEC)
    cdi_hook.configure(DEFAULT_KIND="vendor.com/gpu", ANNOTATION_PREFIXES="devices.example/")
    status, out, err = cdi_hook("show", "1")
    assert (status, err) == (0, "")
    assert "--annotation devices.example/device=vendor.com/gpu=1 IMAGE\n" in out
    cdi_hook.configure(ANNOTATION_PREFIXES="")
    assert cdi_hook("show", "vendor.com/gpu=1")[1].endswith("  env GPU=1\n\n")
