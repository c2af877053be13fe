# SPDX-License-Identifier: Apache-2.0
"""YAML text -> nodes, as go-yaml v2 parses it: the first step of reading a CDI spec.

PyYAML supplies the events. This module joins anchors and aliases, and evens out the
differences between the scanners of go-yaml and libyaml. decode.py gives nodes their
values.

Importing yaml takes 20 ms, so only specs that changed are read.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

_CHUNK = 512  # bytes; go-yaml reads so many at a time, libyaml 16384
_AHEAD = 16384 - _CHUNK
_ESCAPED_SLASH = re.compile(r"(?<!\\)(?:\\\\)*\\/")


class SyntaxProblem(Exception):
    """Text that the reference implementation doesn't read as YAML."""


class Node:
    """A scalar, sequence, mapping or alias; a ``plain`` scalar has neither quotes nor a tag."""

    __slots__ = ("children", "kind", "line", "plain", "tag", "target", "value")

    def __init__(self, kind: str, line: int, value: str = "", tag: str = "", plain: bool = False) -> None:
        self.kind = kind
        self.line = line
        self.value = value
        self.tag = tag
        self.plain = plain
        self.children: list[Node] = []
        self.target: Node | None = None


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
    unused = (chr(code) for code in range(0xE000, 0xF900) if chr(code) not in text)
    stand_ins = {}
    source = data
    colon = ""
    if "\ufeff" in text[1:]:  # libyaml, unlike go-yaml, skips it at the start of a line
        bom = next(unused)
        stand_ins[bom] = "\ufeff"
        source = (text[0] + text[1:].replace("\ufeff", bom)).encode("utf-8", "surrogateescape")
    while True:
        loader = make_loader(_Chunks(source))
        try:
            return _Composer(loader, source, stand_ins).document()
        except yaml.scanner.ScannerError as error:
            colon = colon or next(unused)
            mended = _mend(_decode(source), error, colon)
            if mended is None:
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
    """Replace what only libyaml refuses: a colon in ``[a:]``, by a stand-in, or an escaped apostrophe."""
    if error.problem_mark is None:
        return None
    at = error.problem_mark.index
    if error.problem == "found unexpected ':'" and text[at : at + 1] == ":":
        return text[:at] + colon + text[at + 1 :]
    if error.problem == "found unknown escape character" and text[at : at + 2] == "\\'":
        return text[:at] + "\\x27" + text[at + 2 :]
    return None


class _Composer:
    def __init__(self, loader: Any, data: bytes, stand_ins: dict[str, str]) -> None:
        self.loader = loader
        self.anchors: dict[str, Node] = {}
        self.stand_ins = stand_ins
        self.flow = 0
        # Marks count characters, so they need the decoded text. Only escaped slashes need marks.
        self.text = _decode(data) if b"\\/" in data.replace(b"\0", b"") else ""

    def document(self) -> Node | None:
        self.loader.get_event()
        event = self.loader.get_event()
        if isinstance(event, yaml.StreamEndEvent):
            return None
        if event.version is not None and event.version != (1, 1):
            raise SyntaxProblem("found incompatible YAML document (only %YAML 1.1 is)")
        root = self.node()
        self.loader.get_event()  # raises an error if the document doesn't end here
        return root

    def node(self) -> Node:
        event: Any = self.loader.get_event()
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            alias = Node("alias", line, str(event.anchor))
            alias.target = self.anchors.get(alias.value)
            if alias.target is None:
                raise SyntaxProblem(f"line {line}: unknown anchor '{alias.value}' referenced")
            return alias
        if isinstance(event, yaml.ScalarEvent):
            text = event.value
            for stand_in, character in self.stand_ins.items():
                text = text.replace(stand_in, character)
            node = Node("scalar", line, text, event.tag or "", event.implicit[0])
            if event.style == '"' and self.text:
                self.check_escapes(event)
            if self.flow and not event.style and "?" in text:
                raise SyntaxProblem(f"line {line}: a ? inside brackets or braces needs quotes")
        else:
            kind = "sequence" if isinstance(event, yaml.SequenceStartEvent) else "mapping"
            node = Node(kind, line, tag=event.tag or "")
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        if node.kind != "scalar":
            end = yaml.SequenceEndEvent if node.kind == "sequence" else yaml.MappingEndEvent
            self.flow += bool(event.flow_style)
            while not self.loader.check_event(end):
                node.children.append(self.node())
            self.flow -= bool(event.flow_style)
            self.loader.get_event()
        return node

    def check_escapes(self, event: Any) -> None:
        source = self.text[event.start_mark.index : event.end_mark.index]
        if _ESCAPED_SLASH.search(source):
            line = event.start_mark.line + 1
            raise SyntaxProblem(f"line {line}: found unknown escape character (\\/)")


def _decode(data: bytes) -> str:
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    return data.decode("utf-8-sig", "surrogateescape")
