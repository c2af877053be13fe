# SPDX-License-Identifier: Apache-2.0
"""What is still to be done to a container: its OCI specification as it is, and as the devices want it.

Data in, data out. What both say the same of is done: by the runtime, or by a
run before this one.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    OCI = dict[str, Any]

# The hooks that run while a container is created, in this order.
STAGES = ("prestart", "createRuntime", "createContainer")


class Plan:
    """What of ``after`` isn't in ``before`` yet, in ``after``'s order.

    ``mounts`` are pairs: a mount, and the destinations of those below it that
    are there already and would be hidden by it.
    """

    def __init__(self, before: OCI, after: OCI) -> None:
        old, new = before.get("linux") or {}, after.get("linux") or {}
        self.nodes = _added(old.get("devices"), new.get("devices"))
        self.rules = _added(
            (old.get("resources") or {}).get("devices"), (new.get("resources") or {}).get("devices")
        )
        self.mounts = _mounts(before.get("mounts"), after.get("mounts"))
        hooks, wanted = before.get("hooks") or {}, after.get("hooks") or {}
        self.hooks = [
            (stage, hook) for stage in STAGES for hook in _added(hooks.get(stage), wanted.get(stage))
        ]
        present = old.get("netDevices") or {}
        self.net_devices = [
            (host_name, device.get("name") or host_name)
            for host_name, device in (new.get("netDevices") or {}).items()
            if device != present.get(host_name)
        ]


def _added(before: list[Any] | None, after: list[Any] | None) -> list[Any]:
    there = list(before or ())
    added = []
    for item in after or ():
        if item in there:
            there.remove(item)
        else:
            added.append(item)
    return added


def _mounts(before: list[OCI] | None, after: list[OCI] | None) -> list[tuple[OCI, list[str]]]:
    added = _added(before, after)
    mounts = []
    for index, mount in enumerate(after or ()):
        if not any(mount is one for one in added):
            continue
        hidden: list[str] = []
        for later in after[index + 1 :] if after else ():
            destination = later["destination"]
            was_there = not any(later is one for one in added)
            if (
                was_there
                and _is_below(destination, [mount["destination"]])
                and not _is_below(destination, hidden)
            ):
                hidden.append(destination)
        mounts.append((mount, hidden))
    return mounts


def _is_below(path: str, others: list[str]) -> bool:
    return any(path.startswith(f"{other.rstrip('/')}/") for other in others)
