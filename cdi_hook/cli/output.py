# SPDX-License-Identifier: Apache-2.0
"""What commands write: lines for people, JSON for programs, messages on stderr.

In a line, characters that can't be printed are escaped as in Go's ``%q``, so that
no name can add lines or control a terminal. JSON has the exact text.
"""

from __future__ import annotations

import os
import sys

from cdi_hook.base import json_text, log
from cdi_hook.errors import CDIError


def say(line: str) -> None:
    """Write a line to stdout."""
    _write(log.shown(line))


def say_text(text: str) -> None:
    """Write a text of several lines to stdout, whose characters can all be printed."""
    _write(text.removesuffix("\n"))


def say_json(value: object) -> None:
    """Write a value to stdout, as one line of JSON."""
    _write(json_text.dumps(value))


def complain(message: str) -> None:
    """Write a message to stderr."""
    log.stderr(f"cdi-hook: {log.shown(message)}\n")


def warn(message: str) -> None:
    """Write a warning to stderr."""
    complain(f"warning: {message}")


def describe(error: Exception) -> str:
    """Return the message for an error."""
    cause = error.__cause__ if isinstance(error, CDIError) else error
    advice = "; try it with sudo" if isinstance(cause, PermissionError) and os.geteuid() != 0 else ""
    if isinstance(error, CDIError):
        return f"{error.sentence}{advice}"
    if isinstance(error, OSError) and error.strerror:
        where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        return f"{where}{error.strerror}{advice}"
    from cdi_hook.inject import explain

    return explain.defect(error)


def flush() -> None:
    """Flush stdout; raises CDIError if it can't be written."""
    if sys.stdout is not None:
        try:
            sys.stdout.flush()
        except OSError as error:
            raise CDIError(f"can't write to stdout: {error.strerror}") from error


def _write(line: str) -> None:
    if sys.stdout is None:
        raise CDIError("can't write to stdout: it is closed")
    try:
        sys.stdout.write(f"{line}\n")
    except OSError as error:
        raise CDIError(f"can't write to stdout: {error.strerror}") from error
