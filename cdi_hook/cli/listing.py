# SPDX-License-Identifier: Apache-2.0
"""cdi-hook list: the devices that a container can ask for here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdi_hook.cli import host, output
from cdi_hook.cli.options import add_json, add_spec_dir

if TYPE_CHECKING:
    import argparse

HELP = """\
Show the qualified names of the devices that the CDI specs define, sorted, one a
line. What is wrong with the specs is a warning on stderr; "cdi-hook validate"
says more.

exit status: 0, also when there are no devices; 1 when there are none because
specs could not be used; 2 for wrong arguments"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_spec_dir(parser)
    add_json(parser, "a list of objects: name, spec (its path), priority (of its dir, the highest wins)")


def run(options: argparse.Namespace) -> int:
    """Show the devices; return 1 when errors left none."""
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
    for path in sorted(errors):
        for message in errors[path]:
            output.warn(f"{path}: {message}")
    if not devices and not errors:
        output.complain(
            f"no CDI spec in {', '.join(cache.spec_dirs) or 'no dirs at all (SPEC_DIRS is empty)'}"
        )
    return 1 if errors and not devices else 0
