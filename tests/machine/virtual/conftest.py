# SPDX-License-Identifier: Apache-2.0
"""Fixtures: the image of virtual machines, what boots it here, and a machine with the package for the tests of a module.

`make machine` runs these tests, and `make test` doesn't: `norecursedirs` has this dir.
"""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.engine import image as container_image
from tests.package import life

from .vm import BOARD, Virtual, boot, find_accelerator, make_image

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

ARCHIVE = f"{BOARD}/image.tar"


@pytest.fixture(scope="session", autouse=True)
def _by_root() -> None:
    """Only root can make an image."""
    if os.geteuid() != 0:
        pytest.fail("virtual machines need root: sudo make machine")


@pytest.fixture(scope="session")
def image(pytestconfig: pytest.Config) -> Path:
    """The image that every machine boots from."""
    return make_image(pytestconfig.cache.mkdir("virtual"))


@pytest.fixture(scope="session")
def accelerator(image: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What machines boot with here."""
    return find_accelerator(image, tmp_path_factory.mktemp("probe"))


@pytest.fixture(scope="module")
def installed(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    image: Path,
    accelerator: str,
    packages: Callable[..., Path],
) -> Generator[Virtual]:
    """A machine with the package, and with the kernel's parameters that the module has."""
    directory = tmp_path_factory.mktemp("virtual")
    board = directory / "board"
    board.mkdir()
    shutil.copy(packages("deb"), board)
    container_image.make(board / "image.tar", os.uname().machine)
    made = boot(Virtual, directory, image, accelerator, *getattr(request.module, "PARAMETERS", ()))
    try:
        life.Dpkg(made, packages).install()
        yield made
    finally:
        made.close()
