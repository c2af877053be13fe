# SPDX-License-Identifier: Apache-2.0
"""cdi-hook validate: show all errors in CDI spec files, and all conflicts between them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from cdi_hook.cli import host, output
from cdi_hook.cli.options import add_json, add_spec_dir
from cdi_hook.errors import Finding, InvalidSpec, quote
from cdi_hook.specs import specfile
from cdi_hook.specs.cache import Cache
from cdi_hook.specs.model import SPEC_EXTENSIONS, Spec

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from cdi_hook.injection import Host

HELP = """\
Check the CDI spec files that are named, and those in the dirs that are named.
Without arguments, check the files in the spec dirs; they must also pass
SPEC_TRUST. Dirs are checked together, in rising priority; two files in one dir
must not define the same device. A valid file is shown as one line:

  FILE: KIND, N devices, CDI VERSION

Each error in a file is shown as one line, with its place in jq's notation:

  FILE: .devices[3].name: MESSAGE

exit status: 0 if everything is valid; 1 if something isn't; 2 for wrong arguments"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", metavar="FILE|DIR", nargs="*", help="what to check (default: the spec dirs)")
    add_spec_dir(parser)
    add_json(parser, "a list of objects: path, valid, findings (path, message); kind, devices, cdiVersion")


def run(options: argparse.Namespace) -> int:
    found = host.host(options)
    host.warn_of_problems(found)
    reports = list(_reports(options.paths, found))
    if options.json:
        output.say_json(reports)
    else:
        for report in reports:
            _say(report)
    if not reports:
        host.complain_of_no_specs([one for one in options.paths if os.path.isdir(one)] or found.spec_dirs)
    return 0 if all(report["valid"] for report in reports) else 1


def _say(report: dict[str, Any]) -> None:
    for finding in report["findings"]:
        output.say(f"{report['path']}: {Finding(finding['path'], finding['message'])}")
    if report["valid"]:
        count = report["devices"]
        devices = f"{count} device{'' if count == 1 else 's'}"
        output.say(f"{report['path']}: {report['kind']}, {devices}, CDI {report['cdiVersion']}")


def _reports(paths: list[str], found: Host) -> Iterator[dict[str, Any]]:
    """Yield a report for each file, and for each dir that can't be read."""
    dirs = [path for path in paths if os.path.isdir(path)]
    for path in paths:
        if path not in dirs:
            if os.path.exists(path) and not path.endswith(SPEC_EXTENSIONS):
                names = " or ".join(SPEC_EXTENSIONS)
                output.warn(f"{path}: a spec dir's file isn't read unless its name ends in {names}")
            yield _report(path, [])
    if dirs or not paths:
        cache = Cache(dirs) if dirs else host.read_specs(found)
        errors = cache.errors
        for path in cache.identities:
            if path not in cache.spec_dirs:
                yield _report(path, errors.get(path, []))
            elif path in errors:
                yield _described(path, None, [Finding("", message) for message in errors[path]])


def _report(path: str, errors: list[str]) -> dict[str, Any]:
    """Return the report for a file; ``errors`` are a Cache's errors for it."""
    try:
        loaded = specfile.load(path)
    except InvalidSpec as error:
        return _described(path, None, error.findings)
    except OSError as error:
        return _described(path, None, [Finding("", (error.strerror or str(error)).lower())])
    return _described(path, loaded, [_placed(message, loaded) for message in errors])


def _placed(message: str, loaded: Spec) -> Finding:
    """Return the finding for a Cache's error about a valid spec; a conflict has a place."""
    for number, device in enumerate(loaded.devices.values()):
        if message.startswith(f"conflicting device {quote(device.qualified_name)} "):
            return Finding(f".devices[{number}].name", message)
    return Finding("", message)


def _described(path: str, loaded: Spec | None, findings: list[Finding]) -> dict[str, Any]:
    report: dict[str, Any] = {"path": path, "valid": not findings}
    report["findings"] = [{"path": one.path, "message": one.message} for one in findings]
    if loaded is not None:
        report["kind"] = loaded.kind
        report["devices"] = len(loaded.devices)
        report["cdiVersion"] = loaded.data["cdiVersion"]
    return report
