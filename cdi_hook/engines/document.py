# SPDX-License-Identifier: Apache-2.0
"""A configuration's text, and the tree that it stands for. jsonedit.py and tomledit.py edit both together."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

from cdi_hook.errors import CDIError

if TYPE_CHECKING:
    from collections.abc import Iterator

    Key = tuple[str, ...]  # the names on the way to it, from the top


class UnusableConfiguration(CDIError):
    """An engine's configuration that can't be read or edited; its text has no path in front yet."""


@contextlib.contextmanager
def named(path: str) -> Iterator[None]:
    """Put a file's path in front of what is wrong with it."""
    try:
        yield
    except UnusableConfiguration as error:
        raise CDIError(f"{path}: {error}") from error


class Document(ABC):
    """A text and its tree. Raises UnusableConfiguration."""

    text: str
    tree: dict[str, Any]

    @abstractmethod
    def __init__(self, text: str) -> None: ...

    def get(self, path: Key) -> Any:
        """Return the value of a key; None when there is none."""
        node: Any = self.tree
        for name in path:
            node = node.get(name) if isinstance(node, dict) else None
        return node

    @abstractmethod
    def set(self, path: Key, value: Any) -> None:
        """Set a key in its place, or as the last of its table; tables that aren't there are made."""

    @abstractmethod
    def remove(self, path: Key) -> None:
        """Take a key out, with all that is in it; raises KeyError when it isn't there."""
