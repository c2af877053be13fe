# SPDX-License-Identifier: Apache-2.0
"""What doctor's checks share: the host that is examined, and commands that root has to give."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from cdi_hook.base import programs
from cdi_hook.engines import ENGINES

if TYPE_CHECKING:
    from cdi_hook.catalog.cache import Cache
    from cdi_hook.inject.pipeline import Host


class Patient:
    """The host that is examined. ``root`` stands before the system's paths; tests have one.

    ``silent`` are the spec dirs that can't be looked at.
    """

    def __init__(self, host: Host, root: str = "") -> None:
        self.host = host
        self._root = root
        self.silent = host.registry().silent()
        host.spec_dirs = [one for one in host.spec_dirs if one not in self.silent]  # for all checks
        self.registry = host.registry()

    @property
    def cache(self) -> Cache:
        """The specs; raises ImportError without PyYAML."""
        return self.registry.cache

    @property
    def runtimes(self) -> list[str]:
        """The paths of the runtimes that there are, the one first that cdi-runtime calls.

        Only if there is no other, they are those that an engine has for itself.
        """
        names = self.host.settings.words("RUNTIMES")
        return list(programs.theirs(names)) or list(
            programs.theirs([path for engine in ENGINES.values() for path in engine.probe().own(names)])
        )

    @property
    def runtime(self) -> str:
        """The path of the runtime that cdi-runtime calls, "" if there is none."""
        return next(iter(self.runtimes), "")

    def path(self, path: str) -> str:
        """Return where a path of the system is."""
        return self._root + path


def as_root(*command: str) -> str:
    """Return a command that only root can run, as this user has to write it; sudo has a PATH of its own."""
    if command[0] == "cdi-hook":
        command = (programs.command(), *command[1:])
    return shlex.join(command if os.geteuid() == 0 else ("sudo", *command))


def ask_root(*arguments: str) -> str:
    """Return the command by which root is told more."""
    return shlex.join(("sudo", programs.command(), "doctor", *arguments))
