# SPDX-License-Identifier: Apache-2.0
"""What a device's name stands for on this host, so that two names of one device are known as such.

A GPU is "0", its UUID, and a part of "all", and a name of another spec may have its nodes too. So a device
is told by its own nodes' numbers and by the host's names of its net devices. Without either it is told by
its edits. What a spec gives to all of its devices tells nothing. Nothing is kept here.
"""

from __future__ import annotations

from cdi_hook.base import json_text
from cdi_hook.edits import kinds
from cdi_hook.edits.target import Target

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from cdi_hook.edits.target import Edits, Part

# The dir of the nodes that let a container use one slice of an NVIDIA GPU, besides the GPU's own node.
_CAPABILITIES = "nvidia-caps"
_LONGEST = 256  # characters of edits that are a key as they stand; of longer ones their digest is


class Hardware:
    """What a qualified name stands for.

    ``keys`` are "c 195:0" or "b 8:0" for a node with these numbers, "net eth0" for a net device, else one
    that only equal edits have. ``capabilities`` are those keys that are of nodes in nvidia-caps.
    """

    __slots__ = ("capabilities", "keys", "name")

    def __init__(self, name: str, keys: Iterable[str], capabilities: Iterable[str] = ()) -> None:
        self.name = name
        self.keys = frozenset(keys)
        self.capabilities = frozenset(capabilities)


def of_parts(parts: Iterable[Part]) -> list[Hardware]:
    """Return what devices stand for, of the parts that they ask for; those of whole specs don't count.

    Raises InjectionError for a node that the host doesn't have.
    """
    return [of_edits(name, edits) for (name, _), edits in parts if name is not None]


def of_edits(name: str, edits: Edits, root: str = "") -> Hardware:
    """Return what a device stands for that has these container edits of its own.

    ``root`` is where the host's root dir is. Raises InjectionError as of_parts does.
    """
    target = Target({}, keep_present=False, can_map_ids=None)
    keys, capabilities = [], []
    for node in edits.get("deviceNodes") or ():
        path = node.get("hostPath") or node["path"]
        _, numbers = kinds.KINDS["deviceNodes"].convert({**node, "hostPath": f"{root}{path}"}, target)
        if numbers["type"] in ("b", "c", "u"):
            letter = "b" if numbers["type"] == "b" else "c"
            keys.append(f"{letter} {numbers['major']}:{numbers['minor']}")
            if path.split("/")[-2:-1] == [_CAPABILITIES]:
                capabilities.append(keys[-1])
    keys += [f"net {one['hostInterfaceName']}" for one in edits.get("netDevices") or ()]
    return Hardware(name, keys or [_key_of(edits)], capabilities)


def _key_of(edits: Edits) -> str:
    text = json_text.dumps(_sorted({kind: edit for kind, edit in edits.items() if kind != kinds.PROOF}))
    if len(text) > _LONGEST:
        import hashlib  # 5 ms

        text = hashlib.sha256(text.encode()).hexdigest()
    return f"edits {text}"


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


def for_all(specs: Mapping[str, Sequence[Hardware]]) -> frozenset[str]:
    """Return the keys that each device of a spec has beside its own, such as those of /dev/kfd.

    ``specs`` are all the devices of each spec. Where devices have capabilities, a GPU's node is of that kind
    and yet tells something: whoever has the whole GPU conflicts with them.
    """
    found: frozenset[str] = frozenset()
    for devices in specs.values():
        shared = frozenset.intersection(*(one.keys for one in devices))
        if all(one.keys - shared and not one.capabilities for one in devices):
            found |= shared
    return found


def is_part(one: Hardware, other: Hardware, ignored: frozenset[str] = frozenset()) -> bool:
    """Say whether who has the other has this one too."""
    return bool(one.keys - ignored) and one.keys - ignored <= other.keys


def is_union(one: Hardware, others: Iterable[Hardware]) -> bool:
    """Say whether a device is no more than several others together, as "all" is."""
    parts = [other.keys for other in others if other.keys < one.keys]
    return bool(parts) and frozenset.union(*parts) == one.keys
