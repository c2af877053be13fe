# SPDX-License-Identifier: Apache-2.0
"""policy: what a host allows."""

from __future__ import annotations

import pytest

from cdi_hook import policy, request
from cdi_hook.config import Config
from cdi_hook.errors import CDIError


def settings(**values: str) -> Config:
    """Make a configuration with these values."""
    made = Config("/etc/cdi-hook/cdi-hook.conf")
    made.values.update(values)
    made.origins.update(dict.fromkeys(values, f"{made.path}:1"))
    return made


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"ALLOW": "v.com/* w.com/c=?"}, ""),
        ({"DENY": "v.com/c=2 *"}, "DENY=* (/etc/cdi-hook/cdi-hook.conf:1) refuses it"),
        (
            {"ALLOW": "w.com/*"},
            "ALLOW=w.com/* (/etc/cdi-hook/cdi-hook.conf:1) has no pattern that matches it; "
            "whoever runs this host can add v.com/c=1 there",
        ),
        (
            {"ALLOW": ""},
            "ALLOW= (/etc/cdi-hook/cdi-hook.conf:1) has no pattern that matches it; "
            "whoever runs this host can add v.com/c=1 there",
        ),
        ({"ALLOW": "v.com/*", "DENY": "*=1"}, "DENY=*=1 (/etc/cdi-hook/cdi-hook.conf:1) refuses it"),
    ],
)
def test_policy(values: dict[str, str], reason: str) -> None:
    """A device that DENY matches, or ALLOW doesn't, is refused with its name and the line of the configuration."""
    made = request.collect({"annotations": {"cdi.k8s.io/a": "v.com/c=1"}}, settings(**values))
    try:
        policy.check(made, settings(**values))
        message = ""
    except CDIError as error:
        message = str(error)
    asked = 'device v.com/c=1 (asked for by annotation "cdi.k8s.io/a") is not allowed on this host: '
    assert message == (asked + reason if reason else "")


@pytest.mark.parametrize(
    ("text", "pattern", "expected"),
    [
        ("abc", "abc", True), ("abc", "*", True), ("abc", "a*c", True), ("abc", "a?c", True), ("", "*", True),
        ("abc", "ab", False), ("ab", "abc", False), ("abcbc", "a*bc", True), ("abd", "a*c", False),
        ("abc", "**c", True), ("abc", "?", False), ("", "?", False), ("a.c", "a?c", True), ("abc", "[a]bc", False),
    ],
)  # fmt: skip
def test_patterns(text: str, pattern: str, expected: bool) -> None:
    """A star stands for any text, a question mark for one character, and everything else for itself."""
    assert policy.matches(text, pattern) is expected
