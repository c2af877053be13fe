# SPDX-License-Identifier: Apache-2.0
"""yaml_values: keys, tags and aliases as in go-yaml, where the recorded answers have none."""

from __future__ import annotations

import pytest

from cdi_hook.specs.yaml_nodes import SyntaxProblem
from cdi_hook.specs.yaml_values import decode


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("text: .3e340", {"text": ".3e340"}),
        ("text: !!binary gYGB", {"text": "\ufffd\ufffd\ufffd"}),
    ],
)
def test_decoded_as_the_reference_does(text: str, expected: object) -> None:
    """Text that go-yaml decodes has the same value."""
    assert decode(text.encode()) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("text: !!binary é", "line 1: !!binary value contains invalid base64 data"),
        ("text: x\ntext: y", "line 2: key 'text' already set in map"),
        ("object: &o {a: x}\nmap: {<<: *o, <<: *o}", "line 1: key 'a' already set in map"),
        ("object: &o {a: *o}", "line 1: anchor 'o' value contains itself"),
    ],
)
def test_refused_with_its_line(text: str, problem: str) -> None:
    """Text that go-yaml doesn't decode is a problem with its line."""
    with pytest.raises(SyntaxProblem) as caught:
        decode(text.encode())
    assert str(caught.value) == problem


def test_aliases_cannot_blow_up() -> None:
    """A document that consists mostly of aliases of aliases is refused before it takes all memory."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(SyntaxProblem, match="document contains excessive aliasing"):
        decode("\n".join(lines).encode())
