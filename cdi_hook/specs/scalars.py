# SPDX-License-Identifier: Apache-2.0
"""The text of a YAML scalar <-> its value, as in go-yaml v2: what is a number, what is true."""

from __future__ import annotations

import math
import re
import struct
from datetime import date
from typing import Any

TAG = "tag:yaml.org,2002:"

_CONSTANTS: dict[str, object] = {
    **dict.fromkeys(("y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"), True),
    **dict.fromkeys(("n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"), False),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
}  # fmt: skip
# What may begin a plain scalar that is no string.
NOT_TEXT = frozenset(("", *"+-.0123456789", *(text[:1] for text in _CONSTANTS)))
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_DOT_FLOAT = re.compile(r"\.[0-9](_?[0-9])*([eE][-+]?[0-9](_?[0-9])*)?")
_TIMESTAMP = re.compile(
    r"([0-9]{4}-[0-9]{1,2}-[0-9]{1,2})"
    r"([Tt][0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}(\.[0-9]+)?(Z|[-+][0-9]{2}:[0-9]{2})"
    r"| [0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}(\.[0-9]+)?)?"
)
_INTEGER = re.compile(
    r"(?P<sign>[-+]?)(?:0[xX](?P<x>[0-9a-fA-F]+)|0[bB](?P<b>[01]+)|0[oO]?(?P<o>[0-7]+)|(?P<d>0|[1-9][0-9]*))"
    r"|0b(?P<minus>[-+])(?P<late>[01]+)"
)
_BASES = {"x": 16, "b": 2, "o": 8, "d": 10, "late": 2}


def resolve(text: str, may_be_date: bool) -> tuple[str, Any]:
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


def _integer(plain: str) -> int | None:
    """Read an int64 or else a uint64 as Go's strconv.ParseInt does with base 0."""
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
        single = struct.pack("<f", math.copysign(math.inf, value))
    value = struct.unpack("<f", single)[0]
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    for precision in range(9):
        scientific = f"{value:.{precision}e}"
        if struct.pack("<f", float(scientific)) == single:
            break
    mantissa, exponent = scientific.split("e")
    if -4 <= int(exponent) < 6:
        digits = max(0, len(mantissa.lstrip("-").replace(".", "")) - 1 - int(exponent))
        return f"{float(scientific):.{digits}f}"
    return f"{mantissa}e{int(exponent):+03d}"
