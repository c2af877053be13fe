# SPDX-License-Identifier: Apache-2.0
"""Edits that come too late for a container that is being created: what they are, and those that don't."""

from __future__ import annotations

from cdi_hook.edits.kinds import KINDS, each_kind

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdi_hook.edits.target import Change, Edits, Part
    from cdi_hook.errors import Source

ADVICE = (
    "use cdi-runtime or the precreate hook, which come earlier, or set HOOK_UNSUPPORTED=warn to have "
    "it left out"
)


def needs(changes: Sequence[Change]) -> str:
    """Say which devices need changes that come too late; "" if none does."""
    by_source: dict[Source, list[str]] = {}
    for change in changes:
        what = _too_late(change)  # what an earlier injection has made isn't
        for source in change.sources if what else ():
            by_source.setdefault(source, []).append(what)
    if not by_source:
        return ""
    asking = [f"{_who(*source)} needs {', '.join(what)}" for source, what in by_source.items()]
    return f"{'; '.join(asking)}: too late for a container that is being created"


def possible(parts: Sequence[Part]) -> list[Part]:
    """Return the parts without the edits that come too late."""
    return [(source, _possible(edits)) for source, edits in parts]


def _too_late(change: Change) -> str:
    """Return what a change is, where it can't be made in a container that is being created; else ""."""
    if change.edit is None:
        return ""
    too_late = KINDS[change.kind].too_late
    return too_late(change.edit) if too_late else f"an edit of the kind {change.kind}"


def _possible(edits: Edits) -> Edits:
    """Return the container edits that can still be made."""
    possible: Edits = {}
    for name, wanted in each_kind(edits):
        kind = KINDS[name]
        left = [edit for edit in wanted if kind.too_late is not None and not kind.too_late(edit)]
        if left:
            possible[name] = left if kind.is_list else left[0]
    return possible


def _who(device: str | None, path: str) -> str:
    return f"any device of {path}" if device is None else f"device {device} ({path})"
