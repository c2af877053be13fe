# SPDX-License-Identifier: Apache-2.0
"""An editor: one text of an engine's configuration, what it says of runtimes, and our entries in it.

Every engine has a table "runtimes", and beside it a key that names the default
runtime. Only ``Editor.files`` looks at the host; plan.py reads and writes the files.
"""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from cdi_hook.engines.client import dig
from cdi_hook.engines.edit import file_change
from cdi_hook.engines.edit.document import UnusableConfiguration
from cdi_hook.engines.edit.toml_document import TOMLText

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cdi_hook.engines.edit.document import Document, Key

    Other = tuple[str, str]  # another file that the engine reads: its path and text

NAME = "cdi"


@dataclass(frozen=True)
class Request:
    """The entry to add to an engine's configuration.

    ``path`` is the path of cdi-runtime, or with a low-level ``runtime`` the path of
    the link cdi-NAME. ``annotations`` are patterns of keys; an engine that filters
    annotations must let these through. ``flags`` are the engine's own options that
    were given. ``enable_cdi`` is whether the engine's own CDI is turned on too.
    """

    path: str
    runtime: str = ""
    set_default: bool = False
    annotations: tuple[str, ...] = ()
    flags: tuple[str, ...] = ()
    enable_cdi: bool = False

    @property
    def name(self) -> str:
        """Return the entry's name: cdi, or cdi-NAME."""
        return f"{NAME}-{self.runtime}" if self.runtime else NAME


class Edited(NamedTuple):
    """A configuration's text after an edit, and notes for the user, one line each."""

    text: str
    notes: tuple[str, ...] = ()
    restart: str = ""  # why one reload isn't enough
    first: str = ""  # the text to have the engine read before this one; then a reload after each is enough


class Files(NamedTuple):
    """The files of an engine's configuration; some may be missing."""

    place: str  # where an edit goes
    read: Sequence[str]  # all that the engine reads, with place; later files win
    ours: Sequence[str]  # the files that our entries are removed from
    unread: Sequence[str] = ()  # files that look as if the engine read them
    made: str = ""  # the file among them that the engine makes of the others


