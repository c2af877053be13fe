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
    from collections.abc import Callable
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


class _OwnContext(_Context):
    object_pairs_hook = None  # type: ignore[assignment]  # then the scanner makes a dict itself
    parse_int = int  # type: ignore[assignment]  # which it knows


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


def loads_own(data: bytes) -> Any:
    """Return the tree of a text that dumps() made, sooner; raises ValueError or SystemError for another."""
    text = data.decode()
    try:
        from _json import make_scanner

        scan = make_scanner(_OwnContext)  # type: ignore[arg-type]  # duck-typed, in C
    except (ImportError, AttributeError, TypeError):
        return _loads_by_json(text)
    try:
        tree, end = scan(text, 0)
    except StopIteration as stop:
        raise ValueError("a value is missing") from stop
    if end != len(text):
        raise ValueError("there is more after the end")
    return tree


def _loads_by_json(text: str) -> Any:
    import json

    hooks = {"object_pairs_hook": _object, "parse_float": _float, "parse_int": _int}
    return json.loads(text, parse_constant=_constant, **hooks)  # type: ignore[arg-type]  # one by one they fit


def _place(text: str, position: int) -> str:
    line = text.count("\n", 0, position) + 1
    return f"line {line} column {position - text.rfind(chr(10), 0, position)}"


class _Verbatim(str):
    """A text that is written as it stands, without quotes."""

    __slots__ = ()


class _NumberFoundError(Exception):
    pass


def dumps(tree: Any) -> str:
    """Return a tree as JSON text: one line, ASCII, keys in their order."""
    try:
        from _json import encode_basestring_ascii
    except ImportError:
        from json.encoder import encode_basestring_ascii
    try:
        return _encode(tree, encode_basestring_ascii, _refuse)
    except _NumberFoundError:  # it takes an encoder of strings that isn't C's
        return _encode(
            tree,
            lambda text: str(text) if type(text) is _Verbatim else encode_basestring_ascii(text),
            lambda number: _Verbatim(number.text),
        )


def _refuse(value: object) -> object:
    if isinstance(value, _Number):
        raise _NumberFoundError
    raise TypeError(f"{value!r} is not JSON")


def _encode(tree: Any, string: Callable[[str], str], default: Callable[[Any], object]) -> str:
    try:
        from _json import make_encoder

        encode = make_encoder(None, default, string, None, ":", ",", False, False, False)
    except (ImportError, AttributeError, TypeError):
        from json.encoder import _make_iterencode  # type: ignore[attr-defined]  # what json itself falls back to

        encode = _make_iterencode(None, default, string, None, float.__repr__, ":", ",", False, False, True)
    return "".join(encode(tree, 0))
