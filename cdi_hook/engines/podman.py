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

from cdi_hook.engines.dropin import DropIn
from cdi_hook.engines.model import Edited, Request, refuse_foreign
from cdi_hook.engines.tomledit import TOMLText

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdi_hook.engines.model import Other


class Podman(DropIn):
    """An Engine."""

    table = ("engine",)
    default_key = "runtime"

    def program(self, entry: Any) -> Any:
        """Return the first of the paths where an entry's program is looked for."""
        return entry[0] if isinstance(entry, list) and entry else None

    def add(self, text: str, request: Request, others: Sequence[Other] = ()) -> Edited:  # noqa: ARG002  # nothing to copy
        """See Engine."""
        document = TOMLText(text)
        programs = document.get((*self.runtimes, request.name))
        if programs is not None:
            refuse_foreign(request.name, self.program(programs))
        if programs is None or self.program(programs) != request.path:
            document.set(self.runtimes, request.name, [request.path])
        if request.set_default:
            self.set_default(document, request.name)
        return Edited(document.text)
