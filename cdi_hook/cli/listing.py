# SPDX-License-Identifier: Apache-2.0
"""cdi-hook list: the devices that a container can ask for here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdi_hook.cli import host, output
from cdi_hook.cli.options import add_json, add_spec_dir

if TYPE_CHECKING:
    import argparse

HELP = """\
Show the qualified names of the devices that the CDI specs define, sorted, one on
each line. A warning reports each error in the specs; "cdi-hook validate" says
more.

exit status: 0, also if no device is defined; 1 if errors in the specs leave no
device to show; 2 for wrong arguments"""


def arguments(parser: argparse.ArgumentParser) -> None:
    add_spec_dir(parser)
    add_json(parser, "a list of objects: name, spec (a path), priority (of the dir; the highest wins)")


def run(options: argparse.Namespace) -> int:
    found = host.host(options)
    host.warn_of_problems(found)
    cache = host.read_specs(found)
    devices = [device for _, device in sorted(cache.by_name().items())]
    if options.json:
        output.say_json(
            [
                {"name": one.qualified_name, "spec": one.spec.path, "priority": one.spec.priority}
                for one in devices
            ]
        )
    else:
        for device in devices:
            output.say(device.qualified_name)
    errors = cache.errors
    host.warn_of_errors(errors)
    if not devices and not errors:
        host.complain_of_no_specs(cache.spec_dirs)
    return 1 if errors and not devices else 0
