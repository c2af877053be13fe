# SPDX-License-Identifier: Apache-2.0
"""The types that a CDI spec's fields have, and plain data held to them.

A schema is STRING, BOOL, INT64 or UINT32, ``("list", item)``, ``("map", value)``
or a dict of field name -> schema, for an object.
"""

from __future__ import annotations

from cdi_hook.base.quoting import quote
from cdi_hook.edits.kinds import BOOL, INT64, STRING, UINT32
from cdi_hook.errors import ERROR, Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any, Union

    Schema = Union[str, tuple[str, Any], Mapping[str, Any]]

ZEROES = {STRING: "", BOOL: False, INT64: 0, UINT32: 0}
RANGES = {INT64: (-(1 << 63), 1 << 63), UINT32: (0, 1 << 32)}  # the end isn't in it


def check(value: object, schema: Schema, path: str = "") -> Iterator[Finding]:
    """Yield what isn't of the schema's types in plain data. Unlike in a file, nothing is converted."""
    if isinstance(schema, str):
        if type(value) is type(ZEROES[schema]) and _fits(value, schema):
            return
    elif isinstance(schema, tuple):
        if schema[0] == "list" and isinstance(value, list):
            for index, item in enumerate(value):
                yield from check(item, schema[1], f"{path}[{index}]")
            return
        if schema[0] == "map" and isinstance(value, dict):
            for key, child in value.items():
                yield from check(key, STRING, path)
                yield from check(child, schema[1], f"{path}[{quote(str(key))}]")
            return
    elif isinstance(value, dict):
        for name, child in value.items():
            if name in schema:
                yield from check(child, schema[name], f"{path}.{name}")
            else:
                yield Finding(ERROR, f"unknown field {quote(str(name))}", place=path)
        return
    yield Finding(ERROR, f"expected {wanted(schema)}, found {value!r}", place=path)


def _fits(value: Any, schema: str) -> bool:
    if schema in RANGES:
        low, high = RANGES[schema]
        return bool(low <= value < high)
    try:
        str(value).encode()
    except UnicodeEncodeError:  # half a character
        return False
    return True


def in_order(value: Any, schema: Schema) -> Any:
    """Return plain data that is of a schema, with fields as the schema has them, and other keys sorted."""
    if isinstance(schema, str):
        return value
    if isinstance(schema, tuple):
        kind, item = schema
        if kind == "list":
            return [in_order(one, item) for one in value]
        return {key: in_order(value[key], item) for key in sorted(value)}
    return {name: in_order(value[name], schema[name]) for name in schema if name in value}


def wanted(schema: Schema) -> str:
    """Return in words what a schema takes."""
    if isinstance(schema, str):
        return schema
    return "a list" if isinstance(schema, tuple) and schema[0] == "list" else "a mapping"
