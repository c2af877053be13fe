# SPDX-License-Identifier: Apache-2.0
"""lock: of several processes one builds the index, and none of them waits long. The processes are real."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from cdi_hook.catalog import index_writer
from cdi_hook.catalog.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LOOK_UP = """\
import json, sys, time
from cdi_hook.catalog.registry import Registry
registry = Registry([sys.argv[1]], sys.argv[2], strict=False)
print("ready", flush=True)
start = time.monotonic()
parts = registry.parts(["v.com/c=one"])
print(json.dumps([[part[1] for part in parts], registry._cache is not None, time.monotonic() - start]))
"""
HOLD = """\
import sys, time
from cdi_hook.catalog.lock import Turn
with Turn(sys.argv[1]):
    print("ready", flush=True)
    time.sleep(60)
"""
PARTS = [{}, {"env": ["A=1"]}]


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a Python program, wait until it says that it is ready, and end it with the test."""
    started: list[subprocess.Popen[str]] = []

    def run(program: str, *arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", program, *map(str, arguments)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        assert started[-1].stdout
        assert started[-1].stdout.readline() == "ready\n"
        return started[-1]

    yield run
    for one in started:
        with one:
            one.kill()


@pytest.fixture
def specs(tmp_path: Path) -> Path:
    """A spec dir that has settled."""
    path = tmp_path / "cdi"
    path.mkdir()
    devices = "devices: [{name: one, containerEdits: {env: [A=1]}}]\n"
    (path / "a.yaml").write_text(f'cdiVersion: "0.3.0"\nkind: v.com/c\n{devices}')
    (tmp_path / "state").mkdir()
    time.sleep(0.06)
    return path


def answer(process: subprocess.Popen[str]) -> list[Any]:
    """Return what LOOK_UP says: the edits, whether it read specs, and how many seconds it took."""
    return list(json.loads(process.communicate()[0]))


def test_who_comes_while_another_builds_waits_for_its_index(
    specs: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    """A process that finds no index, and another one building it, takes that one's and reads no spec."""
    registry = Registry([str(specs)], str(specs.parent / "state"), strict=False)
    assert registry.devices() == ["v.com/c=one"]
    lock = os.open(specs.parent / "state/lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)
    waiting = start(LOOK_UP, specs, specs.parent / "state")
    index_writer.write(registry.index, registry.cache)
    os.close(lock)
    parts, has_read, _ = answer(waiting)
    assert (parts, has_read) == (PARTS, False)


@pytest.mark.parametrize(("number", "wait"), [(signal.SIGSTOP, 0.5), (signal.SIGKILL, 0)])
def test_a_holder_that_does_not_go_on_stops_nobody(
    specs: Path, start: Callable[..., subprocess.Popen[str]], number: signal.Signals, wait: float
) -> None:
    """Nobody waits longer than half a second for a process that was stopped, or at all for one that was killed."""
    holder = start(HOLD, specs.parent / "state" / "index")
    holder.send_signal(number)
    if number == signal.SIGKILL:
        holder.wait()
    parts, has_read, seconds = answer(start(LOOK_UP, specs, specs.parent / "state"))
    assert (parts, has_read) == (PARTS, True)
    assert wait <= seconds < wait + 3  # that much only if the machine is very busy


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: path.symlink_to("nothing")])
def test_a_lock_that_cannot_be_had_is_done_without(
    specs: Path, start: Callable[..., subprocess.Popen[str]], make: Callable[[Path], None]
) -> None:
    """Where there can't be a lock, the specs are read at once."""
    make(specs.parent / "state" / "lock")
    parts, has_read, _ = answer(start(LOOK_UP, specs, specs.parent / "state"))
    assert (parts, has_read) == (PARTS, True)
    assert len(list(specs.parent.glob("state/*.index"))) == 1
