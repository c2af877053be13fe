# SPDX-License-Identifier: Apache-2.0
"""cdi-hook doctor: why a device isn't there, on this host or in one container, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdi_hook.cli import host, output
from cdi_hook.cli.options import add_json
from cdi_hook.doctor import checks
from cdi_hook.doctor.checks import of_container, of_specs
from cdi_hook.doctor.patient import Patient, as_root
from cdi_hook.errors import ERROR, OK, UNKNOWN, WARNING, Finding

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

# In the order in which they are said, with the words of the last line.
_LEVELS = {ERROR: "wrong", WARNING: "may go wrong", UNKNOWN: "can't be told", OK: "fine"}

HELP = """\
Say why a device isn't there. Without CONTAINER, examine this host: its engines and
whether they run cdi-runtime, the runtimes, the configuration, the specs and what
they need, the index, systemd's units, cgroups, AppArmor and SELinux, Python.
With CONTAINER, examine that container: the runtime that it was created with, what it
asks for, what only looks like asking, what it was given, and what LOG says of it.
CONTAINER is a name or id that docker, podman, containerd or CRI-O knows (of CRI-O
with crictl), a pod as NAMESPACE/POD or its container as NAMESPACE/POD/CONTAINER, or a
bundle's dir.

Each finding is a line with its level, what is wrong first. The line below it says what
to do. The last line counts them:

  error    a container that asks for a device may not get it
  warning  it works now, and may not later
  unknown  it can't be told; most often only root may look
  ok       as it should be, or worth knowing

exit status: 0 if nothing is an error; 1 if something is; 2 for wrong arguments"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("container", metavar="CONTAINER", nargs="?", help="a container, or a bundle's dir")
    parser.add_argument(
        "--fix", action="store_true", help="make the missing links of /dev/char and /dev/block"
    )
    add_json(parser, "findings: check, level, place, message, fix")


def run(options: argparse.Namespace) -> int:
    patient = Patient(host.host(options))
    findings: list[tuple[str, Finding]] = []
    if options.fix:
        findings += [("links", one) for one in _make_links(patient)]
    if options.container is None:
        findings += checks.examine(patient, debug=options.debug)
    else:
        found, unasked = of_container.find(options.container)
        findings += [("container", one) for one in unasked]
        for engine, who in found:
            findings += of_container.examine(patient, engine, who)
    if options.json:
        output.report.items += [{"check": check, **output.finding(one)} for check, one in findings]
    else:
        _say([one for _, one in findings])
    return 1 if any(one.level == ERROR for _, one in findings) else 0


def _say(findings: list[Finding]) -> None:
    """Say what is wrong first, what is fine last, and how much of each there is."""
    summary = []
    for level, what in _LEVELS.items():
        of_level = [one for one in findings if one.level == level]
        for one in of_level:
            output.say_level(level, one.message)
            if one.fix:
                output.say(f"{'':8} fix: {one.fix}")
        if of_level:
            summary.append(f"{len(of_level)} {what}")
    if len(findings) > 1:
        output.say(f"in all: {', '.join(summary)}")


def _make_links(patient: Patient) -> Iterator[Finding]:
    try:
        for link, node in of_specs.make_links(patient).items():
            yield Finding(OK, f"{link} was made, for {node}")
    except OSError as error:
        fact = f"can't make {error.filename2 or error.filename}: {error.strerror}"
        yield Finding(ERROR, fact, as_root("cdi-hook", "doctor", "--fix"))
