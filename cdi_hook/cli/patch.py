# SPDX-License-Identifier: Apache-2.0
"""The changes that an injection makes, as a JSON Patch (RFC 6902) and as lines for people.

The patch turns the OCI spec as it was into the edited one. Beside the RFC's own
members, an operation has ``was``, the value that is replaced, removed or moved,
and ``sources``, a list of {device, path}: the devices that ask for it. The device
is null for edits that a CDI spec makes for all its devices. The lines are

    + .process.env[3] "A=1"  # vendor.com/gpu=0, /etc/cdi/vendor.yaml
    - .linux.devices[0] {"path":"/dev/x"}  # ...
    ~ .process.env[0] "A=0" -> "A=1"  # ...
    > .mounts[4] -> .mounts[2] {"destination":"/a"}  # ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cdi_hook.base import json_text

if TYPE_CHECKING:
    from cdi_hook.edits.target import Change, Place


def operation(change: Change) -> dict[str, Any]:
    """Return a change as an operation of a JSON Patch."""
    made: dict[str, Any] = {"op": change.op}
    if change.op == "move":
        made["from"] = _pointer(change.origin)
    made["path"] = _pointer(change.place)
    if change.op in ("add", "replace"):
        made["value"] = change.value
    if change.op != "add":
        made["was"] = change.was
    made["sources"] = [{"device": device, "path": path} for device, path in change.sources]
    return made


def line(change: Change) -> str:
    """Return a change as a line for people."""
    path, value, was = _jq(change.place), json_text.dumps(change.value), json_text.dumps(change.was)
    if change.op == "move":
        text = f"> {_jq(change.origin)} -> {path} {was}"
    else:
        text = {
            "add": f"+ {path} {value}",
            "remove": f"- {path} {was}",
            "replace": f"~ {path} {was} -> {value}",
        }[change.op]
    by_spec: dict[str, list[str]] = {}
    for device, spec in change.sources:
        devices = by_spec.setdefault(spec, [])
        if device:
            devices.append(device)
    return f"{text}  # {'; '.join(', '.join((*devices, spec)) for spec, devices in by_spec.items())}"


def _pointer(place: Place) -> str:
    """Return a place as a JSON Pointer (RFC 6901)."""
    return "".join(f"/{str(one).replace('~', '~0').replace('/', '~1')}" for one in place)


def _jq(place: Place) -> str:
    """Return a place in jq's notation."""
    text = ""
    for one in place:
        if isinstance(one, int):
            text += f"[{one}]"
        else:
            text += f".{one}" if one.isidentifier() and one.isascii() else f"[{json_text.dumps(one)}]"
    return text
