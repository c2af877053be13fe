# SPDX-License-Identifier: Apache-2.0
"""The command line, cdi-hook: arguments -> a command -> an exit status.

Which commands and options there are is table.py's to say, and what a command
does its own module's. Cold: a person is waiting, not a container.
"""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import TYPE_CHECKING

from cdi_hook.cli import commands, output

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Run the command that the arguments name, and return its exit status: 1 when it fails.

    Raises SystemExit, as argparse has it, for help (0) and wrong arguments (2).
    """
    try:
        parser = commands.parser(arguments)
        options = parser.parse_args(arguments)
        if options.command is None:
            parser.print_help(sys.stderr)
            return 2
        module = importlib.import_module(commands.COMMANDS[options.command][0])
        status: int = module.run(options)
        output.flush()
    except Exception as error:  # one line is what a user wants; --debug is for the rest
        if "--debug" in arguments:
            raise
        output.complain(output.describe(error))
        return 1
    return status


def run() -> None:
    """Run as the program: a closed pipe or an interrupt ends it without a word, as it does cat."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    status = main(sys.argv[1:])
    os._exit(status)  # all that could be written has been
