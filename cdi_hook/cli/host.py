# SPDX-License-Identifier: Apache-2.0
"""What a command's options and the configuration say of the host, and warnings that several commands give."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cdi_hook import injection
from cdi_hook.cli import output

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from cdi_hook.specs.cache import Cache


def host(options: argparse.Namespace) -> injection.Host:
    """Return the host, with the configuration of --config and the spec dirs of --spec-dir."""
    environ = dict(os.environb)
    path = options.config
    if path is not None:
        environ[b"CDI_HOOK_CONFIG"] = os.fsencode(path)
    found = injection.Host(environ, getattr(options, "spec_dir", None) or ())
    if path is not None and not os.path.exists(path):
        found.settings.problems.append(f"{path}: no such file")
    return found


def read_specs(found: injection.Host) -> Cache:
    """Read the specs."""
    from cdi_hook.specs.cache import Cache  # not every command needs PyYAML

    return Cache(found.spec_dirs, strict=found.strict)


def warn_of_problems(found: injection.Host) -> None:
    """Warn of what is wrong with the configuration; for commands that work without it."""
    for problem in found.settings.problems:
        output.warn(problem)


def warn_of_errors(errors: dict[str, list[str]]) -> None:
    """Warn of what is wrong with the specs, which a Cache has by path."""
    for path in sorted(errors):
        for message in errors[path]:
            output.warn(f"{path}: {message}")


def complain_of_no_specs(dirs: Sequence[str]) -> None:
    """Say that the dirs have no specs."""
    output.complain(f"no CDI spec in {', '.join(dirs)}" if dirs else "no CDI spec: SPEC_DIRS is empty")
