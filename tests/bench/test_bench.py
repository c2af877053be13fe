# SPDX-License-Identifier: Apache-2.0
"""`make bench` itself: its tables fit together, and its cases do what they are named for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.bench import cases, docker, goals, measuring, report

if TYPE_CHECKING:
    from pathlib import Path

FACTS = {"date": "2026-11-25", "command": "make bench"}
ALL = {
    **{
        (environment.name, case.name, who if who in cases.BOTH else cases.FLOOR): goals.Median(2.0, 1.0)
        for environment in cases.ENVIRONMENTS
        for case in cases.CASES
        for who in case.who
    },
    **{
        (environment.name, case, who): goals.Median(2.0, 1.0)
        for environment in cases.ENVIRONMENTS
        for case, who, _ in docker.RUNS
    },
}


@pytest.mark.parametrize("goal", goals.GOALS, ids=lambda goal: str(goal.what))
@pytest.mark.parametrize("environment", cases.ENVIRONMENTS, ids=lambda environment: str(environment.name))
def test_goals_are_measured(environment: cases.Environment, goal: goals.Goal) -> None:
    """Each goal has its figure in each environment once all cases are measured."""
    expected = 1.0 if not goal.unit or goal.unit == " MB" else 0.0
    assert goal.reached(goals.Medians(environment.name, ALL)) == expected


def test_series_are_measured() -> None:
    """What is drawn is among the cases."""
    names = {case.name for case in cases.CASES}
    drawn = {*cases.ASKED, *(case for series in cases.SERIES for _, case in series.points)}
    assert drawn - names == set()


def test_report_says_what_is_missed() -> None:
    """A goal is reached or missed, and one without its figures isn't measured."""
    key = ("64 KB", "passed on", cases.OURS)
    text = report.tables(FACTS, {**ALL, key: goals.Median(2.3, 1.0)})
    assert "| passed on / a script that execs | 1.1 | 1.00 reached | 1.00 reached | 1.15 **MISSED** |" in text
    text = report.tables(FACTS, {one: median for one, median in ALL.items() if one != key})
    assert "| passed on / a script that execs | 1.1 | 1.00 reached | 1.00 reached | not measured |" in text


def test_readme_shows_results() -> None:
    """The README of the results has the date and the table of those that are beside it."""
    results = (cases.TREE / "tests/bench/results/bench.md").read_text("utf-8")
    readme = (cases.TREE / "tests/bench/results/README.md").read_text("utf-8")
    table = results.split("\n## In short, ms\n")[1].split("\n## ")[0].strip()
    assert table in readme
    assert results.split("\n- date: ")[1][:10] in readme


def test_the_readme_shows_results() -> None:
    """The README's rows of costs are the first columns of rows of the results."""
    results = (cases.TREE / "tests/bench/results/bench.md").read_text("utf-8")
    section = (cases.TREE / "README.md").read_text("utf-8").split("\n## What it costs\n")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("|")][2:]
    assert len(rows) == 5
    assert [row for row in rows if f"\n{row}" not in results] == []


@pytest.mark.parametrize("size", cases.SIZES.values())
def test_config_has_its_size(size: int) -> None:
    """A config.json is as long as its case says, up to a variable."""
    assert 0 <= size - len(cases.oci((), size)) < 200


def test_environments_have_their_size() -> None:
    """A person's environment has 4 KB, and the large one 64."""
    sizes = [
        sum(len(f"{name}={value}") + 1 for name, value in environment.variables.items())
        for environment in cases.ENVIRONMENTS
    ]
    assert [round(size / 1024) for size in sizes] == [0, 4, 64]


def test_cases_run(tmp_path: Path) -> None:
    """Each case does what it is named for, in each environment; without those that have specs of many files to read."""
    if os.geteuid() != 0:
        pytest.skip("the bench needs root")
    many = str(cases.MOST)
    chosen = [one for one in cases.CASES if one in cases.MAIN or not one.specs.startswith(many)]
    found = measuring.measure(chosen, 1, tmp_path)
    assert {case for _, case, _ in found} == {case.name for case in chosen}
    assert measuring.leftovers(tmp_path) == []
