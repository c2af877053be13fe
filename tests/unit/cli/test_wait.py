# SPDX-License-Identifier: Apache-2.0
"""cdi-hook wait: it returns when a device could be had, and takes nothing."""

from __future__ import annotations

import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from cdi_hook.cli import main
from cdi_hook.leases import life
from tests.unit.cli.test_release import GPU0, lease
from tests.unit.leases.test_store import read, written

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cli.conftest import World


@pytest.fixture
def leases(cdi_hook: World, state: Path) -> Path:
    """Where leases are; one GPU is exclusive, and the other isn't."""
    cdi_hook.configure(EXCLUSIVE="vendor.com/gpu=gpu0", DENY="vendor.com/gpu=gpu9")
    cdi_hook.spec("vendor.json")
    return state.parent / f"{state.name}-leases"


def wait(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run the command in this process; return its status, stdout and stderr."""
    return main(["wait", *arguments]), *capfd.readouterr()


@pytest.mark.usefixtures("leases")
def test_what_is_free(capfd: pytest.CaptureFixture[str]) -> None:
    """It returns at once, without a word, and so it does for what isn't exclusive."""
    for name in ("vendor.com/gpu=gpu0", "vendor.com/gpu=any", "vendor.com/gpu=gpu1"):
        assert wait(capfd, name, "--timeout", "0") == (0, "", "")


def test_nothing_is_taken(leases: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Whoever waits has nothing, and others don't wait for them."""
    assert wait(capfd, "vendor.com/gpu=any") == (0, "", "")
    assert read(leases) == []


def test_one_that_is_freed(leases: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It returns soon after the container's end, or says who has the device when time is up."""
    with subprocess.Popen(["sleep", "100"]) as process:
        written(leases, lease(creators=[life.creator(process.pid)], state=[], devices=[GPU0]))
        for name in ("vendor.com/gpu=gpu0", "vendor.com/gpu=any"):
            start = time.monotonic()
            status, out, err = wait(capfd, name, "--timeout", "0.2")
            assert (status, out) == (1, "")
            assert "in use" in err
            assert "c1 (docker, since" in err
            assert 0.2 <= time.monotonic() - start < 5
        timer = threading.Timer(0.5, process.kill)
        timer.start()
        assert wait(capfd, "vendor.com/gpu=any", "--timeout", "20") == (0, "", "")
        timer.join()


@pytest.mark.usefixtures("leases")
@pytest.mark.parametrize(
    ("name", "words"),
    [
        (
            "vendor.com/gpu=any:2",
            "vendor.com/gpu=any:2 asks for more than vendor.com/gpu has for this container: 1 device",
        ),
        ("other.com/gpu=any", "no spec defines a other.com/gpu"),
        ("vendor.com/gpu=gpu8", "unresolvable CDI devices vendor.com/gpu=gpu8"),
        ("gpu0", 'invalid CDI device name "gpu0"'),
    ],
)
def test_what_no_waiting_helps(capfd: pytest.CaptureFixture[str], name: str, words: str) -> None:
    """That is an error at once."""
    start = time.monotonic()
    status, out, err = wait(capfd, name)
    assert (status, out) == (1, "")
    assert words in err
    assert time.monotonic() - start < 5
