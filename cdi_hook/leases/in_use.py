# SPDX-License-Identifier: Apache-2.0
"""Who has an exclusive device, in the words that people are told. Cold."""

from __future__ import annotations

import shlex
import time
from typing import TYPE_CHECKING, Any

from cdi_hook.base import log, programs, words
from cdi_hook.errors import LeaseError
from cdi_hook.leases import inquiry

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cdi_hook.leases.same import Hardware
    from cdi_hook.leases.store import Lease

    # A device that is wanted, a lease in its way, and the device that this is for.
    Blocker = tuple[Hardware, Lease, Hardware]
    There = Sequence[tuple[dict[str, Any], str]]  # leases, each with how its container is

_SHOWN = 8
_HASH, _ID = 64, 12  # characters of an id that an engine chose, and how many of these it shows
_NEW_S = 60  # under load each container is created and not started for a moment


class InUse(LeaseError):
    """A device that another container has, and that may be free later."""


def holder(tree: dict[str, Any]) -> str:
    """Return who has a lease, in words."""
    at = time.localtime(tree["since"])
    today = time.strftime("%F", at) == time.strftime("%F")
    since = time.strftime("%H:%M" if today else "%F %H:%M", at)
    engine = "".join(f"{word}, " for word in (tree["engine"], tree.get("user")) if word)
    return f"{_short(tree)} ({engine}since {since})"


def record(tree: dict[str, Any]) -> dict[str, Any]:
    """Return who has a lease, as --json has it."""
    since = time.strftime(log.TIME, time.gmtime(tree["since"]))
    user = tree.get("user")
    return {"container": tree["id"], "engine": tree["engine"] or None, "user": user, "since": since}


def _short(tree: dict[str, Any]) -> str:
    name: str = tree["id"]
    return name[:_ID] if len(name) >= _HASH else name


def of_named(blockers: Sequence[Blocker], there: There, removes: Sequence[str]) -> LeaseError:
    """Return the error for devices that were asked for by name; ``removes`` are as in remove()."""
    found: dict[str, dict[str, list[str]]] = {}
    for device, lease, leased in blockers:
        has = found.setdefault(device.name, {}).setdefault(holder(lease.tree), [])
        has += [leased.name] if leased.name != device.name else []
    told = [f"{name} is in use by {_holders(holders)}" for name, holders in found.items()]
    return InUse(words.some(told, _SHOWN), _fix(blockers, there, removes))


def _holders(holders: Mapping[str, Sequence[str]]) -> str:
    """Return who has a device, each with what it has of it, in words."""
    told = (f"{who}, which has {words.some(has)}" if has else who for who, has in holders.items())
    return words.some(told, _SHOWN, " and ")


def of_draw(
    name: str,
    number: int,
    every: Sequence[Hardware],
    has_others: bool,
    blockers: Sequence[Blocker],
    there: There,
    removes: Sequence[str],
) -> LeaseError:
    """Return the error for a draw of so many devices that isn't met.

    ``every`` are all that it may take, ``has_others`` whether the container asks for more by other names.
    """
    kind = name.partition("=")[0]
    beside = " besides those that it also asks for" if has_others else ""
    if number > len(every):
        has = words.count(len(every), "device")
        return LeaseError(f"{name} asks for more than {kind} has for this container{beside}: {has}")
    taken: dict[str, str] = {}
    for device, lease, _ in blockers:
        if any(one is device for one in every):
            taken.setdefault(device.name, f"{device.name.partition('=')[2]} by {holder(lease.tree)}")
    count = f"all {len(every)} devices" if len(every) > 1 else "the only device"
    how = f"{count} of {kind}{beside} {'are' if len(every) > 1 else 'is'} in use"
    if len(taken) < len(every):
        are = "is" if len(taken) == 1 else "are"
        how = f"{name} asks for {number}, and of the {len(every)} devices{beside} {len(taken)} {are} in use"
    return InUse(f"{how}: {words.some(taken.values(), _SHOWN)}", _fix(blockers, there, removes))


def _fix(blockers: Sequence[Blocker], there: There, removes: Sequence[str]) -> str:
    """Return what frees the device of a container that nobody will start, or that may be gone; else ""."""
    for tree, how in there:
        if how == inquiry.CREATED and time.time() - tree["since"] > _NEW_S:
            return f"{_short(tree)} was created and not started; to remove it, {remove(tree, removes)}"
    for tree, how in there:
        if how not in inquiry.STATES:
            who = f"whether {_short(tree)} is gone can't be told: {how}"
            release = programs.advice(f'"cdi-hook release {blockers[0][0].name}"')
            by = f" by {tree['user']}" if "user" in tree else ""
            return f"{who}; if it is, {release}{by} frees the device"
    return ""


def remove(tree: dict[str, Any], removes: Sequence[str]) -> str:
    """Return the command that removes a container; ``removes`` are the engines that do by "rm -f ID"."""
    if tree["engine"] in removes:
        return shlex.join((tree["engine"], "rm", "-f", _short(tree)))
    if not tree["state"]:
        return "end its processes"
    *command, _, name = tree["state"]
    return shlex.join((*command, "delete", "--force", name))
