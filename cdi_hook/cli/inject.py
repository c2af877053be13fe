# SPDX-License-Identifier: Apache-2.0
"""cdi-hook inject: what cdi-runtime does to a bundle when a container starts, by hand or on stdin."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from cdi_hook import bundle, injection, jsontext
from cdi_hook.cli import host, output, patch
from cdi_hook.cli.options import add_json, add_spec_dir
from cdi_hook.errors import BundleError, CDIError, quote

if TYPE_CHECKING:
    import argparse

HELP = """\
Give a container its CDI devices: those named by --device, or else those that
its OCI spec asks for by its annotations, and by whatever else the configuration
lets name devices. Without BUNDLE the OCI spec is read from stdin, and the
edited one goes to stdout. With BUNDLE its config.json is replaced, in one step,
if there is anything to change. What is there already is not added twice.

With --diff nothing is changed; instead each change is a line, with the devices
that ask for it and the CDI spec file that it comes from:

  + .process.env[3] "A=1"  # vendor.com/gpu=0, /etc/cdi/vendor.yaml   (added)
  - .linux.devices[0] {"path":"/dev/x"}  # ...                        (removed)
  ~ .process.env[0] "A=0" -> "A=1"  # ...                             (replaced)
  > .mounts[4] -> .mounts[2] {"destination":"/a"}  # ...              (moved)

Places are in jq's notation, and as they are when the changes before are made.

exit status: 0 when it is done, also when there was nothing to do; 1 when it
can't be, and then nothing has changed; 2 for wrong arguments"""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("bundle", metavar="BUNDLE", nargs="?", default="-", help="a bundle's dir (-: stdin)")
    parser.add_argument(
        "-d", "--device", metavar="NAME", action="append", default=[], help="a device, by its qualified name"
    )
    parser.add_argument("--diff", action="store_true", help="only show what would change")
    add_spec_dir(parser)
    add_json(parser, "the changes (with BUNDLE, or --diff) as a JSON Patch, with was and sources beside")


def run(options: argparse.Namespace) -> int:
    """Inject, or say what that would change."""
    is_bundle = options.bundle != "-"
    path = f"{options.bundle}/config.json"
    oci = bundle.load(path) if is_bundle else _read_stdin()
    if oci is None:
        raise BundleError(f"no bundle at {quote(options.bundle)}: there is no {quote(path)}")
    found = host.host(options)
    registry = found.registry(keep_index=False)  # a command changes nothing that it wasn't asked to
    _, changes = injection.inject(oci, found, _warn, named=options.device, registry=registry)
    if is_bundle and not options.diff:
        injection.write(path, oci, changes)
    if options.json and (is_bundle or options.diff):
        output.say_json([patch.operation(change) for change in changes])
    elif options.diff:
        for change in changes:
            output.say(patch.line(change))
    elif not is_bundle:
        output.say_json(oci)
    return 0


def _warn(message: str, errors: list[str]) -> None:
    for error in errors:
        output.warn(f"{message}: {error}")


def _read_stdin() -> dict[str, Any]:
    if sys.stdin is None:
        raise CDIError("can't read an OCI spec from stdin: it is closed")
    try:
        oci = jsontext.loads(sys.stdin.buffer.read().decode("utf-8"))
    except ValueError as error:
        raise CDIError(f"stdin is not valid JSON: {error}") from error
    if not isinstance(oci, dict):
        raise CDIError("stdin is not a JSON object")
    return oci
