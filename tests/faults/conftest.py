# SPDX-License-Identifier: Apache-2.0
"""The world that is attacked, one for each process of pytest; at the end, a line for each form says what became of it."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.runtime.spy import compiled

from .world import World

if TYPE_CHECKING:
    from collections.abc import Generator


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Generator[World]:
    """The world, as root's; it is the same after each attack."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it has a mount namespace of its own")
    if not shutil.which("strace"):
        pytest.skip("strace isn't installed")
    programs = tmp_path_factory.mktemp("programs")
    here = Path(__file__).parent
    spy, injector = compiled(here.parent / "runtime/spy.c", programs), compiled(here / "inject.c", programs)
    world = World(tmp_path_factory.mktemp("world"), spy, injector)
    yield world
    world.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how often each form was attacked, and how these runs ended."""
    became: dict[str, Counter[str]] = {}
    for report in (*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")):
        for name, attack in report.user_properties if report.when == "call" else ():
            if name == "attack":
                form, _, counts = attack
                became.setdefault(form, Counter()).update(counts)
    for form, counts in sorted(became.items()):
        ends = ", ".join(f"{count} {end}" for end, count in sorted(counts.items()))
        terminalreporter.write_line(f"{form}: {counts.total()} attacks: {ends}")
