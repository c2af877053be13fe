# SPDX-License-Identifier: Apache-2.0
"""Edits of TOML text: keys are set, tables are added or removed, and every other byte stays.

tomllib only reads the text. This module adds tables at the end of the text, where TOML
always allows them, with a mark:

    [crio.runtime.runtimes.cdi]  # by cdi-hook configure

The edited text is decoded and compared with the tree that has the same edit. So a
text that can't be edited (with a table in braces) is refused, not damaged.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from cdi_hook.engines.edit.document import Document, UnusableConfiguration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cdi_hook.engines.edit.document import Key

MARK = "  # by cdi-hook configure"
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"[ \t]*")
# Strings, which have to be known to find where a value ends.
_STRING = re.compile(
    r"""
    \"\"\" (?: \\. | [^\\] )*? \"{3,5} | \'\'\' .*? \'{3,5} |
    " (?: \\. | [^"\\] )* " | ' [^']* '
    """,
    re.DOTALL | re.VERBOSE,
)


class _Header(NamedTuple):
    path: tuple[str, ...]
    start: int  # of its line
    end: int  # of its line, the line break included


class _Key(NamedTuple):
    path: tuple[str, ...]  # its table's path is part of it
    table: tuple[str, ...]
    start: int  # of its line
    value: int
    value_end: int
    end: int  # of its last line, the line break included


class TOMLText(Document):
    """A TOML document's text and tree; raises UnusableConfiguration with line and column."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tree = _parse(text)
        self._newline = "\r\n" if "\r\n" in text else "\n"

    def set(self, path: Key, value: Any) -> None:
        # A table that is set must be a new one.
        table, key = path[:-1], path[-1]
        self._table(table)[key] = value
        if isinstance(value, dict):
            self._append(self._newline.join(_lines(path, value)) + self._newline)
            return self._check(path)
        headers, keys = _scan(self.text)
        line = f"{_name(key)} = {_value(value)}{self._newline}"
        at = next((one for one in keys if one.path == path), None)
        own = [one for one in keys if one.table == table]
        header = next((one for one in headers if one.path == table), None)
        if at is not None:
            self._replace(at.value, at.value_end, _value(value))
        elif own:
            self._insert(own[-1].end, self._indent(own[-1].start) + line)
        elif header is not None:
            self._insert(header.end, self._indent(header.start) + line)
        else:
            self._append(f"[{_names(table)}]{MARK}{self._newline}{line}")
        return self._check(path)

    def remove(self, path: Key) -> None:
        del self._table(path[:-1])[path[-1]]
        headers, keys = _scan(self.text)
        spans = []
        for number, header in enumerate(headers):
            if header.path[: len(path)] == path:
                after = headers[number + 1].start if number + 1 < len(headers) else len(self.text)
                own = [one.end for one in keys if header.end <= one.start < after]
                spans.append((self._before(header.start), max([header.end, *own])))
        for one in keys:
            if one.path[: len(path)] == path and not any(start <= one.start < end for start, end in spans):
                spans.append((one.start, one.end))
        for start, end in sorted(spans, reverse=True):
            self._replace(start, end, "")
        self._drop_empty(path[:-1])
        self._check(path)

    def is_marked(self, path: Key) -> bool:
        """Say whether a table has our mark."""
        return any(one.path == path and self._has_mark(one) for one in _scan(self.text)[0])

    def _has_mark(self, header: _Header) -> bool:
        return self.text[header.start : header.end].rstrip().endswith(MARK)

    def _before(self, start: int) -> int:
        """Return the start of the empty line before a header, or the header's start if there is none."""
        for blank in ("\r\n\r\n", "\n\n"):
            if self.text[:start].endswith(blank):
                return start - len(blank) // 2
        return start

    def _drop_empty(self, path: Key) -> None:
        """Remove the tables on the way to path that have our mark and are empty."""
        while path:
            headers, keys = _scan(self.text)
            header = next((one for one in headers if one.path == path and self._has_mark(one)), None)
            if header and not any(one.table == path for one in keys):
                self.text = self.text[: self._before(header.start)] + self.text[header.end :]
            if not self.get(path) and not any(one.path[: len(path)] == path for one in _scan(self.text)[0]):
                self._table(path[:-1]).pop(path[-1], None)
            path = path[:-1]

    def _table(self, path: Sequence[str]) -> dict[str, Any]:
        node = self.tree
        for depth, key in enumerate(path, 1):
            node = node.setdefault(key, {})
            if not isinstance(node, dict):
                raise UnusableConfiguration(f"{_names(path[:depth])} is not a table")
        return node

    def _indent(self, start: int) -> str:
        match = _BLANK.match(self.text, start)
        return match[0] if match else ""

    def _insert(self, position: int, line: str) -> None:
        if position and self.text[position - 1] != "\n":
            line = self._newline + line
        self._replace(position, position, line)

    def _append(self, lines: str) -> None:
        if self.text and not self.text.endswith("\n"):
            self.text += self._newline
        self.text += (self._newline if self.text else "") + lines

    def _replace(self, start: int, end: int, text: str) -> None:
        self.text = self.text[:start] + text + self.text[end:]

    def _check(self, path: Sequence[str]) -> None:
        try:
            is_right = _parse(self.text) == self.tree
        except UnusableConfiguration:
            is_right = False
        if not is_right:
            raise _cant(path)


