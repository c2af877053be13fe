# SPDX-License-Identifier: Apache-2.0
"""JSON text <-> tree, without losing anything and without importing json (7 ms).

``_json`` is CPython's own accelerator and no promise: where it isn't there, or
has changed, json does the same. Kept are the order of keys and the spelling of
numbers that a float would round; a key that appears twice is refused, since
one of the two would be lost.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SPACE = " \t\n\r"
_MAX_DIGITS = 4300  # int() takes no more, against attacks by their quadratic cost


class _Number:
    """A number that a float or an int can't hold as it was written."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


def _float(text: str) -> float | _Number:
    value = float(text)
    return value if repr(value) == text else _Number(text)


def _int(text: str) -> int | _Number:
    return _Number(text) if text == "-0" or len(text) > _MAX_DIGITS else int(text)


def _constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]  # for its effect
        raise ValueError(f'the key "{twice}" appears twice in one object')
    return tree


class _Context:
    """What json.JSONDecoder would give its scanner."""

    strict = True
    object_hook = None
    object_pairs_hook = staticmethod(_object)
    parse_float = staticmethod(_float)
    parse_int = staticmethod(_int)
    parse_constant = staticmethod(_constant)
    memo: dict[str, str] = {}  # noqa: RUF012 # the scanner's own, cleared by it


def loads(text: str) -> Any:
    """Return the tree of a JSON text; raises ValueError saying what is wrong and where."""
    try:
        from _json import make_scanner

        scan = make_scanner(_Context)  # type: ignore[arg-type]  # duck-typed, in C
    except (ImportError, AttributeError, TypeError):
        return _loads_by_json(text)
    start = len(text) - len(text.lstrip(_SPACE))
    try:
        tree, end = scan(text, start)
    except StopIteration as stop:
        raise ValueError(f"a value is missing at {_place(text, stop.value)}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except SystemError:  # Python 3.10 and 3.11 find no words for what is wrong unless json is there
        return _loads_by_json(text)
    if text[end:].strip(_SPACE):
        raise ValueError(f"there is more after the end, at {_place(text, end)}")
    return tree


def _loads_by_json(text: str) -> Any:
    import json

    hooks = {"object_pairs_hook": _object, "parse_float": _float, "parse_int": _int}
    return json.loads(text, parse_constant=_constant, **hooks)  # type: ignore[arg-type]  # one by one they fit


def _place(text: str, position: int) -> str:
    line = text.count("\n", 0, position) + 1
    return f"line {line} column {position - text.rfind(chr(10), 0, position)}"


def dumps(tree: Any) -> str:
    """Return a tree as JSON text: one line, ASCII, keys in their order."""
    numbers: list[_Number] = []

    def default(value: object) -> str:
        if not isinstance(value, _Number):
            raise TypeError(f"{value!r} is not JSON")
        numbers.append(value)
        return f"\0{len(numbers) - 1}\0"  # no string that a runtime takes has a NUL

    try:
        from _json import encode_basestring_ascii, make_encoder

        encode = make_encoder(None, default, encode_basestring_ascii, None, ":", ",", False, False, False)
        text = "".join(encode(tree, 0))
    except (ImportError, AttributeError, TypeError):
        import json

        text = json.dumps(tree, default=default, separators=(",", ":"), allow_nan=False)
    for index, number in enumerate(numbers):
        text = text.replace(f'"\\u0000{index}\\u0000"', number.text, 1)
    return text
