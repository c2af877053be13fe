# SPDX-License-Identifier: Apache-2.0
"""engines: any JSON or TOML is edited as meant, to the byte elsewhere, or refused. json and tomllib say what it means."""

from __future__ import annotations

import copy
import json
import re
from typing import TYPE_CHECKING, Any

import tomllib
from hypothesis import assume, given
from hypothesis import strategies as st

from cdi_hook.engines import ENGINES
from cdi_hook.engines.edit.config_editor import Request
from cdi_hook.engines.edit.document import UnusableConfiguration
from cdi_hook.engines.edit.json_document import JSONText
from cdi_hook.engines.edit.toml_document import TOMLText

from .strategies import TOKEN, json_texts

if TYPE_CHECKING:
    from cdi_hook.engines.edit.document import Document, Key

NAMES = st.sampled_from(["a", "b", "runtimes", "é", "a.b", ""])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map(tuple)
NEW = st.recursive(
    st.booleans() | st.integers(-9, 9) | st.text("a\"\\\n\x7fé'#", max_size=4),
    lambda values: (
        st.lists(values, max_size=2) | st.dictionaries(st.sampled_from(["x", "y z"]), values, max_size=2)
    ),
    max_leaves=4,
)


def node(tree: Any, path: Key) -> Any:
    """Return what is at a path of a tree; None if nothing is."""
    for name in path:
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree


def edited(tree: dict[str, Any], path: Key, value: Any) -> dict[str, Any] | None:
    """Return a tree in which a key is set, or with None removed; None where that can't be."""
    tree = copy.deepcopy(tree)
    place: Any = tree
    for name in path[:-1]:
        place = place.setdefault(name, {}) if isinstance(place, dict) else None
    if not isinstance(place, dict):
        return None
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    return tree


def keys(tree: Any, path: Key = ()) -> list[Key]:
    """Return the paths of all keys in a tree's objects."""
    here = [(*path, name) for name in tree] if isinstance(tree, dict) else []
    return [*here, *(one for name in here for one in keys(tree[name[-1]], name))]


def members(text: str) -> dict[str, str]:
    """Return the members of a JSON object as they are written, by name."""
    depth, found, start, last = 0, {}, 0, ""
    for token in TOKEN.finditer(text):
        one = token[0]
        if depth == 1 and one == ":" and not last:
            last = json.loads(text[start : token.start()])
            last = f"={last}"
        elif depth == 1 and one in ",}":
            if last:
                found[last[1:]] = text[start : token.start()].strip()
            start, last = token.end(), ""
        elif depth == 0 and one == "{":
            start = token.end()
        depth += (one in "[{") - (one in "]}")
    return found


def a_change(data: st.DataObject, document: Document) -> tuple[Key, Any]:
    """Draw a path and a new value for it, or the path of a key and None."""
    there = keys(document.tree)
    is_removal: bool = data.draw(st.booleans())
    if there and is_removal:
        return data.draw(st.sampled_from(there)), None
    path = data.draw(st.sampled_from(there) | PATHS if there else PATHS)
    return path, data.draw(NEW)


def change(document: Document, path: Key, value: Any) -> bool:
    """Make a change; return False if it is refused."""
    try:
        if value is None:
            document.remove(path)
        else:
            document.set(path, value)
    except UnusableConfiguration as error:
        assert "\n" not in str(error)
        return False
    return True


@given(json_texts(is_object=True), st.data())
def test_json_is_edited_in_its_place(text: str, data: st.DataObject) -> None:
    """After edits the text is JSON with these edits, and every other member is written as it was."""
    document = JSONText(text)
    for _ in range(data.draw(st.integers(1, 3))):
        before, tree = document.text, json.loads(document.text)
        path, value = a_change(data, document)
        wanted = edited(tree, path, value)
        if not change(document, path, value):
            assert wanted is None
            return
        assert json.loads(document.text) == wanted
        kept, now = members(before), members(document.text)
        for name in kept.keys() - {path[0]}:
            assert now[name] == kept[name]
        assert list(now) == list(wanted or ())


TOML_VALUES = st.sampled_from(
    ["1", "-0.5", "true", "'x'", '"\\"# \\\\"', "[1, 2]", "[ # c\n  'a', # d\n]", '"""\n[no]\n# no\n"""', "'''it's'''",
     "{ a = 1, b = [2] }", "2026-11-24T00:00:00Z", "[{ a = 1 }]", "''", "0x1f", "inf"]
)  # fmt: skip
TOML_KEYS = st.sampled_from(
    ["a", "b", "c", '"a.b"', "'é'", "a.b", 'a . "b"', "runtimes", '""', r'"\U00000041"']
)
TOML_LINES = st.one_of(
    st.builds(
        "{}{} = {}{}".format,
        st.sampled_from(["", "  ", "\t"]),
        TOML_KEYS,
        TOML_VALUES,
        st.sampled_from(["", " # e"]),
    ),
    st.builds(
        "{}[{}]{}".format,
        st.sampled_from(["", "  "]),
        TOML_KEYS,
        st.sampled_from(["", "  # f", "  # by cdi-hook configure"]),
    ),
    st.builds("[[{}]]".format, TOML_KEYS),
    st.sampled_from(["", "# g", "   # h", "\t"]),
)
TOML = st.builds(
    lambda lines, newline, end: newline.join(lines).replace("\n", newline).replace("\r\r", "\r") + end,
    st.lists(TOML_LINES, max_size=8),
    st.sampled_from(["\n", "\n", "\r\n"]),
    st.sampled_from(["", "\n"]),
)
COMMENT = re.compile(r"# [a-h]\b")