def _cant(path: Sequence[str]) -> UnusableConfiguration:
    return UnusableConfiguration(
        f"can't edit {_names(path)}, because it is written in braces or with dots in a key: "
        f"write [{_names(path[:-1])}] as a table"
    )


def _parse(text: str) -> dict[str, Any]:
    try:
        import tomllib  # novm: it may be missing
    except ImportError:
        try:
            import tomli as tomllib
        except ImportError:
            raise UnusableConfiguration(
                "reading it needs Python 3.11 or tomli: install python3-tomli (or pip install tomli)"
            ) from None
    try:
        tree: dict[str, Any] = tomllib.loads(text)
    except ValueError as error:
        raise UnusableConfiguration(f"not valid TOML: {error}") from error
    except RecursionError:
        raise UnusableConfiguration("not usable: nested too deeply") from None
    return tree


def _scan(text: str) -> tuple[list[_Header], list[_Key]]:
    """Return the headers and keys of a text that is TOML."""
    position = 0
    headers: list[_Header] = []
    keys: list[_Key] = []
    table: tuple[str, ...] = ()
    while position < len(text):
        start = position
        position = _skip(text, position)
        if text.startswith("[", position):
            is_array = text.startswith("[[", position)
            table, position = _key(text, position + 1 + is_array)
            table = (*table, "[]") if is_array else table
            position = _line_end(text, position)
            headers.append(_Header(table, start, position))
        elif position < len(text) and text[position] not in "#\r\n":
            key, position = _key(text, position)
            value = _skip(text, position + 1)
            value_end = _value_end(text, value)
            position = _line_end(text, value_end)
            keys.append(_Key((*table, *key), table, start, value, value_end, position))
        else:
            position = _line_end(text, position)
    return headers, keys


def _skip(text: str, position: int) -> int:
    match = _BLANK.match(text, position)
    return match.end() if match else position


def _line_end(text: str, position: int) -> int:
    """Return the end of the line with its line break."""
    end = text.find("\n", position)
    return len(text) if end < 0 else end + 1


def _key(text: str, position: int) -> tuple[tuple[str, ...], int]:
    """Return a key's parts and where it ends, at a "=" or a "]"."""
    parts: list[str] = []
    while True:
        position = _skip(text, position)
        match = _STRING.match(text, position) or _BARE.match(text, position)
        if not match:
            raise ValueError("no key")
        parts += _parse(f"{match[0]}=0")
        position = _skip(text, match.end())
        if text[position] != ".":
            return tuple(parts), position
        position += 1


def _value_end(text: str, position: int) -> int:
    depth, end = 0, position
    while position < len(text):
        character = text[position]
        if character in "\"'":
            match = _STRING.match(text, position)
            if not match:
                raise ValueError("no string")
            position = end = match.end()
            continue
        if character == "#":
            position = text.find("\n", position)
            if not depth or position < 0:
                break
        elif character == "\n" and not depth:
            break
        else:
            depth += (character in "[{") - (character in "]}")
            end = end if character.isspace() else position + 1
        position += 1
    return end


def _name(key: str) -> str:
    return key if _BARE.fullmatch(key) else json.dumps(key, ensure_ascii=False)


def _names(path: Sequence[str]) -> str:
    return ".".join(_name(key) for key in path)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{_name(key)} = {_value(one)}' for key, one in value.items())} }}"
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _lines(path: Sequence[str], values: Mapping[str, Any]) -> list[str]:
    lines = [f"[{_names(path)}]{MARK}"]
    lines += [f"{_name(key)} = {_value(one)}" for key, one in values.items() if not isinstance(one, dict)]
    for key, one in values.items():
        if isinstance(one, dict):
            lines += _lines((*path, key), one)
    return lines
