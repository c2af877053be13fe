# SPDX-License-Identifier: Apache-2.0
""".github/workflows: what they may do, and what they run. `make check` holds them to GitHub's schema."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml

from .tree import ROOT

PATHS = sorted((ROOT / ".github/workflows").iterdir())
WORKFLOWS = {path.name: yaml.load(path.read_text("utf-8"), yaml.BaseLoader) for path in PATHS}
STEPS = [
    (f"{name} {job}", step)
    for name, workflow in WORKFLOWS.items()
    for job, one in workflow["jobs"].items()
    for step in one["steps"]
]
# By workflow and job: what it may do beyond reading the tree.
MAY = {
    "release.yml release": {"contents": "read", "id-token": "write", "attestations": "write"},
    "release.yml publish": {"contents": "write", "id-token": "write", "pages": "write"},
}


@pytest.mark.parametrize("name", WORKFLOWS)
def test_rights(name: str) -> None:
    """A workflow may only read the tree, and a job that may do more is in the list."""
    workflow = WORKFLOWS[name]
    assert workflow["permissions"] == {"contents": "read"}
    given = {
        f"{name} {job}": one["permissions"] for job, one in workflow["jobs"].items() if "permissions" in one
    }
    assert given == {job: rights for job, rights in MAY.items() if job.startswith(f"{name} ")}


@pytest.mark.parametrize(("place", "step"), [one for one in STEPS if "uses" in one[1]])
def test_actions(place: str, step: dict[str, Any]) -> None:
    """An action is pinned by its commit, with the release in a comment, and gets no credentials to keep."""
    path = ROOT / ".github/workflows" / place.partition(" ")[0]
    assert re.search(
        rf"^ *- uses: {re.escape(step['uses'])} # v\d+\.\d+\.\d+$", path.read_text("utf-8"), re.MULTILINE
    )
    assert re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", step["uses"])
    if step["uses"].startswith("actions/checkout@"):
        assert step["with"]["persist-credentials"] == "false"


@pytest.mark.parametrize(("place", "step"), [one for one in STEPS if "run" in one[1]])
def test_commands(place: str, step: dict[str, Any]) -> None:
    """A command has no text of others put into it; such text comes by its environment."""
    assert "${{" not in step["run"], place


def test_secrets() -> None:
    """Only the step that imports the releaser's key gets it, of an environment that may ask a person first."""
    found = [(place, step["env"]) for place, step in STEPS if "secrets." in str(step)]
    assert found == [("release.yml release", {"RELEASE_KEY": "${{ secrets.RELEASE_KEY }}"})]
    assert WORKFLOWS["release.yml"]["jobs"]["release"]["environment"] == "release"


@pytest.mark.parametrize("name", WORKFLOWS)
def test_deadlines(name: str) -> None:
    """Each job has a deadline."""
    assert [job for job, one in WORKFLOWS[name]["jobs"].items() if "timeout-minutes" not in one] == []


def test_targets_are_there() -> None:
    """Each target of make that a workflow runs is in the Makefile."""
    run = {
        target
        for _, step in STEPS
        for target in re.findall(r"^(?:sudo )?make ([a-z]+)", step.get("run", ""), re.MULTILINE)
    }
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert phony is not None
    assert {"demo", "test", "rpm", "release"} <= run <= set(phony[1].split())
