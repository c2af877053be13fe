# SPDX-License-Identifier: Apache-2.0
"""cdi-hook inject: what cdi-runtime does to a bundle when a container starts, by hand or on stdin."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from cdi_hook import bundle, driver, explain, jsontext, request
from cdi_hook.cli import diff, table, terminal
from cdi_hook.cli.host import Host
from cdi_hook.errors import BundleError, CDIError, InjectionError, quote
from cdi_hook.specs.model import Device

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from cdi_hook import config
    from cdi_hook.specs.model import Spec

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
    table.spec_dir(parser)
    table.json(parser, "the changes (with BUNDLE, or --diff) as a JSON Patch, with was and sources beside")


def run(options: argparse.Namespace) -> int:
    """Inject, or say what that would change."""
    host = Host(options)
    is_bundle = options.bundle != "-"
    path = f"{options.bundle}/config.json"
    oci = bundle.load(path) if is_bundle else _read_stdin()
    if oci is None:
        raise BundleError(f"no bundle at {quote(options.bundle)}: there is no {quote(path)}")
    before = jsontext.dumps(oci)
    changes = _inject(oci, options, host)
    after = jsontext.dumps(oci)
    if is_bundle and not options.diff and after != before:
        try:
            bundle.replace(path, after)
        except CDIError as error:
            raise CDIError(f"{driver.FAILED}{error}") from error
    if options.json and (is_bundle or options.diff):
        terminal.say_json(changes)
    elif options.diff:
        for change in changes:
            terminal.say(diff.line(change))
    elif not is_bundle:
        terminal.say_json(oci)
    return 0


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


def _inject(oci: dict[str, Any], options: argparse.Namespace, host: Host) -> list[dict[str, Any]]:
    """Edit oci, and return the changes if they are to be shown."""
    wanted = _wanted(oci, options.device, host.settings)
    if not wanted.device_ids:
        return []
    before = jsontext.loads(jsontext.dumps(oci))
    registry = host.registry()

    def warn(message: str, errors: str) -> None:
        for error in errors.split("\n"):
            terminal.warn(f"{message}: {error}")

    try:
        driver.inject(driver.register(host.spec_dirs, lambda: registry, warn), oci, wanted)
    except InjectionError as error:
        raise explain.failure(error, wanted, registry.cache, oci) from error
    if not (options.diff or options.json):
        return []
    return diff.changes(before, oci, map(_sourced, registry.cache.parts(wanted.device_ids)))


def _wanted(oci: dict[str, Any], named: Sequence[str], settings: config.Config) -> request.DeviceRequest:
    """Return the request that the options make, or else the spec; raises CDIError when it can't be met."""
    try:
        if named:
            origins = {request.with_default_kind(one, settings): "--device" for one in named}
            wanted = request.DeviceRequest(list(origins), origins=origins)
        else:
            wanted = request.collect(oci, settings)
        request.check_policy(wanted, settings)
    except CDIError as error:
        raise CDIError(f"{driver.FAILED}{error}") from error
    return wanted


def _sourced(part: tuple[Device | Spec, dict[str, Any]]) -> tuple[diff.Source, dict[str, Any]]:
    """Put a part's edits beside who asks for them: a device, or the spec itself, and the spec's path."""
    source, edits = part
    if isinstance(source, Device):
        return (source.qualified_name, source.spec.path), edits
    return (None, source.path), edits
