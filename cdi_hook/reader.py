# SPDX-License-Identifier: Apache-2.0
"""YAML and JSON text -> plain data, read as the reference implementation reads CDI specs.

The reference goes through go-yaml v2, a YAML to JSON conversion that knows the
target's types, and a strict JSON decoder. PyYAML supplies the events; what a
scalar means, what a merge key does, what a field takes is decided here. This
module knows no field of CDI: the schema comes from spec.py.

Importing it costs the import of yaml (20 ms), so only a spec that changed does.

A schema is one of the strings below, ``("list", item)``, ``("map", value)`` or
a dict of field name -> schema, for an object.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
import struct
from collections.abc import Mapping, Sequence
from datetime import date
from decimal import Decimal
from typing import Any, Union

import yaml

from cdi_hook.errors import Finding, quote

STRING = "a string"
BOOL = "true or false"
INT64 = "an integer"
UINT32 = "an integer from 0 to 4294967295"

Schema = Union[str, tuple[str, Any], Mapping[str, Any]]

_TAG = "tag:yaml.org,2002:"
_RESOLVABLE = frozenset(_TAG + name for name in ("str", "bool", "int", "float", "null", "timestamp"))
_CONSTANTS: dict[str, object] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
}  # fmt: skip
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_DOT_FLOAT = re.compile(r"\.[0-9](_?[0-9])*([eE][-+]?[0-9](_?[0-9])*)?")
_TIMESTAMP = re.compile(
    r"([0-9]{4}-[0-9]{1,2}-[0-9]{1,2})"
    r"([Tt][0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}(\.[0-9]+)?(Z|[-+][0-9]{2}:[0-9]{2})"
    r"| [0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}(\.[0-9]+)?)?"
)
_ESCAPED_SLASH = re.compile(r"(?<!\\)(?:\\\\)*\\/")


class SyntaxProblem(Exception):
    """Text that isn't the YAML that the reference reads."""


class _Node:
    __slots__ = ("children", "kind", "line", "plain", "tag", "target", "value")

    def __init__(self, kind: str, line: int, value: str = "", tag: str = "", plain: bool = False) -> None:
        self.kind = kind
        self.line = line
        self.value = value
        self.tag = tag
        self.plain = plain
        self.children: list[_Node] = []
        self.target: _Node | None = None


class _Mapping(dict[str, Any]):
    """A decoded mapping that remembers the line of each key."""

    lines: dict[str, int]


class _Sequence(list[Any]):
    """A decoded sequence that remembers the line of each item."""

    lines: list[int]


def read(data: bytes, schema: Schema) -> tuple[Any, list[Finding]]:
    """Read one document and shape it after schema.

    Returns the value (None when there is no data) and the findings. With
    findings, the value is what could be understood.
    """
    try:
        value = _Decoder().document(_compose(data))
    except SyntaxProblem as problem:
        return None, [Finding("", str(problem))]
    except yaml.YAMLError as error:
        return None, [Finding("", _describe(error))]
    except RecursionError:
        return None, [Finding("", "nested too deeply")]
    findings: list[Finding] = []
    shaped = _shape(value, schema, "", 0, findings)
    return shaped, findings


def _describe(error: yaml.YAMLError) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem:
        mark = error.problem_mark or error.context_mark
        return f"line {mark.line + 1}: {error.problem}" if mark else error.problem
    if isinstance(error, yaml.reader.ReaderError):
        return f"{error.reason} (at position {error.position})"
    return " ".join(str(error).split())


# Composing: events -> nodes, with anchors as go-yaml has them, and its scanner's own ideas.

_CHUNK = 512  # bytes that go-yaml reads at a time; libyaml reads 16384
_AHEAD = 16384 - _CHUNK


