# SPDX-License-Identifier: Apache-2.0
"""The reference implementation's recorded answers, each run against the library."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from .answers import CASES, Step, check

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_recorded_answer(case: Step, tmp_path: Path) -> None:
    """The library answers as the reference did: outcome, OCI spec, known devices, refused files."""
    check(case, tmp_path)


def test_cases_are_there() -> None:
    """The recorded answers are found: all 1,150 steps, unless CDI_HOOK_CASES names others."""
    assert "CDI_HOOK_CASES" in os.environ or len(CASES) == 1152
