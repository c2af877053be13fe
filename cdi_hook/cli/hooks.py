# SPDX-License-Identifier: Apache-2.0
"""cdi-hook precreate, createRuntime and prestart, as a person may call them: with options, and with help."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdi_hook import hook

if TYPE_CHECKING:
    import argparse

HELP = """\
Run as an OCI hook of the stage that the command is named after, with JSON on stdin.

precreate is podman's stage. It reads the OCI spec of a container, and prints it
with the devices that it asks for. It can make every edit. A device that is there
already is not added again.

createRuntime and prestart read the state of a container that is being created,
and give it the devices that its config.json asks for: device nodes and rules,
mounts, net devices, and the CDI spec's own prestart, createRuntime and
createContainer hooks. Some edits come too late for them: variables, additional
groups, Intel RDT, later hooks. They refuse such an edit, or with
HOOK_UNSUPPORTED=warn leave it out.

Errors go to stderr. Some engines drop that, so they also go to LOG, or to syslog
where there is no LOG.

exit status:
  0  it is done, or nothing was asked for
  1  something else went wrong
  2  the arguments are wrong
  3  stdin, the bundle or its config.json can't be used
  4  the configuration has a line that can't be used
  5  the request is malformed, or ALLOW or DENY refuse it
  6  a device is in no CDI spec that can be used
  7  a device is known, and couldn't be injected
  8  a device needs something that comes too late at this stage"""


def arguments(_: argparse.ArgumentParser) -> None:
    """Declare no options: all that there is to know comes on stdin."""


def run(options: argparse.Namespace) -> int:
    """Run as the hook that the command names."""
    return hook.main(options.command, options.config, options.debug)
