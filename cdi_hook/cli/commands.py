# SPDX-License-Identifier: Apache-2.0
"""The table of commands, and the parser made from it. Completion and tests of the manual read the same table.

A command is a module with HELP, which says what it does and how it exits,
``arguments(parser)``, which declares its options, and ``run(options)``, which
returns an exit status. The module is imported only if the command's name is
among the arguments. ``options.whole_parser()`` is the parser of all commands.
"""

from __future__ import annotations

import argparse
import importlib
import re
from typing import TYPE_CHECKING, NoReturn

from cdi_hook.base import words
from cdi_hook.base.quoting import quote
from cdi_hook.cli import output
from cdi_hook.cli.options import add_debug
from cdi_hook.config import settings
from cdi_hook.version import __version__

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

# A command's name: its module, and what it does.
COMMANDS = {
    "list": ("cdi_hook.cli.command.listing", "show the devices that CDI specs define"),
    "show": ("cdi_hook.cli.command.show", "show what a device gives to a container, and how to ask for it"),
    "validate": ("cdi_hook.cli.command.validate", "check CDI spec files"),
    "inject": (
        "cdi_hook.cli.command.inject",
        "give a container's OCI spec its devices, or show what that would change",
    ),
    "generate": ("cdi_hook.cli.command.generate", "make CDI specs of the devices that this host has"),
    "doctor": ("cdi_hook.cli.command.doctor", "say why a device isn't there, and what to do about it"),
    "configure": (
        "cdi_hook.cli.command.configure",
        "make a container engine use cdi-runtime, or stop using it",
    ),
    "precreate": ("cdi_hook.cli.command.stages", "run as podman's precreate hook"),
    "createRuntime": ("cdi_hook.cli.command.stages", "run as an OCI createRuntime hook"),
    "prestart": ("cdi_hook.cli.command.stages", "run as an OCI prestart hook"),
    "createContainer": (
        "cdi_hook.cli.command.create_container",
        "run as an OCI createContainer hook, which the specs of generate name",
    ),
    "index": ("cdi_hook.cli.command.indexing", "compile the CDI specs before a container needs them"),
    "completion": ("cdi_hook.cli.command.completion", "print a script that completes commands and options"),
    "release": ("cdi_hook.cli.command.release", "free an exclusive device of a container that is gone"),
    "wait": ("cdi_hook.cli.command.wait", "wait until a container could have an exclusive device"),
}

# Those that runtimes and engines call.
STAGES = ("precreate", "createRuntime", "prestart", "createContainer")
_EXIT_STATUS = """\
exit status:
  0  the command has done its work; COMMAND --help says what that is
  1  it could not do its work, or it found something wrong
  2  the arguments are wrong"""


_UNKNOWN = re.compile(r"(?:invalid choice: '|unrecognized arguments: )([^' =]+)")
# What other tools call something, and what it is here.
_ELSEWHERE = {
    "--set-as-default": "--set-default",
    "--class": "CLASS",
    "--config": "--file",
    "--device-name-strategy": "the names that generate gives: a GPU has its index and its UUID",
    "--runtime": "an engine's name: cdi-hook configure ENGINE",
    "cdi": "generate or list",
}


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        unknown = _UNKNOWN.search(message)
        word = unknown[1] if unknown else ""
        actions = self._actions  # argparse has no other way to ask
        known = [word for one in actions for word in (*one.option_strings, *(one.choices or ()))]
        close = [_ELSEWHERE[word]] if word in _ELSEWHERE and word not in known else words.near(word, known)
        advice = f"did you mean {close[0]}?" if close else f"see {self.prog} --help"
        if message.startswith("argument COMMAND: invalid"):
            message = f"there is no command {quote(word)}"
        output.complain(f"{message}; {advice}")
        output.finish()
        self.exit(2)


def plain(arguments: Sequence[str]) -> Sequence[str]:
    """Return arguments as the parser knows them: help and version are options too."""
    if arguments[:1] == ["help"]:
        return [*arguments[1:2], "--help"]
    return ["--version"] if arguments == ["version"] else arguments


def parser(arguments: Collection[str]) -> argparse.ArgumentParser:
    """Return the parser, with the options of the commands that are among the arguments."""
    top = _Parser(
        prog="cdi-hook",
        description="CDI devices for OCI containers.",
        epilog=f"{_stages()}\n\n{_EXIT_STATUS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"cdi-hook {__version__}")
    _everywhere(top)
    top.set_defaults(config=None, debug=False, whole_parser=lambda: parser(COMMANDS))
    commands = top.add_subparsers(
        title="commands", dest="command", metavar="COMMAND", parser_class=_Parser, prog="cdi-hook"
    )
    for name, (path, summary) in COMMANDS.items():
        if name in STAGES:
            command = commands.add_parser(name, allow_abbrev=False)  # without help it isn't listed
        else:
            command = commands.add_parser(name, allow_abbrev=False, help=summary)
        command.set_defaults(summary=summary)
        if name in arguments:
            module = importlib.import_module(path)
            command.formatter_class = argparse.RawDescriptionHelpFormatter
            command.description = module.HELP
            module.arguments(command)
            _everywhere(command)
            command.set_defaults(parser=command)
    return top


def _stages() -> str:
    lines = [f"  {name:16} {COMMANDS[name][1]}" for name in STAGES]
    return "\n".join(["hook stages, which runtimes and engines call:", *lines])


def _everywhere(parser: argparse.ArgumentParser) -> None:
    """Declare the options that may stand before or after the command; without them nothing is set."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        default=argparse.SUPPRESS,
        help=f"the configuration (default: $CDI_HOOK_CONFIG, then {settings.DEFAULT_PATH})",
    )
    add_debug(parser)
