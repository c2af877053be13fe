# SPDX-License-Identifier: Apache-2.0
"""The CDI versions, and the lowest that has everything a spec uses.

edits.KINDS has the versions that brought kinds of edits and their fields; this
module has what else a version brought.
"""

from __future__ import annotations

from typing import Any

from cdi_hook.edits.kinds import KINDS

VERSIONS = ("1.1.0", "1.0.0", "0.8.0", "0.7.0", "0.6.0", "0.5.0", "0.4.0", "0.3.0", "0.2.0", "0.1.0")
_EARLIEST = "0.3.0"
# Those that a spec can have, the oldest first: whatever a spec has, these need at least 0.3.0.
USABLE = VERSIONS[VERSIONS.index(_EARLIEST) :: -1]
NEWER = f"a newer CDI than this knows ({VERSIONS[0]})"
DRAFTS = ("deviceCgroupRules",)  # fields that CDI's next version may bring

# For these versions' features the reference implementation, which keeps pointers to a loop
# variable, sees only the edits of the last device and of the spec itself.
_SEEN_IN_PART = {"0.5.0", "0.4.0"}


def minimum_version(data: dict[str, Any]) -> str:
    """Return the lowest CDI version that has everything the spec uses (CDI specification, "cdiVersion").

    The spec itself needs no version yet.

    >>> minimum_version({"kind": "vendor.com/nic", "devices": [
    ...     {"name": "0", "containerEdits": {"netDevices": [{"hostInterfaceName": "eth1", "name": "net1"}]}},
    ... ]})
    '1.1.0'
    """
    return requirement(data)[0]


def requirement(data: dict[str, Any], *, in_full: bool = False) -> tuple[str, str]:
    """Return the lowest CDI version that has everything the spec uses, and what needs that version.

    With ``in_full``, what the reference overlooks counts too.
    """
    devices = data.get("devices", [])
    found = {_EARLIEST: ""}
    for device in devices:
        _add_used(device.get("containerEdits", {}), found)
    for version in () if in_full else _SEEN_IN_PART:
        found.pop(version, None)
    for seen in (data, *devices[-1:]):
        _add_used(seen.get("containerEdits", {}), found)
    if any("0" <= device.get("name", "")[:1] <= "9" for device in devices):
        found["0.5.0"] = "a device name that begins with a digit"
    if "." in data.get("kind", "").partition("/")[2]:
        found["0.6.0"] = "a class with a dot in it"
    if any(one.get("annotations") for one in (data, *devices)):
        found["0.6.0"] = "annotations"
    version = min(found, key=VERSIONS.index)
    return version, found[version]


def _add_used(edits: dict[str, Any], found: dict[str, str]) -> None:
    """Add the versions that brought what these edits use."""
    for name, kind in KINDS.items():
        for field, since in kind.since.items() if name in edits else ():
            for one in [edits] if not field else edits[name] if kind.is_list else [edits[name]]:
                value = one.get(field or name)
                if value or (value is not None and field in kind.optional):
                    found[since] = f"{field} in {name}" if field else name
