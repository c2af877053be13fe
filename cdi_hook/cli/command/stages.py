# SPDX-License-Identifier: Apache-2.0
"""cdi-hook precreate, createRuntime and prestart: the hooks with options and --help."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdi_hook.edits.kinds import KINDS, can_be_late
from cdi_hook.hooks import entry

if TYPE_CHECKING:
    import argparse

_OTHERS = [kind for name, kind in KINDS.items() if name != "hooks"]  # some of which are in time
_IN_TIME = ", ".join(kind.words for kind in _OTHERS if kind.too_late is can_be_late)
_TOO_LATE = ", ".join(kind.words for kind in _OTHERS if kind.too_late is not can_be_late)

HELP = f"""\
Run as an OCI hook of the stage that the command is named after, with JSON on stdin.

precreate is podman's stage. It reads a container's OCI spec, and prints it with
the devices that it asks for. It can make every edit. It doesn't add a device that
is there already.

createRuntime and prestart read the state of a container that is being created,
and give it the devices that its config.json asks for:
{_IN_TIME}, and the CDI
spec's own prestart, createRuntime and createContainer hooks. Some edits come too
late for them: {_TOO_LATE}, later hooks.
They refuse such an edit; with HOOK_UNSUPPORTED=warn they leave it out.

Errors go to stderr. Some engines drop stderr, so errors also go to LOG, or to
syslog if there is no LOG.

exit status:
  0  the hook has done its work, or nothing was asked for
  1  something else went wrong
  2  the arguments are wrong
  3  stdin, the bundle or its config.json can't be used
  4  the configuration can't be used
  5  the request is malformed, or ALLOW or DENY refuses it
  6  no usable CDI spec defines the device
  7  the device is known but couldn't be injected
  8  the device needs an edit that comes too late at this stage"""


def arguments(_: argparse.ArgumentParser) -> None:
    pass


def run(options: argparse.Namespace) -> int:
    return entry.main(options.command, options.config, options.debug)
