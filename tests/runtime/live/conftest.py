# SPDX-License-Identifier: Apache-2.0
"""The lab for live injection."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .hooked import Live, identity

if TYPE_CHECKING:
    from collections.abc import Generator

    from tests.runtime.lab import Lab


@pytest.fixture
def live(lab: Lab) -> Generator[Live]:
    """A lab for live injection."""
    yield Live(lab)
    assert identity(Path("/dev/null")) == (0o666, 0, 0)
