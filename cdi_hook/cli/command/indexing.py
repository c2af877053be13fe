# SPDX-License-Identifier: Apache-2.0
"""cdi-hook index: compile the index that cdi-runtime looks devices up in, before a container needs it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cdi_hook.base import files, selinux, words
from cdi_hook.catalog import index_writer
from cdi_hook.cli import host, output
from cdi_hook.cli.options import add_json
from cdi_hook.config import shell
from cdi_hook.errors import CDIError

if TYPE_CHECKING:
    import argparse

HELP = """\
Compile the CDI specs in the configured dirs into the index in /run/cdi-hook, or
for a user in $XDG_RUNTIME_DIR/cdi-hook. cdi-runtime rebuilds the index when it is
missing or out of date. Running this first saves the next container that wait.
An index is removed if all its spec dirs are gone. A warning reports each error in
the specs; the valid specs are compiled.

exit status: 0 if the index is written, or if there is no spec dir; 1 if the index
can't be written; 2 for wrong arguments"""


def arguments(parser: argparse.ArgumentParser) -> None:
    add_json(parser, "indexes: path, state (written or removed)")


def run(options: argparse.Namespace) -> int:
    found = host.host(options)
    host.warn_of_problems(found)
    directory = found.state_dir
    if not directory:
        raise CDIError(
            "there is no place for your own index: set XDG_RUNTIME_DIR; with sudo the host's index is made"
        )
    selinux.share(directory)
    registry = found.registry()
    is_there = registry.cache.silent or not all(map(files.is_gone, registry.spec_dirs))
    written = index_writer.build(registry.index, registry.cache) if is_there else None
    devices = len(registry.cache.devices())
    removed = index_writer.prune(directory) if os.path.isdir(directory) else []
    shell.prune(directory)
    if options.json:
        output.report.items += [{"path": written, "state": "written"}] if written else []
        output.report.items += [{"path": path, "state": "removed"} for path in removed]
    else:
        if written:
            output.say(f"{written}: {words.count(devices, 'device')}")
        for path in removed:
            output.say(f"{path}: removed")
    host.warn_of_specs(registry.problems, found.spec_dirs)  # for everybody: they go to the journal
    return 0
