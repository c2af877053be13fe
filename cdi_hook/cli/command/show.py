# SPDX-License-Identifier: Apache-2.0
"""cdi-hook show: what a device gives to a container, where it is defined, and how to ask for it."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from cdi_hook.base import json_text, programs
from cdi_hook.catalog import index_writer
from cdi_hook.cli import host, output
from cdi_hook.cli.options import add_json, add_spec_dir
from cdi_hook.edits import host_check, kinds, proof
from cdi_hook.engines import ENGINES
from cdi_hook.errors import CDIError
from cdi_hook.inject import policy, request

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from cdi_hook.catalog.inventory import Inventory
    from cdi_hook.catalog.registry import Registry
    from cdi_hook.inject.pipeline import Host

HELP = """\
Show what each of these devices gives to a container: the edits that all devices of
its spec share, then its own, one on each line. What this host lacks for an edit (a
device node, the source of a mount, the program of a hook) is said below it. Show
the spec file that defines the device, and the files of dirs with lower priority
that define it too. Show last what to write for a container to get the devices,
once "cdi-hook configure" has made the engine use cdi-runtime. With EXCLUSIVE in the
configuration, show which container has a device for itself.

exit status: 0; 1 if a device isn't known; 2 for wrong arguments"""

_KEY = "device"  # what follows the prefix of an annotation's key; any name would do
_SHARED = "all devices of this spec"


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", metavar="NAME", nargs="+", help="a device's qualified name")
    add_spec_dir(parser)
    add_json(
        parser,
        "devices: name, path, priority, shadowed, holder (as list has them), edits (kind, edit, "
        "is_shared, missing), refused (by ALLOW or DENY: why, or null), requests (by engine: what to write)",
    )


def run(options: argparse.Namespace) -> int:
    found = host.host(options)
    host.warn_of_problems(found)
    registry = found.registry()
    cache = registry.cache  # whatever the index says
    known = registry.inventory()
    if index_writer.is_stale(registry.index, cache):
        output.warn(f'{index_writer.STALE}; "cdi-hook index" reads it again')
    names = list(dict.fromkeys(request.with_default_kind(name, found.settings) for name in options.names))
    there = [name for name in names if name in known.devices]
    held = host.holders(found, registry, there)
    shown = [_described(name, registry, known, found, held) for name in there]
    requests = _requests(there, found) if there else {}
    if options.json:
        output.report.items += [{**one, "requests": requests} for one in shown]
    else:
        for line in _lines(shown, requests, held):
            output.say(line)
    for name in names:
        if name not in known.devices:
            output.complain(host.no_such_device(name, known))
    if there != names:
        host.warn_of_specs(known.problems, found.spec_dirs)
    return 0 if there == names else 1


def _described(
    name: str, registry: Registry, known: Inventory, found: Host, held: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    made: list[dict[str, Any]] = []
    for (device, _), part in registry.cache.parts([name]):
        said = [
            (kind, one, host_check.hindrance(kind, one))
            for kind, found in kinds.each_kind(part)
            for one in found
        ]
        if kinds.PROOF in part:
            said.append((kinds.PROOF, part[kinds.PROOF], proof.stale(part[kinds.PROOF])))
        made += [
            {"kind": kind, "edit": edit, "is_shared": device is None, "missing": lacks or None}
            for kind, edit, lacks in said
        ]
    return {**host.place(name, known, found, held), "edits": made, "refused": _refusal(name, found)}


def _refusal(name: str, found: Host) -> str | None:
    try:
        policy.check(request.named([name], found.settings), found.settings)
    except CDIError as error:
        return str(error)
    return None


def _requests(names: list[str], found: Host) -> dict[str, str]:
    """Return what to write for a container to get these devices, by engine."""
    prefixes = found.settings.words("ANNOTATION_PREFIXES")
    if not prefixes:
        return {}
    program = programs.path("cdi-runtime")
    words = {"key": f"{prefixes[0]}{_KEY}", "names": ",".join(names), "program": program}
    return {
        name: text.format(**words)
        for engine in ENGINES.values()
        for name, text in engine.probe().requests().items()
    }


def _lines(
    shown: list[dict[str, Any]], requests: dict[str, str], held: dict[str, dict[str, Any]]
) -> Iterator[str]:
    for one in shown:
        yield one["name"]
        yield f"  defined by {one['path']}"
        for path in one["shadowed"]:
            yield f"  also defined by {path}, which doesn't count: its dir has lower priority"
        if one["holder"]:
            yield f"  {host.in_use_by(one['name'], held)}"
        if one["refused"]:
            yield f"  {one['refused']}"
        for edit in one["edits"]:
            text = edit["edit"] if isinstance(edit["edit"], str) else json_text.dumps(edit["edit"])
            yield f"  {edit['kind']} {text}{f'  # {_SHARED}' if edit['is_shared'] else ''}"
            if edit["missing"]:
                yield f"    missing: {edit['missing']}"
        yield ""
    for name, text in requests.items():
        yield f"{name}:"
        yield from textwrap.indent(text, "  ").split("\n")
