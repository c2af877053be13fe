# SPDX-License-Identifier: Apache-2.0
"""YAML or JSON text -> values of a schema's types, and findings: the whole way of reading a CDI spec.

The reference implementation reads a spec with go-yaml v2, converts it to JSON by the
target's types, and decodes that strictly. yaml_nodes.py and yaml_values.py do the first
step, and this module does the others. model.py has the schema of CDI.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Callable

from cdi_hook.base.quoting import quote
from cdi_hook.base.words import instead
from cdi_hook.edits.kinds import BOOL, INT64, STRING, UINT32
from cdi_hook.errors import ERROR, Finding
from cdi_hook.specs.scalars import float_text
from cdi_hook.specs.schema import RANGES, ZEROES, wanted
from cdi_hook.specs.versions import DRAFTS, NEWER
from cdi_hook.specs.yaml_nodes import SyntaxProblem, YamlNode, line
from cdi_hook.specs.yaml_values import LinedMapping, LinedSequence, decode

if TYPE_CHECKING:
    from cdi_hook.specs.schema import Schema

Findings = list[Finding]

_MOST_ADVICE = 100  # findings that say what to write instead: to find that takes longest
_LONG = 60  # characters; more of a text aren't shown
# Words of a parser's error, and what to do.
_SYNTAX = {
    "cannot start any token": "YAML is indented with spaces, not with tabs",
    "mapping values are not allowed": "is this line, or the one above it, indented as its neighbours are?",
    "expected <block end>": "is this line indented as its neighbours are?",
    "did not find expected": "is this line indented as its neighbours are?",
}


def read(data: bytes, schema: Schema) -> tuple[Any, list[Finding]]:
    """Read one document; return its value in the schema's types, and the findings.

    The value is None if there is no data. With findings, it has what could be read.
    """
    try:
        value = decode(data)
    except SyntaxProblem as problem:
        advice = next((advice for words, advice in _SYNTAX.items() if words in str(problem)), "")
        return None, [Finding(ERROR, str(problem), advice)]
    except RecursionError:
        return None, [Finding(ERROR, "nested too deeply")]
    findings: Findings = []
    return _shape(value, schema, "", None, findings), findings


def _shape(
    value: Any, schema: Schema, path: str, node: YamlNode, findings: Findings, before: Any = None
) -> Any:
    """Return value in the schema's type; None, with a finding, if it has another type.

    ``before`` is the value of the same field in other case: the reference decodes into that.
    """
    if value is None:
        return None
    shaped: Any = None
    if isinstance(schema, str):
        shaped = _SCALARS[schema](value)
    elif isinstance(schema, tuple) and schema[0] == "list":
        if isinstance(value, LinedSequence):
            shaped = _shape_list(value, schema[1], path, findings, before)
    elif isinstance(value, LinedMapping):
        shape = _shape_map if isinstance(schema, tuple) else _shape_object
        shaped = shape(value, schema, path, findings, before)
    if shaped is None:
        where = f" (line {line(node)})" if node else ""
        findings.append(
            Finding(ERROR, f"expected {wanted(schema)}, found {_found(value)}{where}", place=path)
        )
    return shaped


def _shape_map(value: LinedMapping, schema: Any, path: str, findings: Findings, before: Any) -> Any:
    shaped = dict(before or {})
    for key in sorted(value):
        child = _shape(value[key], schema[1], f"{path}[{quote(key)}]", value.nodes[key], findings)
        shaped[key] = "" if child is None else child
    return shaped


def _shape_list(value: LinedSequence, item: Any, path: str, findings: Findings, before: Any) -> Any:
    shaped = []
    for index, child in enumerate(value):
        if item is STRING and type(child) is str:
            shaped.append(child)
            continue
        there = before[index] if index < len(before or ()) else None
        result = _shape(child, item, f"{path}[{index}]", value.nodes[index], findings, there)
        if result is None:  # null means the zero value; or there is a finding
            result = ZEROES[item] if isinstance(item, str) else {}
        shaped.append(result)
    return shaped


def _shape_object(value: LinedMapping, fields: Any, path: str, findings: Findings, before: Any) -> Any:
    shaped: dict[str, Any] = dict(before or {})
    for key in sorted(value):  # as encoding/json does, so the exact spelling comes after UPPER case
        child, name = value[key], key
        if name not in fields:
            name = next((name for name in fields if _fold(name) == _fold(key)), "")
            if not name:
                message = f"unknown field {quote(key)} (line {line(value.nodes[key])})"
                advice = _field_instead(key, fields) if len(findings) < _MOST_ADVICE else ""
                findings.append(Finding(ERROR, message, advice, path))
                continue
        schema = fields[name]
        if schema is not STRING or type(child) is not str:
            if child is None and not isinstance(schema, str):
                shaped.pop(name, None)
            child = _shape(child, schema, f"{path}.{name}", value.nodes[key], findings, shaped.get(name))
        if child is not None:
            shaped[name] = child
    return {name: shaped[name] for name in fields if name in shaped}


def _field_instead(key: str, fields: Mapping[str, Schema]) -> str:
    """Return where a field that isn't known here belongs, or what it may be meant for."""
    if key in DRAFTS:
        return f"it is of {NEWER}"
    homes = []
    for name, schema in fields.items():
        inner = schema[1] if isinstance(schema, tuple) else schema
        if isinstance(inner, Mapping) and key in inner:
            homes.append(name)
    return f"it belongs in {' or '.join(homes)}" if homes else instead(key, fields)


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


def _whole(value: Any, low: int, high: int) -> int | None:
    if isinstance(value, float) and abs(value) < 1e21 and value == int(value):
        from decimal import Decimal

        value = int(Decimal(repr(value)))  # the shortest digits, then zeros
    return value if isinstance(value, int) and not isinstance(value, bool) and low <= value < high else None


def _uint32(value: Any) -> int | None:
    if isinstance(value, float) and str(value) == "-0.0":
        return None
    return _whole(value, *RANGES[UINT32])


_SCALARS: dict[str, Callable[[Any], Any]] = {
    STRING: _string,
    BOOL: lambda value: value if isinstance(value, bool) else None,
    INT64: lambda value: _whole(value, *RANGES[INT64]),
    UINT32: _uint32,
}


def _found(value: object) -> str:
    if isinstance(value, LinedMapping):
        return "a mapping"
    if isinstance(value, LinedSequence):
        return "a list"
    if isinstance(value, str):
        more = f"... ({len(value)} characters)" if len(value) > _LONG else ""
        return f"the string {quote(value[:_LONG])}{more}"
    return str(value)
