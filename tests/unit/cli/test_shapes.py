# SPDX-License-Identifier: Apache-2.0
"""Every command: what an item of its --json has, and what ends with 0, 1 and 2. Its help says the same."""

from __future__ import annotations

import importlib
import json
import re
import shutil
from typing import TYPE_CHECKING

import pytest

from cdi_hook.cli import main
from cdi_hook.cli.commands import COMMANDS, STAGES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cli.conftest import Shape, World

PATCH = {"op", "path", "value"}  # of a JSON Patch (RFC 6902)


def said(
    capfd: pytest.CaptureFixture[str], name: str, *arguments: str
) -> tuple[int, list[dict[str, object]]]:
    """Run a command with --json in this process; return its exit status and its items."""
    try:
        status = main([name, *arguments, "--json"])
    except SystemExit as stopped:
        status = int(stopped.code or 0)
    found = json.loads(capfd.readouterr().out)
    assert [*found] == ["version", "items", "warnings", "errors"]
    assert bool(found["errors"]) <= (status != 0)
    return status, found["items"]


def asked(capfd: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what --help says."""
    with pytest.raises(SystemExit):
        main([*arguments, "--help"])
    return capfd.readouterr().out


@pytest.mark.parametrize(
    "name", [name for name in COMMANDS if name not in {*STAGES, "completion", "release", "wait"}]
)
def test_shape(cdi_hook: World, state: Path, capfd: pytest.CaptureFixture[str], name: str) -> None:
    """A command ends as its row says, its items have what the row says, and its help names all that."""
    shape: Shape = importlib.import_module(f"tests.unit.cli.test_{name}").SHAPE
    cdi_hook.spec("vendor.json")
    environ = ["DRIVER=1", "GPU=1"]
    cdi_hook.oci({"annotations": {"cdi.k8s.io/x": "vendor.com/gpu=gpu1"}, "process": {"env": environ}})
    damaged = cdi_hook.root / "damaged"
    damaged.write_text("{")
    places = {"SPECS": str(cdi_hook.specs), "BUNDLE": str(cdi_hook.bundle), "FILE": str(damaged)}
    works, fails = (re.sub("[A-Z]+", lambda one: places[one[0]], words).split() for words in shape[1:])
    status, items = said(capfd, name, *works)
    assert (status, items != []) == (0, True)
    assert {member for one in items for member in one} == {*shape.items}
    if name == "index":
        shutil.rmtree(state)
        state.write_text("not a dir")
    assert said(capfd, name, *fails)[0] == 1
    assert said(capfd, name, "--nonsense") == (2, [])
    assert {*re.findall(r"\b[012]\b", asked(capfd, name).partition("exit status:")[2])} >= {*"012"}
    assert {*re.findall(r"\w+", asked(capfd, name, *works).partition(" --json ")[2])} >= {
        *shape.items
    } - PATCH
