# SPDX-License-Identifier: Apache-2.0
"""Explain in one line why a request failed. Imported only after a failure."""

from __future__ import annotations

import difflib
import os
from typing import TYPE_CHECKING

from cdi_hook import files
from cdi_hook.errors import FAILED, CDIError, InjectionError, TooLate, UnresolvableDevices
from cdi_hook.request import asked

if TYPE_CHECKING:
    from cdi_hook.registry import Registry
    from cdi_hook.request import DeviceRequest

NEXT = '"cdi-hook list" shows the known devices, "cdi-hook validate" what is wrong with specs'
GENERATE = "if the host's devices or drivers have changed, generate that spec again"
_STALE = ("stat CDI host device", "host type mismatch", "the host has no ")
PRIVATE = 'failed to load CDI Spec; not everybody may read it, so only "cdi-hook validate" says why'
_SHOWN = 5  # of each kind of thing
# How a cache's errors begin that don't quote what a spec says, except the names of devices.
_QUOTES_NOTHING = (
    "conflicting device ",
    "failed to read CDI Spec directory ",
    "failed to load CDI Spec open ",
    "failed to load CDI Spec failed to read CDI Spec ",
    "failed to load CDI Spec refused by SPEC_TRUST=strict: ",
)


def for_everybody(errors: dict[str, list[str]]) -> dict[str, list[str]]:
    """Return a cache's errors without what is quoted from specs that not everybody may read.

    Whoever starts a container sees them, in an event of Kubernetes for example.
    """
    return {
        path: [one if one.startswith(_QUOTES_NOTHING) or _is_public(path) else PRIVATE for one in messages]
        for path, messages in errors.items()
    }


def _is_public(path: str) -> bool:
    try:
        return bool(os.stat(path).st_mode & 0o004 and os.stat(os.path.dirname(path) or ".").st_mode & 0o001)
    except OSError:
        return False


def failure(error: InjectionError, request: DeviceRequest, registry: Registry) -> CDIError:
    """Return the driver's error with the device, what asked for it, and the spec that defines it."""
    if isinstance(error.__cause__, UnresolvableDevices):
        return _unresolvable(error.__cause__, request, registry)
    parts = [str(error)]
    device, path = error.source or (None, "")
    if isinstance(error.__cause__, TooLate) or not path:
        parts.append(asked(request.device_ids[:_SHOWN], request))
    elif device is None:
        parts.append(f"it is for all devices of {path}, {asked(request.device_ids[:_SHOWN], request)}")
    else:
        parts.append(f"device {device} ({asked([device], request)}) is defined by {path}")
    if any(words in str(error) for words in _STALE):
        parts.append(GENERATE)
    return CDIError("; ".join(parts))


def _unresolvable(error: UnresolvableDevices, request: DeviceRequest, registry: Registry) -> CDIError:
    shown = error.names[:_SHOWN]
    parts = [f"{FAILED}unresolvable CDI devices {_some(error.names, ', ')} ({asked(shown, request)})"]
    dirs = ", ".join(registry.cache.spec_dirs)
    known, errors = registry.cache.devices(), registry.errors
    messages = [message.split('"') for path in errors for message in errors[path]]
    conflicting = {texts[1] for texts in messages if texts[0] == "conflicting device "}
    conflicts = [name for name in error.names if name in conflicting]
    if conflicts:
        parts.append(f"{_some(conflicts, ', ')}: two spec files in one dir define it, so neither counts")
    else:
        parts.append(f"no usable CDI spec in {dirs} defines {'it' if len(set(error.names)) == 1 else 'them'}")
    refused = {path: f"{path}: {errors[path][0]}" for path in sorted(errors)}
    theirs = [refused.pop(path) for path in list(refused) if _is_of(path, shown)]
    if theirs:
        parts.append(f"refused: {_some(theirs, ' | ')}")
    near = {close: None for name in shown for close in difflib.get_close_matches(name, known, 3, 0.6)}
    if near:
        parts.append(f"did you mean {' or '.join(list(near)[:_SHOWN])}?")
    elif known:
        parts.append(f"known devices: {_some(known, ', ')}")
    else:
        parts.append("no device is known")
    if refused:
        parts.append(f"{'also ' if theirs else ''}refused: {_some(list(refused.values()), ' | ')}")
    return CDIError("; ".join([*parts, NEXT]))


def _is_of(path: str, names: list[str]) -> bool:
    """Say whether a file, valid or not, mentions the vendor of one of the devices."""
    try:
        data = files.read(path)
    except OSError:
        return False
    return any(name.partition("/")[0].encode() in data for name in names)


def _some(items: list[str], separator: str) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return f"{separator.join(items[:_SHOWN])}{more}"
