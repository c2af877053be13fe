# SPDX-License-Identifier: Apache-2.0
"""shape: what the reference's JSON decoder makes of a value, where the recorded answers have none."""

from __future__ import annotations

import pytest

from cdi_hook.edits.kinds import BOOL, INT64, STRING, UINT32
from cdi_hook.specs.shape import read

SCHEMA = {
    "text": STRING,
    "texts": ("list", STRING),
    "map": ("map", STRING),
    "number": INT64,
    "gid": UINT32,
    "flag": BOOL,
    "object": {"a": STRING, "b": STRING},
    "objects": ("list", {"a": STRING, "b": STRING}),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("map: {a: }", {"map": {"a": ""}}),
        ("number: 1152921504606846976.0", {"number": 1152921504606847000}),
        ("OBJECT: {a: x}\nobject: {b: z}", {"object": {"a": "x", "b": "z"}}),
        ("OBJECT: {a: x}\nobject: ~", {}),
        ("OBJECTS: [{a: x}, {a: y}]\nobjects: [{b: z}]", {"objects": [{"a": "x", "b": "z"}]}),
        ("objects: [{a: x}, ~]", {"objects": [{"a": "x"}, {}]}),
        ("texts: [~, 1.50, true]", {"texts": ["", "1.5", "true"]}),
        ("TEXT: x\ntext: ~", {"text": "x"}),
        ("", None),
    ],
)
def test_shaped_as_the_reference_does(text: str, expected: object) -> None:
    """Data that fits the schema is accepted without findings."""
    value, findings = read(text.encode(), SCHEMA)
    assert [str(one) for one in findings] == []
    assert value == expected


def test_advice_for_many_findings() -> None:
    """Each field that isn't known is a finding; what to write instead is looked for 100 times."""
    _, findings = read("".join(f"txt{number}: x\n" for number in range(101)).encode(), {"text": STRING})
    assert ["did you mean text?" in one.fix for one in findings] == [True] * 100 + [False]


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        (
            "number: -9223372036854775809",
            ".number: expected an integer, found -9.223372036854776e+18 (line 1)",
        ),
        ("gid: -1", ".gid: expected an integer from 0 to 4294967295, found -1 (line 1)"),
        ("gid: -0.0", ".gid: expected an integer from 0 to 4294967295, found -0.0 (line 1)"),
        ("flag: 1", ".flag: expected true or false, found 1 (line 1)"),
        ("text: [a]", ".text: expected a string, found a list (line 1)"),
        ("texts: {}", ".texts: expected a list, found a mapping (line 1)"),
        ("map: [a]", ".map: expected a mapping, found a list (line 1)"),
        ("object: x", '.object: expected a mapping, found the string "x" (line 1)'),
        (
            "text: x\nnope: 1",
            'unknown field "nope" (line 2); write one of text, texts, map, number, gid, flag, object, objects',
        ),
        ("text: 'x", "line 1: found unexpected end of stream"),
        ("[" * 5000, "nested too deeply"),
    ],
)
def test_refused_with_its_place(text: str, finding: str) -> None:
    """Data that doesn't fit the schema or the syntax is a finding with its path and line."""
    found = [str(one) for one in read(text.encode(), SCHEMA)[1]]
    its_own = "line 1: exceeded maximum nesting depth"  # a newer libyaml has a bound, too
    assert ["nested too deeply" if one == its_own else one for one in found] == [finding]
