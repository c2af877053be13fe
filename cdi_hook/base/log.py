# SPDX-License-Identifier: Apache-2.0
"""Lines for the runtime's --log, shaped as runc's, without logging (13 ms).

One line, one write. LOG, the program's own log, has other lines: see audit.py.
"""

from __future__ import annotations

import posix

from cdi_hook.base import json_text
from cdi_hook.base.quoting import quote

# Engines take these for errors of the container's own command: they turn them into
# other exit codes (127, 126), and some then hide the rest of the message. What is written
# instead makes, with the text around it, none of those that come before or the same.
_MISLEADING = (
    ("no such file or directory", "does not exist"),
    ("not found", "missing"),
    ("permission denied", "access refused"),
    ("operation not permitted", "not allowed"),
    ("not a directory", "no directory"),
    ("is a directory", "is a dir"),
    ("failed to run runc create/exec call", "running runc failed"),
    ("cannot find the file", "can't find the file"),
    ("open executable", "open an executable"),
)

TIME = "%Y-%m-%dT%H:%M:%SZ"  # RFC 3339
# An engine's pipe, which it may read only once the runtime has ended, holds a page at least.
_MOST_ON_STDERR = 4000  # bytes
_MOST = 4000  # characters of a message, which is for a person to read
MOST_ERRORS = 16_000  # characters of all that is wrong with specs; some read a log's lines up to 64 KiB


def shown(text: str) -> str:
    """Return a text with the characters escaped that can't be printed, as in Go's ``%q``."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else quote(one)[1:-1] for one in text)


def short(message: str, most: int = _MOST) -> str:
    """Return a message, or its beginning if it is too long."""
    return message if len(message) <= most else f"{message[:most]}..."


def plain(message: str, most: int = _MOST) -> str:
    """Return a message as a short line that no engine takes for another, and no terminal for commands."""
    message = shown(" ".join(short(message, most).split()))
    for phrase, instead in _MISLEADING:
        parts: list[str] = []
        lowered, end = _lowered(message), 0
        while (start := lowered.find(phrase, end)) >= 0:
            parts += message[end:start], instead
            end = start + len(phrase)
        message = "".join((*parts, message[end:]))
    return message


def _lowered(text: str) -> str:
    """Return a text in lower case as Go has it: each character becomes one character."""
    return text.lower() if text.isascii() else "".join(one.lower()[0] for one in text)


def line(level: str, message: str, log_format: str, error: str = "") -> str:
    """Return a log line in runc's JSON or text, with the time in UTC."""
    import time

    now = time.strftime(TIME, time.gmtime())
    if log_format == "json":
        fields = {"error": error} if error else {}
        return json_text.dumps({**fields, "level": level, "msg": message, "time": now}) + "\n"
    more = f" error={quote(error)}" if error else ""
    return f'time="{now}" level={level} msg={quote(message)}{more}\n'


def append(path: str, text: str) -> bool:
    """Append text to a --log file as crun and runc name it; False when it can't be done."""
    path = path.removeprefix("file:")
    if not path or path.startswith(("journald:", "syslog:")):
        return False
    try:
        add(path, text)
    except OSError:
        return False
    return True


def add(path: str, text: str, more: int = 0, mode: int = 0o644) -> None:
    """Append text to a log file, which is made with this mode if it is missing; raises OSError.

    ``more`` are further flags to open it with.
    """
    flags = posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT | posix.O_CLOEXEC | posix.O_NONBLOCK
    descriptor = posix.open(path, flags | more, mode)
    try:
        data = _encode(text)
        if posix.write(descriptor, data) < len(data):
            raise OSError(0, "only a part of the line has room")
    finally:
        posix.close(descriptor)  # a network filesystem may fail only now


def stderr(text: str) -> bool:
    """Write text to stderr, which may be closed or read-only; False when it can't be done.

    Of a text that is too long its beginning is written: a pipe that nobody reads must not hold us up.
    """
    data = _encode(text)
    if len(data) > _MOST_ON_STDERR:
        data = data[:_MOST_ON_STDERR] + b"...\n"
    try:
        posix.write(2, data)
    except OSError:
        return False
    return True


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "backslashreplace")
