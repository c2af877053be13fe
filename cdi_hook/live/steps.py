# SPDX-License-Identifier: Apache-2.0
"""The work that a list of changes means for a container, sorted. Data in, data out."""

from __future__ import annotations

from cdi_hook.edits.kinds import HOOK_NAMES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from cdi_hook.edits.target import OCI, Change

_STAGES = list(HOOK_NAMES)


class Steps:
    """The changes to carry out; the runtime or an earlier run has done everything else.

    ``nodes`` are pairs of an OCI device and its path on the host. ``mounts`` are
    pairs of a mount and the destinations that are mounted already and that it would
    hide. ``hooks`` are pairs of a stage and a hook, ``net_devices`` pairs of a name
    on the host and a name in the container.
    """

    def __init__(self, changes: Sequence[Change], oci: OCI) -> None:
        """``oci`` is the OCI specification after the changes."""
        self.nodes: list[tuple[OCI, str]] = []
        self.rules: list[OCI] = []
        self.hooks: list[tuple[str, OCI]] = []
        self.net_devices: list[tuple[str, str]] = []
        self.added_mounts: list[OCI] = []
        for change in changes:
            if change.is_put:
                PLANNED[change.kind](self, change)
        self.hooks.sort(key=lambda one: _STAGES.index(one[0]))
        self.mounts = _with_hidden(self.added_mounts, oci.get("mounts") or [])


def _plan_device(plan: Steps, change: Change) -> None:
    if "resources" in change.place:
        plan.rules.append(change.value)
    else:
        plan.nodes.append((change.value, change.edit.get("hostPath") or change.edit["path"]))


def _plan_hook(plan: Steps, change: Change) -> None:
    plan.hooks.append((change.place[1], change.value))


def _plan_net_device(plan: Steps, change: Change) -> None:
    host_name = change.place[-1]
    plan.net_devices.append((host_name, change.value.get("name") or host_name))


# By kind of edit. too_late.py has refused changes of other kinds, as too late.
PLANNED: dict[str, Callable[[Steps, Change], None]] = {
    "deviceNodes": _plan_device,
    "mounts": lambda plan, change: plan.added_mounts.append(change.value),
    "hooks": _plan_hook,
    "netDevices": _plan_net_device,
}


def _with_hidden(added: list[OCI], mounts: list[OCI]) -> list[tuple[OCI, list[str]]]:
    """Return the added mounts in the order of all mounts, each with the destinations it would hide."""
    new = {id(mount) for mount in added}
    planned = []
    for index, mount in enumerate(mounts):
        if id(mount) not in new:
            continue
        hidden: list[str] = []
        for later in mounts[index + 1 :]:
            destination = later["destination"]
            is_below = _is_below(destination, [mount["destination"]])
            if id(later) not in new and is_below and not _is_below(destination, hidden):
                hidden.append(destination)
        planned.append((mount, hidden))
    return planned


def _is_below(path: str, others: list[Any]) -> bool:
    return any(path.startswith(f"{other.rstrip('/')}/") for other in others)
