# SPDX-License-Identifier: Apache-2.0
"""What is asked of an engine's configuration, what comes of it, and whose a runtime entry is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from cdi_hook.errors import CDIError

if TYPE_CHECKING:
    from collections.abc import Sequence

    Other = tuple[str, str]  # a file that the engine reads as well: its path and text

NAME = "cdi"


class UnusableConfiguration(CDIError):
    """An engine's configuration that can't be read or edited; its text has no path in front yet."""


@dataclass(frozen=True)
class Request:
    """An entry that an engine's configuration is to have.

    ``path`` is cdi-runtime's, or with ``runtime``, the name of a low-level
    runtime, that of the link cdi-NAME. ``annotations`` are the patterns of keys
    that an engine which filters them has to let through.
    """

    path: str
    runtime: str = ""
    set_default: bool = False
    annotations: tuple[str, ...] = ()
    pod_annotations: bool = False

    @property
    def name(self) -> str:
        """Return the entry's name: cdi, or cdi-NAME."""
        return f"{NAME}-{self.runtime}" if self.runtime else NAME

    @property
    def templates(self) -> tuple[str, ...]:
        """Return the names of the entries to copy from, the best first."""
        return (self.runtime, "runc") if self.runtime else ("runc", "crun")


@dataclass(frozen=True)
class Edited:
    """A configuration's text after an edit, and what a person should know about it, a line each."""

    text: str
    notes: tuple[str, ...] = ()
    needs_restart: bool = False  # a reload wouldn't do


class Engine(Protocol):
    """What can be done with the text of one engine's configuration; raises UnusableConfiguration."""

    def add(self, text: str, request: Request, others: Sequence[Other] = ()) -> Edited:
        """Return the text with the runtime in it; the same text when it is there as requested."""

    def remove(self, text: str, before: str | None) -> Edited:
        """Return the text with nothing of ours in it, and the default runtime that ``before`` has."""

    def names(self, text: str) -> list[str]:
        """Return the names of the entries that are ours."""

    def default(self, text: str) -> str | None:
        """Return the default runtime's name, if the text has one."""


def is_ours(name: str, path: object) -> bool:
    """Say whether an entry of this name that runs this program is one that we add."""
    program = path.rpartition("/")[2] if isinstance(path, str) else ""
    named = name == NAME or name.startswith(f"{NAME}-")
    return named and program in ("cdi-runtime", name)


def refuse_foreign(name: str, path: object) -> None:
    """Raise UnusableConfiguration for an entry that has our name and isn't ours."""
    if not is_ours(name, path):
        raise UnusableConfiguration(
            f"there is a runtime {name} already, and it is not ours: it runs {path!r}"
        )
