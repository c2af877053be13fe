# SPDX-License-Identifier: Apache-2.0
"""YAML text -> plain values, as go-yaml v2 decodes into an ``interface{}``.

It follows aliases, merges mappings, and applies tags to scalars. shape.py checks
the types of the values.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any

from cdi_hook.specs import scalars
from cdi_hook.specs.compose import Node, SyntaxProblem, compose
from cdi_hook.specs.scalars import TAG

_RESOLVABLE = frozenset(TAG + name for name in ("str", "bool", "int", "float", "null", "timestamp"))
# (type, key), because 1 and true are different keys -> value, line of the key.
_Entries = dict[tuple[type, Any], tuple[Any, int]]


class LinedMapping(dict[str, Any]):
    """A decoded mapping that remembers the line of each key."""

    lines: dict[str, int]


class LinedSequence(list[Any]):
    """A decoded sequence that remembers the line of each item."""

    lines: list[int]


def decode(data: bytes) -> Any:
    """Return the value of the first document, or None; raises SyntaxProblem and RecursionError."""
    root = compose(data)
    return None if root is None else _Decoder().value(root)


class _Decoder:
    def __init__(self) -> None:
        self.following: set[int] = set()
        self.count = self.alias_count = 0

    def value(self, node: Node) -> Any:
        self.count += 1
        if self.following:
            self.alias_count += 1
            if self.alias_count > 100 and self.count > 1000 and self.alias_count > self.allowed():
                raise SyntaxProblem("document contains excessive aliasing")
        if node.kind == "alias":
            return self.follow(node, self.value)
        if node.kind == "scalar":
            return _scalar(node)
        if node.kind == "sequence":
            sequence = LinedSequence(self.value(child) for child in node.children)
            sequence.lines = [child.line for child in node.children]
            return sequence
        entries: _Entries = {}
        self.mapping(node, entries)
        mapping = LinedMapping()
        mapping.lines = {}
        for (_, key), (value, line) in entries.items():
            name = _key(key, line)
            mapping[name] = value
            mapping.lines[name] = line
        return mapping

    def allowed(self) -> float:
        ratio = 0.99 - 0.89 * (self.count - 400_000) / 3_600_000
        return self.count * min(0.99, max(0.10, ratio))

    def follow(self, alias: Node, use: Any, *arguments: Any) -> Any:
        target = alias.target
        if id(target) in self.following:
            raise SyntaxProblem(f"line {alias.line}: anchor '{alias.value}' value contains itself")
        self.following.add(id(target))
        result = use(target, *arguments)
        self.following.discard(id(target))
        return result

    def mapping(self, node: Node, entries: _Entries) -> None:
        for key_node, value_node in zip(node.children[::2], node.children[1::2]):
            if _is_merge(key_node):
                self.merge(value_node, entries)
                continue
            key = self.value(key_node)
            if isinstance(key, (LinedMapping, LinedSequence)):
                raise SyntaxProblem(f"line {key_node.line}: a mapping or a list can't be a key")
            typed = (type(key), key)
            value = self.value(value_node)
            if typed in entries:
                raise SyntaxProblem(f"line {key_node.line}: key {key!r} already set in map")
            entries[typed] = (value, key_node.line)

    def merge(self, node: Node, entries: _Entries) -> None:
        items = reversed(node.children) if node.kind == "sequence" else [node]
        for item in items:
            merged = item.target if item.kind == "alias" else item
            if merged is None or merged.kind != "mapping":
                raise SyntaxProblem(
                    f"line {item.line}: map merge requires map or sequence of maps as the value"
                )
            if item.kind == "alias":
                self.follow(item, self.mapping, entries)
            else:
                self.mapping(item, entries)


def _is_merge(node: Node) -> bool:
    return node.kind == "scalar" and node.value == "<<" and (node.plain or node.tag == TAG + "merge")


def _key(key: object, line: int) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, int) and key < 1 << 63:
        return str(key)
    if isinstance(key, float):
        text = scalars.float_text(key)
        return {"+Inf": ".inf", "-Inf": "-.inf", "NaN": ".nan"}.get(text, text)
    raise SyntaxProblem(f"line {line}: {key!r} can't be a key")


def _scalar(node: Node) -> Any:
    """Return the value of a scalar: str, bool, int, float or None."""
    tag, text = node.tag, node.value
    if not tag and not node.plain:
        return text
    if tag == TAG + "binary":
        try:
            data = base64.b64decode(re.sub(r"[\r\n]", "", text).encode(), validate=True)
        except binascii.Error:
            raise SyntaxProblem(f"line {node.line}: !!binary value contains invalid base64 data") from None
        return re.sub("[\udc80-\udcff]", "\ufffd", data.decode("utf-8", "surrogateescape"))
    if (tag and tag not in _RESOLVABLE) or tag == TAG + "str":
        return text
    kind, value = scalars.resolve(text, may_be_date=tag in ("", TAG + "timestamp"))
    if tag == TAG + "float" and kind == "int" and -(1 << 63) <= value < 1 << 63:
        kind, value = "float", float(value)
    if tag and tag != TAG + kind:
        short = "!!" + tag[len(TAG) :]
        raise SyntaxProblem(f"line {node.line}: cannot decode !!{kind} `{text}` as a {short}")
    return value
