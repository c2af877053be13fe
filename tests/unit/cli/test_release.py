# SPDX-License-Identifier: Apache-2.0
"""cdi-hook release: who has an exclusive device, and that device freed."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from cdi_hook.cli import main
from cdi_hook.leases import life
from tests.unit.leases.test_store import TREE, read, written

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cli.conftest import World

GONE = [1 << 22, 1, os.readlink("/proc/self/ns/pid")]  # larger than any pid
GPU0 = ["vendor.com/gpu=gpu0", ["c 195:7"], []]


def lease(**fields: Any) -> dict[str, Any]:
    """Return the lease of a container whose runtime was removed."""
    return {**TREE, "creators": [GONE], "state": ["/none", "state", "c1"], "devices": [GPU0], **fields}


@pytest.fixture
def leases(cdi_hook: World, state: Path) -> Path:
    """Where leases are."""
    cdi_hook.configure(EXCLUSIVE="vendor.com/*")
    cdi_hook.spec("vendor.json")
    return state.parent / f"{state.name}-leases"


def release(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run the command in this process; return its status, stdout and stderr."""
    status = main(["release", *arguments])
    out, err = capfd.readouterr()
    return status, re.sub(r"since [^)]*", "since X", out), err


def test_one_that_nobody_can_tell_of(leases: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It is released by each name of the device, and told why it was held; other leases stay."""
    other = lease(token="u", id="c2", devices=[["vendor.com/gpu=gpu1", ["c 195:8"], []]])
    for device in (GPU0, ["other.com/gpu=0", ["c 195:7"], []]):
        written(leases, lease(devices=[device]), other)
        said = "c1 (docker, since X): can't run /none: No such file or directory\n"
        assert release(capfd, "vendor.com/gpu=gpu0") == (0, said, "")
        assert [one["id"] for one in read(leases)] == ["c2"]
    assert release(capfd, "vendor.com/gpu=gpu0") == (
        0,
        "no container has vendor.com/gpu=gpu0 for itself\n",
        "",
    )


def test_one_that_is_alive(leases: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing is freed while anything of it is seen, but by --force, which asks nobody."""
    with subprocess.Popen(["sleep", "100"]) as process:
        written(leases, lease(creators=[life.creator(process.pid)]), lease(token="u", id="c2"))
        status, out, err = release(capfd, "vendor.com/gpu=gpu0")
        assert (status, out.splitlines()[0]) == (1, "c1 (docker, since X): creating")
        assert err == (
            'cdi-hook: "vendor.com/gpu=gpu0" is in use; stop the container, or see --help about --force\n'
        )
        assert [one["id"] for one in read(leases)] == ["c1", "c2"]
        said = "".join(f"{name} (docker, since X): released by --force\n" for name in ("c1", "c2"))
        assert release(capfd, "--force", "vendor.com/gpu=gpu0") == (0, said, "")
        assert read(leases) == []
        process.kill()


def test_a_device_that_no_spec_has_any_more(leases: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Its lease can be released; a name that nobody knows is an error."""
    written(leases, lease(devices=[["gone.com/gpu=0", ["c 9:9"], []]]))
    assert release(capfd, "gone.com/gpu=0")[0] == 0
    assert read(leases) == []
    assert release(capfd, "gone.com/gpu=0") == (1, "", "cdi-hook: unresolvable CDI devices gone.com/gpu=0\n")
