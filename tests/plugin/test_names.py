# SPDX-License-Identifier: Apache-2.0
"""Which of a device's names the plugin offers; tests/unit/leases has the rule by which names are one device."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .conftest import Node

KIND = "vendor.com/gpu"


def test_a_device_is_offered_once(node: Node) -> None:
    """Of a device's names the first in natural order is offered; not "all", and no name for several devices."""
    kubelet = node.kubelet()
    gpus = [node.node(f"/dev/gpu{at}", at) for at in range(11)]
    devices = {f"{at}": edits for at, edits in enumerate(gpus)} | {
        f"GPU-{at}": one for at, one in enumerate(gpus)
    }
    pair = {"deviceNodes": [*gpus[0]["deviceNodes"], *gpus[1]["deviceNodes"]]}
    node.spec(KIND, {**devices, "all": gpus[3], "00-pair": pair})
    plugin = node.plugin()
    plugin.says(f"{KIND}: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10\n")
    wanted = dict.fromkeys(map(str, range(11)), "Healthy")
    kubelet.has(KIND, **wanted)
    node.configure("devices: [{pattern: 'vendor.com/gpu=GPU-*'}]")
    plugin.end()
    node.plugin()
    kubelet.has(KIND, **{f"GPU-{name}": health for name, health in wanted.items()})
