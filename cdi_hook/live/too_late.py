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

    from cdi_hook.catalog.registry import Registry
    from cdi_hook.edits.kinds import Change, Edits, Source


class LateRegistry:
    """A registry that doesn't inject what comes too late."""

    def __init__(self, registry: Registry, warn: Callable[[str], None] | None) -> None:
        """``warn`` gets what comes too late; without ``warn`` that is an error."""
        self._registry = registry
        self._warn = warn

    @property
    def errors(self) -> dict[str, list[str]]:
        """What is wrong with the specs, by path."""
        return self._registry.errors

    def devices(self) -> list[str]:
        """Return the qualified names of all devices, sorted."""
        return self._registry.devices()

    def inject(self, oci: dict[str, Any], names: Sequence[str]) -> list[Change]:
        """Edit oci with what isn't too late; raises TooLate, and what a Registry raises."""
        parts = self._registry.parts(names)
        possible = [(source, _possible(edits)) for source, edits in parts]
        if possible != parts:  # an edit that an earlier injection has made isn't too late
            trial = self._registry.apply(json_text.loads(json_text.dumps(oci)), parts)
            late = [change for change in trial if change.too_late]
            if late:
                self._refuse(late)
        return self._registry.apply(oci, possible)

    def _refuse(self, late: Sequence[Change]) -> None:
        needs: dict[Source, list[str]] = {}
        for change in late:
            for source in change.sources:
                needs.setdefault(source, []).append(change.too_late)
        asking = [f"{_who(source)} needs {', '.join(what)}" for source, what in needs.items()]
        message = f"{'; '.join(asking)}: too late for a container that is being created"
        if self._warn:
            self._warn(f"{message}, and left out because of HOOK_UNSUPPORTED=warn")
        else:
            raise TooLate(
                f"{message}; use cdi-runtime or the precreate hook, which come earlier, or set "
                "HOOK_UNSUPPORTED=warn to have it left out"
            )


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
