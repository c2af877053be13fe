# SPDX-License-Identifier: Apache-2.0
"""LOG's lines (see audit.py) by python-json-logger. Cold: importing it costs 35 ms."""

from __future__ import annotations

import logging
import time
from typing import Any

try:
    from pythonjsonlogger.json import JsonFormatter
except ImportError:  # before python-json-logger 3.1
    from pythonjsonlogger.jsonlogger import JsonFormatter  # type: ignore[attr-defined]

from cdi_hook import log

_FORMAT = "%(asctime)s %(levelname)s %(message)s"
_NAMES = {"asctime": "time", "levelname": "level", "message": "msg"}


def line(level: str, message: str, fields: dict[str, Any]) -> str:
    """Return a line, with what is known as its fields."""
    formatter = JsonFormatter(_FORMAT, log.TIME, rename_fields=_NAMES)
    formatter.converter = time.gmtime
    record = logging.LogRecord("cdi-hook", getattr(logging, level.upper()), "", 0, message, None, None)
    record.__dict__.update(fields)
    return f"{formatter.format(record)}\n"
