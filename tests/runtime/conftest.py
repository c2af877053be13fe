# SPDX-License-Identifier: Apache-2.0
"""Fixtures: a runtime in a cgroup layout, a lab around it, and the spy in place of a runtime."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .lab import BUSYBOX, DEVICE, RUNTIMES, Lab, Runtime, why_not
from .spy import Spy, compiled

if TYPE_CHECKING:
    from collections.abc import Generator


@pytest.fixture(scope="session")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A busybox that bundles can link to."""
    if not BUSYBOX.exists() or not DEVICE.is_char_device():
        pytest.skip(f"{BUSYBOX} (busybox-static) or {DEVICE} isn't there")
    return Path(shutil.copy(BUSYBOX, tmp_path_factory.mktemp("busybox")))


@pytest.fixture(scope="session")
def verdicts() -> dict[str, str]:
    """Why a runtime can't be tested here, by its name in RUNTIMES, or "": determined once."""
    return {}


@pytest.fixture(params=RUNTIMES)
def runtime(
    request: pytest.FixtureRequest,
    verdicts: dict[str, str],
    busybox: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Runtime:
    """A real runtime in a cgroup layout, for each that this machine can run."""
    name = request.param
    if name not in verdicts:
        lab = Lab(tmp_path_factory.mktemp("probe"), RUNTIMES[name], busybox)
        verdicts[name] = why_not(lab)
        lab.close()
    if verdicts[name]:
        pytest.skip(verdicts[name])
    return RUNTIMES[name]


@pytest.fixture
def lab(runtime: Runtime, busybox: Path, tmp_path: Path) -> Generator[Lab]:
    """A sealed corner of the machine around a runtime; it is removed at the end with everything that runs in it."""
    lab = Lab(tmp_path, runtime, busybox)
    yield lab
    lab.close()


@pytest.fixture(scope="session")
def spy_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled spy."""
    return compiled(Path(__file__).with_name("spy.c"), tmp_path_factory.mktemp("spy"))


@pytest.fixture
def spy(spy_program: Path, tmp_path: Path) -> Spy:
    """The spy in a directory of its own."""
    return Spy(spy_program, tmp_path)
