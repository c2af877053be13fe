# SPDX-License-Identifier: Apache-2.0
"""Edits of JSON text: a member is added, replaced or removed, and every other byte stays.

The edited text is decoded and compared with the tree that has the same edit. So a
text that this module misunderstands is refused, not damaged.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from cdi_hook.engines.edit.document import Document, UnusableConfiguration

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdi_hook.engines.edit.document import Key

_SPACE = re.compile(r"[ \t\r\n]*")


class _Member(NamedTuple):
    start: int  # of the key
    value: int
    end: int  # of the value


class JSONText(Document):
    """A JSON object's text and tree; raises UnusableConfiguration with line and column."""

    kind = "an object"
    first = ""
    blank = re.compile(r"\s*\{\}\s*")

    def __init__(self, text: str) -> None:
        self.text = text
        if not text.strip():
            self.text = "{}\n"
        try:
            self.tree = json.loads(self.text, object_pairs_hook=_object, parse_float=str)
        except json.JSONDecodeError as error:
            where = f"line {error.lineno} column {error.colno}"
            raise UnusableConfiguration(f"not valid JSON: {error.msg} at {where}") from error
        except RecursionError:
            raise UnusableConfiguration("not usable: nested too deeply") from None
        if not isinstance(self.tree, dict):
            raise UnusableConfiguration("not a JSON object")

    def set(self, path: Key, value: Any) -> None:
        tree = self.tree
        for depth, key in enumerate(path[:-1]):
            if key not in tree:
                for name in reversed(path[depth + 1 :]):
                    value = {name: value}
                return self.set(path[: depth + 1], value)
            tree = tree[key]
            if not isinstance(tree, dict):
                raise UnusableConfiguration(f"{'.'.join(path[: depth + 1])} is not an object")
        tree[path[-1]] = value
        members, start, end = self._object(path[:-1])
        unit, here = self._indents(path)
        name = json.dumps(path[-1])
        if path[-1] in members:
            member = members[path[-1]]
            self._replace(member.value, member.end, _dump(value, unit, here))
        elif members:
            ordered = list(members.values())
            before = self.text[start + 1 : ordered[0].start]
            text = _dump(value, unit if "\n" in before else None, here)
            self._replace(ordered[-1].end, ordered[-1].end, f",{before or ' '}{name}: {text}")
        elif unit is None:
            self._replace(start, end, f"{{{name}: {_dump(value, None, here)}}}")
        else:
            closing = here[: len(here) - len(unit)]
            self._replace(start, end, f"{{{here}{name}: {_dump(value, unit, here)}{closing}}}")
        return None

    def remove(self, path: Key) -> None:
        tree = self.tree
        for key in path[:-1]:
            tree = tree[key]
        del tree[path[-1]]
        members, start, end = self._object(path[:-1])
        ordered = list(members.values())
        index = [*members].index(path[-1])
        if len(ordered) == 1:
            self._replace(start, end, "{}")
        elif index:
            self._replace(ordered[index - 1].end, ordered[index].end, "")
        else:
            self._replace(ordered[0].start, ordered[1].start, "")

    def tidy(self, path: Key, before: Document | None) -> None:
        while path:
            if self.get(path) == {} and not (before and before.get(path) == {}):
                self.remove(path)
            path = path[:-1]

    def _replace(self, start: int, end: int, text: str) -> None:
        self.text = self.text[:start] + text + self.text[end:]
        if json.loads(self.text, object_pairs_hook=_object, parse_float=str) != self.tree:
            raise UnusableConfiguration("can't be edited as it is written")

    def _object(self, path: Sequence[str]) -> tuple[dict[str, _Member], int, int]:
        """Return an object's members, and where it starts and ends."""
        start = _skip(self.text, 0)
        for key in path:
            start = self._members(start)[0][key].value
        members, end = self._members(start)
        return members, start, end

    def _members(self, start: int) -> tuple[dict[str, _Member], int]:
        decoder = json.JSONDecoder()
        members: dict[str, _Member] = {}
        position = _skip(self.text, start + 1)
        while self.text[position] != "}":
            key_start = position
            key, position = decoder.raw_decode(self.text, position)
            value = _skip(self.text, _skip(self.text, position) + 1)
            _, end = decoder.raw_decode(self.text, value)
            members[key] = _Member(key_start, value, end)
            position = _skip(self.text, end)
            if self.text[position] == ",":
                position = _skip(self.text, position + 1)
        return members, position + 1

    def _indents(self, path: Sequence[str]) -> tuple[str | None, str]:
        """Return the unit of indentation (None: one line) and a line break with a member's indentation."""
        start = _skip(self.text, 0)
        gap = self.text[start + 1 : _skip(self.text, start + 1)]
        if self.text.startswith(f"{{{gap}}}", start):
            gap = "\n    "  # an empty object has no indentation; dockerd's manual uses this
        if "\n" not in gap:
            return None, ""
        unit = gap[gap.rindex("\n") + 1 :]
        newline = "\r\n" if "\r\n" in self.text else "\n"
        return unit, newline + unit * len(path)


def _skip(text: str, position: int) -> int:
    match = _SPACE.match(text, position)
    return match.end() if match else position


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for number, key in enumerate(keys) if key in keys[:number])
        raise UnusableConfiguration(f'not usable: the key "{twice}" appears twice in one object')
    return tree


def _dump(value: Any, unit: str | None, here: str) -> str:
    if unit is None:
        return json.dumps(value)
    return json.dumps(value, indent=unit).replace("\n", here)
