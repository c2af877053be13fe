# SPDX-License-Identifier: Apache-2.0
"""Names that are near a misspelt one, for messages. Imported only after a failure."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def near(word: str, known: Iterable[str], most: int = 1) -> list[str]:
    """Return the known names that are written much like a word, the most alike first."""
    spellings = {one.lower(): one for one in known}
    return [spellings[one] for one in difflib.get_close_matches(word.lower(), spellings, most, 0.6)]


def instead(word: str, known: Iterable[str], what: str = "known are") -> str:
    """Return what to write for a word that isn't known: the name near it, or else all names."""
    known = list(known)
    close = near(word, known)
    return f"did you mean {close[0]}?" if close else f"{what} {', '.join(known)}"
