# SPDX-License-Identifier: Apache-2.0
"""json_text, held against json: what is read, what is refused, and that no spelling is lost. Also LOG's and --log's lines."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from cdi_hook.base import json_text, log
from cdi_hook.inject import audit

from .strategies import JSON, TEXTS, TOKEN, json_texts


def tokens(text: str) -> list[str]:
    """Split a JSON text into what carries its meaning: strings by their value, numbers as they are written."""
    return [json.dumps(json.loads(one)) if one[0] == '"' else one for one in TOKEN.findall(text)]


def strict(text: str) -> Any:
    """Decode as json does, but refuse a key that appears twice, and what isn't JSON."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) != len(pairs):
            raise ValueError
        return dict(pairs)

    def refuse(_: str) -> None:
        raise ValueError

    return json.loads(text, object_pairs_hook=once, parse_constant=refuse, parse_int=str, parse_float=str)


@given(JSON)
def test_any_tree_survives(tree: object) -> None:
    """What json writes is read as json reads it, and what is written is the same to json."""
    text = json.dumps(tree)
    assert json.loads(json_text.dumps(json_text.loads(text))) == tree


@given(JSON)
def test_what_is_our_own_is_read_sooner_as_the_same(tree: object) -> None:
    """A text that we wrote is, by the quicker way, the tree that it was."""
    assert json_text.loads_own(json_text.dumps(tree).encode()) == tree


@given(json_texts())
@example("[-0, -0.0, 1.0e5, 1E+2, 123456789012345678901234567890]")
def test_no_spelling_is_lost(text: str) -> None:
    """What is written has the order, the numbers to the letter, and the strings of what was read; again changes nothing."""
    written = json_text.dumps(json_text.loads(text))
    assert tokens(written) == tokens(text)
    assert json_text.dumps(json_text.loads(written)) == written


@st.composite
def broken(draw: st.DrawFn) -> str:
    """Draw a JSON text in which something was put, doubled or left out."""
    text = draw(json_texts())
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(len(text), start + 3)))
    there = draw(
        st.sampled_from(
            ["", text[start:end] * 2, '"', "{", "]", ",", ":", "NaN", "0", "-", "\\", "\0", "\ufeff"]
        )
    )
    return text[:start] + there + text[end:]


@given(broken() | st.text('{}[]",:01-+.eE\\u /ntf\x1f\ufeff', max_size=20))
@example('{"a":1,"a":2}')
def test_what_is_refused_is_what_json_refuses(text: str) -> None:
    """A text is read exactly when json reads it and no key appears twice in an object; an error is a ValueError."""
    try:
        expected = strict(text)
    except ValueError:
        expected = ValueError
    try:
        found = tokens(json_text.dumps(json_text.loads(text)))
    except ValueError:
        assert expected is ValueError
    else:
        assert expected is not ValueError
        assert found == tokens(text)


FIELDS = st.dictionaries(st.sampled_from(["container", "pod", "errors", "devices"]), JSON | TEXTS, max_size=4)


@given(TEXTS, FIELDS)
def test_a_line_of_the_log_is_json(message: str, fields: dict[str, Any]) -> None:
    """A line in LOG, whichever of the two ways it is written, is one line of ASCII with exactly these fields."""
    for make in (audit.line, audit._formatted):
        line = make("info", message, fields)
        assert line.endswith("\n")
        assert line.isascii()
        assert len(line.splitlines()) == 1
        made = json.loads(line)
        assert made.pop("time")
        assert made == {"level": "INFO", "msg": message, **fields}


@given(TEXTS, TEXTS)
def test_a_line_for_an_engine_is_one_line(message: str, error: str) -> None:
    """A line for --log is one line in either format, and in JSON it has exactly the message."""
    line = log.line("error", message, "json", error)
    assert {key: value for key, value in json.loads(line).items() if key != "time"} == (
        ({"error": error} if error else {}) | {"level": "error", "msg": message}
    )
    for text in (line, log.line("error", message, "text", error)):
        assert text.endswith("\n")
        assert text[:-1].isprintable()
        assert log._encode(text)
