# SPDX-License-Identifier: Apache-2.0
"""LOG's lines: who got which devices when, and by which annotation; one line for each injection and refusal.

A line is a JSON object:

    time       RFC 3339, UTC, in seconds
    level      INFO, WARNING or ERROR
    msg        what happened
    container  the container's id
    bundle     the path of its bundle
    engine     docker, containerd, crio or podman, where that can be told
    pod        the pod's name under CRI, and
    namespace  its namespace
    devices    a list of {name, source}: which device, and what asked for it
    specs      the spec files whose edits were applied
    changes    how many edits of each kind were applied
    ms         how long it took since Python started with our code
    errors     what is wrong with the specs, in a warning
    cut        how many devices and specs aren't in the line, because it would be too long

What isn't known isn't there. A text that is cut ends in "...". An injection's line is written here, without
logging (13 ms). The others are cold, and python-json-logger's.
"""

from __future__ import annotations

import posix
import time

from cdi_hook.base import json_text, log
from cdi_hook.inject import request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cdi_hook.config.settings import Config
    from cdi_hook.inject.request import Facts

MOST = 64 << 10  # bytes of a line; some read a log's lines up to that
_MOST_TEXT, _MOST_MESSAGE = 4096, 16_000  # bytes, as JSON, of a path or an id, and of the message
_MOST_SOURCE = 400  # characters of what asks for a device; an annotation of Kubernetes has a key of 317
_ROOM = 512  # bytes for the time, the level, the names of fields, and "cut"
LEVELS = ("info", "warning", "error")
# An engine, and what only its dirs have in their paths: the bundle's, and the one for the runtime's state.
ROOTS = (("docker", "/moby"), ("containerd", "containerd"))
# Else an annotation tells, which a container's user may have set: an engine, the annotation, and
# its value if it has just one.
ENGINES = (
    ("crio", "io.container.manager", "cri-o"),
    ("podman", "io.container.manager", "libpod"),
    ("containerd", "io.kubernetes.cri.container-type", ""),
)


# Engines that remove a container, and take it from their list, by "rm -f ID".
REMOVES = ("docker", "podman")

# What python-json-logger makes a line of, and what we call it.
_FORMAT = "%(asctime)s %(levelname)s %(message)s"
_NAMES = {"asctime": "time", "levelname": "level", "message": "msg"}


def write(settings: Config, call: Facts, start: float, level: str, message: str, errors: str = "") -> bool:
    """Append a line to LOG if its level is at least LOG_LEVEL; False when that can't be done."""
    if LEVELS.index(level) < LEVELS.index(settings["LOG_LEVEL"]):
        return True
    fields = about(call, start)
    if errors:
        fields["errors"] = _fit(errors, log.MOST_ERRORS)
    message = _fit(log.short(message), _MOST_MESSAGE)
    _cut(fields, MOST - _ROOM - _size(message))
    make = line if level == "info" else _formatted
    # Others may make links where logs are: on Ubuntu a group may write to /var/log.
    try:
        log.add(settings["LOG"], make(level, message, fields), posix.O_NOFOLLOW, 0o640)
    except OSError as error:
        call.unlogged = error.strerror or str(error)
        return False
    return True


def line(level: str, message: str, fields: dict[str, Any]) -> str:
    """Return a line, with what is known as its fields."""
    now = time.strftime(log.TIME, time.gmtime())
    return json_text.dumps({"time": now, "level": level.upper(), "msg": message, **fields}) + "\n"


def _formatted(level: str, message: str, fields: dict[str, Any]) -> str:
    """Return a line that python-json-logger makes, to import which costs 35 ms."""
    from cdi_hook.base import packages

    packages.enable()
    try:
        from pythonjsonlogger.json import JsonFormatter
    except ImportError:  # before python-json-logger 3.1
        try:
            from pythonjsonlogger.jsonlogger import JsonFormatter  # type: ignore[attr-defined]
        except ImportError:  # it isn't there: no reason to say less
            return line(level, message, fields)
    import logging

    formatter = JsonFormatter(_FORMAT, log.TIME, rename_fields=_NAMES)
    formatter.converter = time.gmtime
    record = logging.LogRecord("cdi-hook", getattr(logging, level.upper()), "", 0, message, None, None)
    record.__dict__.update(fields)
    return f"{formatter.format(record)}\n"


def about(call: Facts, start: float) -> dict[str, Any]:
    """Return what is known of a call, as the fields of a line; ``start`` is when our code started, in s."""
    annotations = (call.oci or {}).get("annotations")
    annotations = annotations if isinstance(annotations, dict) else {}
    there = [one for one in request.PODS if one[1] in annotations] or request.PODS
    pod, namespace, _ = next((one for one in there if one[2] in f"{call.bundle}/"), there[0])
    devices = call.request.origins if call.request else {}
    made = {id(change.edit): change.kind for change in call.changes if change.edit is not None}
    kinds = list(made.values())
    specs = dict.fromkeys(path for change in call.changes for _, path in change.sources)
    fields = {
        "container": _fit(call.container),
        "bundle": _fit(call.bundle),
        "engine": engine_of(annotations, f"{call.root}{call.bundle}"),
        "pod": _claim(annotations.get(pod)),
        "namespace": _claim(annotations.get(namespace)),
        "devices": [
            {"name": name, "source": log.short(source, _MOST_SOURCE)} for name, source in devices.items()
        ],
        "specs": list(specs),
        "changes": {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)},
        "ms": round((time.monotonic() - start) * 1000, 3),
    }
    return {name: value for name, value in fields.items() if value}


def _claim(value: object) -> str:
    """Return what an annotation says, which a container's user may choose: its beginning, if it is text."""
    return log.short(value, request.LONGEST_CLAIM) if isinstance(value, str) else ""


def _size(value: object) -> int:
    """Return how many bytes a value has as JSON, with some for the spaces that python-json-logger adds."""
    return len(json_text.dumps(value)) + 8


def _fit(text: str, most: int = _MOST_TEXT) -> str:
    """Return a text, or its beginning if as JSON it has more bytes than that."""
    shown = text
    while (size := _size(shown)) > most:
        shown = shown[: len(shown) * most // size]
    return shown if shown is text else f"{shown}..."


def _cut(fields: dict[str, Any], left: int) -> None:
    """Leave out the last devices and specs, and count them, where so many bytes are no room for all."""
    lists = {name: fields[name] for name in ("devices", "specs") if name in fields}
    left -= sum(_size(value) for name, value in fields.items() if name not in lists)
    cut = {}
    for name, items in lists.items():
        for index, item in enumerate(items):
            left -= _size(item)
            if left < 0:
                fields[name], cut[name] = items[:index], len(items) - index
                break
    if cut:
        fields["cut"] = cut


def engine_of(annotations: dict[str, Any], paths: str) -> str:
    """Return a container's engine, "" if that can't be told; ``paths`` are its bundle's and its root's."""
    for engine, part in ROOTS:
        if part in paths:
            return engine
    for engine, key, value in ENGINES:
        if annotations.get(key) == value or (not value and key in annotations):
            return engine
    return ""
