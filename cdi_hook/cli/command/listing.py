# SPDX-License-Identifier: Apache-2.0
"""cdi-hook list: the devices that a container can ask for here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdi_hook.cli import host, output
from cdi_hook.cli.options import add_json, add_spec_dir
from cdi_hook.config.rule import matches

if TYPE_CHECKING:
    import argparse

HELP = """\
Show the qualified names of the devices that the CDI specs define, sorted, one on
each line, with the spec file that defines it. With PATTERNs, show only the names
that one of them matches: * is any text, ? any character. A warning reports each
error in the specs; "cdi-hook validate" says more. "cdi-hook show NAME" shows what
a device gives to a container. With EXCLUSIVE in the configuration, show which
container has a device for itself.

exit status: 0, also if no device is defined; 1 if errors in the specs leave no
device to show, or no name matches; 2 for wrong arguments"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("patterns", metavar="PATTERN", nargs="*", help="show only names like 'vendor.com/*'")
    add_spec_dir(parser)
    add_json(
        parser,
        "devices: name, path (of the spec), priority (of its dir; the highest wins), "
        "shadowed (paths of specs whose device of this name doesn't count), "
        "holder (container, engine, user, since: who has it for itself by EXCLUSIVE; or null)",
    )


def run(options: argparse.Namespace) -> int:
    found = host.host(options)
    host.warn_of_problems(found)
    registry = found.registry()
    known = registry.inventory()
    names = [
        name
        for name in known.devices
        if not options.patterns or any(matches(name, pattern) for pattern in options.patterns)
    ]
    held = host.holders(found, registry, names)
    if options.json:
        output.report.items += [host.place(name, known, found, held) for name in names]
    else:
        width = max(map(len, names), default=0)
        for name in names:
            output.say(f"{name:<{width}}  {known.devices[name].spec}  {host.in_use_by(name, held)}".rstrip())
    host.warn_of_specs(known.problems, found.spec_dirs)
    if known.devices and not names:
        output.complain(host.no_such_device(" ".join(options.patterns), known))
        return 1
    if not known.devices and not known.problems:
        host.complain_of_no_specs(found.spec_dirs)
    return 1 if (known.problems or options.patterns) and not names else 0
