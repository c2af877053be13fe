# SPDX-License-Identifier: Apache-2.0
"""A configuration's text and its decoded tree. json_document.py and toml_document.py edit both together."""

from __future__ import annotations

import contextlib
import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from cdi_hook.engines.client import dig
from cdi_hook.errors import CDIError

if TYPE_CHECKING:
    from collections.abc import Iterator

    Key = tuple[str, ...]  # all names, from the top


FIRST_LINE = "# Written by `cdi-hook configure"


class UnusableConfiguration(CDIError):
    """An engine's configuration that can't be read or edited; the message doesn't have the path."""


@contextlib.contextmanager
def named(path: str) -> Iterator[None]:
    """Put a file's path in front of an UnusableConfiguration's message."""
    try:
        yield
    except UnusableConfiguration as error:
        raise CDIError(f"{path}: {error}") from error


class Document(ABC):
    """A text and its tree. Raises UnusableConfiguration."""

    text: str
    tree: dict[str, Any]
    kind = "a table"  # what has keys and values
    first = FIRST_LINE + " {}`; --remove removes {}.\n"  # what an engine's new file starts with
    blank = re.compile(rf"{FIRST_LINE}.*\n?(version = \d+\n)?\s*")  # a text with no more than such a file

    @abstractmethod
    def __init__(self, text: str) -> None: ...

    @property
    def is_blank(self) -> bool:
        """Whether the text has nothing but what a new file starts with."""
        return self.blank.fullmatch(self.text) is not None

    def get(self, path: Key) -> Any:
        """Return the value of a key; None if there is none."""
        return dig(self.tree, *path)

    def table(self, path: Key) -> dict[str, Any]:
        """Return what is in a table; {} if there is none."""
        value = self.get(path)
        if value is not None and not isinstance(value, dict):
            raise UnusableConfiguration(f"{'.'.join(path)} is not {self.kind}")
        return value or {}

    @abstractmethod
    def set(self, path: Key, value: Any) -> None:
        """Set a key in its place, or add it as the last of its table; missing tables are added."""

    @abstractmethod
    def remove(self, path: Key) -> None:
        """Take a key out, with all that is in it; raises KeyError if it is missing."""

    def is_marked(self, path: Key) -> bool:  # noqa: ARG002  # a text without comments has no marks
        """Say whether a table has our mark."""
        return False

    def tidy(self, path: Key, before: Document | None) -> None:  # noqa: B027  # marks do it
        """Take out the tables on the way to path that are empty, unless the text before us has them so."""