def tree_of(text: str) -> dict[str, Any] | None:
    """Return what a TOML text means; None if it isn't TOML."""
    try:
        tree: dict[str, Any] = tomllib.loads(text.replace("\r\n", "\n"))
    except tomllib.TOMLDecodeError:
        return None
    return tree


@given(TOML, st.data())
def test_toml_is_edited_in_its_place(text: str, data: st.DataObject) -> None:
    """After edits the text is TOML with these edits, and every comment that isn't of what was removed is there."""
    assume(tree_of(text) is not None)
    document = TOMLText(text)
    for _ in range(data.draw(st.integers(1, 3))):
        before = document.text
        tree = tree_of(before)
        assert tree is not None
        path, value = a_change(data, document)
        if isinstance(value, dict) and node(tree, path) is not None:
            return  # only a new table may be set
        if not change(document, path, value):
            return
        assert tree_of(document.text) == edited(tree, path, value) or (
            value is None and node(tree, path[:-1]) == {path[-1]: node(tree, path)}
        )
        was, now = COMMENT.findall(before), COMMENT.findall(document.text)
        if value is None:
            assert all(was.count(one) >= now.count(one) for one in now)
        elif not isinstance(node(tree, path), (list, dict)):
            assert now == was
        lines = document.text.splitlines()
        if value is None or not isinstance(node(tree, path), (list, dict, str)):
            kept = [one for one in before.splitlines() if one in lines]
            assert len(kept) >= len(before.splitlines()) - 1 or value is None


@given(st.text("a='\"[]{}.,#\n\r 1\\t-:_\x00é", max_size=24) | TOML.flatmap(
    lambda text: st.integers(0, len(text)).flatmap(
        lambda at: st.text("='\"[]{}.\n", max_size=2).map(lambda more: text[:at] + more + text[at:])
    )
))  # fmt: skip
def test_any_text_is_toml_or_refused(text: str) -> None:
    """Whatever a file holds, it is read, as tomllib reads it, or refused in one line."""
    expected = tree_of(text)
    try:
        document = TOMLText(text)
    except UnusableConfiguration as error:
        assert "\n" not in str(error)
        return
    if expected is not None:
        assert document.tree == expected


@given(json_texts() | st.text('{}[]",: a1\\', max_size=12))
def test_any_text_is_json_or_refused(text: str) -> None:
    """Whatever daemon.json holds, it is read or refused in one line."""
    try:
        assert isinstance(JSONText(text).tree, dict)
    except UnusableConfiguration as error:
        assert "\n" not in str(error)


TABLES = st.lists(st.sampled_from(
    ["version = 2\n", "version = 3\n", "[engine]\nruntime = 'crun'\n", "[engine.runtimes]\ncrun = ['/x']\n",
     "[crio.runtime]\ndefault_runtime = 'runc'\n", "[crio.runtime.runtimes.runc]\nruntime_path = '/r'\n",
     "[plugins.'io.containerd.grpc.v1.cri'.containerd]\ndefault_runtime_name = 'runc'\n",
     "[plugins.'io.containerd.grpc.v1.cri'.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n",
     "[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]\nruntime_type = 'io.containerd.runc.v2'\n"]
), max_size=3, unique=True).map("".join)  # fmt: skip


DAEMON_JSON = json_texts(is_object=True) | st.sampled_from(
    ['{"runtimes": {"x": {"path": "/x"}}, "default-runtime": "x"}', "", '{"runtimes":{}}']
)
CONFIGURATIONS = {
    name: DAEMON_JSON if engine.editor.form is JSONText else st.builds("{}{}".format, TABLES, TOML)
    for name, engine in ENGINES.items()
}


@given(st.sampled_from([*ENGINES]), st.data(), st.booleans())
def test_what_is_configured_can_be_taken_back(name: str, data: st.DataObject, set_default: bool) -> None:
    """Our entry is added to any configuration once, or it is refused; a removal leaves what was there before."""
    engine = ENGINES[name]
    before = data.draw(CONFIGURATIONS[name])
    request = Request("/usr/bin/cdi-runtime", set_default=set_default, annotations=("cdi.k8s.io/*",))
    try:
        assume(not engine.edit(before).ours)
        after = engine.edit(before).add(request).text
    except UnusableConfiguration as error:
        assert "\n" not in str(error)
        return
    assert engine.edit(after).ours == ["cdi"]
    assert not set_default or engine.edit(after).default == "cdi"
    assert engine.edit(after).add(request).text == after
    removed = engine.edit(after).remove(engine.edit(before)).text
    assert engine.edit(removed).ours == []
    assert engine.edit(removed).default == engine.edit(before).default
    read = (lambda text: json.loads(text or "{}")) if engine.editor.form is JSONText else tree_of
    assert read(removed) == read(before)
