# SPDX-License-Identifier: Apache-2.0
"""Many creates at once, while the specs change under them."""

from __future__ import annotations

import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from .faults import Outcome
    from .world import World

CREATES = 50
KINDS = 5


def spec(kind: int, generation: int) -> str:
    """Return a spec of one device, whose edit says which one it is and when it was written."""
    edits = {"env": [f"ONE={kind}.{generation}"]}
    devices = [{"name": "one", "containerEdits": edits}]
    return json.dumps({"cdiVersion": "0.6.0", "kind": f"vendor.com/crowd{kind}", "devices": devices})


class Churn(threading.Thread):
    """Renames, rewrites in place, replaces and removes specs, one after another, until it is stopped."""

    def __init__(self, specs: Path) -> None:
        super().__init__()
        self._specs = specs
        self._stopped = threading.Event()
        self.changes = 0

    def run(self) -> None:
        """Change the specs."""
        while not self._stopped.wait(0.005):
            kind, how = self.changes % KINDS, self.changes // KINDS % 4
            self.changes += 1
            file, other = (self._specs / f"{name}{kind}.json" for name in ("crowd", "renamed"))
            if how == 0:
                file.rename(other)
            elif how == 1:
                other.unlink()
            elif how == 2:
                file.write_text(spec(kind, self.changes), "utf-8")
            else:
                new = self._specs / f"new{kind}"
                new.write_text(spec(kind, self.changes), "utf-8")
                new.rename(file)

    def stop(self) -> None:
        """Stop, with a spec for each kind."""
        self._stopped.set()
        self.join()
        for kind in range(KINDS):
            (self._specs / f"renamed{kind}.json").unlink(missing_ok=True)
            (self._specs / f"crowd{kind}.json").write_text(spec(kind, 0), "utf-8")


@pytest.fixture
def churn(world: World) -> Generator[Churn]:
    """Specs of a crowd of kinds that change all the time, and no index."""
    world.have_run(kept=False)
    for kind in range(KINDS):
        (world.directory / f"cdi/crowd{kind}.json").write_text(spec(kind, 0), "utf-8")
    churn = Churn(world.directory / "cdi")
    churn.start()
    yield churn
    if churn.is_alive():
        churn.stop()
    for path in (world.directory / "cdi").glob("*.json"):
        path.unlink()


def create(world: World, directory: Path, kind: int) -> tuple[Outcome, list[str], list[str]]:
    """Create a container that asks for a kind's device; return what came of it, its variables, its bundle's files."""
    directory.mkdir()
    config = directory / "config.json"
    config.write_text(json.dumps({"annotations": {"cdi.k8s.io/a": f"vendor.com/crowd{kind}=one"}}), "utf-8")
    outcome = world.attack.run(
        [str(world.bin / "cdi-runtime"), "create", "--bundle", str(directory), "id"], world.environ
    )
    env = json.loads(config.read_text("utf-8")).get("process", {}).get("env", [])
    names = sorted(path.name for path in directory.iterdir())
    shutil.rmtree(directory)
    return outcome, env, names


def test_creates_while_specs_change(world: World, churn: Churn, tmp_path: Path) -> None:
    """Each has its own device as some spec had it, or says why not, and afterwards an index holds that is right."""
    with ThreadPoolExecutor(CREATES) as threads:
        made = list(
            threads.map(lambda number: create(world, tmp_path / str(number), number % KINDS), range(CREATES))
        )
    churn.stop()
    assert churn.changes > KINDS
    for number, (outcome, env, names) in enumerate(made):
        assert names == ["config.json"]
        if outcome.status == 0:
            assert (len(env), env[0].split(".")[0], outcome.err) == (1, f"ONE={number % KINDS}", "")
        else:
            assert (outcome.status, env) == (1, [])
            assert "CDI device injection failed:" in outcome.err  # after a warning of half a file, maybe
            assert "Traceback" not in outcome.err
    for again in ("reads the specs", "reads the index"):
        for kind in range(KINDS):
            outcome, env, _ = create(world, tmp_path / f"{again}{kind}", kind)
            assert (outcome.status, env, outcome.err) == (0, [f"ONE={kind}.0"], "")
    assert [path.name for path in world.run.glob("cdi-hook/*.tmp")] == []
    assert len(list(world.run.glob("cdi-hook/*.index"))) == 1
