# SPDX-License-Identifier: Apache-2.0
"""versions: the CDI version that a spec needs, and what in it needs that."""

from __future__ import annotations

from typing import Any

import pytest

from cdi_hook.specs import versions


def spec(first: dict[str, Any], last: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a spec with two devices."""
    devices = [{"name": "a", "containerEdits": first}, {"name": "b", "containerEdits": last}]
    return {"kind": "vendor.com/gpu", "devices": devices, **more}


@pytest.mark.parametrize(
    ("data", "needed"),
    [
        (spec({}, {}), ("0.3.0", "")),
        ({}, ("0.3.0", "")),
        ({"devices": [{}]}, ("0.3.0", "")),
        (spec({}, {"mounts": [{"type": "bind"}]}), ("0.4.0", "type in mounts")),
        (spec({}, {"deviceNodes": [{}, {"hostPath": "/dev/a"}]}), ("0.5.0", "hostPath in deviceNodes")),
        (spec({}, {}, devices=[{"name": "a"}, {"name": "0"}]), ("0.5.0", "a device name that begins with a digit")),
        (spec({}, {}, devices=[{"name": "9x"}]), ("0.5.0", "a device name that begins with a digit")),
        (spec({}, {}, devices=[{"name": "a9"}, {"name": ":"}, {"name": "/"}]), ("0.3.0", "")),
        (spec({}, {}, kind="vendor.com/a.b"), ("0.6.0", "a class with a dot in it")),
        (spec({}, {}, annotations={"a": "b"}), ("0.6.0", "annotations")),
        (spec({}, {}, devices=[{"annotations": {"a": "b"}}, {}]), ("0.6.0", "annotations")),
        (spec({}, {}, annotations={}), ("0.3.0", "")),
        (spec({"additionalGids": [1]}, {}), ("0.7.0", "additionalGids")),
        (spec({}, {}, containerEdits={"intelRdt": {"closID": "a"}}), ("0.7.0", "intelRdt")),
        (spec({"intelRdt": {"schemata": ["a"]}}, {}), ("1.1.0", "schemata in intelRdt")),
        (spec({"netDevices": [{"name": "a"}]}, {"mounts": [{"type": "bind"}]}), ("1.1.0", "netDevices")),
    ],
)  # fmt: skip
def test_requirement(data: dict[str, Any], needed: tuple[str, str]) -> None:
    """A spec needs the version that brought the latest thing that it uses."""
    assert versions.requirement(data) == needed
    assert versions.requirement(data, in_full=True) == needed


def test_what_the_reference_overlooks() -> None:
    """Of a device that isn't the last, the reference overlooks what 0.4.0 and 0.5.0 brought; in full it counts."""
    data = spec({"mounts": [{"type": "bind"}]}, {"env": ["A=b"]})
    assert versions.requirement(data) == ("0.3.0", "")
    assert versions.requirement(data, in_full=True) == ("0.4.0", "type in mounts")
    data = spec({"deviceNodes": [{"hostPath": "/dev/a"}]}, {})
    assert versions.requirement(data) == ("0.3.0", "")
    assert versions.requirement(data, in_full=True) == ("0.5.0", "hostPath in deviceNodes")
