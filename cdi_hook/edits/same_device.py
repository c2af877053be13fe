# SPDX-License-Identifier: Apache-2.0
"""Which names are the same device: names of a spec say nothing of it, what they give says it.

A device is told by what its own edits have of the host, not by what its spec has for all devices: device
nodes by the host's numbers (rdev), net devices by the host's names. A device without either is told by its
edits. Two names conflict if they share such a thing. But two MIG devices of a GPU share its node, and each
has a capability node that the other lacks: these don't conflict.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cdi_hook.edits.kinds import Edits

_CAPABILITIES = "/dev/nvidia-caps/"


class Marks(NamedTuple):
    """What a device is told by: things of the host, and those of them that are capability nodes."""

    things: frozenset[str]
    capabilities: frozenset[str]


def marks(edits: Edits, root: str = "") -> Marks:
    """Return what a device's own edits tell it by; ``root`` is where the host's root dir is.

    A node that isn't there is told by its path.
    """
    things, capabilities = set(), set()
    for node in edits.get("deviceNodes") or ():
        path = node.get("hostPath") or node["path"]
        try:
            number = os.stat(f"{root}{path}").st_rdev
            thing = f"{os.major(number)}:{os.minor(number)}"
        except OSError:
            thing = path
        things.add(thing)
        if path.startswith(_CAPABILITIES):
            capabilities.add(thing)
    things |= {f"net {one.get('hostInterfaceName', '')}" for one in edits.get("netDevices") or ()}
    if not things:
        things.add(json.dumps(edits, sort_keys=True))
    return Marks(frozenset(things), frozenset(capabilities))


def conflict(one: Marks, other: Marks) -> bool:
    """Say whether who has one device has the other, or a part of it."""
    is_apart = one.capabilities - other.capabilities and other.capabilities - one.capabilities
    return bool(one.things & other.things) and not is_apart
