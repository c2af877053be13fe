# SPDX-License-Identifier: Apache-2.0
"""config/rule.py: what a pattern matches."""

from __future__ import annotations

import pytest

from cdi_hook.config.rule import matches


@pytest.mark.parametrize(
    ("text", "pattern", "expected"),
    [
        ("abc", "abc", True), ("abc", "*", True), ("abc", "a*c", True), ("abc", "a?c", True), ("", "*", True),
        ("abc", "ab", False), ("ab", "abc", False), ("abcbc", "a*bc", True), ("abd", "a*c", False),
        ("abc", "**c", True), ("abc", "?", False), ("", "?", False), ("a.c", "a?c", True), ("abc", "[a]bc", False),
        ("abc", "abcX", False),
    ],
)  # fmt: skip
def test_patterns(text: str, pattern: str, expected: bool) -> None:
    """A star stands for any text, a question mark for one character, and everything else for itself."""
    assert matches(text, pattern) is expected
