# SPDX-License-Identifier: Apache-2.0
"""features: a runtime that would ignore an edit is asked before, and refused by name."""

from __future__ import annotations

import json
import os
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from cdi_hook.base import process
from cdi_hook.edits import editor, features, kinds
from cdi_hook.errors import InjectionError

if TYPE_CHECKING:
    from pathlib import Path

NET = {"netDevices": [{"hostInterfaceName": "eth7", "name": "net0"}]}
SCHEMATA = {"intelRdt": {"schemata": ["L3:0=f"]}}
MONITORING = {"intelRdt": {"enableMonitoring": True}}


def says(**linux: Any) -> str:
    """Return an answer of a runtime that isn't crun."""
    return json.dumps({"linux": linux})


def crun(version: str) -> str:
    """Return what crun of this version says of Intel RDT."""
    return json.dumps(
        {"linux": {"intelRdt": {"enabled": True}}, "annotations": {"run.oci.crun.version": version}}
    )


def check(runtime: str, wanted: dict[str, Any]) -> str:
    """Return why a runtime is refused for edits, or ""."""
    changes = editor.apply({}, [(("v.com/c=1", "/v.yaml"), wanted)])
    try:
        features.check(runtime, changes, dict(os.environb))
    except InjectionError as error:
        return f"{error}; {error.source}"
    return ""


def stub(directory: Path, script: str) -> str:
    """Make a runtime that is a shell script."""
    path = directory / "stub"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    ("answer", "wanted", "is_known"),
    [
        (says(netDevices={"enabled": True}), NET, True),
        (says(netDevices={"enabled": False}), NET, False),
        (says(netDevices=True), NET, False),
        (says(), NET, False),
        ("[]", NET, False),
        ("", NET, False),
        (says(intelRdt={"enabled": True, "schemata": True}), SCHEMATA, True),
        (says(intelRdt={"enabled": True, "schemata": True}), MONITORING, False),
        (says(intelRdt={"enabled": True, "monitoring": True}), MONITORING, True),
        (crun("1.21"), SCHEMATA, False),
        (crun("1.22"), SCHEMATA, True),
        (crun("1.23.1"), MONITORING, False),
        (crun("1.24"), MONITORING, True),
        (crun("2.0-dev"), MONITORING, False),
        (says(), {"intelRdt": {"closID": "gold", "schemata": []}, "env": ["A=1"]}, True),
    ],
)
def test_an_answer(tmp_path: Path, answer: str, wanted: dict[str, Any], is_known: bool) -> None:
    """A feature counts if the runtime says that it has it; crun, which says nothing of two, has them by its version."""
    runtime = stub(tmp_path, f"[ $1 != features ] || echo '{answer}'")
    assert (check(runtime, wanted) == "") == is_known


@pytest.mark.parametrize("script", ["yes", "kill -9 $$", "exit 1", "sleep 30 & exit 0", "exec >&-; sleep 30"])
def test_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """A runtime that prints without end, hangs or fails knows nothing, and holds nothing up."""
    monkeypatch.setattr(process, "TIMEOUT_S", 0.3)
    runtime = stub(tmp_path, script)
    assert f'runtime "{runtime}" (of an unknown version) would ignore netDevices' in check(runtime, NET)


def test_nothing_is_asked_for_other_edits(tmp_path: Path) -> None:
    """A runtime isn't called where no edit needs a feature."""
    runtime = stub(tmp_path, f"touch {tmp_path}/called")
    assert check(runtime, {"env": ["A=1"], "intelRdt": {"closID": "gold"}}) == ""
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize("name", ["runc", "crun"])
@pytest.mark.parametrize("wanted", [NET, SCHEMATA, MONITORING], ids=["net", "schemata", "monitoring"])
def test_real_runtimes(name: str, wanted: dict[str, Any]) -> None:
    """runc and crun are refused, with their version, if they are older than what they would need to be."""
    runtime = shutil.which(name)
    if not runtime:
        pytest.skip(f"{name} isn't installed")
    said = features.version_of(runtime, dict(os.environb))
    found = re.search(r"\d+\.\d+", said)
    assert found
    kind = next(iter(wanted))
    field = next(iter(wanted[kind])) if kind == "intelRdt" else ""
    since = kinds.KINDS[kind].features[field][2 if name == "crun" else 1]
    is_old = [int(one) for one in found[0].split(".")] < [int(one) for one in since.split(".")]
    beginning = f'the OCI runtime "{runtime}" ({said}) would ignore {kind}'
    refusal = check(runtime, wanted)
    assert refusal.startswith(beginning) == is_old
    assert refusal.endswith("; ('v.com/c=1', '/v.yaml')") == is_old
