# SPDX-License-Identifier: Apache-2.0
"""An engine: its name, files and daemon, who edits its files, who asks it, and what people are told of it.

An engine's module has an Editor (edit/config_editor.py) of its texts, a Prober, and ENGINE. All
three have what most engines share, so a module says only what is different.
"""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from cdi_hook.base.process import ask
from cdi_hook.engines import client

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cdi_hook.engines.client import Daemon, KnownContainer
    from cdi_hook.engines.edit.config_editor import Editor, Other


# What a pod's author writes, whatever engine the node has.
POD = (
    "# containerd, k3s, ... need: cdi-hook configure ENGINE --pod-annotations\n"
    'metadata:\n  annotations:\n    {key}: "{names}"\nspec:\n  runtimeClassName: cdi'
)


# What a request by a variable needs: for those that pass no annotations.
BY_ENV = "with DEVICE_ENV=CDI_DEVICES in /etc/cdi-hook/cdi-hook.conf"


class OwnCDI(NamedTuple):
    """The CDI that an engine has of its own."""

    injects: str  # what it injects, as the end of a sentence
    since: tuple[int, ...] = ()  # the first version that has it
    on_since: tuple[int, ...] = ()  # the first version that has it on without the editor's cdi_key

    def is_on(self, switch: object, version: str) -> bool:
        """Say whether it is on, by the value at cdi_key (None: no value), and the engine's version or ""."""
        numbers = as_numbers(version)
        is_there = not version or numbers >= self.since
        return is_there and bool(numbers >= self.on_since if switch is None else switch)


@dataclass(frozen=True)
class HelpText:
    """What people are told of an engine, and what they write for it."""

    # By a name, what a person writes to ask for devices; show.py has the words in braces.
    requests: Mapping[str, str]
    about: str = ""  # what --help and the manual add after the file
    flags: tuple[tuple[str, str], ...] = ()  # the engine's own options of configure, and what each does
    still: str = ""  # what remains after a removal, even if the engine has read its files again
    keeps_runtime: bool = (
        False  # whether a container is always restarted with the runtime it was created with
    )
    needs_configuration: bool = True  # whether it runs cdi-runtime only if it is configured to


class Prober(ABC):
    """What an engine on this host says. This class asks what all engines can be asked.

    A method that says Unreachable raises it if the daemon doesn't run, or doesn't answer us.
    """

    programs: tuple[str, ...]  # names or paths: the engine is on this host if one of them is
    own_dir = ""  # the dir of its own runtime and client, which is on its PATH
    socket = ""  # where its daemon can be asked
    states: tuple[str, ...] = ()  # where a containerd of it has its state, and so the bundles of containers

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def found(self) -> str:
        """Return the path of the engine's program; "" if the engine isn't on this host."""
        return next(filter(None, map(client.program, self.programs)), "")

    def own(self, names: Iterable[str]) -> list[str]:
        """Return where its own runtimes of these names would be."""
        return [f"{self.own_dir}/{name}" for name in names if self.own_dir]

    def version(self) -> str:
        """Return the version of the engine on this host, "" if that can't be told; None is in found()."""
        said = ask((self.found(), "--version")).said
        number = re.search(r"(?<![\d.])\d+\.\d[^\s,]*", said)
        return number[0] if number else ""

    def requests(self) -> Mapping[str, str]:
        """Return the help text's requests as they are for the version on this host."""
        return self.engine.help.requests

    def says(self) -> Daemon | None:
        """Return what the running daemon says of its runtimes; None if it can't say. Unreachable."""
        return None

    def has_read(self, path: str, text: str) -> bool | None:  # noqa: ARG002  # for an engine that reads it later
        """Say whether the daemon has read a text after a reload or restart; None if it can't be asked."""
        return True

    def closes_nodes(self) -> str:
        """Return why its containers can't open device nodes outside /dev, "" if they can."""
        return ""

    def of_pod(self, namespace: str, pod: str, container: str) -> list[KnownContainer]:  # noqa: ARG002  # for those that have pods
        """Return the containers of a Kubernetes pod, or the one of this name. Unreachable."""
        return []

    @abstractmethod
    def inspect(self, name: str) -> list[KnownContainer]:
        """Return the containers with this name or id, most often one. Unreachable."""


@dataclass
class Engine:
    """One engine."""

    name: str
    file: str  # the file to edit, or the first file that the engine reads
    editor: type[Editor]
    prober: type[Prober]
    help: HelpText
    user_file: str = ""  # a user's own file, below their configuration dir
    daemon: str = ""  # its process's name; "" for an engine that reads its files whenever it is called
    units: tuple[str, ...] = ()  # the systemd units that start its containers: of a daemon, one of them runs
    reload: str = "reload"  # the systemctl command that makes the daemon read its files
    hooks_dirs: tuple[str, ...] = ()  # the dirs of OCI hooks, if the configuration has none
    own_cdi: OwnCDI | None = None

    def edit(self, text: str | None, path: str = "", others: Sequence[Other] = ()) -> Editor:
        """Return the editor of a text, or of a new file's."""
        return self.editor(self.name, text, path, others)

    def probe(self) -> Prober:
        """Return who asks it."""
        return self.prober(self)

    def default_path(self) -> str:
        """Return the path of the configuration: the host's, or a user's own."""
        if self.user_file and os.geteuid() != 0:
            base = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
            return os.path.join(base, self.user_file)
        return self.file

    def is_users(self, path: str) -> bool:
        """Say whether a file is a user's own, which the host's daemon doesn't read."""
        return path == self.default_path() != self.file

    def unit(self) -> str:
        """Return the daemon's systemd unit: of several, the one that runs."""
        several = self.units if self.units[1:] else ()
        running = (one for one in several if ask(("systemctl", "is-active", "--quiet", one)).status == 0)
        return next(running, self.units[0])

    def reload_command(self, path: str, *, restart: bool = False) -> list[str]:
        """Return the command that makes the daemon read this file; [] without a daemon."""
        if not self.daemon:
            return []
        user = ["--user"] if self.is_users(path) else []
        return ["systemctl", *user, "restart" if restart else self.reload, self.unit()]


def runs_us(program: str) -> bool:
    """Say whether a program is cdi-runtime, or a link to it."""
    names = (os.path.basename(program), os.path.basename(os.path.realpath(program)))
    return "cdi-runtime" in names


def as_numbers(version: str) -> tuple[int, ...]:
    """Return the first two numbers of a version."""
    return tuple(int(one) for one in version.split(".")[:2] if one.isdecimal())
