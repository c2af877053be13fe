# SPDX-License-Identifier: Apache-2.0
"""cdi-hook generate: CDI specs of the devices that this host has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdi_hook import devices
from cdi_hook.cli import output
from cdi_hook.cli.options import add_json
from cdi_hook.devices import generate
from cdi_hook.devices.root import Root
from cdi_hook.errors import CDIError
from cdi_hook.specs.dump import dump

if TYPE_CHECKING:
    import argparse

HELP = """\
Make CDI specs of the devices that this host has.

exit status: 0 if the specs are made; 1 if a class has no device here; 2 for wrong
arguments"""


class _Choices(tuple[str, ...]):
    """The classes; argparse asks for the empty list too if none is given."""

    __slots__ = ()

    def __contains__(self, value: object) -> bool:
        return value == [] or super().__contains__(value)


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "classes",
        metavar="CLASS",
        nargs="*",
        choices=_Choices(devices.CLASSES),
        help="make specs of this class",
    )
    parser.add_argument("--root", metavar="DIR", default="/", help="look for devices below DIR")
    parser.add_argument("--hook", metavar="HOOK", default="", help="use this hook")
    add_json(parser, "specs as JSON")


def run(options: argparse.Namespace) -> int:
    root = Root(options.root)
    for name in options.classes:
        one = devices.get(name)
        found = one.find(root, options.hook)
        if not found:
            raise CDIError(f"this host has no device of class {name}: {'; '.join(one.missing(root))}")
        for each in found:
            data = generate.spec(each)
            if options.json:
                output.say_json(data)
            else:
                output.say_text(dump(data, ".yaml").decode())
    return 0
