# SPDX-License-Identifier: Apache-2.0
"""cdi-hook createContainer: the hook of a CDI spec, with options and --help."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdi_hook.cli import output
from cdi_hook.hooks import entry
from cdi_hook.libraries.needs import OPTIONS, Needs

if TYPE_CHECKING:
    import argparse

HELP = """\
Run as an OCI createContainer hook, as the CDI specs of `cdi-hook generate` name it:
read the state of a container that is being created from stdin, and give its root
filesystem what the libraries need that were mounted into it.

No link leads out of the container, and nothing of the container is run. What the
image has is replaced only by --link. Doing it again changes nothing.

exit status:
  0  all is done
  1  something else went wrong
  2  the arguments are wrong
  3  stdin, the bundle or its config.json can't be used
  7  the container couldn't be given all of it"""


def arguments(parser: argparse.ArgumentParser) -> None:
    for option, (word, text) in OPTIONS.items():
        parser.add_argument(option, metavar=word, action="append", default=[], help=text)


def run(options: argparse.Namespace) -> int:
    try:
        needs = Needs({option: vars(options)[option[2:].replace("-", "_")] for option in OPTIONS})
    except ValueError as error:
        output.complain(f"{error}; see cdi-hook createContainer --help")
        return 2
    return entry.main(options.command, options.config, options.debug, needs=needs)
