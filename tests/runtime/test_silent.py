# SPDX-License-Identifier: Apache-2.0
"""A spec dir whose file system doesn't answer: who needs it is told soon, and the others don't wait."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cdi_hook.base import patience

from .apart import DEVICE, World, keeper
from .lab import STANDARD_PATH

if TYPE_CHECKING:
    from collections.abc import Generator

__all__ = ["keeper"]  # a fixture

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount"),
    pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="there is no /dev/fuse"),
]

SAID = f"its file system doesn't answer within {patience.PATIENCE_S} s, so this dir isn't read"
MOST_S = patience.PATIENCE_S + 8  # on a busy machine


@contextlib.contextmanager
def mute(world: World, directory: Path, *, is_known: bool) -> Generator[None]:
    """Have a file system on a dir that answers nothing; the kernel waits for it ``is_known`` or for its first word."""
    with subprocess.Popen(
        ["nsenter", f"--mount=/proc/{world.keeper}/ns/mnt", "python3", Path(__file__).with_name("mute.py"),
         directory, "1" if is_known else ""],
        env={"PATH": STANDARD_PATH}, stdout=subprocess.PIPE,
    ) as process:  # fmt: skip
        assert process.stdout
        assert process.stdout.readline() == b"\n"
        try:
            yield
        finally:
            process.kill()  # which ends all waiting
            process.wait()
            world.run(f"umount -l {directory}")


@pytest.fixture(params=["before", "after"])
def world(request: pytest.FixtureRequest, tmp_path: Path, keeper: int) -> World:
    """A world with an empty spec dir before or after the one that has the device."""
    world = World(tmp_path / "world", keeper, "spec")
    empty = world.directory / "empty"
    empty.mkdir()
    dirs = [empty, world.spec.parent][:: 1 if request.param == "before" else -1]
    world.configure(":".join(map(str, dirs)))
    world.is_before = request.param == "before"
    return world


def timed(world: World) -> float:
    """Create a container with the device; return how long it took, in s."""
    start = time.monotonic()
    assert world.create() == "['ONE=1']"
    return time.monotonic() - start


@pytest.mark.parametrize("is_known", [True, False], ids=["mute", "not even mounted to the end"])
@pytest.mark.parametrize("is_indexed", [True, False], ids=["index", "no index"])
def test_a_device_of_a_good_dir(world: World, is_indexed: bool, is_known: bool) -> None:
    """It is there after a bound, and at once by an index where the silent dir can't say anything of it."""
    time.sleep(0.1)
    if is_indexed:
        timed(world)
    with mute(world, world.directory / "empty", is_known=is_known):
        took = timed(world)
        assert took < MOST_S
        if is_indexed and world.is_before:
            assert took < patience.PATIENCE_S
        else:
            assert took > patience.PATIENCE_S


def test_a_device_of_a_silent_dir(world: World) -> None:
    """The container is refused soon, and the dir is named, for list and index too; all is well once it is gone."""
    timed(world)
    with mute(world, world.spec.parent, is_known=True):
        for arguments in ("runtime", "index", "list", "show " + DEVICE, "doctor"):
            start = time.monotonic()
            said = world.complain(arguments)
            assert f"{world.spec.parent}: {SAID}" in said, arguments
            assert time.monotonic() - start < MOST_S
    timed(world)
