# SPDX-License-Identifier: Apache-2.0
"""What was found -> the data of CDI specs, of the lowest CDI version that fits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cdi_hook.base.quoting import quote
from cdi_hook.edits import proof
from cdi_hook.errors import InvalidName
from cdi_hook.generate import naming, node_edits
from cdi_hook.generate.device_class import ALL
from cdi_hook.specs.model import ANNOTATION, Spec
from cdi_hook.specs.versions import minimum_version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdi_hook.edits.proof import Proof
    from cdi_hook.generate.device_class import Found


def spec(found: Found, kind: str = "") -> dict[str, Any]:
    """Return the spec for what was found, with another kind than its own if that is given.

    Raises as checked() does.
    """
    devices = [
        _device(name, device.edits, device.proofs.get(own, ()))
        for device, its in zip(found.devices, naming.names(found))
        for name, own in its.items()
    ]
    everything = node_edits.together([device.edits for device in found.devices])
    devices.append(_device(ALL, everything))
    data = {"kind": kind or found.kind, "devices": devices, "containerEdits": found.edits}
    return checked(data)


def _device(name: str, edits: dict[str, Any], proofs: Sequence[Proof] = ()) -> dict[str, Any]:
    """Return a device of a spec. That udev's links lead to its nodes is a proof too."""
    links = [
        (node["path"], node["hostPath"])
        for node in edits.get("deviceNodes", ())
        if node.get("hostPath", "").startswith("/dev/")
    ]
    proven = [*links, *proofs]
    annotations = {"annotations": {ANNOTATION: proof.dump(proven)}} if proven else {}
    return {"name": name, **annotations, "containerEdits": edits}


def checked(data: dict[str, Any]) -> dict[str, Any]:
    """Return a spec's data with the lowest version that has all that it uses.

    Raises InvalidSpec if it breaks a rule, and InvalidName for a kind that makes other CDI
    implementations crash.
    """
    data = {"cdiVersion": minimum_version(data), **data}
    spec = Spec(data)
    if min(len(spec.vendor), len(spec.class_)) == 1:
        raise InvalidName(
            f"{quote(spec.kind)}: a vendor or class of one letter makes docker and podman crash"
        )
    return data
