# SPDX-License-Identifier: Apache-2.0
"""Class nvidia on fake driver roots: what nvidia-ctk gives a container, ours gives it too."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from cdi_hook.generate import spec_data
from cdi_hook.generate.classes.nvidia import Nvidia
from cdi_hook.generate.root import Root

from .driverroot import make, of_spec

if TYPE_CHECKING:
    from collections.abc import Mapping

DATA = Path(__file__).parent / "data"
ROOTS = json.loads(gzip.decompress((DATA / "nvidia/roots.json.gz").read_bytes()))
H100 = yaml.safe_load((DATA / "nvidia-h100.yaml").read_text("utf-8"))

UUID = "GPU-916c8924-a6f3-c8ac-e12d-67409d0a9ec2"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make device nodes")


def generated(root: Path, hook: str = "") -> dict[str, Any] | None:
    """Return the spec of class nvidia for a root; None if there is no such device."""
    found = Nvidia().find(Root(str(root)), hook)
    return spec_data.spec(found[0]) if found else None


def given(edits: Mapping[str, Any], root: Path | str) -> dict[str, set[tuple[str, ...]]]:
    """Return what edits give a container, with paths on the host as if the root were /."""

    def here(path: str) -> str:
        return path.removeprefix(str(root))

    return {
        "mounts": {
            (here(mount["hostPath"]), mount["containerPath"], *sorted(mount["options"]))
            for mount in edits.get("mounts", ())
        },
        "nodes": {
            (here(node.get("hostPath", node["path"])), node["path"]) for node in edits.get("deviceNodes", ())
        },
        "links": {
            tuple(word.split("::"))
            for hook in edits.get("hooks", ())
            for word in hook["args"]
            if "::" in word
        },
        "env": {(variable,) for variable in edits.get("env", ())},
        "folders": {
            (word,)
            for hook in edits.get("hooks", ())
            for option, word in zip(hook["args"], hook["args"][1:])
            if option in ("--folder", "--ldcache")
        },
    }


def gpus(device: Mapping[str, Any], root: Path | str) -> set[tuple[str, ...]]:
    """Return the nodes of GPUs that a device gives."""
    nodes = given(device["containerEdits"], root)["nodes"]
    return {node for node in nodes if node[1].removeprefix("/dev/nvidia").isdecimal()}


@pytest.mark.parametrize("case", ROOTS, ids=lambda case: str(case["id"]))
def test_what_nvidia_ctk_gives(tmp_path: Path, case: dict[str, Any]) -> None:
    """Every mount, GPU node, link, variable and library dir that nvidia-ctk found in a random root is in ours.

    Where it found no driver, because no library cache leads to the driver's own dir, ours finds it.
    """
    spec = generated(make(tmp_path, case["files"], case["ldconfig"]))
    assert spec is not None
    ours = given(spec["containerEdits"], tmp_path)
    if "spec" not in case["expect"]:
        assert "failed to determine driver version" in case["expect"]["error"]
        assert any("/libcuda.so." in mount[0] for mount in ours["mounts"])
        return
    theirs = case["expect"]["spec"]
    expected = given(theirs["containerEdits"], "$ROOT")
    assert {what: expected[what] - ours[what] for what in expected} == {what: set() for what in expected}
    (everything,) = [device for device in spec["devices"] if device["name"] == "all"]
    assert gpus(everything, tmp_path) == gpus(theirs["devices"][0], "$ROOT")


def test_what_nvidia_ctk_gives_on_an_h100(tmp_path: Path) -> None:
    """From the files of a machine with an H100, ours is the spec that nvidia-ctk made there, but for the hook."""
    spec = generated(make(tmp_path, of_spec(H100)))
    assert spec is not None
    assert given(spec["containerEdits"], tmp_path) == given(H100["containerEdits"], "")
    assert {
        device["name"]: given(device["containerEdits"], tmp_path)["nodes"] for device in spec["devices"]
    } == {device["name"]: given(device["containerEdits"], "")["nodes"] for device in H100["devices"]}
    assert [device["name"] for device in spec["devices"]] == ["0", UUID, "all"]
    (hook,) = spec["containerEdits"]["hooks"]
    assert hook["path"].endswith("/bin/cdi-hook")
    assert hook["args"][-2:] == ["--driver-version", "580.159.04"]


def test_its_own_hook(tmp_path: Path) -> None:
    """With --hook nvidia-cdi-hook, the spec calls what nvidia-ctk's own spec calls, in the same order."""
    program = tmp_path / "bin/nvidia-cdi-hook"
    program.parent.mkdir()
    program.write_text("")
    program.chmod(0o755)
    spec = generated(make(tmp_path / "root", of_spec(H100)), str(program))
    assert spec is not None

    def calls(hooks: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
        """Return hooks by their names, the calls of one name as one."""
        called: dict[str, list[str]] = {}
        for hook in hooks:
            called.setdefault(hook["args"][1], []).extend(hook["args"][2:])
        return [(name, sorted(arguments)) for name, arguments in called.items()]

    assert calls(spec["containerEdits"]["hooks"]) == calls(H100["containerEdits"]["hooks"])
    assert {hook["path"] for hook in spec["containerEdits"]["hooks"]} == {str(program)}
