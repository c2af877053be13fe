# SPDX-License-Identifier: Apache-2.0
"""An engine: its files, and the edits of their texts.

Every engine has a table "runtimes", and beside it a key that names the default
runtime. A method that edits takes a text and returns a text; ``files`` and
``default_path`` look at the host. What `cdi-hook doctor` asks is at the end of
the class: it looks at the host, or calls the engine's own command.
"""

from __future__ import annotations

import glob
import os
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from cdi_hook.base.process import ask
from cdi_hook.engines import client
from cdi_hook.engines.edit import file_change
from cdi_hook.engines.edit.document import UnusableConfiguration
from cdi_hook.engines.edit.toml_document import TOMLText

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cdi_hook.engines.client import Daemon, KnownContainer
    from cdi_hook.engines.edit.document import Document, Key

    Other = tuple[str, str]  # another file that the engine reads: its path and text

NAME = "cdi"
# What a pod's author writes, whatever engine the node has.
POD = (
    "# containerd, k3s, ... need: cdi-hook configure ENGINE --pod-annotations\n"
    'metadata:\n  annotations:\n    {key}: "{names}"\nspec:\n  runtimeClassName: cdi'
)
_CDI_AT_START = (
    "{} turns its own CDI on when it starts, not at a reload. --reload doesn't restart it: a restart ends "
    "containers, unless live-restore is on"
)
_FIRST_LINE = "# Written by `cdi-hook configure"


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


@dataclass(frozen=True)
class Edited:
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