class Editor:
    """One text; this class has what most engines share. Raises UnusableConfiguration.

    ``engine`` is the engine's name, ``path`` the text's file, and ``others`` are the
    other files that the engine reads. Without a text it is a new file's.
    """

    form: type[Document] = TOMLText
    default_key: str
    program_key: Key = ()  # where an entry has the path of its program
    hooks_key: Key = ()  # where the dirs of OCI hooks are

    def __init__(self, engine: str, text: str | None, path: str = "", others: Sequence[Other] = ()) -> None:
        self.engine, self.path, self.others = engine, path, others
        self.document = self.form(self.start() if text is None else text)

    @classmethod
    def files(cls, path: str) -> Files:
        """Return the files of the configuration that this path is the file of."""
        return Files(path, (path,), (path,))

    @property
    def table(self) -> Key:
        """The table that has "runtimes" and ``default_key``."""
        return ()

    @property
    def cdi_key(self) -> Key | None:
        """The key that turns the engine's own CDI on; None if nothing does."""
        return None

    def start(self) -> str:
        """Return the text that a new file starts with; it says whether its dir goes with it."""
        it = "it" if os.path.isdir(os.path.dirname(self.path)) else file_change.WITH_DIR
        return self.form.first.format(self.engine, it)

    def program(self, entry: Any) -> Any:
        """Return the path of the program that an entry runs; None if it has none."""
        return dig(entry, *self.program_key)

    def has(self, name: str) -> bool:  # noqa: ARG002  # they can be in another file
        """Say whether a runtime can be the default, as far as this text tells."""
        return True

    def set_entry(self, key: Key, request: Request) -> list[str]:
        """Add or change our entry as requested; return notes for the user."""
        if self.program(self.document.get(key)) != request.path:
            self.document.set((*key, *self.program_key), request.path)
        return []

    def lacks(self, name: str, annotations: Sequence[str]) -> str:  # noqa: ARG002  # for those that filter
        """Say which of the patterns of annotations don't get through to a runtime of ours; "" if all do."""
        return ""

    @property
    def programs(self) -> dict[str, str]:
        """The programs of all runtimes, by the runtimes' names; "" for one without."""
        entries = self.document.table((*self.table, "runtimes")).items()
        return {name: one if isinstance(one := self.program(entry), str) else "" for name, entry in entries}

    @property
    def ours(self) -> list[str]:
        """The names of our entries."""
        return [name for name, program in self.programs.items() if is_ours(name, program)]

    @property
    def default(self) -> str | None:
        """The default runtime's name, if the text has one."""
        value = self.document.get((*self.table, self.default_key))
        return value if isinstance(value, str) else None

    @property
    def cdi(self) -> Any:
        """What the text says at ``cdi_key``; None if it says nothing."""
        return self.document.get(self.cdi_key) if self.cdi_key else None

    def add(self, request: Request) -> Edited:
        """Add the entry, and what else is requested; nothing changes if it is there."""
        runtimes = (*self.table, "runtimes")
        entries = self.document.table(runtimes)
        if request.name in entries and request.name not in self.ours:
            program = self.program(entries[request.name])
            raise UnusableConfiguration(
                f"it already has a runtime {request.name} that is not ours: it runs {program!r}"
            )
        notes = self.set_entry((*runtimes, request.name), request)
        if request.set_default and self.default != request.name:
            self.document.set((*self.table, self.default_key), request.name)
        if request.enable_cdi and not self.cdi_key:
            notes.append(f"the CDI of {self.engine} itself is always on")
        elif request.enable_cdi and self.cdi_key and self.cdi is not True:
            self.document.set(self.cdi_key, True)
        return Edited(self.document.text, tuple(notes))

    def remove(self, before: Editor | None) -> Edited:
        """Remove our entries, and restore the default runtime of the text before them."""
        ours, notes = self.ours, []
        runtimes, default = (*self.table, "runtimes"), (*self.table, self.default_key)
        is_default = self.default in ours
        for name in ours:
            self.document.remove((*runtimes, name))
        former = before.default if before else None
        if is_default and former is not None and self.has(former):
            self.document.set(default, former)
        elif is_default:
            self.document.remove(default)
            if former is not None:
                notes = [f"the former default runtime {former} is gone: {self.engine} uses its own default"]
        self.document.tidy(runtimes, before.document if before else None)
        return Edited(self.document.text, tuple(notes))

    def remove_cdi(self) -> None:
        """Take out what turns the engine's own CDI on."""
        if self.cdi_key and self.cdi is True:
            self.document.remove(self.cdi_key)
            self.document.tidy(self.cdi_key[:-1], None)


def is_ours(name: str, path: object) -> bool:
    """Say whether an entry with this name and program is one that cdi-hook adds."""
    program = path.rpartition("/")[2] if isinstance(path, str) else ""
    is_named = name == NAME or name.startswith(f"{NAME}-")
    return is_named and program in ("cdi-runtime", name)


def to_copy(
    request: Request, documents: Iterable[Document], tables: Sequence[Key], types: Sequence[str]
) -> dict[str, Any]:
    """Return the best entry of another runtime, of one of these types, to copy from; {} if there is none."""
    documents = list(documents)
    for name in (request.runtime, "runc") if request.runtime else ("runc", "crun"):
        for document in documents:
            for table in tables:
                entry = document.get((*table, "runtimes", name))
                if isinstance(entry, dict) and entry.get("runtime_type") in (None, "", *types):
                    return entry
    return {}


def drop_ins(path: str, names: str) -> Files:
    """Return the files of an engine that reads FILE, and then the files in FILE.d that match ``names``."""
    directory = os.path.dirname(path)
    main = directory[:-2] if directory.endswith(".d") else path
    within = glob.glob(f"{glob.escape(main)}.d/{names}")
    return Files(path, (main, *sorted({*within, path} - {main})), (path,))
