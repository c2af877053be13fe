# SPDX-License-Identifier: Apache-2.0
"""config/rule.py: what a pattern matches."""

from __future__ import annotations

import pytest

from cdi_hook.config.rule import Rule, matches


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


@pytest.mark.parametrize(
    ("word", "sign", "form"),
    [
        ("v.com/gpu=[01]", "[", "v.com/gpu"),
        ("v.com/gpu=0,v.com/gpu=1", ",", "v.com/gpu"),
        ("v.com/gpu={0,1}*", ",", "v.com/gpu"),
        ("v.com/{gpu,kvm}=*", ",", "vendor.com/class"),
        ("{*", "{", "vendor.com/class"),
        ("namespace=ml-[ab]", "[", "namespace"),
    ],
)
def test_signs_of_other_patterns(word: str, sign: str, form: str) -> None:
    """A sign that no name has, and that would match nothing, is an error with the form that works."""
    with pytest.raises(ValueError, match="isn't known") as raised:
        Rule("ALLOW", f"* {word}", "")
    assert str(raised.value) == (
        f'"{word}": "{sign}" isn\'t known in a pattern, only * and ? are; write several patterns '
        f"with spaces between them, such as {form}=0 {form}=1"
    )
    assert Rule("ALLOW", f"* {form}=0 {form}=1", "").patterns[0] == "*"
