# SPDX-License-Identifier: Apache-2.0
"""The table of commands, and the parser made from it: the one source for commands and options.

A command is a module with HELP, which says what it does and how it exits,
``arguments(parser)``, which declares its options, and ``run(options)``, which
returns an exit status. It is imported only when its name is among the arguments.
Beside its options it is given ``whole_parser()``, the parser of all commands.
"""

from __future__ import annotations

import argparse
import importlib
from typing import TYPE_CHECKING, NoReturn

from cdi_hook import __version__, config
from cdi_hook.cli import output

if TYPE_CHECKING:
    from collections.abc import Container

# Name, module, what it does in one line.
COMMANDS = {
    "list": ("cdi_hook.cli.listing", "show the devices that are known"),
    "validate": ("cdi_hook.cli.validate", "check CDI spec files"),
    "inject": (
        "cdi_hook.cli.inject",
        "give a container's OCI spec its devices, or show what that would change",
    ),
    "configure": ("cdi_hook.cli.configure", "make a container engine use cdi-runtime, or stop using it"),
    "precreate": ("cdi_hook.cli.hooks", "run as podman's precreate hook"),
    "createRuntime": ("cdi_hook.cli.hooks", "run as an OCI createRuntime hook"),
    "prestart": ("cdi_hook.cli.hooks", "run as an OCI prestart hook"),
    "index": ("cdi_hook.cli.indexing", "compile the CDI specs, so that no container's start has to"),
    "completion": ("cdi_hook.cli.completion", "print a shell's completion of cdi-hook"),
}

_HELP = "CDI devices for OCI containers."
_EXIT_STATUS = """\
exit status:
  0  it is done; what a command means by that, COMMAND --help says
  1  it could not be done, or something was found wrong
  2  the arguments are wrong"""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        output.complain(f"{message}; see {self.prog} --help")
        self.exit(2)


def parser(arguments: Container[str]) -> argparse.ArgumentParser:
    """Return the parser, complete for the commands that are among the arguments."""
    top = _parser("cdi-hook", _HELP, _EXIT_STATUS)
    top.add_argument("--version", action="version", version=f"cdi-hook {__version__}")
    _everywhere(top)
    top.set_defaults(config=None, debug=False, whole_parser=lambda: parser(COMMANDS))
    commands = top.add_subparsers(
        title="commands", dest="command", metavar="COMMAND", parser_class=_Parser, prog="cdi-hook"
    )
    for name, (path, summary) in COMMANDS.items():
        command = commands.add_parser(name, help=summary, allow_abbrev=False)
        if name in arguments:
            module = importlib.import_module(path)
            command.formatter_class = argparse.RawDescriptionHelpFormatter
            command.description = module.HELP
            module.arguments(command)
            _everywhere(command)
    return top


def _parser(name: str, description: str, epilog: str) -> _Parser:
    return _Parser(
        prog=name,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )


def _everywhere(parser: argparse.ArgumentParser) -> None:
    """Declare what goes before the command as well as after it; what isn't given isn't set."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help=f"the configuration (default: $CDI_HOOK_CONFIG, then {config.DEFAULT_PATH})",
    )
    parser.add_argument(
        "--debug", action="store_true", default=argparse.SUPPRESS, help="show where an error comes from"
    )
