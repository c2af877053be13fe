# SPDX-License-Identifier: Apache-2.0
"""cdi-hook validate: show all errors in CDI spec files, and all conflicts between them."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from cdi_hook.base import words
from cdi_hook.base.trust import untrusted
from cdi_hook.catalog.cache import Cache
from cdi_hook.cli import host, output
from cdi_hook.cli.options import add_json, add_spec_dir
from cdi_hook.edits import host_check
from cdi_hook.errors import ERROR, WARNING, CDIError, Finding, InvalidSpec
from cdi_hook.specs import specfile, validation
from cdi_hook.specs.model import SPEC_EXTENSIONS, Spec
from cdi_hook.specs.yaml_nodes import next_document

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from cdi_hook.inject.pipeline import Host

HELP = """\
Check the CDI spec files that are named, and those in the dirs that are named; - is
standard input. Without arguments, check the files in the spec dirs; they must also
pass SPEC_TRUST. Dirs are checked together, in rising priority; two files in one dir
must not define the same device. A valid file is shown as one line:

  FILE: KIND, N devices, CDI VERSION

Each error in a file is shown as one line, with its place in jq's notation:

  FILE: .devices[3].name: MESSAGE

A valid file is also held against this host: device nodes, the sources of bind
mounts, and the programs of hooks have to be there, or a container that asks for the
device doesn't start. Each thing that is missing is a warning, and so is what
troubles some engines: a cdiVersion that is higher than needed, a vendor or class of
one letter, a createContainer hook without env, which lets an image run programs on
the host (CVE-2025-23266). So is what means something else than it seems to: a
fileMode in decimal, ~ or a variable in the source of a mount, a second document.

  FILE: warning: .devices[3].containerEdits.mounts[0]: MESSAGE

exit status: 0 if everything is valid, with warnings too; 1 if something isn't;
2 for wrong arguments"""

_STDIN = "-"


class Checked(NamedTuple):
    """What is wrong with a file or dir, and the spec, if it is one."""

    path: str
    spec: Spec | None
    findings: list[Finding]
    warnings: list[Finding]

    @property
    def as_json(self) -> dict[str, Any]:
        """The same as --json has it."""
        found = [output.finding(one) for one in (*self.findings, *self.warnings)]
        described = output.spec(self.path, self.spec.data) if self.spec else {"path": self.path}
        return {**described, "is_valid": not self.findings, "findings": found}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "paths", metavar="FILE|DIR", nargs="*", help="what to check (default: the spec dirs; -: stdin)"
    )
    parser.add_argument(
        "--no-host", action="store_true", help="don't look for what a spec needs on this host"
    )
    add_spec_dir(parser)
    add_json(
        parser,
        "files: path, is_valid, findings (level, place, message, fix), kind, cdiVersion, devices",
    )


def run(options: argparse.Namespace) -> int:
    found = host.host(options)
    host.warn_of_problems(found)
    reports = list(_reports(options.paths, found, with_host=not options.no_host))
    gone = [one for one in options.spec_dir or () if not os.path.exists(one)]
    reports += [Checked(one, None, [Finding(ERROR, "there is no such dir")], []) for one in gone]
    if options.json:
        output.report.items += [report.as_json for report in reports]
    else:
        for report in reports:
            _say(report)
    if not options.paths or any(map(os.path.isdir, options.paths)):
        dirs = [one for one in options.paths if os.path.isdir(one)] or found.spec_dirs
        host.warn_of_specs({}, dirs)
        if not reports:
            host.complain_of_no_specs(dirs)
    return 1 if any(report.findings for report in reports) else 0


def _say(report: Checked) -> None:
    for one in report.findings:
        output.say(f"{report.path}: {one}")
    if report.spec and not report.findings:
        devices = words.count(len(report.spec.devices), "device")
        output.say(f"{report.path}: {report.spec.kind}, {devices}, CDI {report.spec.data['cdiVersion']}")
    for one in report.warnings:
        output.say(f"{report.path}: warning: {one}")


def _reports(paths: list[str], found: Host, *, with_host: bool) -> Iterator[Checked]:
    """Yield a report for each file, and for each dir that can't be read."""
    dirs = [path for path in paths if os.path.isdir(path)]
    for path in paths:
        if path not in dirs:
            report = _report(path, [], with_host=with_host)
            _warn_of_trust(path, found)
            if report.spec and path != _STDIN and not path.endswith(SPEC_EXTENSIONS):
                names = " or ".join(SPEC_EXTENSIONS)
                output.warn(f"{path}: a spec dir's file isn't read unless its name ends in {names}")
            yield report
    if dirs or not paths:
        cache = Cache(dirs or found.spec_dirs, strict=found.strict and not dirs)
        problems = cache.problems
        for path in cache.identities:
            if path not in cache.spec_dirs:
                yield _report(path, problems.get(path, []), with_host=with_host)
            elif path in problems:
                yield Checked(path, None, problems[path], [])


def _warn_of_trust(path: str, found: Host) -> None:
    """Warn if a file of a spec dir doesn't count because others than root could have written it."""
    if found.strict and os.path.dirname(os.path.abspath(path)) in found.spec_dirs:
        why, remedy = untrusted(path)
        if why:
            output.warn(f"{path}: refused by SPEC_TRUST=strict: {why}; to fix it: {remedy}")


def _report(path: str, problems: list[Finding], *, with_host: bool) -> Checked:
    """Return the report for a file; ``problems`` are a Cache's for it."""
    try:
        if path == _STDIN:
            path, text = "stdin", _stdin()
        else:
            text = specfile.read_file(path, path)
        loaded = specfile.parse(text, path)
    except InvalidSpec as error:
        return Checked(path, None, error.findings, [])
    except OSError as error:
        return Checked(path, None, [Finding(ERROR, (error.strerror or str(error)).lower())], [])
    line = next_document(text)
    more = f"line {line}: a file has one spec, and what begins here isn't read"
    second = [Finding(WARNING, more, "make a file of its own of it")] if line else []
    warnings = [*second, *validation.warnings(loaded.data), *(_missing(loaded) if with_host else ())]
    return Checked(path, loaded, [_placed(one, loaded) for one in problems], warnings)


def _stdin() -> bytes:
    if sys.stdin is None:
        raise CDIError("can't read a spec from stdin: it is closed")
    return sys.stdin.buffer.read()


def _missing(loaded: Spec) -> Iterator[Finding]:
    """Yield what this host lacks for a spec's devices."""
    yield from host_check.findings(loaded.container_edits, ".containerEdits")
    for number, device in enumerate(loaded.devices.values()):
        yield from host_check.findings(device.edits, f".devices[{number}].containerEdits")


def _placed(problem: Finding, loaded: Spec) -> Finding:
    """Return a Cache's problem with a valid spec; a conflict has a place."""
    for number, device in enumerate(loaded.devices.values()):
        if problem.device == device.qualified_name:
            return Finding(ERROR, problem.message, problem.fix, f".devices[{number}].name")
    return problem
