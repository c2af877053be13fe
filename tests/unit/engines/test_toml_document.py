# SPDX-License-Identifier: Apache-2.0
"""toml_document: keys and tables are added to TOML and removed, and every other byte is as it was."""

from __future__ import annotations

import pytest

from cdi_hook.engines.edit.document import UnusableConfiguration
from cdi_hook.engines.edit.toml_document import TOMLText

TEXT = '''\
# top
title = """
[not.a.table]
x = 1 \\" """   # a string
list = [ # with a comment ]
  "a#b", '[c]',
  ["d"],
]
dotted.key = {in = "braces", more = [1, 2]} # after

[a."b.c"] # header
  first = 'C:\\'
  # over x
  x = "1"   # beside x

  # over the array
[[list-of.tables]]
x = 1
[[list-of.tables]]
[list-of.tables.inner]
x = 2
[z]
when = 2026-11-24T00:00:00Z
'''


def test_a_value_is_replaced_in_its_place() -> None:
    """An existing key keeps its line, its indentation and its comment."""
    document = TOMLText(TEXT)
    document.set(("a", "b.c", "x"), ["2"])
    assert document.text == TEXT.replace('x = "1"   #', 'x = ["2"]   #')


def test_a_value_of_many_lines_is_replaced_whole() -> None:
    """A string or a list over several lines is one value."""
    document = TOMLText(TEXT)
    document.set(("list",), [1])
    document.set(("title",), 'say "hé"\\')
    before, _, rest = TEXT.partition('title = """')
    after = rest[rest.index("dotted") :]
    assert document.text == f'{before}title = "say \\"hé\\"\\\\"   # a string\nlist = [1]\n{after}'


def test_a_key_may_have_any_escape() -> None:
    """A key's escapes are TOML's, of which JSON doesn't know all."""
    document = TOMLText('[x."\\U0001F600"]\n')
    document.set(("x", "\U0001f600", "y"), 1)
    assert document.text == '[x."\\U0001F600"]\ny = 1\n'


def test_a_new_key_ends_its_table() -> None:
    """A new key follows the table's last key, with the same indentation."""
    document = TOMLText(TEXT)
    document.set(("a", "b.c", "new key"), True)
    assert document.text == TEXT.replace("# beside x\n", '# beside x\n  "new key" = true\n')


def test_a_new_key_at_the_end_without_a_line_break() -> None:
    """A last line without a line break gets one."""
    document = TOMLText("[a]\nx = 1")
    document.set(("a", "y"), 2)
    assert document.text == "[a]\nx = 1\ny = 2\n"


def test_a_new_key_of_an_empty_table() -> None:
    """In a table without keys, the key follows the header."""
    document = TOMLText("[a]\r\n\r\n[b]\r\n")
    document.set(("a", "y"), 2)
    assert document.text == "[a]\r\ny = 2\r\n\r\n[b]\r\n"


def test_a_new_table_ends_the_text() -> None:
    """A table is added at the end, with the tables in it, and each has a mark."""
    document = TOMLText(TEXT)
    document.set(("a", "b.c", "new"), {"s": "t", "o": {"n": 1.5, "b": False}, "l": []})
    assert document.text == TEXT + (
        '\n[a."b.c".new]  # by cdi-hook configure\ns = "t"\nl = []\n'
        '[a."b.c".new.o]  # by cdi-hook configure\nn = 1.5\nb = false\n'
    )
    assert document.is_marked(("a", "b.c", "new"))
    assert not document.is_marked(("a", "b.c"))


def test_a_removed_table_leaves_the_others() -> None:
    """A removal leaves everything before, between and behind as it was, comments too, and removes the tables made for it."""
    document = TOMLText(TEXT)
    document.set(("made", "one"), {"o": {"n": 1}})
    document.set(("made", "key"), 1)
    text = document.text + "# the user's\n[user]\nk = 1\n"
    document = TOMLText(text)
    document.remove(("made", "one"))
    document.remove(("made", "key"))
    assert document.text == TEXT + "# the user's\n[user]\nk = 1\n"


def test_a_removed_key_leaves_a_table_that_was_there() -> None:
    """The user's own table stays, also if it becomes empty."""
    document = TOMLText("[a]\nx = 1\n[b]\n")
    document.remove(("a", "x"))
    assert document.text == "[a]\n[b]\n"


def test_removing_what_isnt_there() -> None:
    """A missing key can't be removed."""
    with pytest.raises(KeyError):
        TOMLText(TEXT).remove(("z", "y"))


CANT = "can't edit a.b.c, because it is written in braces or with dots in a key: write [a.b] as a table"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = {}\n", CANT),
        ("[a]\nb = {x = 1}\n", CANT),
        ("a.b.x = 1\n", CANT),
        ("[a]\nb.x = 1\n", CANT),
        ("a = 1\n", "a is not a table"),
    ],
)
def test_what_tomls_grammar_forbids_is_refused(text: str, message: str) -> None:
    """A table in braces, or with dots in a key, can't be added to from outside and is refused."""
    with pytest.raises(UnusableConfiguration) as caught:
        TOMLText(text).set(("a", "b", "c"), 1)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("a = 1\nb = \n", "at line 2, column 5"),
        ("[a]\nx = 1\n[a]\n  x = 2\n", "at line 3, column 3"),
        ("[a]\nb = 1\n\n  [a.b]\nc = 1\n", "at line 4, column 7"),
        ("[a\n", "at line 1, column 3"),
        ('a = 1\na = 1\nk = """\n', "at line 2, column 6"),
        ('k = """\n', "at end of document"),
    ],
)
def test_what_isnt_toml_is_refused(text: str, where: str) -> None:
    """A text that doesn't parse is refused, with line and column."""
    with pytest.raises(UnusableConfiguration) as caught:
        TOMLText(text)
    assert str(caught.value).startswith("not valid TOML: ")
    assert str(caught.value).endswith(f" ({where})")


def test_tables_in_any_order() -> None:
    """Another table between those of one name makes no duplicate of them; a real one is refused."""
    text = "[a]\nx = 1\n[a.b]\n[a.c]\n[a.b.d.e]\n[x]\n[a.b.d.f]\ny = 2"
    assert TOMLText(text).tree == {"a": {"x": 1, "b": {"d": {"e": {}, "f": {"y": 2}}}, "c": {}}, "x": {}}
    with pytest.raises(UnusableConfiguration, match=r"\(at line 3, column 5\)$"):
        TOMLText("[a.b]\n[x]\n[a.b]\n")
