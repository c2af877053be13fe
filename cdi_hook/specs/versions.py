# SPDX-License-Identifier: Apache-2.0
"""The CDI versions, and the lowest that has everything a spec uses.

edits.KINDS has the versions that brought kinds of edits and their fields; this
module has what else a version brought.
"""

from __future__ import annotations

from typing import Any

from cdi_hook.edits import KINDS

VERSIONS = ("1.1.0", "1.0.0", "0.8.0", "0.7.0", "0.6.0", "0.5.0", "0.4.0", "0.3.0", "0.2.0", "0.1.0")
_EARLIEST = "0.3.0"

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
    devices = data.get("devices", [])
    found = {_EARLIEST}
    for device in devices:
        _add_used(device.get("containerEdits", {}), found)
    found -= _SEEN_IN_PART
    for seen in (data, *devices[-1:]):
        _add_used(seen.get("containerEdits", {}), found)
    if any("0" <= device.get("name", "")[:1] <= "9" for device in devices):
        found.add("0.5.0")
    if "." in data.get("kind", "").partition("/")[2] or any(
        one.get("annotations") for one in (data, *devices)
    ):
        found.add("0.6.0")
    return min(found, key=VERSIONS.index)


def _add_used(edits: dict[str, Any], found: set[str]) -> None:
    """Add the versions that brought what these edits use."""
    for name, kind in KINDS.items():
        for field, since in kind.since.items() if name in edits else ():
            for one in [edits] if not field else edits[name] if kind.is_list else [edits[name]]:
                value = one.get(field or name)
                if value or (value is not None and field in kind.optional):
                    found.add(since)
