# SPDX-License-Identifier: Apache-2.0
"""The CDI versions, and the lowest that has everything a spec uses.

edits.KINDS has the versions that brought kinds of edits and their fields; this
module has what else a version brought.
"""

from __future__ import annotations

from typing import Any, Callable

from cdi_hook.edits import KINDS, Kind

VERSIONS = ("1.1.0", "1.0.0", "0.8.0", "0.7.0", "0.6.0", "0.5.0", "0.4.0", "0.3.0", "0.2.0", "0.1.0")
AGES = {version: age for age, version in enumerate(VERSIONS)}
_EARLIEST = "0.3.0"

# For these versions' features the reference implementation, which keeps pointers to a loop
# variable, sees only the edits of the last device and of the spec itself.
_SEEN_IN_PART = ("0.5.0", "0.4.0")


def minimum_version(data: dict[str, Any]) -> str:
    """Return the lowest CDI version that has everything the spec uses."""
    devices = data.get("devices", [])
    for version in VERSIONS:
        seen = devices[-1:] if version in _SEEN_IN_PART else devices
        if version in _OTHERWISE and _OTHERWISE[version](data):
            return version
        for edits in (data.get("containerEdits", {}), *(device.get("containerEdits", {}) for device in seen)):
            if any(_uses(version, edits, name, kind) for name, kind in KINDS.items()):
                return version
    return _EARLIEST


def _uses(version: str, edits: dict[str, Any], name: str, kind: Kind) -> bool:
    """Say whether edits use something of this kind that a version brought."""
    for field, since in kind.since.items():
        if since == version:
            within = [edits] if not field else edits.get(name, []) if kind.is_list else [edits.get(name, {})]
            key = field or name
            if any(one[key] or field in kind.optional for one in within if key in one):
                return True
    return False


def _has_annotations_or_a_dot(data: dict[str, Any]) -> bool:
    if data.get("annotations") or any(device.get("annotations") for device in data.get("devices", [])):
        return True
    return "." in data.get("kind", "").partition("/")[2]


def _has_a_name_with_a_digit_first(data: dict[str, Any]) -> bool:
    return any(device.get("name", "")[:1] in tuple("0123456789") for device in data.get("devices", []))


_OTHERWISE: dict[str, Callable[[dict[str, Any]], bool]] = {
    "0.6.0": _has_annotations_or_a_dot,
    "0.5.0": _has_a_name_with_a_digit_first,
}
