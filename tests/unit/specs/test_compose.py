# SPDX-License-Identifier: Apache-2.0
"""compose: differences between go-yaml's scanner and PyYAML's that the recorded answers don't have."""

from __future__ import annotations

import time

import pytest

from cdi_hook.specs import compose
from cdi_hook.specs.compose import SyntaxProblem
from cdi_hook.specs.decode import decode


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("texts: [A:, B=1]", {"texts": ["A:", "B=1"]}),
        ("map: {a:}", {"map": {"a:": None}}),
        ("texts: [x:, y:, z:]", {"texts": ["x:", "y:", "z:"]}),
        (r'texts: ["it\'s=1", "\\/"]', {"texts": ["it's=1", r"\/"]}),
        ("text: a?b", {"text": "a?b"}),
        ('texts: ["a?b"]', {"texts": ["a?b"]}),
        ("text: x\n---\n" + " " * 600 + "\x01", {"text": "x"}),
        ("\ufefftext: x", {"text": "x"}),
        ("text: 'x\ufeffy'", {"text": "x\ufeffy"}),
        ("gid: 1\n\ufefftext: x", {"gid": 1, "\ufefftext": "x"}),
        (
            "- [a:]\n- " + "".join(map(chr, range(0xE000, 0xF900))),
            [["a:"], "".join(map(chr, range(0xE000, 0xF900)))],
        ),
        (r'["\\\'", "\'\"\'", \'a]', ["\\'", "'\"'", r"\'a"]),
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
        ("text: \x07", "control characters are not allowed (at position 6)"),
    ],
)
def test_refused_with_its_line(text: str, problem: str) -> None:
    """Text that go-yaml's scanner refuses is a problem with its line."""
    with pytest.raises(SyntaxProblem) as caught:
        decode(text.encode())
    assert str(caught.value) == problem


def test_many_colons_that_only_libyaml_refuses_cost_no_more_than_as_many_others() -> None:
    """They are mended together, also after those that look like a token's, and only where they are text."""
    text = "- [a:]\n- [a&b:]\n" * 5000 + "- [\"a\":[1], &c d:, *c:, 'x:]']"
    start = time.process_time()
    *many, last = decode(text.encode())
    assert time.process_time() - start < 5  # 0.1 s, where mending them one by one takes minutes
    assert many == [["a:"], ["a&b:"]] * 5000
    assert last == [{"a": [1]}, "d:", {"d:": None}, "x:]"]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes each reading of a text begins with."""
    lengths: list[int] = []
    chunks = compose._Chunks

    def begin(data: bytes) -> object:
        lengths.append(len(data))
        return chunks(data)

    monkeypatch.setattr(compose, "_Chunks", begin)
    return lengths


def test_many_escaped_apostrophes_are_mended_together(read: list[int]) -> None:
    """A text in double quotes is read twice, however many escaped apostrophes it has."""
    assert decode(rb'text: "' + rb"\'\\" * 20_000 + b'"') == {"text": "'\\" * 20_000}
    assert len(read) == 2


@pytest.mark.parametrize("text", ["- [a :]\n", '- "\\\'"\n'])
def test_what_is_mended_one_by_one_is_bounded(read: list[int], text: str) -> None:
    """A text with too many places that only libyaml refuses is refused, at a cost that doesn't grow with it."""
    assert decode(text.encode() * 500)
    for count in (16_000,):
        read.clear()
        with pytest.raises(
            SyntaxProblem, match=r"^line [0-9]+: found un(expected ':'|known escape character)$"
        ):
            decode(text.encode() * count)
        assert sum(read) < 10 << 20
