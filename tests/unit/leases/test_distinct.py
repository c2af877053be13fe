# SPDX-License-Identifier: Apache-2.0
"""Of which names distinct_devices returns one; tests/plugin has them with device nodes."""

from __future__ import annotations

from typing import Any

import pytest

from cdi_hook import Spec, distinct_devices


def nodes(*numbers: int) -> dict[str, Any]:
    """Return edits with nodes of these numbers, which the host need not have."""
    return {
        "deviceNodes": [{"path": f"/dev/x{one}", "type": "c", "major": 240, "minor": one} for one in numbers]
    }


def names(devices: dict[str, dict[str, Any]]) -> list[str]:
    """Return which names of a spec count."""
    spec = Spec(
        {
            "cdiVersion": "0.6.0",
            "kind": "v.com/d",
            "devices": [{"name": name, "containerEdits": edits} for name, edits in devices.items()],
        }
    )
    return [device.name for device in distinct_devices(spec.devices.values())]


@pytest.mark.parametrize(
    ("devices", "counted"),
    [
        pytest.param({"b": nodes(0), "10": nodes(0), "2": nodes(0)}, ["2"], id="one device"),
        pytest.param({"10": nodes(10), "9": nodes(9), "all": nodes(9, 10)}, ["9", "10"], id="all of them"),
        pytest.param({"all": nodes(0)}, ["all"], id="only all"),
        pytest.param({"b": {"env": ["A=1"]}, "a": {"env": ["A=1"]}}, ["a"], id="equal edits"),
        pytest.param({"b": {"env": ["A=1"]}, "a": {"env": ["A=2"]}}, ["a", "b"], id="other edits"),
        pytest.param(
            {"b": {"deviceNodes": [{"path": "/dev/none"}]}, "a": {"deviceNodes": [{"path": "/dev/none"}]}},
            ["a"],
            id="a node that isn't there",
        ),
    ],
)
def test_names(devices: dict[str, dict[str, Any]], counted: list[str]) -> None:
    """Of one device's names the first in natural order counts, and of several devices' none."""
    assert names(devices) == counted