class _Chunks:
    """Text for the parser, so that it looks as little ahead, and stumbles as little, as go-yaml."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def read(self, size: int) -> bytes:
        start, self.at = self.at, self.at + max(1, size - _AHEAD)
        return self.data[start : self.at]


def _compose(data: bytes) -> _Node | None:
    # PyYAML's C parser where it was built; the pure one agrees but for rare syntax
    make_loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    text = _decode(data)
    unused = (chr(code) for code in range(0xE000, 0xF900) if chr(code) not in text)
    stand_ins = {}
    source = data
    colon = ""
    if "\ufeff" in text[1:]:  # at the start of a line, only libyaml skips it
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


def _mend(text: str, error: yaml.scanner.ScannerError, colon: str) -> str | None:
    """Rewrite what only libyaml refuses: a colon in ``[a:]``, by a stand-in, and an escaped apostrophe."""
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
        self.anchors: dict[str, _Node] = {}
        self.stand_ins = stand_ins
        self.flow = 0
        # Marks count characters; only a text with an escaped slash needs them.
        self.text = _decode(data) if b"\\/" in data.replace(b"\0", b"") else ""

    def document(self) -> _Node | None:
        self.loader.get_event()
        event = self.loader.get_event()
        if isinstance(event, yaml.StreamEndEvent):
            return None
        if event.version is not None and event.version != (1, 1):
            raise SyntaxProblem("found incompatible YAML document (only %YAML 1.1 is)")
        root = self.node()
        self.loader.get_event()  # the end of the document has to be one
        return root

    def node(self) -> _Node:
        event: Any = self.loader.get_event()
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            alias = _Node("alias", line, str(event.anchor))
            alias.target = self.anchors.get(alias.value)
            if alias.target is None:
                raise SyntaxProblem(f"line {line}: unknown anchor '{alias.value}' referenced")
            return alias
        if isinstance(event, yaml.ScalarEvent):
            text = event.value
            for stand_in, character in self.stand_ins.items():
                text = text.replace(stand_in, character)
            node = _Node("scalar", line, text, event.tag or "", event.implicit[0])
            if event.style == '"' and self.text:
                self.check_escapes(event)
            if self.flow and not event.style and "?" in text:
                raise SyntaxProblem(f"line {line}: a ? inside brackets or braces needs quotes")
        else:
            kind = "sequence" if isinstance(event, yaml.SequenceStartEvent) else "mapping"
            node = _Node(kind, line, tag=event.tag or "")
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


# Decoding: nodes -> values, as go-yaml decodes into an interface{}.


class _Decoder:
    def __init__(self) -> None:
        self.following: set[int] = set()
        self.count = self.alias_count = 0

    def document(self, root: _Node | None) -> Any:
        return None if root is None else self.value(root)

    def value(self, node: _Node) -> Any:
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
            sequence = _Sequence(self.value(child) for child in node.children)
            sequence.lines = [child.line for child in node.children]
            return sequence
        entries: dict[tuple[type, Any], tuple[Any, int]] = {}
        self.mapping(node, entries)
        mapping = _Mapping()
        mapping.lines = {}
        for (_, key), (value, line) in entries.items():
            name = _key(key, line)
            mapping[name] = value
            mapping.lines[name] = line
        return mapping

    def allowed(self) -> float:
        ratio = 0.99 - 0.89 * (self.count - 400_000) / 3_600_000
        return self.count * min(0.99, max(0.10, ratio))

    def follow(self, alias: _Node, use: Any, *arguments: Any) -> Any:
        target = alias.target
        if id(target) in self.following:
            raise SyntaxProblem(f"line {alias.line}: anchor '{alias.value}' value contains itself")
        self.following.add(id(target))
        result = use(target, *arguments)
        self.following.discard(id(target))
        return result

    def mapping(self, node: _Node, entries: dict[tuple[type, Any], tuple[Any, int]]) -> None:
        for key_node, value_node in zip(node.children[::2], node.children[1::2]):
            if _is_merge(key_node):
                self.merge(value_node, entries)
                continue
            key = self.value(key_node)
            if isinstance(key, (_Mapping, _Sequence)):
                raise SyntaxProblem(f"line {key_node.line}: a mapping or a list can't be a key")
            typed = (type(key), key)
            value = self.value(value_node)
            if typed in entries:
                raise SyntaxProblem(f"line {key_node.line}: key {key!r} already set in map")
            entries[typed] = (value, key_node.line)

    def merge(self, node: _Node, entries: dict[tuple[type, Any], tuple[Any, int]]) -> None:
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


def _is_merge(node: _Node) -> bool:
    return node.kind == "scalar" and node.value == "<<" and (node.plain or node.tag == _TAG + "merge")


def _key(key: object, line: int) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, int) and key < 1 << 63:
        return str(key)
    if isinstance(key, float):
        text = float_text(key)
        return {"+Inf": ".inf", "-Inf": "-.inf", "NaN": ".nan"}.get(text, text)
    raise SyntaxProblem(f"line {line}: {key!r} can't be a key")


def _scalar(node: _Node) -> Any:
    """Return the value of a scalar: str, bool, int, float or None."""
    tag, text = node.tag, node.value
    if not tag and not node.plain:
        return text
    if tag == _TAG + "binary":
        try:
            data = base64.b64decode(re.sub(r"[\r\n]", "", text).encode(), validate=True)
        except binascii.Error:
            raise SyntaxProblem(f"line {node.line}: !!binary value contains invalid base64 data") from None
        return re.sub("[\udc80-\udcff]", "\ufffd", data.decode("utf-8", "surrogateescape"))
    if (tag and tag not in _RESOLVABLE) or tag == _TAG + "str":
        return text
    kind, value = _resolve(text, may_be_date=tag in ("", _TAG + "timestamp"))
    if tag == _TAG + "float" and kind == "int" and -(1 << 63) <= value < 1 << 63:
        kind, value = "float", float(value)
    if tag and tag != _TAG + kind:
        short = "!!" + tag[len(_TAG) :]
        raise SyntaxProblem(f"line {node.line}: cannot decode !!{kind} `{text}` as a {short}")
    return value


def _resolve(text: str, may_be_date: bool) -> tuple[str, Any]:
    """Return the tag's name and the value of a plain scalar."""
    if text in _CONSTANTS:
        value = _CONSTANTS[text]
        return "null" if value is None else "bool" if isinstance(value, bool) else "float", value
    if text[0] == "." and _DOT_FLOAT.fullmatch(text) and math.isfinite(float(text)):
        return "float", float(text)
    if text[0] in "+-0123456789":
        if may_be_date and _is_timestamp(text):
            return "timestamp", text
        plain = text.replace("_", "")
        integer = _integer(plain)
        if integer is not None:
            return "int", integer
        if _FLOAT.fullmatch(plain) and math.isfinite(float(plain)):
            return "float", float(plain)
    return "str", text


