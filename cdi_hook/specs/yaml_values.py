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

from yaml import AliasEvent, MappingStartEvent, ScalarEvent, SequenceStartEvent

from cdi_hook.specs import scalars
from cdi_hook.specs.scalars import TAG
from cdi_hook.specs.yaml_nodes import SyntaxProblem, YamlNode, compose, line

_RESOLVABLE = frozenset(TAG + name for name in ("str", "bool", "int", "float", "null", "timestamp"))


class LinedMapping(dict[Any, Any]):
    """A decoded mapping that remembers the node of each key."""

    __slots__ = ("nodes",)
    nodes: dict[Any, YamlNode]


class LinedSequence(list[Any]):
    """A decoded sequence that remembers the node of each item."""

    __slots__ = ("nodes",)
    nodes: list[YamlNode]


def decode(data: bytes) -> Any:
    """Return the value of the first document, or None; raises SyntaxProblem and RecursionError."""
    root = compose(data)
    return None if root is None else _Decoder().value(root)


class _Decoder:
    def __init__(self) -> None:
        self.following: set[int] = set()
        self.count = self.alias_count = 0

    def value(self, node: YamlNode) -> Any:
        self.count += 1
        if self.following:
            self.alias_count += 1
            if self.alias_count > 100 and self.count > 1000 and self.alias_count > self.allowed():
                raise SyntaxProblem("document contains excessive aliasing")
        kind = type(node)
        if kind is ScalarEvent:
            text = node.value
            if node.tag is None and (text[:1] not in scalars.NOT_TEXT or not node.implicit[0]):
                return text
            return _scalar(node)
        if kind is SequenceStartEvent:
            sequence = LinedSequence(map(self.value, node.children))
            sequence.nodes = node.children
            return sequence
        if kind is AliasEvent:
            return self.follow(node, self.value)
        mapping = LinedMapping()
        mapping.nodes = {}
        self.mapping(node, mapping)
        return _named(mapping) if tuple in map(type, mapping) else mapping

    def allowed(self) -> float:
        ratio = 0.99 - 0.89 * (self.count - 400_000) / 3_600_000
        return self.count * min(0.99, max(0.10, ratio))

    def follow(self, alias: YamlNode, use: Any, *arguments: Any) -> Any:
        target = alias.target
        if id(target) in self.following:
            raise SyntaxProblem(f"line {line(alias)}: anchor '{alias.anchor}' value contains itself")
        self.following.add(id(target))
        result = use(target, *arguments)
        self.following.discard(id(target))
        return result

    def mapping(self, node: YamlNode, mapping: LinedMapping) -> None:
        """Fill a mapping; a key that isn't a string is (type, key), because 1 and true are different keys."""
        children = iter(node.children)
        for key_node, value_node in zip(children, children):
            if _is_merge(key_node):
                self.merge(value_node, mapping)
                continue
            key = self.value(key_node)
            if type(key) is not str:
                if isinstance(key, (LinedMapping, LinedSequence)):
                    raise SyntaxProblem(f"line {line(key_node)}: a mapping or a list can't be a key")
                key = (type(key), key)
            value = self.value(value_node)
            if key in mapping:
                shown = key if isinstance(key, str) else key[1]
                raise SyntaxProblem(f"line {line(key_node)}: key {shown!r} already set in map")
            mapping[key] = value
            mapping.nodes[key] = key_node

    def merge(self, node: YamlNode, mapping: LinedMapping) -> None:
        is_list = type(node) is SequenceStartEvent
        for item in node.children[::-1] if is_list else [node]:
            is_alias = isinstance(item, AliasEvent)
            merged = item.target if is_alias else item
            if not isinstance(merged, MappingStartEvent):
                raise SyntaxProblem(
                    f"line {line(item)}: map merge requires map or sequence of maps as the value"
                )
            if is_alias:
                self.follow(item, self.mapping, mapping)
            else:
                self.mapping(item, mapping)


def _is_merge(node: YamlNode) -> bool:
    if type(node) is not ScalarEvent or node.value != "<<":
        return False
    return bool(node.implicit[0]) or node.tag == TAG + "merge"


def _named(mapping: LinedMapping) -> LinedMapping:
    """Return a mapping whose keys are strings; of several that become the same, the last counts."""
    named = LinedMapping()
    named.nodes = {}
    for key, value in mapping.items():
        name = key if isinstance(key, str) else _key(key[1], mapping.nodes[key])
        named[name] = value
        named.nodes[name] = mapping.nodes[key]
    return named


def _key(key: object, node: YamlNode) -> str:
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, int) and key < 1 << 63:
        return str(key)
    if isinstance(key, float):
        text = scalars.float_text(key)
        return {"+Inf": ".inf", "-Inf": "-.inf", "NaN": ".nan"}.get(text, text)
    raise SyntaxProblem(f"line {line(node)}: {key!r} can't be a key")


def _scalar(node: YamlNode) -> Any:
    """Return the value of a scalar: str, bool, int, float or None."""
    tag, text = node.tag or "", node.value
    if not tag and not node.implicit[0]:
        return text
    if tag == TAG + "binary":
        try:
            data = base64.b64decode(re.sub(r"[\r\n]", "", text).encode(), validate=True)
        except binascii.Error:
            raise SyntaxProblem(f"line {line(node)}: !!binary value contains invalid base64 data") from None
        return re.sub("[\udc80-\udcff]", "\ufffd", data.decode("utf-8", "surrogateescape"))
    if (tag and tag not in _RESOLVABLE) or tag == TAG + "str":
        return text
    kind, value = scalars.resolve(text, may_be_date=tag in ("", TAG + "timestamp"))
    if tag == TAG + "float" and kind == "int" and -(1 << 63) <= value < 1 << 63:
        kind, value = "float", float(value)
    if tag and tag != TAG + kind:
        short = "!!" + tag[len(TAG) :]
        raise SyntaxProblem(f"line {line(node)}: cannot decode !!{kind} `{text}` as a {short}")
    return value
