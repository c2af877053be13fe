# SPDX-License-Identifier: Apache-2.0
"""What commands write: lines for people, JSON for programs, messages on stderr.

In a line, characters that can't be printed are escaped as in Go's ``%q``, so that no
name can add lines or control a terminal. JSON has the exact text. With --json every
command writes one object:

    {"version": 1, "items": [...], "warnings": ["..."], "errors": ["..."]}

The items are the command's own (its --help says what each is). Warnings and errors are
those that stderr has, too.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from cdi_hook.base import json_text, log
from cdi_hook.errors import ERROR, OK, UNKNOWN, WARNING, CDIError, defect

if TYPE_CHECKING:
    from cdi_hook.errors import Finding


_COLOURS = {OK: 32, WARNING: 33, ERROR: 31, UNKNOWN: 36}  # of ECMA-48: green, yellow, red, cyan


def say(line: str) -> None:
    """Write a line to stdout."""
    _write(log.shown(line))


def say_level(level: str, line: str) -> None:
    """Write a line with its level before it, which a terminal shows in a colour."""
    before, after = "", ""
    if sys.stdout is not None and sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        before, after = f"\033[{_COLOURS[level]}m", "\033[0m"
    _write(f"{before}{level:8}{after} {log.shown(line)}")


def say_text(text: str) -> None:
    """Write a text of several lines to stdout, whose characters can all be printed."""
    _write(text.removesuffix("\n"))


class Report:
    """What --json writes at the end, if it was asked for."""

    def __init__(self) -> None:
        self.is_wanted = False
        self.items: list[object] = []
        self.warnings: list[str] = []
        self.errors: list[str] = []


report = Report()


def start(*, json: bool) -> None:
    """Begin a command's output; with ``json`` it is one object."""
    global report  # noqa: PLW0603 # one process has one
    report = Report()
    report.is_wanted = json


def complain(message: str) -> None:
    """Write an error to stderr."""
    report.errors.append(message)
    log.stderr(f"cdi-hook: {log.shown(message)}\n")


def note(message: str) -> None:
    """Write to stderr what is worth knowing; for --json it is a warning."""
    report.warnings.append(message)
    log.stderr(f"cdi-hook: {log.shown(message)}\n")


def warn(message: str) -> None:
    """Write a warning to stderr."""
    report.warnings.append(message)
    log.stderr(f"cdi-hook: warning: {log.shown(message)}\n")


def finding(one: Finding) -> dict[str, str]:
    """Return a finding as --json has it."""
    return {"level": one.level, "place": one.place, "message": one.message, "fix": one.fix}


def spec(path: str, data: dict[str, Any]) -> dict[str, Any]:
    """Return a spec's file as --json has it."""
    devices = [one["name"] for one in data["devices"]]
    return {"path": path, "kind": data["kind"], "cdiVersion": data["cdiVersion"], "devices": devices}


def finish() -> None:
    """Write what --json has to say, and flush stdout; raises CDIError if that can't be done."""
    if report.is_wanted:
        report.is_wanted = False
        said = {name: getattr(report, name) for name in ("items", "warnings", "errors")}
        _write(json_text.dumps({"version": 1, **said}))
    if sys.stdout is not None:
        try:
            sys.stdout.flush()
        except OSError as error:
            raise CDIError(f"can't write to stdout: {error.strerror}") from error


def describe(error: Exception) -> str:
    """Return the message for an error."""
    cause = error.__cause__ if isinstance(error, CDIError) else error
    advice = "; try it with sudo" if isinstance(cause, PermissionError) and os.geteuid() != 0 else ""
    if isinstance(error, CDIError):
        return f"{error.sentence}{advice}"
    if isinstance(error, OSError) and error.strerror:
        where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        return f"{where}{error.strerror}{advice}"
    return defect(error)


def _write(line: str) -> None:
    if sys.stdout is None:
        raise CDIError("can't write to stdout: it is closed")
    try:
        sys.stdout.write(f"{line}\n")
    except OSError as error:
        raise CDIError(f"can't write to stdout: {error.strerror}") from error
