# SPDX-License-Identifier: Apache-2.0
"""reader: where the reference's YAML isn't PyYAML's, beyond what the recorded answers ask."""

from __future__ import annotations

from typing import Any

import pytest

from cdi_hook import reader

SCHEMA = {
    "text": reader.STRING,
    "texts": ("list", reader.STRING),
    "map": ("map", reader.STRING),
    "number": reader.INT64,
    "gid": reader.UINT32,
    "flag": reader.BOOL,
    "object": {"a": reader.STRING, "b": reader.STRING},
    "objects": ("list", {"a": reader.STRING, "b": reader.STRING}),
}


def read(text: str | bytes) -> Any:
    """Return the value of a text without findings."""
    value, findings = reader.read(text if isinstance(text, bytes) else text.encode(), SCHEMA)
    assert [str(finding) for finding in findings] == []
    return value


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("texts: [A:, B=1]", {"texts": ["A:", "B=1"]}),
        ("map: {a:}", {"map": {"a:": ""}}),
        ("texts: [x:, y:, z:]", {"texts": ["x:", "y:", "z:"]}),
        (r'texts: ["it\'s=1", "\\/"]', {"texts": ["it's=1", r"\/"]}),
        ("text: a?b", {"text": "a?b"}),
        ('texts: ["a?b"]', {"texts": ["a?b"]}),
        ("text: .3e340", {"text": ".3e340"}),
        ("text: !!binary gYGB", {"text": "\ufffd\ufffd\ufffd"}),
        ("number: 1152921504606846976.0", {"number": 1152921504606847000}),
        ("OBJECT: {a: x}\nobject: {b: z}", {"object": {"a": "x", "b": "z"}}),
        ("OBJECT: {a: x}\nobject: ~", {}),
        ("OBJECTS: [{a: x}, {a: y}]\nobjects: [{b: z}]", {"objects": [{"a": "x", "b": "z"}]}),
        ("objects: [{a: x}, ~]", {"objects": [{"a": "x"}, {}]}),
        ("TEXT: x\ntext: ~", {"text": "x"}),
        ("text: x\n---\n" + " " * 600 + "\x01", {"text": "x"}),
        ("\ufefftext: x", {"text": "x"}),
        ("text: 'x\ufeffy'", {"text": "x\ufeffy"}),
        (r'text: "\ue000\ue001"', {"text": "\ue000\ue001"}),
        ("text: x".encode("utf-16"), {"text": "x"}),
    ],
)
def test_read_as_the_reference_does(text: str | bytes, expected: object) -> None:
    """What go-yaml takes is taken, with its value."""
    assert read(text) == expected


@pytest.mark.parametrize(
    ("text", "finding"),
    [
        ("texts: [A=x?y]", "line 1: a ? inside brackets or braces needs quotes"),
        ("text: !!binary é", "line 1: !!binary value contains invalid base64 data"),
        (r'text: "\/"', r"line 1: found unknown escape character (\/)"),
        ("%YAML 1.2\n---\ntext: x", "found incompatible YAML document (only %YAML 1.1 is)"),
        (
            "number: -9223372036854775809",
            ".number: expected an integer, found -9.223372036854776e+18 (line 1)",
        ),
        ("gid: -1", ".gid: expected an integer from 0 to 4294967295, found -1 (line 1)"),
        ("flag: 1", ".flag: expected true or false, found 1 (line 1)"),
        ("text: [a]", ".text: expected a string, found a list (line 1)"),
        ("texts: {}", ".texts: expected a list, found a mapping (line 1)"),
        ("object: x", '.object: expected a mapping, found the string "x" (line 1)'),
        ("gid: 1\n\ufefftext: x", r'unknown field "\ufefftext" (line 2)'),
        ("text: x\nnope: 1", 'unknown field "nope" (line 2)'),
        ("text: x\ntext: y", "line 2: key 'text' already set in map"),
        ("object: &o {a: x}\nmap: {<<: *o, <<: *o}", "line 1: key 'a' already set in map"),
        ("text: *a", "line 1: unknown anchor 'a' referenced"),
        ("object: &o {a: *o}", "line 1: anchor 'o' value contains itself"),
        ("text: 'x", "line 1: found unexpected end of stream"),
        ("text: \x07", "control characters are not allowed (at position 6)"),
        ("[" * 5000, "nested too deeply"),
    ],
)
def test_refused_with_its_place(text: str, finding: str) -> None:
    """What go-yaml or the model refuses is a finding with its line."""
    assert [str(one) for one in reader.read(text.encode(), SCHEMA)[1]] == [finding]


def test_aliases_cannot_blow_up() -> None:
    """A document that is mostly aliases of aliases is refused before it takes all memory."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    assert [str(one) for one in reader.read("\n".join(lines).encode(), SCHEMA)[1]] == [
        "document contains excessive aliasing"
    ]


@pytest.mark.parametrize(
    "text",
    ["y", "NO", "0o10", "1e3", "~", "", "a: b", "é", "\x7f", "line\nbreak", "\x85", "- x", "2020-01-01"],
)
def test_what_is_written_is_read_back(text: str) -> None:
    """Any string survives being written as YAML."""
    assert read(reader.write({"text": text, "texts": [text]})) == {"text": text, "texts": [text]}
