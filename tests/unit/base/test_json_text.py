# SPDX-License-Identifier: Apache-2.0
"""json_text: nothing is lost between text and tree."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cdi_hook.base import json_text

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    "number",
    [
        "1.0",
        "1e3",
        "1E+3",
        "0.1000",
        "123456789012345678901234567890",
        "1.7976931348623157e309",
        "-0.0",
        "-0",
        "9" * 5000,
    ],
)
def test_numbers_keep_their_spelling(number: str) -> None:
    """A number is written as it was read, even if a float would change it."""
    text = f'{{"a":[{number},1],"b":"{number}"}}'
    assert json_text.dumps(json_text.loads(text)) == text


def test_the_order_of_keys_and_lone_surrogates_survive() -> None:
    """Keys stay in order, and half a surrogate pair stays as it is."""
    text = '{"z":1,"a":{"y":"\\ud800","b":null}}'
    assert json_text.dumps(json_text.loads(text)) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a value is missing at line 1 column 1"),
        ('{"a" 1}', "Expecting ':' delimiter: line 1 column 6 (char 5)"),
        ('{"a": 1} x', "there is more after the end, at line 1 column 9"),
        ("\n\n{}\n\n x\ny", "there is more after the end, at line 3 column 3"),
        ('{"a":\n 1,\n  "b": }\n', "a value is missing at line 3 column 8"),
        ("\n,", "a value is missing at line 2 column 1"),
        ("1\n,", "there is more after the end, at line 1 column 2"),
        ("{}\xa0", "there is more after the end, at line 1 column 3"),  # that is no space in JSON
        ('{"a": "\n"}', "Invalid control character at: line 1 column 8 (char 7)"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": 1, "b": 2, "a": 3}', 'the key "a" appears twice in one object'),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_bad_json_is_refused(text: str, message: str) -> None:
    """Each kind of broken text has its reason and place."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 # the message is compared
        json_text.loads(text)
    assert str(caught.value) == message


def test_other_ways_to_read() -> None:
    """What dumps() writes is read back without hooks, and by json where there is no accelerator."""
    text = '{"a":[1,1.5,true,null,"\\u00e9"],"b":{}}'
    assert json_text.loads_own(text.encode()) == json_text.loads(text)
    assert json_text._loads_by_json(text) == json_text.loads(text)


@pytest.mark.parametrize(
    ("text", "message"), [("", "a value is missing"), ("{} {}", "there is more after the end")]
)
def test_our_own_text_is_whole(text: str, message: str) -> None:
    """Half an index is none."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 # the message is compared
        json_text.loads_own(text.encode())
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[NaN]", "NaN is not JSON"),
        ('{"b": 1, "a": 2, "a": 3}', 'the key "a" appears twice in one object'),
    ],
)
def test_json_itself_is_as_strict(text: str, message: str) -> None:
    """Where there is no accelerator, json refuses what the scanner refuses, and keeps the spelling of numbers."""
    with pytest.raises(ValueError) as caught:  # noqa: PT011 # the message is compared
        json_text._loads_by_json(text)
    assert str(caught.value) == message
    assert json_text.dumps(json_text._loads_by_json("[1.50,-0]")) == "[1.50,-0]"


@pytest.mark.parametrize("tree", [{"a": object}, [1.50, json_text.loads("1.50"), object]])
def test_what_is_no_json_is_not_written(tree: object) -> None:
    """A tree with something else in it is refused by name."""
    with pytest.raises(TypeError) as caught:
        json_text.dumps(tree)
    assert str(caught.value) == "<class 'object'> is not JSON"


@pytest.mark.parametrize("text", ["{", '{"a" 1}', '{"a": 1', '"abc', '"\\x"', "[1 2]"])
def test_bad_json_is_refused_before_json_is_there(text: str) -> None:
    """In a process that hasn't imported json, as in a create, broken text is refused in the same words."""
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from cdi_hook.base import json_text\n"
        "try: json_text.loads(sys.argv[1])\n"
        "except ValueError as error: print(error)"
    )
    command = [sys.executable, "-IS", "-c", program, text]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    with pytest.raises(ValueError) as caught:  # noqa: PT011 # the message is compared
        json_text.loads(text)
    assert done.stdout == f"{caught.value}\n"


def test_does_without_the_accelerator() -> None:
    """Without CPython's _json the result is the same."""
    program = (
        "import sys; sys.modules['_json'] = None\n"
        "from cdi_hook.base import json_text\n"
        'print(json_text.dumps(json_text.loads(\'{"a": [1e3, "é", {}], "b": 2}\')))'
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == '{"a":[1e3,"\\u00e9",{}],"b":2}\n'
