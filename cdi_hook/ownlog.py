# SPDX-License-Identifier: Apache-2.0
"""The program's own log (LOG, LOG_LEVEL): JSON lines by python-json-logger.

Cold: it costs 35 ms, so it is imported only where LOG is set. A log that can't
be written never stops a container.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

try:
    from pythonjsonlogger.json import JsonFormatter
except ImportError:  # before python-json-logger 3.1
    from pythonjsonlogger.jsonlogger import JsonFormatter  # type: ignore[attr-defined]

from cdi_hook import log

if TYPE_CHECKING:
    from cdi_hook.config import Config

_FORMAT = "%(asctime)s %(levelname)s %(message)s"
_NAMES = {"asctime": "time", "levelname": "level", "message": "msg"}


def write(config: Config, level: str, message: str, **fields: Any) -> bool:
    """Append one line to LOG when level is at least LOG_LEVEL; fields become the line's own.

    False when it can't be done.
    """
    number = getattr(logging, level.upper())
    if number < getattr(logging, config["LOG_LEVEL"].upper()):
        return True
    formatter = JsonFormatter(_FORMAT, "%Y-%m-%dT%H:%M:%SZ", rename_fields=_NAMES)
    formatter.converter = time.gmtime
    record = logging.LogRecord("cdi-hook", number, "", 0, message, None, None)
    record.__dict__.update(fields)
    return log.append(config["LOG"], f"{formatter.format(record)}\n")
