# SPDX-License-Identifier: Apache-2.0
"""What a device's name stands for on this host, so that two names of one device are known as such.

A GPU is "0", its UUID, and a part of "all", and a name of another spec may have its nodes too. So a device
is told by its own nodes' numbers and by the host's names of its net devices. Without either it is told by
its edits. What a spec gives to all of its devices is common, and tells nothing. Nothing is kept here.
"""

from __future__ import annotations

import posix

from cdi_hook import errors
from cdi_hook.base import json_text
from cdi_hook.edits import kinds
from cdi_hook.edits.target import Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from cdi_hook.edits.target import Edits

# The dir of the nodes that let a container use one slice of an NVIDIA GPU, besides the GPU's own node.
_CAPABILITIES = "nvidia-caps"
# Nodes by which drivers control all of their devices. They are common, whatever specs say.
CONTROL = (
    "/dev/nvidiactl", "/dev/nvidia-modeset", "/dev/nvidia-uvm", "/dev/nvidia-uvm-tools", "/dev/kfd",
    "/dev/vfio/vfio", "/dev/iommu", "/dev/infiniband/rdma_cm", "/dev/snd/timer", "/dev/snd/seq",
    "/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc", "/dev/dvpp_cmdlist", "/dev/cambricon_ctl",
    "/dev/cambricon_gdr",
)  # fmt: skip
_GONE = "gone "


class Hardware:
    """What a qualified name stands for.

    ``keys`` are "c 195:0" or "b 8:0" for a node with these numbers, "gone /dev/x" for one that the host
    doesn't have, "net eth0" for a net device, else one that only equal edits have. ``capabilities`` are those
    keys that are of nodes in nvidia-caps. ``paths`` has the node's path on this host by its key, if a spec
    told.
    """

    __slots__ = ("capabilities", "keys", "name", "paths")

    def __init__(
        self,
        name: str,
        keys: Iterable[str],
        capabilities: Iterable[str] = (),
        paths: Mapping[str, str] = {},  # nobody alters it
    ) -> None:
        self.name = name
        self.paths = paths
        self.keys = frozenset(keys)
        self.capabilities = frozenset(capabilities)

    def part(self, keys: frozenset[str]) -> Hardware:
        """Return what of it has these keys."""
        return Hardware(self.name, self.keys & keys, self.capabilities & keys, self.paths)


def of_edits(name: str, edits: Edits, root: str = "", *, strict: bool = True) -> Hardware:
    """Return what a device stands for that has these container edits of its own.

    ``root`` is where the host's root dir is. If ``strict``, raises InjectionError for a
    node that the host doesn't have.
    """
    target = Target({}, keep_present=False, can_map_ids=None)
    keys, capabilities, paths = [], [], {}
    for node in edits.get("deviceNodes") or ():
        path = node.get("hostPath") or node["path"]
        try:
            _, numbers = kinds.KINDS["deviceNodes"].convert({**node, "hostPath": f"{root}{path}"}, target)
        except errors.HostMismatch:
            if strict:
                raise
            keys.append(f"{_GONE}{path}")
            continue
        if numbers["type"] in ("b", "c", "u"):
            letter = "b" if numbers["type"] == "b" else "c"
            keys.append(f"{letter} {numbers['major']}:{numbers['minor']}")
            paths[keys[-1]] = f"{root}{path}"
            if path.split("/")[-2:-1] == [_CAPABILITIES]:
                capabilities.append(keys[-1])
    keys += [f"net {one['hostInterfaceName']}" for one in edits.get("netDevices") or ()]
    return Hardware(name, keys or [_key_of(edits)], capabilities, paths)


def _key_of(edits: Edits) -> str:
    text = json_text.dumps(_sorted({kind: edit for kind, edit in edits.items() if kind != kinds.PROOF}))
    import hashlib  # 5 ms, for a device that is edits alone

    return f"edits {hashlib.sha256(text.encode()).hexdigest()}"  # which all users may know


def _sorted(tree: Any) -> Any:
    """Return a tree in which the order of keys tells nothing."""
    if isinstance(tree, dict):
        return {key: _sorted(tree[key]) for key in sorted(tree)}
    return [_sorted(one) for one in tree] if isinstance(tree, list) else tree


def conflict(one: Hardware, other: Hardware, ignored: frozenset[str] = frozenset()) -> bool:
    """Say whether two containers can't have these two at a time; ``ignored`` keys don't count.

    They can if each has a capability that the other lacks: then they are two slices of one GPU.
    """
    if (one.keys & other.keys) <= ignored:
        return False
    return not (one.capabilities - other.capabilities and other.capabilities - one.capabilities)


def control() -> frozenset[str]:
    """Return the keys of the nodes in CONTROL. The host says what these are: a spec may say anything."""
    found = set()
    for path in CONTROL:
        try:
            number = posix.lstat(path).st_rdev
        except OSError:
            continue
        found.add(f"c {posix.major(number)}:{posix.minor(number)}")
    return frozenset(found)


def common(specs: Iterable[Sequence[Hardware]], others: Iterable[Hardware] = ()) -> frozenset[str]:
    """Return the keys that tell nothing: of control nodes, and of what specs give to all of their devices.

    ``specs`` are all the devices of each spec. A spec gives to all what each device has beside others of its
    own. It can't say that of a node that tells a device of another spec, or one of ``others``. Where devices
    have capabilities, a GPU's node is in each and yet tells something: whoever has the whole GPU conflicts
    with them. What is gone keeps nobody apart.
    """
    shared: set[str] = set()
    own = {key for one in others for key in one.keys}
    for devices in specs:
        every = frozenset.intersection(*(one.keys for one in devices))
        if not all(one.keys - every and not one.capabilities for one in devices):
            every = frozenset()
        shared |= every
        own.update(*(one.keys - every for one in devices))
    return control() | (shared - own) | {key for key in own if key.startswith(_GONE)}


def is_part(one: Hardware, other: Hardware, ignored: frozenset[str] = frozenset()) -> bool:
    """Say whether who has the other has this one too."""
    return bool(one.keys - ignored) and one.keys - ignored <= other.keys


def is_union(one: Hardware, others: Iterable[Hardware]) -> bool:
    """Say whether a device is no more than several others together, as "all" is."""
    parts = [other.keys for other in others if other.keys < one.keys]
    return bool(parts) and frozenset.union(*parts) == one.keys
