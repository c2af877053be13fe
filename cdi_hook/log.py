# SPDX-License-Identifier: Apache-2.0
"""Lines for the runtime's --log, shaped as runc's, without logging (13 ms).

One line, one write. It isn't the program's own log: that is ownlog.py.
"""

from __future__ import annotations

import posix

from cdi_hook import jsontext
from cdi_hook.errors import quote

# Engines take these for errors of the container's own command: they turn them into
# other exit codes (127, 126), and some then hide the rest of the message.
_MISLEADING = (
    ("no such file or directory", "does not exist"),
    ("not found", "missing"),
    ("permission denied", "access refused"),
    ("operation not permitted", "not allowed"),
    ("not a directory", "no directory"),
    ("is a directory", "a directory"),
)


def plain(message: str) -> str:
    """Return a message as one line that no engine takes for something else."""
    message = " ".join(message.split())
    for phrase, instead in _MISLEADING:
        start = message.lower().find(phrase)
        while start >= 0:
            message = message[:start] + instead + message[start + len(phrase) :]
            start = message.lower().find(phrase)
    return message


def line(level: str, message: str, log_format: str, error: str = "") -> str:
    """Return a log line in runc's JSON or text, with the time in UTC."""
    import time

    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    if log_format == "json":
        fields = {"error": error} if error else {}
        return jsontext.dumps({**fields, "level": level, "msg": message, "time": now}) + "\n"
    more = f" error={quote(error)}" if error else ""
    return f'time="{now}" level={level} msg={quote(message)}{more}\n'


def append(path: str, text: str) -> bool:
    """Append text to a --log file as crun and runc name it; False when it can't be done."""
    path = path.removeprefix("file:")
    if not path or path.startswith(("journald:", "syslog:")):
        return False
    flags = posix.O_WRONLY | posix.O_APPEND | posix.O_CREAT | posix.O_CLOEXEC | posix.O_NONBLOCK
    try:
        descriptor = posix.open(path, flags, 0o644)
    except OSError:
        return False
    return _write(descriptor, text, close=True)


def stderr(text: str) -> bool:
    """Write text to stderr, which may be closed or read-only; False when it can't be done."""
    return _write(2, text, close=False)


def _write(descriptor: int, text: str, close: bool) -> bool:
    try:
        posix.write(descriptor, text.encode("utf-8", "backslashreplace"))
    except OSError:
        return False
    finally:
        if close:
            posix.close(descriptor)
    return True
