# SPDX-License-Identifier: Apache-2.0
"""YAML text -> events, as go-yaml v2 parses it: the first step of reading a CDI spec.

PyYAML supplies the events. This module nests them, joins anchors and aliases, and refuses
what go-yaml refuses. What libyaml refuses and go-yaml doesn't, such as ``[a:]``, is an
error too. yaml_values.py gives the nodes their values.

Importing yaml takes 20 ms, so only specs that changed are read.
"""

from __future__ import annotations

import re
from typing import Any, Callable

import yaml
from yaml import AliasEvent, DocumentEndEvent, MappingEndEvent, ScalarEvent, SequenceEndEvent

_DEEPEST = 1000
_MOST_DIRECTIVES = 100  # libyaml compares each with all before it; a spec has none or one
_BOM = re.compile("(?:^|[\r\n])\ufeff")  # libyaml, unlike go-yaml, skips it there
_ESCAPED_SLASH = re.compile(r"(?<!\\)(?:\\\\)*\\/")

# An event of PyYAML, which has no types: a scalar, an alias, or the start of a mapping or a
# sequence. The last two have ``children``; an alias has a ``target``.
YamlNode = Any


class SyntaxProblem(Exception):
    """Text that the reference implementation doesn't read as YAML."""


def compose(data: bytes) -> YamlNode | None:
    """Return the root of the first document, or None; raises SyntaxProblem and RecursionError."""
    try:
        return _compose(data)
    except yaml.YAMLError as error:
        raise SyntaxProblem(_describe(error)) from error


def next_document(data: bytes) -> int:
    """Return the line of a second document, which nobody reads; 0 if there is none."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)(data)
    try:
        while not isinstance(loader.get_event(), DocumentEndEvent):
            pass
        event = loader.get_event()
        return 0 if isinstance(event, yaml.StreamEndEvent) else line(event)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        return int(mark.line) + 1 if mark else 1
    finally:
        loader.dispose()


def _compose(data: bytes) -> YamlNode | None:
    # PyYAML may lack its C parser. The other one differs only in rare syntax.
    make_loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = _decode(data)
    if text.count("\n%") > _MOST_DIRECTIVES:
        raise SyntaxProblem(f"more than {_MOST_DIRECTIVES} lines begin with %")
    bom = _BOM.search(text)
    if bom:
        line_of_it = text.count("\n", 0, bom.end()) + 1
        raise SyntaxProblem(f"line {line_of_it}: a line can't begin with U+FEFF")
    loader = make_loader(data)
    try:
        return _document(loader.get_event, text)
    finally:
        loader.dispose()


def _describe(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem:
        mark = error.problem_mark or error.context_mark
        return f"line {mark.line + 1}: {error.problem}" if mark else error.problem
    if isinstance(error, yaml.reader.ReaderError):
        return f"{error.reason} (at position {error.position})"
    return " ".join(str(error).split())


def _document(get_event: Callable[[], Any], text: str) -> YamlNode | None:
    get_event()
    root = get_event()
    if isinstance(root, yaml.StreamEndEvent):
        return None
    if root.version is not None and root.version != (1, 1):
        raise SyntaxProblem("found incompatible YAML document (only %YAML 1.1 is)")
    is_odd = "\\/" in text or "?" in text
    anchors: dict[str, YamlNode] = {}
    root.flow_style = False
    children = root.children = []
    within = [root]
    while True:
        event = get_event()
        kind = type(event)
        if kind is ScalarEvent:
            children.append(event)
            if is_odd:
                _scalar(event, within[-1], text)
        elif kind is MappingEndEvent or kind is SequenceEndEvent:
            within.pop()
            children = within[-1].children
            continue
        elif kind is DocumentEndEvent:
            return children[0]
        elif kind is AliasEvent:
            children.append(event)
            event.target = anchors.get(event.anchor)
            if event.target is None:
                raise SyntaxProblem(f"line {line(event)}: unknown anchor '{event.anchor}' referenced")
            continue
        else:
            children.append(event)
            children = event.children = []
            within.append(event)
            if len(within) > _DEEPEST:
                raise RecursionError
        if event.anchor is not None:
            anchors[event.anchor] = event


def _scalar(node: YamlNode, parent: YamlNode, text: str) -> None:
    if node.style == '"' and _ESCAPED_SLASH.search(text, node.start_mark.index, node.end_mark.index):
        raise SyntaxProblem(f"line {line(node)}: found unknown escape character (\\/)")
    if parent.flow_style and not node.style and "?" in node.value:
        raise SyntaxProblem(f"line {line(node)}: a ? inside brackets or braces needs quotes")


def line(node: YamlNode) -> int:
    """Return the line that a node begins in."""
    return int(node.start_mark.line) + 1


def _decode(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    return data.decode("utf-8-sig", "surrogateescape")
