# SPDX-License-Identifier: Apache-2.0
"""Fixtures: the root dir that machines boot from, a machine for one test, and one with the package for several.

All tests are one xdist_group, so that the root and the package are made once.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.engine.box import STANDARD_PATH
from tests.package import life
from tests.package.conftest import checkouts, key, other_key, packages

from .machine import Machine, make_root

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

__all__ = ["checkouts", "key", "other_key", "packages"]  # fixtures that the package's own tests have


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of this dir into one group."""
    for item in items:
        if "tests/machine/" in item.nodeid:
            item.add_marker(pytest.mark.xdist_group("machine"))


@pytest.fixture(scope="session")
def root(pytestconfig: pytest.Config) -> Path:
    """The root dir of Debian's packages that every machine starts from."""
    if os.geteuid() != 0:
        pytest.skip("a machine of its own needs root")
    for program in ("mmdebstrap", "systemd-nspawn"):
        if not shutil.which(program, path=STANDARD_PATH):
            pytest.skip(f"{program} isn't installed")
    return make_root(pytestconfig.cache.mkdir("machine"))


@pytest.fixture
def machine(tmp_path: Path, root: Path) -> Generator[Machine]:
    """A machine on which nothing of ours is installed."""
    made = Machine(tmp_path, root)
    yield made
    made.close()


@pytest.fixture(scope="module")
def installed(
    tmp_path_factory: pytest.TempPathFactory, root: Path, packages: Callable[..., Path]
) -> Generator[Machine]:
    """A machine with the package, for the tests of one module."""
    made = Machine(tmp_path_factory.mktemp("machine"), root)
    life.Dpkg(made, packages).install()
    yield made
    made.close()
