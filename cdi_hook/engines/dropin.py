# SPDX-License-Identifier: Apache-2.0
"""What CRI-O's and podman's TOML have in common: a table of runtimes, and a key that names the default."""

from __future__ import annotations

from typing import Any

from cdi_hook.engines.model import Edited, is_ours
from cdi_hook.engines.tomledit import TOMLText


class DropIn:
    """The part of an Engine that follows from where the two stand, and from what an entry runs."""

    table: tuple[str, ...]  # has default_key, and in it the table "runtimes"
    default_key: str

    @property
    def runtimes(self) -> tuple[str, ...]:
        """Return where the entries stand."""
        return (*self.table, "runtimes")

    def program(self, entry: Any) -> Any:
        """Return the path of the program that an entry runs; None when it can't be told."""
        raise NotImplementedError

    def set_default(self, document: TOMLText, name: str) -> None:
        """Make a runtime the default, if it isn't."""
        if document.get((*self.table, self.default_key)) != name:
            document.set(self.table, self.default_key, name)

    def remove(self, text: str, before: str | None) -> Edited:
        """See Engine."""
        document = TOMLText(text)
        ours = self.names(text)
        for name in ours:
            document.remove((*self.runtimes, name))
        if document.get((*self.table, self.default_key)) in ours:
            previous = self.default(before) if before is not None else None
            if previous is not None:
                document.set(self.table, self.default_key, previous)
            else:
                document.remove((*self.table, self.default_key))
        return Edited(document.text)

    def names(self, text: str) -> list[str]:
        """See Engine."""
        entries = TOMLText(text).get(self.runtimes)
        entries = entries if isinstance(entries, dict) else {}
        return [name for name, entry in entries.items() if is_ours(name, self.program(entry))]

    def default(self, text: str) -> str | None:
        """See Engine."""
        value = TOMLText(text).get((*self.table, self.default_key))
        return value if isinstance(value, str) else None