_INTEGER = re.compile(
    r"(?P<sign>[-+]?)(?:0[xX](?P<x>[0-9a-fA-F]+)|0[bB](?P<b>[01]+)|0[oO]?(?P<o>[0-7]+)|(?P<d>0|[1-9][0-9]*))"
    r"|0b(?P<minus>[-+])(?P<late>[01]+)"
)
_BASES = {"x": 16, "b": 2, "o": 8, "d": 10, "late": 2}


def _integer(plain: str) -> int | None:
    """Read an integer as Go's strconv.ParseInt with base 0, int64 or else uint64."""
    match = _INTEGER.fullmatch(plain) if plain.isascii() and len(plain) < 100 else None
    if match is None:
        return None
    group = next(name for name in _BASES if match[name] is not None)
    value = int(match[group], _BASES[group])
    if "-" in (match["sign"], match["minus"]):
        value = -value
    limit = 1 << 63 if match["sign"] or match["minus"] else 1 << 64
    return value if -(1 << 63) <= value < limit else None


def _is_timestamp(text: str) -> bool:
    match = _TIMESTAMP.fullmatch(text)
    if match is None:
        return False
    try:
        year, month, day = (int(part) for part in match[1].split("-"))
        date(year, month, day)
    except ValueError:
        return False
    clock = [int(part) for part in re.findall(r"[0-9]+", (match[2] or "0:0:0").split(".")[0])[:3]]
    return clock[0] < 24 and clock[1] < 60 and clock[2] < 60


def float_text(value: float) -> str:
    """Return a float as Go's ``FormatFloat(value, 'g', -1, 32)`` writes it."""
    if math.isnan(value):
        return "NaN"
    try:
        single = struct.pack("<f", value)
    except OverflowError:
        single = struct.pack("<f", float("inf") if value > 0 else float("-inf"))
    value = struct.unpack("<f", single)[0]
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    for precision in range(9):
        scientific = f"{value:.{precision}e}"
        if struct.pack("<f", float(scientific)) == single:
            break
    mantissa, exponent = scientific.split("e")
    if -4 <= int(exponent) < 21:
        digits = max(0, len(mantissa.lstrip("-").replace(".", "")) - 1 - int(exponent))
        plain = f"{float(scientific):.{digits}f}"
        if int(exponent) < 6 or int(exponent) < 0:
            return plain
    return f"{mantissa}e{int(exponent):+03d}"


# Writing: what read() gives back unchanged.


class _Dumper(yaml.SafeDumper):
    pass