class Engine(ABC):
    """One engine; this class has what most engines share. Methods raise UnusableConfiguration."""

    # For the command line.
    name: str
    file: str  # the file to edit, or the first file that the engine reads
    user_file = ""  # a user's own file, below their configuration dir
    about = ""  # what --help adds after the file
    flags: tuple[tuple[str, str], ...] = ()  # the engine's own options, and what each does
    daemon: str  # its process's name; "" for an engine that reads its files whenever it is called
    reload = "reload"  # the systemctl command that makes the daemon read its files
    # By a name, what a person writes to ask for devices; show.py has the words in braces.
    requests: Mapping[str, str] = {}
    keeps_runtime = False  # whether a container is always restarted with the runtime it was created with
    # For doctor.
    programs: tuple[str, ...]  # names or paths: it is on this host if one of them is
    socket = ""  # where its daemon can be asked
    own_dir = ""  # the dir of its own runtime and client, which is on its PATH
    needs_configuration = True  # whether it runs cdi-runtime only if it is configured to
    own_cdi: str  # what its own CDI injects
    own_cdi_since: tuple[int, int] = (0, 0)  # the version from which that is on without a switch
    hooks_key: Key = ()  # where the configuration has the dirs of OCI hooks
    hooks_dirs: tuple[str, ...] = ()  # those dirs, if the configuration has none
    still = ""  # what remains after a removal, even if the engine has read its files again
    # The form of the text.
    document: type[Document] = TOMLText
    tables: tuple[Key, ...]  # the tables that can have "runtimes" and default_key
    default_key: str
    program_key: Key = ()  # where an entry has the path of its program
    runtime_type = ""  # of the entries that can be copied
    other_types: tuple[str, ...] = ()  # of others that can be copied
    cdi_needs_restart = False  # whether a reload doesn't turn the engine's own CDI on

    @abstractmethod
    def files(self, path: str) -> Files:
        """Return the files of the configuration that this path is the file of."""

    def start(self, path: str, others: Sequence[Other]) -> str:  # noqa: ARG002  # containerd looks at them
        """Return the text that a new file starts with; it says whether its dir goes with it."""
        it = "it" if os.path.isdir(os.path.dirname(path)) else file_change.WITH_DIR
        return f"{_FIRST_LINE} {self.name}`; --remove removes {it}.\n"

    def is_blank(self, text: str) -> bool:
        """Say whether a text has nothing but what a new file starts with."""
        first, _, rest = text.partition("\n")
        return first.startswith(_FIRST_LINE) and not rest.strip()

    def table(self, document: Document) -> Key:  # noqa: ARG002  # containerd looks at its version
        """Return the table that has "runtimes" and default_key in this document."""
        return self.tables[0]

    def program(self, entry: Any) -> Any:
        """Return the path of the program that an entry runs; None if it has none."""
        return client.dig(entry, *self.program_key)

    def value(self, program: str) -> Any:
        """Return the value at program_key for a program."""
        return program

    def has(self, name: str, runtimes: dict[str, Any]) -> bool:  # noqa: ARG002  # they can be in another file
        """Say whether a runtime can be the default in a text that has these runtimes."""
        return True

    def edit(self, document: Document, key: Key, request: Request, others: Sequence[Other]) -> list[str]:  # noqa: ARG002  # for engines that copy
        """Add or change our entry as requested; return notes for the user."""
        if self.program(document.get(key)) != request.path:
            document.set((*key, *self.program_key), self.value(request.path))
        return []

    def add(self, text: str, request: Request, others: Sequence[Other] = ()) -> Edited:
        """Return the text with the entry in it; the same text if it is there as requested."""
        document = self.document(text)
        table, runtimes = self.table(document), self._runtimes(document)
        if request.name in runtimes and not is_ours(request.name, self.program(runtimes[request.name])):
            raise UnusableConfiguration(
                f"it already has a runtime {request.name} that is not ours: "
                f"it runs {self.program(runtimes[request.name])!r}"
            )
        notes = self.edit(document, (*table, "runtimes", request.name), request, others)
        if request.set_default and document.get((*table, self.default_key)) != request.name:
            document.set((*table, self.default_key), request.name)
        restart = ""
        if request.enable_cdi:
            key = self.cdi_key(document)
            if key is None:
                notes.append(f"the CDI of {self.name} itself is always on")
            elif document.get(key) is not True:
                document.set(key, True)
                restart = _CDI_AT_START.format(self.name) if self.cdi_needs_restart else ""
        return Edited(document.text, tuple(notes), restart)

    def remove(self, text: str, before: str | None) -> Edited:
        """Return the text without our entries, and with the default runtime that ``before`` has."""
        document, ours = self.document(text), self.names(text)
        table = self.table(document)
        notes: list[str] = []
        for name in ours:
            document.remove((*table, "runtimes", name))
        if document.get((*table, self.default_key)) in ours:
            former = None if before is None else self.default(before)
            if former is not None and self.has(former, self._runtimes(document)):
                document.set((*table, self.default_key), former)
            else:
                document.remove((*table, self.default_key))
                if former is not None:
                    notes.append(
                        f"the former default runtime {former} is gone: {self.name} uses its own default"
                    )
        return Edited(document.text if ours else text, tuple(notes))

    def cdi_key(self, document: Document) -> Key | None:  # noqa: ARG002  # containerd looks at its version
        """Return the key that turns the engine's own CDI on; None if that is always on."""
        return None

    def has_cdi(self, text: str) -> bool:
        """Say whether the text turns the engine's own CDI on."""
        document = self.document(text)
        key = self.cdi_key(document)
        return key is not None and document.get(key) is True

    def without_cdi(self, text: str) -> str:
        """Return the text without what turns the engine's own CDI on."""
        document = self.document(text)
        key = self.cdi_key(document)
        if key is None or document.get(key) is not True:
            return text
        document.remove(key)
        if document.get(key[:-1]) == {}:
            document.remove(key[:-1])
        return document.text

    def names(self, text: str) -> list[str]:
        """Return the names of our entries."""
        runtimes = self._runtimes(self.document(text))
        return [name for name, entry in runtimes.items() if is_ours(name, self.program(entry))]

    def default(self, text: str) -> str | None:
        """Return the default runtime's name, if the text has one."""
        document = self.document(text)
        value = document.get((*self.table(document), self.default_key))
        return value if isinstance(value, str) else None

    def template(self, request: Request, documents: Sequence[Document]) -> dict[str, Any]:
        """Return the best entry of another runtime to copy from; {} if there is none."""
        for name in (request.runtime, "runc") if request.runtime else ("runc", "crun"):
            for document in documents:
                for table in self.tables:
                    entry = document.get((*table, "runtimes", name))
                    types = (None, "", self.runtime_type, *self.other_types)
                    if isinstance(entry, dict) and entry.get("runtime_type") in types:
                        return entry
        return {}

    def runtimes(self, text: str) -> dict[str, str]:
        """Return the programs of all runtimes in a text, by the runtimes' names; "" for one without."""
        entries = self._runtimes(self.document(text)).items()
        return {name: one if isinstance(one := self.program(entry), str) else "" for name, entry in entries}

    def _runtimes(self, document: Document) -> dict[str, Any]:
        runtimes = document.get((*self.table(document), "runtimes"))
        return runtimes if isinstance(runtimes, dict) else {}

    def default_path(self) -> str:
        """Return the path of the configuration: the host's, or a user's own."""
        if self.user_file and os.geteuid() != 0:
            base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
            return os.path.join(base, self.user_file)
        return self.file

    def has_read(self, path: str, text: str) -> bool | None:  # noqa: ARG002  # for an engine that reads it later
        """Say whether the daemon has read a text after a reload or restart; None if it can't be asked."""
        return True

    def reload_command(self, path: str, *, restart: bool) -> list[str] | None:
        """Return the command that makes the engine read this file; None if it needs none."""
        if not self.daemon:
            return None
        user = ["--user"] if path == self.default_path() != self.file else []
        return ["systemctl", *user, "restart" if restart else self.reload, self.unit()]

    def unit(self) -> str:
        """Return the name of the daemon's systemd unit."""
        return self.name

    def own(self, names: Iterable[str]) -> list[str]:
        """Return where its own runtimes of these names would be."""
        return [f"{self.own_dir}/{name}" for name in names if self.own_dir]

    def version(self) -> str:
        """Return the version of the engine on this host, "" if that can't be told; None is in found()."""
        said = ask((self.found(), "--version")).said
        number = re.search(r"(?<![\d.])\d+\.\d[^\s,]*", said)
        return number[0] if number else ""

    def asks(self) -> Mapping[str, str]:
        """Return ``requests`` as they are for the version on this host."""
        return self.requests

    def found(self) -> str:
        """Return the path of the engine's program; "" if the engine isn't on this host."""
        return next(filter(None, map(client.program, self.programs)), "")

    def says(self) -> Daemon | None:
        """Return what the running daemon says of its runtimes; None if it can't say.

        Raises Unreachable if the daemon doesn't run, or doesn't answer us.
        """
        return None

    def has_own_cdi(self, text: str, version: str) -> bool:
        """Say whether the engine injects CDI devices itself, by a file's text and its version."""
        document = self.document(text)
        key = self.cdi_key(document)
        switch = document.get(key) if key else True
        return bool(switch if switch is not None else as_numbers(version) >= self.own_cdi_since)

    def lacks(self, text: str, name: str, annotations: Sequence[str]) -> str:  # noqa: ARG002  # for those that filter
        """Say which of the patterns of annotations don't get through to a runtime of ours; "" if all do."""
        return ""

    def closes_nodes(self) -> str:
        """Return why its containers can't open device nodes outside /dev, "" if they can."""
        return ""

    def of_pod(self, namespace: str, pod: str, container: str) -> list[KnownContainer]:  # noqa: ARG002  # for those that have pods
        """Return the containers of a Kubernetes pod, or the one of this name; raises Unreachable."""
        return []

    @abstractmethod
    def inspect(self, name: str) -> list[KnownContainer]:
        """Return the containers with this name or id, most often one; raises Unreachable."""


def is_ours(name: str, path: object) -> bool:
    """Say whether an entry with this name and program is one that cdi-hook adds."""
    program = path.rpartition("/")[2] if isinstance(path, str) else ""
    is_named = name == NAME or name.startswith(f"{NAME}-")
    return is_named and program in ("cdi-runtime", name)


def runs_us(program: str) -> bool:
    """Say whether a program is cdi-runtime, or a link to it."""
    names = (os.path.basename(program), os.path.basename(os.path.realpath(program)))
    return "cdi-runtime" in names


def drop_ins(path: str, names: str) -> Files:
    """Return the files of an engine that reads FILE, and then the files in FILE.d that match ``names``."""
    directory = os.path.dirname(path)
    main = directory[:-2] if directory.endswith(".d") else path
    within = glob.glob(f"{glob.escape(main)}.d/{names}")
    return Files(path, (main, *sorted({*within, path} - {main})), (path,))


def as_numbers(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version."""
    return tuple(int(one) for one in version.split(".")[:2] if one.isdecimal())
