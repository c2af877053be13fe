# SPDX-License-Identifier: Apache-2.0
"""JSON text <-> tree, without losing anything and without importing json (7 ms).

``_json`` is CPython's own accelerator and no promise: where it isn't there, or
has changed, json does the same. Kept are the order of keys and the spelling of
numbers that a float would round; a key that appears twice is refused, since
one of the two would be lost.
"""

from __future__ import annotations

import sys

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


_scanners: dict[bool, Callable[[str, int], tuple[Any, int]]] = {}


def _scanner(*, is_own: bool) -> Callable[[str, int], tuple[Any, int]]:
    """Return the scanner that json.JSONDecoder would use, with what that would give it.

    Texts of our own have no number or key that a hook would have to look at. Without
    the hooks the scanner does it all itself.
    """
    if is_own in _scanners:
        return _scanners[is_own]
    from _json import make_scanner

    make_namespace: Any = type(sys.implementation)  # types.SimpleNamespace, without the import of types
    context = make_namespace(
        strict=True,
        object_hook=None,
        object_pairs_hook=None if is_own else _object,
        array_hook=None,  # since Python 3.15
        parse_float=float if is_own else _float,
        parse_int=int if is_own else _int,
        parse_constant=_constant,
        memo={},
    )
    _scanners[is_own] = make_scanner(context)
    return _scanners[is_own]


def loads(text: str) -> Any:
    """Return the tree of a JSON text; raises ValueError saying what is wrong and where."""
    try:
        scan = _scanner(is_own=False)
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
        scan = _scanner(is_own=True)
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


def dumps(tree: Any) -> str:
    """Return a tree as JSON text: one line, ASCII, keys in their order."""
    try:
        return _encode(tree, None, _refuse)
    except TypeError:  # a number that keeps its spelling, say
        return _dumps_numbers(tree)


def _refuse(value: object) -> object:
    raise TypeError(f"{value!r} is not JSON")


def _dumps_numbers(tree: Any) -> str:
    """Return a tree as dumps() does, with an encoder of strings that leaves numbers as they were written."""
    from json.encoder import encode_basestring_ascii

    class Verbatim(str):
        __slots__ = ()

    def string(text: str) -> str:
        return str(text) if type(text) is Verbatim else encode_basestring_ascii(text)

    def default(value: object) -> object:
        return Verbatim(value.text) if isinstance(value, _Number) else _refuse(value)

    return _encode(tree, string, default)


def _encode(tree: Any, string: Callable[[str], str] | None, default: Callable[[Any], object]) -> str:
    try:
        from _json import encode_basestring_ascii, make_encoder

        string = string or encode_basestring_ascii
        encode = make_encoder(None, default, string, None, ":", ",", False, False, False)
    except (ImportError, AttributeError, TypeError):
        import json.encoder as pure

        string = string or pure.encode_basestring_ascii
        make = pure._make_iterencode  # type: ignore[attr-defined]  # noqa: SLF001  # what json itself falls back to
        encode = make(None, default, string, None, float.__repr__, ":", ",", False, False, True)
    return "".join(encode(tree, 0))
