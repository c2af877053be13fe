# SPDX-License-Identifier: Apache-2.0
"""Edits that come too late for a container that is being created: refused, or left out with a warning."""

from __future__ import annotations

from cdi_hook.base import json_text
from cdi_hook.edits.kinds import KINDS, each_kind
from cdi_hook.errors import TooLate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from cdi_hook.edits.target import Change, Edits, Part
    from cdi_hook.errors import Source

    Apply = Callable[[dict[str, Any], Sequence[Part]], list[Change]]


def apply(
    oci: dict[str, Any], parts: Sequence[Part], how: Apply, warn: Callable[[str], None] | None
) -> list[Change]:
    """Edit oci as these parts ask, and return the changes; ``how`` is Registry.apply.

    ``warn`` gets what comes too late, which is left out. Without ``warn`` it is TooLate.
    """
    possible = [(source, _possible(edits)) for source, edits in parts]
    before = json_text.dumps(oci) if warn and possible != parts else ""
    changes = how(oci, parts)
    late = [change for change in changes if _too_late(change)]  # what an earlier injection has made isn't
    if not late:
        return changes
    if not warn:
        raise TooLate(
            _needs(late),
            "use cdi-runtime or the precreate hook, which come earlier, or set HOOK_UNSUPPORTED=warn to have "
            "it left out",
        )
    warn(f"{_needs(late)}, and left out because of HOOK_UNSUPPORTED=warn")
    oci.clear()
    oci.update(json_text.loads(before))
    return how(oci, possible)


def _needs(late: Sequence[Change]) -> str:
    needs: dict[Source, list[str]] = {}
    for change in late:
        for source in change.sources:
            needs.setdefault(source, []).append(_too_late(change))
    asking = [f"{_who(source)} needs {', '.join(what)}" for source, what in needs.items()]
    return f"{'; '.join(asking)}: too late for a container that is being created"


def _too_late(change: Change) -> str:
    """Return what a change is, where it can't be made in a container that is being created; else ""."""
    if change.edit is None:
        return ""
    too_late = KINDS[change.kind].too_late
    return too_late(change.edit) if too_late else f"an edit of the kind {change.kind}"


def _possible(edits: Edits) -> Edits:
    """Return the container edits that can still be made."""
    possible: Edits = {}
    for name, several in each_kind(edits):
        kind = KINDS[name]
        left = [edit for edit in several if kind.too_late is not None and not kind.too_late(edit)]
        if left:
            possible[name] = left if kind.is_list else left[0]
    return possible


def _who(source: Source) -> str:
    device, path = source
    return f"any device of {path}" if device is None else f"device {device} ({path})"
