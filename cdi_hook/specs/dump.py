# SPDX-License-Identifier: Apache-2.0
"""A spec's data -> the text of its file, YAML or JSON, from which shape.read returns the same data."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import yaml

from cdi_hook.edits.kinds import KINDS
from cdi_hook.specs.model import SCHEMA
from cdi_hook.specs.scalars import TAG, resolve

if TYPE_CHECKING:
    from cdi_hook.specs.schema import Schema

# What JSON needn't escape, and YAML, as which every spec is read, doesn't take as it is.
_NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
# Fields in which a zero or an empty value differs from none, and is written.
_OPTIONAL = frozenset(field or name for name, kind in KINDS.items() for field in kind.optional)


def dump(data: dict[str, Any], name: str) -> bytes:
    """Return a spec as the text of a file called name: JSON for .json, else YAML."""
    data = _ordered(data, SCHEMA)
    if name.endswith(".json"):
        text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
        return _NOT_IN_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode()
    return yaml_text(data)


def _ordered(value: Any, schema: Schema) -> Any:
    """Return value with its fields in the schema's order, without empty ones."""
    if isinstance(schema, Mapping):
        return {
            name: _ordered(value.get(name, {}), child)
            for name, child in schema.items()
            if value.get(name)
            or name == "containerEdits"
            or (name in _OPTIONAL and name in value and not isinstance(child, tuple))
        }
    if isinstance(schema, tuple) and schema[0] == "map":
        return dict(sorted(value.items()))
    if isinstance(schema, tuple):
        return [_ordered(item, schema[1]) for item in value]
    return value


class _Dumper(yaml.SafeDumper):
    pass


def _represent_string(dumper: _Dumper, text: str) -> yaml.ScalarNode:
    # PyYAML wouldn't quote "y", which is true to go-yaml, and would break the line at U+0085
    plain = resolve(text, may_be_date=True)[0] == "str" and "\x85" not in text
    return dumper.represent_scalar(TAG + "str", text, style=None if plain else '"')


_Dumper.add_representer(str, _represent_string)


def yaml_text(data: dict[str, Any]) -> bytes:
    """Return plain data as YAML text."""
    text: str = yaml.dump(
        data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, explicit_start=True, width=1 << 30
    )
    return text.encode()
