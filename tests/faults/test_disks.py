# SPDX-License-Identifier: Apache-2.0
"""A disk that is full or read-only, at each place that the program uses: the old or the new, the device or words."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .forms import FORMS, GONE
from .world import DEVICE

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from .world import World

# A small tmpfs that has what was there, in the world's mount namespace.
_MOUNT = """
cp -a "$1" "$2"
mount -t tmpfs -o size=64k,mode=755 none "$1"
cp -a "$2/." "$1"
rm -r "$2"
"""
HOW = {
    "full": _MOUNT + 'dd if=/dev/zero of="$1/filler" bs=4k 2>/dev/null || :',
    "read-only": _MOUNT + 'mount -o remount,ro "$1"',
}
WORDS = {"full": "No space left on device", "read-only": "Read-only file system"}

each_way = pytest.mark.parametrize("how", HOW)


@pytest.fixture
def spoil(world: World) -> Generator[Callable[[str, str], Path]]:
    """Have a place of the world be on such a disk; return the place as the world sees it."""
    spoiled: list[str] = []
    world.called()

    def run(place: str, how: str) -> Path:
        outcome = world.attack.run(
            ["sh", "-ec", HOW[how], "sh", place, f"{world.directory}/copy"], world.environ
        )
        assert (outcome.status, outcome.err) == (0, "")
        spoiled.append(place)
        return world.run.parent / place.lstrip("/")

    yield run
    for place in spoiled:
        world.attack.run(["umount", "-l", place], world.environ)


@each_way
def test_the_bundle_s(world: World, spoil: Callable[[str, str], Path], how: str) -> None:
    """Without room for a new config.json, the container is refused by these words, and the old one stays."""
    form = FORMS["create"]
    form.prepare(world)
    old = world.config.read_bytes()
    place = spoil(str(world.config.parent), how)
    outcome = world.attack.run(form.command(world), world.environ)
    config = world.config
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err == f'CDI device injection failed: can\'t replace "{config}": {WORDS[how]}\n'
    assert world.called() == []
    assert (place / "config.json").read_bytes() == old
    assert set(os.listdir(place)) - {"filler", "rootfs"} == {"config.json"}


@each_way
def test_the_state_dir_s(world: World, spoil: Callable[[str, str], Path], how: str) -> None:
    """Without room for an index the specs are read, each time."""
    form = FORMS["create, no index"]
    form.prepare(world)
    (world.run / "cdi-hook").mkdir(mode=0o700)
    place = spoil("/run/cdi-hook", how)
    for _ in range(2):
        world.ask(DEVICE)
        outcome = world.attack.run(form.command(world), world.environ)
        assert (outcome.status, outcome.out, outcome.err) == (0, "", "")
        assert form.is_done(world, outcome)
    assert [
        path for path in place.rglob("*") if path.is_file() and path.stat().st_size and path.name != "filler"
    ] == []


@each_way
def test_the_state_dir_s_for_the_index(world: World, spoil: Callable[[str, str], Path], how: str) -> None:
    """When the index can't be written, cdi-hook index names its path."""
    (world.run / "cdi-hook").mkdir(mode=0o755, exist_ok=True)
    spoil("/run/cdi-hook", how)
    outcome = world.attack.run([str(world.bin / "cdi-hook"), "index"], world.environ)
    assert (outcome.status, outcome.out) == (1, "")
    assert re.fullmatch(rf"cdi-hook: /run/cdi-hook/[^ ]*\.index[^ ]*: {WORDS[how]}\n", outcome.err)


@each_way
def test_the_spec_dir_s(world: World, spoil: Callable[[str, str], Path], how: str) -> None:
    """Specs are only read."""
    form = FORMS["create, no index"]
    form.prepare(world)
    spoil(f"{world.directory}/cdi", how)
    outcome = world.attack.run(form.command(world), world.environ)
    assert (outcome.status, outcome.out, outcome.err) == (0, "", "")
    assert form.is_done(world, outcome)


@each_way
def test_the_logs(world: World, spoil: Callable[[str, str], Path], how: str) -> None:
    """A container starts although LOG can't be written, and what is refused is told on stderr."""
    for log in (world.log, world.own_log):
        log.unlink(missing_ok=True)
    form = FORMS["create"]
    form.prepare(world)
    spoil(str(world.log.parent), how)
    outcome = world.attack.run(form.command(world), world.environ)
    assert (outcome.status, outcome.out, outcome.err) == (0, "", "")
    assert form.is_done(world, outcome)
    world.ask(GONE)
    outcome = world.attack.run(form.command(world), world.environ)
    assert (outcome.status, outcome.out) == (1, "")
    assert f"unresolvable CDI devices {GONE}" in outcome.err


@each_way
@pytest.mark.parametrize("device", [DEVICE, GONE])
def test_log_s(world: World, spoil: Callable[[str, str], Path], how: str, device: str) -> None:
    """When LOG lacks a line, --log, which is elsewhere, says why, after the error if there is one."""
    world.own_log.unlink(missing_ok=True)
    form = FORMS["create"]
    form.prepare(world)
    world.ask(device)
    spoil(str(world.log.parent), how)
    log = world.config.parent / "log"
    command = [str(world.bin / "cdi-runtime"), "--log", str(log), "--log-format=json"]
    outcome = world.attack.run([*command, "create", "--bundle", str(log.parent), "id"], world.environ)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    log.unlink()
    assert outcome.status == (device == GONE)
    assert [line["level"] for line in lines][-1:] == ["warning"]
    words = f"LOG lacks a line of this container: {world.own_log}: "
    assert lines[-1]["msg"].startswith(words)
    assert [line["level"] for line in lines].count("error") == (device == GONE)


@each_way
@pytest.mark.parametrize("engine", ["docker", "containerd", "crio", "podman"])
def test_an_engine_s_configuration_s(
    world: World, spoil: Callable[[str, str], Path], how: str, engine: str
) -> None:
    """Without room the engine's configuration stays as it is, alone, and the words name the file."""
    form = FORMS[f"configure {engine}"]
    form.prepare(world)
    old = Path(form.whole(world)[0]).read_bytes()
    place = spoil(f"{world.directory}/engine", how)
    outcome = world.attack.run(form.command(world), world.environ)
    assert (outcome.status, outcome.out) == (1, "")
    backup = form.whole(world)[1]
    assert outcome.err == f'cdi-hook: can\'t write "{backup}": {WORDS[how]}\n'
    assert {path.name: path.read_bytes() for path in place.iterdir() if path.name != "filler"} == {
        f"{engine}.conf": old
    }
