# SPDX-License-Identifier: Apache-2.0
"""Which names are one device: by nodes, net devices, edits; and so which names the plugin offers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cdi_hook.edits.same_device import conflict, marks

if TYPE_CHECKING:
    from .conftest import Node

KIND = "vendor.com/gpu"


def nodes(*paths: str) -> dict[str, Any]:
    return {"deviceNodes": [{"path": path} for path in paths]}


def test_conflicts() -> None:
    """Names share a device by the host's numbers, whatever the paths; by a net device's host name; by equal edits."""
    null, zero = nodes("/dev/null"), nodes("/dev/zero")
    again = {"deviceNodes": [{"path": "/dev/x", "hostPath": "/dev/../dev/null"}], "env": ["A=1"]}
    both = nodes("/dev/null", "/dev/zero")
    eth = {"netDevices": [{"hostInterfaceName": "eth0", "name": "a"}]}
    eth_again = {"netDevices": [{"hostInterfaceName": "eth0", "name": "b"}]}
    env, other = {"env": ["A=1"]}, {"env": ["A=2"]}
    groups = ((null, again, both), (zero, both), (eth, eth_again), (env, dict(env)), (other,))
    for one in (null, zero, again, both, eth, eth_again, env, other):
        for two in (null, zero, again, both, eth, eth_again, env, other):
            together = any(one in group and two in group for group in groups)
            assert conflict(marks(one), marks(two)) is together, (one, two)


def test_parts_of_a_gpu() -> None:
    """Two MIG devices don't conflict, a MIG device and its GPU do, and so do two names of a MIG device."""
    gpu = marks(nodes("/dev/nvidia0"))
    one = marks(nodes("/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap12", "/dev/nvidia-caps/nvidia-cap13"))
    two = marks(nodes("/dev/nvidia0", "/dev/nvidia-caps/nvidia-cap21", "/dev/nvidia-caps/nvidia-cap22"))
    found = [conflict(*pair) for pair in ((one, two), (one, gpu), (gpu, two), (one, one))]
    assert found == [False, True, True, True]


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
