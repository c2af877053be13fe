# SPDX-License-Identifier: Apache-2.0
"""Applies container edits to an OCI runtime specification (CDI specification, "OCI Edits").

It works on the decoded JSON tree, in two steps. First each edit becomes what the OCI
specification has in its place; that may fail. Then these things are put into the tree;
that can't fail. No change: an empty list. Edits are never altered here.
"""

from __future__ import annotations

from cdi_hook import errors
from cdi_hook.edits.kinds import KINDS, PROOF, each_kind
from cdi_hook.edits.target import Target, Wanted, require

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from cdi_hook.edits.target import OCI, CanMapIds, Change, Part


def _always(_source: str, _is_all: bool) -> bool:
    return True


def apply(
    oci: OCI | None,
    parts: Iterable[Part],
    *,
    keep_present: bool = False,
    can_map_ids: CanMapIds | None = _always,
) -> list[Change]:
    """Apply container edits to an OCI specification, in place, and return the changes made.

    With keep_present, what is there already is neither added again nor moved,
    so that applying twice changes nothing. If the container has a user namespace, a
    bind mount gets idmap where can_map_ids says so of its source; with None, none does.

    Raises InjectionError, and leaves oci as it was, when a host device can't be
    used, an edit is of no known kind, or oci isn't of the shape that the OCI
    runtime specification gives it.
    """
    if oci is None:
        raise errors.InjectionError("can't edit nil OCI Spec")
    for kind in KINDS.values():
        for place, shape in kind.touches:
            require(oci, place, shape)
    target = Target(oci, keep_present, can_map_ids)
    by_kind: dict[str, list[Wanted]] = {name: [] for name in KINDS}
    for source, part in parts:
        try:
            if PROOF in part:
                _prove(part[PROOF])
            for name, edits in each_kind(part):
                convert, wanted = KINDS[name].convert, by_kind[name]
                for edit in edits:
                    wanted.append(Wanted(name, edit, *convert(edit, target), {source: None}))
        except errors.InjectionError as error:
            error.source = source
            raise
    for name, wanted in by_kind.items():
        if wanted:
            KINDS[name].add(target, wanted)
    return target.changes


def _prove(annotation: str) -> None:
    from cdi_hook.edits import proof

    reason = proof.stale(annotation)
    if reason:
        raise errors.HostMismatch(reason)


def check_host(changes: Iterable[Change]) -> None:
    """Raise InjectionError if no runtime could make one of these changes on this host."""
    hindrances = {}
    for change in changes:
        hindrance = KINDS[change.kind].hindrance
        if hindrance and change.is_put:
            reason = hindrance(change.edit)
            if reason:
                hindrances[reason] = change
    if hindrances:
        reason, change = next(iter(hindrances.items()))
        more = f" and {len(hindrances) - 1} more" if len(hindrances) > 1 else ""
        raise errors.HostMismatch(f"{reason}{more}, needed by the spec's {change.kind}", change.sources[0])
