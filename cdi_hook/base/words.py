# SPDX-License-Identifier: Apache-2.0
"""Words of messages: names that are near a misspelt one, long lists cut short, numbers of things."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_LONGEST = 80  # characters of a word for which a name is looked for
_MOST = 128  # names that it is compared with: of more, those beside it in the alphabet, which begin like it


def near(word: str, known: Iterable[str], most: int = 1) -> list[str]:
    """Return the known names that are written much like a word, the most alike first.

    There are none for a long word. Of very many names only those count that begin most like it.
    """
    if len(word) > _LONGEST:
        return []
    import bisect
    import difflib  # 10 ms

    spellings, word = {one.lower(): one for one in known}, word.lower()
    alike: Iterable[str] = spellings
    if len(spellings) > _MOST:
        ordered = sorted(spellings)
        place = bisect.bisect(ordered, word)
        alike = ordered[max(0, place - _MOST // 2) : place + _MOST // 2]
    return [spellings[one] for one in difflib.get_close_matches(word, alike, most, 0.6)]


def instead(word: str, known: Iterable[str]) -> str:
    """Return what to write for a word that isn't known: the name near it, or else all names."""
    known = list(known)
    close = near(word, known)
    return f"did you mean {close[0]}?" if close else f"write one of {', '.join(known)}"


def some(items: Iterable[str], most: int = 5, separator: str = ", ") -> str:
    """Return the first of some items, and how many more there are."""
    items = list(items)
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return f"{separator.join(items[:most])}{more}"


def count(number: int, what: str) -> str:
    """Return a number of things, such as "1 device" or "2 devices"."""
    return f"{number} {what}{'' if number == 1 else 's'}"
