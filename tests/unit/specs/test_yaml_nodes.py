# SPDX-License-Identifier: Apache-2.0
"""yaml_nodes: differences between go-yaml's scanner and PyYAML's that the recorded answers don't have."""

from __future__ import annotations

import pytest

from cdi_hook.specs.yaml_nodes import SyntaxProblem
from cdi_hook.specs.yaml_values import decode


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("text: a?b", {"text": "a?b"}),
        ('texts: ["a?b"]', {"texts": ["a?b"]}),
        ("\ufefftext: x", {"text": "x"}),
        ("text: 'x\ufeffy'", {"text": "x\ufeffy"}),
        (r'text: "\ue000\ue001"', {"text": "\ue000\ue001"}),
        ("text: x".encode("utf-16"), {"text": "x"}),
        ("", None),
    ],
)
def test_composed_as_the_reference_does(text: str | bytes, expected: object) -> None:
    """Text that go-yaml's scanner accepts is accepted."""
    assert decode(text if isinstance(text, bytes) else text.encode()) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("texts: [A=x?y]", "line 1: a ? inside brackets or braces needs quotes"),
        (r'text: "\/"', r"line 1: found unknown escape character (\/)"),
        ("%YAML 1.2\n---\ntext: x", "found incompatible YAML document (only %YAML 1.1 is)"),
        ("text: *a", "line 1: unknown anchor 'a' referenced"),
        ("text: 'x", "line 1: found unexpected end of stream"),
        ("%TAG !a! x\n" * 102 + "---\na", "more than 100 lines begin with %"),
        ("gid: 1\n\ufefftext: x", "line 2: a line can't begin with U+FEFF"),
        ("texts:\n- [a:]", "line 2: found unexpected ':'"),
        (r'text: "it\'s"', "line 1: found unknown escape character"),
        ("text: \x07", "control characters are not allowed (at position 6)"),
    ],
)
def test_refused_with_its_line(text: str, problem: str) -> None:
    """Text that go-yaml's scanner or libyaml refuses is a problem with its line."""
    with pytest.raises(SyntaxProblem) as caught:
        decode(text.encode())
    assert str(caught.value) == problem
