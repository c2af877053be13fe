# SPDX-License-Identifier: Apache-2.0
"""cdi-hook inject: edit a bundle, or an OCI spec on stdin, as cdi-runtime does when a container starts."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from cdi_hook.base import json_text
from cdi_hook.base.quoting import quote
from cdi_hook.cli import host, output, patch
from cdi_hook.cli.options import add_json, add_spec_dir
from cdi_hook.errors import BundleError
from cdi_hook.inject import bundle, pipeline
from cdi_hook.inject.request import Facts

if TYPE_CHECKING:
    import argparse

HELP = """\
Give a container the CDI devices that --device names. Without --device, give it the
devices that its OCI spec asks for, by annotations and by what else the
configuration lets name devices. Without BUNDLE the OCI spec is read from stdin,
and the edited one goes to stdout. With BUNDLE its config.json is replaced in one
step if anything changes. What is there already is not added twice.

With --diff nothing is changed. Each change is shown as a line, with the devices
that ask for it and the CDI spec file that it comes from:

  + .process.env[3] "A=1"  # vendor.com/gpu=0, /etc/cdi/vendor.yaml   (added)
  - .linux.devices[0] {"path":"/dev/x"}  # ...                        (removed)
  ~ .process.env[0] "A=0" -> "A=1"  # ...                             (replaced)
  > .mounts[4] -> .mounts[2] {"destination":"/a"}  # ...              (moved)

Places are in jq's notation. A change's place is the one after the changes above
it are made.

exit status: 0 on success, also if there is nothing to do; 1 on failure, and then
nothing has changed; 2 for wrong arguments"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", metavar="BUNDLE", nargs="?", default="-", help="a bundle's dir (-: stdin)")
    parser.add_argument(
        "-d", "--device", metavar="NAME", action="append", default=[], help="a device's qualified name"
    )
    parser.add_argument("--diff", action="store_true", help="only show what would change")
    add_spec_dir(parser)
    add_json(parser, "the changes, as a JSON Patch with the added members was and sources")


def run(options: argparse.Namespace) -> int:
    place = None
    if options.bundle == "-":
        if sys.stdin is None:
            raise BundleError("can't read an OCI spec from stdin: it is closed")
        oci = bundle.parse(sys.stdin.buffer.read(bundle.MOST + 1), "an OCI spec")
    elif os.path.isfile(options.bundle):
        directory = os.path.dirname(options.bundle) or "."
        raise BundleError(f"{quote(options.bundle)} is a file; name the bundle, its dir: {directory}")
    else:
        oci, place = bundle.load_from(options.bundle)
    found = host.host(options)
    found.call = Facts(
        bundle=os.path.realpath(options.bundle) if place else "",
        no_lease="cdi-hook inject takes no lease, because it starts no container",
    )
    changes = pipeline.inject(oci, found, _warn, named=options.device, keep_index=False)
    if found.call.doubt:
        output.warn(found.call.doubt)
    if place and not options.diff:
        pipeline.write(place, found.call)
    if options.json:
        output.report.items += [patch.operation(change) for change in changes]
    elif options.diff:
        for change in changes:
            output.say(patch.line(change))
    elif not place:
        output.say_text(json_text.dumps(oci))
    return 0


def _warn(message: str, errors: list[str]) -> None:
    for error in errors:
        output.warn(f"{message}: {error}")
