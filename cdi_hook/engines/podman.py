# SPDX-License-Identifier: Apache-2.0
"""podman, and what else reads containers.conf: ``engine.runtimes`` and ``engine.runtime``, in a drop-in.

    [engine]
    runtime = "cdi"
    [engine.runtimes]
    cdi = ["/usr/bin/cdi-runtime"]

The files of containers.conf.d come on top of containers.conf in the order of
their names, and add to ``runtimes`` (containers.conf(5); seen with podman
5.4.2). podman hands on all annotations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cdi_hook.engines.model import Edited, Request, is_ours, refuse_foreign
from cdi_hook.engines.tomledit import TOMLText

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdi_hook.engines.model import Other

_ENGINE, _DEFAULT = ("engine",), "runtime"
_RUNTIMES = (*_ENGINE, "runtimes")


class Podman:
    """An Engine."""

    def add(self, text: str, request: Request, others: Sequence[Other] = ()) -> Edited:  # noqa: ARG002  # nothing to copy
        """See Engine."""
        document = TOMLText(text)
        programs = document.get((*_RUNTIMES, request.name))
        if programs is not None:
            refuse_foreign(request.name, _first(programs))
        if programs is None or _first(programs) != request.path:
            document.set(_RUNTIMES, request.name, [request.path])
        if request.set_default and document.get((*_ENGINE, _DEFAULT)) != request.name:
            document.set(_ENGINE, _DEFAULT, request.name)
        return Edited(document.text)

    def remove(self, text: str, before: str | None) -> Edited:
        """See Engine."""
        document = TOMLText(text)
        ours = self.names(text)
        for name in ours:
            document.remove((*_RUNTIMES, name))
        if document.get((*_ENGINE, _DEFAULT)) in ours:
            previous = self.default(before) if before is not None else None
            if previous is not None:
                document.set(_ENGINE, _DEFAULT, previous)
            else:
                document.remove((*_ENGINE, _DEFAULT))
        return Edited(document.text)

    def names(self, text: str) -> list[str]:
        """See Engine."""
        entries = TOMLText(text).get(_RUNTIMES)
        entries = entries if isinstance(entries, dict) else {}
        return [name for name, programs in entries.items() if is_ours(name, _first(programs))]

    def default(self, text: str) -> str | None:
        """See Engine."""
        value = TOMLText(text).get((*_ENGINE, _DEFAULT))
        return value if isinstance(value, str) else None


def _first(programs: Any) -> Any:
    return programs[0] if isinstance(programs, list) and programs else None
