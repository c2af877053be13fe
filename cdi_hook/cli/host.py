# SPDX-License-Identifier: Apache-2.0
"""The host, as the options and the configuration have it: settings, spec dirs, whom to trust.

The same answers as cdi-runtime's, but for what the options say. It keeps no
compiled index: a command changes nothing that it wasn't asked to.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cdi_hook import config, index
from cdi_hook.cli import terminal

if TYPE_CHECKING:
    import argparse

    from cdi_hook.specs.cache import Cache


def load_settings(path: str | None) -> tuple[config.Config, dict[bytes, bytes]]:
    """Load the configuration that --config or else the environment names; return that environment too."""
    environ = dict(os.environb)
    if path is not None:
        environ[b"CDI_HOOK_CONFIG"] = os.fsencode(path)
    settings = config.load(environ)
    if path is not None and not os.path.exists(path):
        settings.problems.append(f"{path}: no such file")
    return settings, environ


class Host:
    """The settings, and the dirs and strictness with which specs are read."""

    def __init__(self, options: argparse.Namespace) -> None:
        """Take --config and --spec-dir from the options."""
        self.settings, environ = load_settings(options.config)
        self._system = system = config.is_system_root()
        self.spec_dirs: list[str] = options.spec_dir or config.spec_dirs(self.settings, environ, system)
        self.strict = system and self.settings["SPEC_TRUST"] == "strict"

    def cache(self) -> Cache:
        """Read the specs."""
        from cdi_hook.specs.cache import Cache  # not every command needs PyYAML

        return Cache(self.spec_dirs, strict=self.strict)

    def registry(self) -> index.Registry:
        """Return what injects, adding nothing that is there already."""
        return index.Registry(self.spec_dirs, "", strict=self.strict, may_map_ids=self._system)

    def warn_of_problems(self) -> None:
        """Say what is wrong with the configuration, for commands that go on without it."""
        for problem in self.settings.problems:
            terminal.warn(problem)
