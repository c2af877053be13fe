# SPDX-License-Identifier: Apache-2.0
"""cdi-hook index: the compiled index that cdi-runtime looks devices up in, made before one asks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cdi_hook.cli import host, output
from cdi_hook.cli.options import add_json
from cdi_hook.errors import CDIError
from cdi_hook.specs import compiled

if TYPE_CHECKING:
    import argparse

HELP = """\
Compile the CDI specs in the configured dirs into the index that cdi-runtime uses:
in /run/cdi-hook, for a user in $XDG_RUNTIME_DIR/cdi-hook. cdi-runtime does so
itself when it finds none that holds; done before, no container's start has to
wait for it. An index of spec dirs that are all gone is removed. What is wrong
with the specs is a warning on stderr, and those that are right are compiled.

exit status: 0 when the index is written, or there is no spec dir to write one of;
1 when it can't be written; 2 for wrong arguments"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_json(parser, "an object: index (its path, or null), devices (how many), removed (paths)")


def run(options: argparse.Namespace) -> int:
    """Write the index, and say where and what is in it."""
    found = host.host(options)
    host.warn_of_problems(found)
    directory = found.state_dir
    if not directory:
        raise CDIError("there is no place for an index: XDG_RUNTIME_DIR isn't set")
    registry = found.registry()
    written = compiled.build(registry) if any(map(os.path.isdir, registry.spec_dirs)) else None
    devices = len(registry.cache.devices())
    removed = compiled.prune(directory) if os.path.isdir(directory) else []
    if options.json:
        output.say_json({"index": written, "devices": devices, "removed": removed})
    else:
        if written:
            output.say(f"{written}: {devices} device{'' if devices == 1 else 's'}")
        for path in removed:
            output.say(f"{path}: removed")
    for path, messages in sorted(registry.errors.items()):
        for message in messages:
            output.warn(f"{path}: {message}")
    return 0
