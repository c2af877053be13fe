# SPDX-License-Identifier: Apache-2.0
"""YAML text -> events, as go-yaml v2 parses it: the first step of reading a CDI spec.

PyYAML supplies the events. This module nests them, joins anchors and aliases, and evens
out the differences between the scanners of go-yaml and libyaml. decode.py gives them
their values.

Importing yaml takes 20 ms, so only specs that changed are read.
"""

from __future__ import annotations

import re
from typing import Any, Callable

import yaml
from yaml import AliasEvent, DocumentEndEvent, MappingEndEvent, ScalarEvent, SequenceEndEvent

_CHUNK = 512  # bytes; go-yaml reads so many at a time, libyaml 16384
_AHEAD = 16384 - _CHUNK
_DEEPEST = 1000
# characters; text is read again for each place that is mended, which is seldom more than one
_MOST_AGAIN = 8 << 20
_MOST_DIRECTIVES = 100  # libyaml compares each with all before it; a spec has none or one
_ESCAPED_SLASH = re.compile(r"(?<!\\)(?:\\\\)*\\/")
# A colon at the end of a word; or else a token in which a colon may mean something.
_COLON = re.compile(r"(?<!\w)[&*!%]\S*|(?<=\w):(?=[],?[{}])")
_ESCAPE = re.compile(r"\\.|\"", re.DOTALL)  # in double quotes; or else where they end
# Characters that no language uses, to stand in for others.
_PRIVATE = (range(0xE000, 0xF900), range(0xF0000, 0xFFFFE))

# An event of PyYAML, which has no types: a scalar, an alias, or the start of a mapping or a
# sequence. The last two have ``children``; an alias has a ``target``.
Node = Any


class SyntaxProblem(Exception):
    """Text that the reference implementation doesn't read as YAML."""


def compose(data: bytes) -> Node | None:
    """Return the root of the first document, or None; raises SyntaxProblem and RecursionError."""
    try:
        return _compose(data)
    except yaml.YAMLError as error:
        raise SyntaxProblem(_describe(error)) from error


def _compose(data: bytes) -> Node | None:
    # PyYAML may lack its C parser. The other one differs only in rare syntax.
    make_loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = _decode(data)
    if text.count("\n%") > _MOST_DIRECTIVES:
        raise SyntaxProblem(f"more than {_MOST_DIRECTIVES} lines begin with %")
    used = set(text)
    unused = (chr(code) for codes in _PRIVATE for code in codes if chr(code) not in used)
    stand_ins = {}
    source = data
    colon = ""
    again = 0
    if "\ufeff" in text[1:]:  # libyaml, unlike go-yaml, skips it at the start of a line
        bom = next(unused)
        stand_ins[bom] = "\ufeff"
        source = (text[0] + text[1:].replace("\ufeff", bom)).encode("utf-8", "surrogateescape")
    while True:
        loader = make_loader(_Chunks(source))
        try:
            return _document(loader.get_event, source, stand_ins)
        except yaml.scanner.ScannerError as error:
            colon = colon or next(unused)
            mended = _mend(_decode(source), error, colon)
            again += len(text)
            if mended is None or again > _MOST_AGAIN:
                raise
            stand_ins[colon] = ":"
            source = mended.encode("utf-8", "surrogateescape")
        finally:
            loader.dispose()


def _describe(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem:
        mark = error.problem_mark or error.context_mark
        return f"line {mark.line + 1}: {error.problem}" if mark else error.problem
    if isinstance(error, yaml.reader.ReaderError):
        return f"{error.reason} (at position {error.position})"
    return " ".join(str(error).split())


class _Chunks:
    """A stream that lets libyaml read as little ahead as go-yaml does, so that it meets the same errors."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def read(self, size: int) -> bytes:
        start, self.at = self.at, self.at + max(1, size - _AHEAD)
        return self.data[start : self.at]


def _mend(text: str, error: yaml.scanner.ScannerError, colon: str) -> str | None:
    """Replace what only libyaml refuses: colons as in ``[a:]``, by a stand-in, or an escaped apostrophe."""
    if error.problem_mark is None:
        return None
    at = error.problem_mark.index
    if error.problem == "found unexpected ':'" and text[at : at + 1] == ":":
        # The next ones too: wherever else they are, they are text, and become colons again.
        rest = _COLON.sub(lambda found: colon if found[0] == ":" else found[0], text[at + 1 :])
        return text[:at] + colon + rest
    if error.problem == "found unknown escape character" and text[at : at + 2] == "\\'":
        return text[:at] + _mend_quoted(text[at:])
    return None


def _mend_quoted(text: str) -> str:
    """Replace the escaped apostrophes in the rest of a text in double quotes."""
    end = next((found.start() for found in _ESCAPE.finditer(text) if found[0] == '"'), len(text))
    return _ESCAPE.sub(lambda found: "\\x27" if found[0] == "\\'" else found[0], text[:end]) + text[end:]


def _document(get_event: Callable[[], Any], data: bytes, stand_ins: dict[str, str]) -> Node | None:
    get_event()
    root = get_event()
    if isinstance(root, yaml.StreamEndEvent):
        return None
    if root.version is not None and root.version != (1, 1):
        raise SyntaxProblem("found incompatible YAML document (only %YAML 1.1 is)")
    # Marks count characters, so they need the decoded text. Only escaped slashes need marks.
    text = _decode(data) if b"\\/" in data.replace(b"\0", b"") else ""
    is_odd = bool(stand_ins or text or b"?" in data)
    anchors: dict[str, Node] = {}
    root.flow_style = False
    children = root.children = []
    within = [root]
    while True:
        event = get_event()
        kind = type(event)
        if kind is ScalarEvent:
            children.append(event)
            if is_odd:
                _scalar(event, within[-1], text, stand_ins)
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


def _scalar(node: Node, parent: Node, text: str, stand_ins: dict[str, str]) -> None:
    for stand_in, character in stand_ins.items():
        node.value = node.value.replace(stand_in, character)
    if node.style == '"' and _ESCAPED_SLASH.search(text, node.start_mark.index, node.end_mark.index):
        raise SyntaxProblem(f"line {line(node)}: found unknown escape character (\\/)")
    if parent.flow_style and not node.style and "?" in node.value:
        raise SyntaxProblem(f"line {line(node)}: a ? inside brackets or braces needs quotes")


def line(node: Node) -> int:
    """Return the line that a node begins in."""
    return int(node.start_mark.line) + 1


def _decode(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    return data.decode("utf-8-sig", "surrogateescape")
