# SPDX-License-Identifier: Apache-2.0
"""The program cdi-hook. commands.py has the table of commands, and each command has a module."""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import signal
import sys
from typing import TYPE_CHECKING

from cdi_hook.cli import commands, output
from cdi_hook.errors import CDIError

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str]) -> int:
    """Run a command and return its exit status; raises SystemExit for help (0) and wrong arguments (2)."""
    arguments = commands.plain(arguments)
    output.start(json="--json" in arguments)
    try:
        parser = commands.parser(arguments)
        options, more = parser.parse_known_args(arguments)
        if more:
            getattr(options, "parser", parser).error(f"unrecognized arguments: {' '.join(more)}")
        if options.command is None:
            parser.print_help(sys.stderr)
            return 2
        module = importlib.import_module(commands.COMMANDS[options.command][0])
        status: int = module.run(options)
        output.finish()
    except Exception as error:  # a user gets one line, not a traceback
        if "--debug" in arguments:
            raise
        output.complain(output.describe(error))
        with contextlib.suppress(CDIError):  # stdout may be why
            output.finish()
        return 1
    return status


def run() -> None:
    """Run as the program. A closed pipe or an interrupt ends it without a message, as it ends cat."""
    gc.disable()  # a collection costs more than it could free: a command does one thing
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    status = main(sys.argv[1:])
    os._exit(status)  # stdout is flushed: Python's own cleanup would add nothing