def _represent_string(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # PyYAML would leave a "y" without quotes, which go-yaml takes for true, and break the line at U+0085
    plain = _resolve(text, may_be_date=True)[0] == "str" and "\x85" not in text
    return dumper.represent_scalar(_TAG + "str", text, style=None if plain else '"')


_Dumper.add_representer(str, _represent_string)


def write(data: dict[str, Any]) -> bytes:
    """Return plain data as YAML text."""
    text: str = yaml.dump(
        data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, explicit_start=True, width=1 << 30
    )
    return text.encode()


# Shaping: values -> what the schema says, as the reference's JSON decoder does.


def _shape(
    value: Any, schema: Schema, path: str, line: int, findings: list[Finding], before: Any = None
) -> Any:
    """Return value as the schema has it; None, and a finding, where it can't be.

    ``before`` is what the same field in other case said: the reference decodes into that.
    """
    if value is None:
        return None
    shaped: Any
    if isinstance(schema, str):
        shaped = _SCALARS[schema](value)
    elif isinstance(schema, tuple):
        kind, item = schema
        if kind == "map":
            shaped = _shape_map(value, item, path, findings, before) if isinstance(value, _Mapping) else None
        else:
            shaped = (
                _shape_list(value, item, path, findings, before) if isinstance(value, _Sequence) else None
            )
    else:
        shaped = _shape_object(value, schema, path, findings, before) if isinstance(value, _Mapping) else None
    if shaped is None:
        where = f" (line {line})" if line else ""
        findings.append(Finding(path, f"expected {_wanted(schema)}, found {_found(value)}{where}"))
    return shaped


def _shape_map(
    value: _Mapping, item: Schema, path: str, findings: list[Finding], before: Any
) -> dict[str, Any]:
    shaped = dict(before or {})
    for key in sorted(value):
        child = _shape(value[key], item, f"{path}[{quote(key)}]", value.lines[key], findings)
        shaped[key] = "" if child is None else child
    return shaped


def _shape_list(value: _Sequence, item: Schema, path: str, findings: list[Finding], before: Any) -> list[Any]:
    shaped = []
    for index, (child, line) in enumerate(zip(value, value.lines)):
        there = before[index] if index < len(before or ()) else None
        result = _shape(child, item, f"{path}[{index}]", line, findings, there)
        if result is None:  # null, as the zero value; or a finding
            result = _ZEROES[item]() if isinstance(item, str) else {}
        shaped.append(result)
    return shaped


def _shape_object(
    value: _Mapping, fields: Mapping[str, Any], path: str, findings: list[Finding], before: Any
) -> dict[str, Any]:
    shaped: dict[str, Any] = dict(before or {})
    folded = {_fold(name): name for name in fields}
    # encoding/json sorts the keys, so that the exact spelling comes after UPPER case
    for key in sorted(value, key=lambda text: text.encode("utf-8", "replace")):
        name = key if key in fields else folded.get(_fold(key))
        if name is None:
            findings.append(Finding(path, f"unknown field {quote(key)} (line {value.lines[key]})"))
            continue
        there = shaped.get(name)
        child = _shape(value[key], fields[name], f"{path}.{name}", value.lines[key], findings, there)
        if value[key] is None and not isinstance(fields[name], str):
            shaped.pop(name, None)
        elif child is not None:
            shaped[name] = child
    return {name: shaped[name] for name in fields if name in shaped}


def _fold(name: str) -> str:
    return name.lower().replace("\u017f", "s").replace("\u212a", "k")


def _string(value: Any) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return float_text(value) if isinstance(value, float) else None


def _bool(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _whole(value: Any) -> int | None:
    if isinstance(value, float) and abs(value) < 1e21 and value == int(value):
        return int(Decimal(repr(value)))  # its shortest digits, filled up with zeros
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _int64(value: Any) -> int | None:
    number = _whole(value)
    return number if number is not None and -(1 << 63) <= number < 1 << 63 else None


def _uint32(value: Any) -> int | None:
    number = _whole(value)
    if isinstance(value, float) and str(value) == "-0.0":
        return None
    return number if number is not None and 0 <= number < 1 << 32 else None


_SCALARS = {STRING: _string, BOOL: _bool, INT64: _int64, UINT32: _uint32}
_ZEROES: dict[Any, type] = {STRING: str, BOOL: bool, INT64: int, UINT32: int}


def _wanted(schema: Schema) -> str:
    if isinstance(schema, str):
        return schema
    return "a list" if isinstance(schema, tuple) and schema[0] != "map" else "a mapping"


def _found(value: object) -> str:
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "a list"
    return f"the string {quote(value)}" if isinstance(value, str) else str(value)
