# SPDX-License-Identifier: Apache-2.0
"""What the targets made is removed when pytest ends: its workers end without atexit."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from .test_door import world

if TYPE_CHECKING:
    from collections.abc import Generator


@pytest.fixture(scope="session", autouse=True)
def _nothing_stays() -> Generator[None]:
    """Remove the door's world, if there is one."""
    yield
    if world.cache_info().currsize:
        world().remove(os.getpid())
