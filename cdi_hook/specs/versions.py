# SPDX-License-Identifier: Apache-2.0
"""The CDI versions, and the lowest that has everything a spec uses."""

from __future__ import annotations

from typing import Any, Callable


def _all_edits(data: dict[str, Any]) -> list[dict[str, Any]]:
    devices = data.get("devices", [])
    return [data.get("containerEdits", {}), *(device.get("containerEdits", {}) for device in devices)]


def _requires_v110(data: dict[str, Any]) -> bool:
    for edits in _all_edits(data):
        rdt = edits.get("intelRdt", {})
        if "schemata" in rdt or rdt.get("enableMonitoring") or edits.get("netDevices"):
            return True
    return False


def _requires_v070(data: dict[str, Any]) -> bool:
    return any("intelRdt" in edits or edits.get("additionalGids") for edits in _all_edits(data))


def _requires_v060(data: dict[str, Any]) -> bool:
    if data.get("annotations") or any(device.get("annotations") for device in data.get("devices", [])):
        return True
    return "." in data.get("kind", "").partition("/")[2]


def _seen_edits(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the edits in which the reference looks for 0.4.0's and 0.5.0's features.

    It keeps pointers to a loop variable, and so sees the last device's and the spec's own.
    """
    return _all_edits({**data, "devices": data.get("devices", [])[-1:]})


def _requires_v050(data: dict[str, Any]) -> bool:
    if any(device.get("name", "")[:1] in tuple("0123456789") for device in data.get("devices", [])):
        return True
    return any(node.get("hostPath") for edits in _seen_edits(data) for node in edits.get("deviceNodes", []))


def _requires_v040(data: dict[str, Any]) -> bool:
    return any(mount.get("type") for edits in _seen_edits(data) for mount in edits.get("mounts", []))


_EARLIEST = "0.3.0"
# The newest first, each with what makes a spec need it.
VERSIONS: tuple[tuple[str, Callable[[dict[str, Any]], bool] | None], ...] = (
    ("1.1.0", _requires_v110),
    ("1.0.0", None),
    ("0.8.0", None),
    ("0.7.0", _requires_v070),
    ("0.6.0", _requires_v060),
    ("0.5.0", _requires_v050),
    ("0.4.0", _requires_v040),
    (_EARLIEST, None),
    ("0.2.0", None),
    ("0.1.0", None),
)
AGES = {version: age for age, (version, _) in enumerate(VERSIONS)}


def minimum_version(data: dict[str, Any]) -> str:
    """Return the lowest CDI version that has everything the spec uses."""
    for version, requires in VERSIONS:
        if requires is not None and requires(data):
            return version
    return _EARLIEST
