# SPDX-License-Identifier: Apache-2.0
"""docker: daemon.json's ``runtimes`` and ``default-runtime``.

    {"runtimes": {"cdi": {"path": "/usr/bin/cdi-runtime"}}, "default-runtime": "cdi"}

An empty file counts as {}, as dockerd has it. dockerd hands on all annotations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cdi_hook.engines.jsonedit import JSONText
from cdi_hook.engines.model import Edited, Request, UnusableConfiguration, is_ours, refuse_foreign

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdi_hook.engines.model import Other

_RUNTIMES, _DEFAULT = "runtimes", "default-runtime"


class Docker:
    """An Engine, which keeps the default runtime that it has when it reloads a file that names none."""

    def add(self, text: str, request: Request, others: Sequence[Other] = ()) -> Edited:  # noqa: ARG002  # the only file
        """See Engine."""
        document = JSONText(text)
        runtimes = _runtimes(document)
        entry = runtimes.get(request.name)
        if request.name not in runtimes:
            document.set((_RUNTIMES, request.name), {"path": request.path})
        else:
            refuse_foreign(request.name, _path(entry))
            if _path(entry) != request.path:
                document.set((_RUNTIMES, request.name, "path"), request.path)
        if request.set_default and document.get((_DEFAULT,)) != request.name:
            document.set((_DEFAULT,), request.name)
        return Edited(document.text)

    def remove(self, text: str, before: str | None) -> Edited:
        """See Engine."""
        document = JSONText(text)
        notes = []
        is_unnamed = False
        ours = self.names(text)
        for name in ours:
            document.remove((_RUNTIMES, name))
        old = JSONText(before) if before is not None else JSONText("")
        if ours and not document.tree[_RUNTIMES] and old.get((_RUNTIMES,)) != {}:
            document.remove((_RUNTIMES,))
        if document.get((_DEFAULT,)) in ours:
            previous = old.get((_DEFAULT,))
            known = previous == "runc" or previous in _runtimes(document) or "." in str(previous)
            if previous is not None and known:
                document.set((_DEFAULT,), previous)
            else:
                document.remove((_DEFAULT,))
                is_unnamed = True
                if previous is not None:
                    notes.append(f"the default runtime was {previous}, which is gone: now it is docker's own")
        if ours and not document.tree and before is not None and not before.strip():
            return Edited(before, tuple(notes), is_unnamed)
        return Edited(document.text if ours else text, tuple(notes), is_unnamed)

    def names(self, text: str) -> list[str]:
        """See Engine."""
        return [name for name, entry in _runtimes(JSONText(text)).items() if is_ours(name, _path(entry))]

    def default(self, text: str) -> str | None:
        """See Engine."""
        value = JSONText(text).get((_DEFAULT,))
        return value if isinstance(value, str) else None


def _runtimes(document: JSONText) -> dict[str, Any]:
    runtimes = document.tree.get(_RUNTIMES, {})
    if not isinstance(runtimes, dict):
        raise UnusableConfiguration(f"{_RUNTIMES} is not an object")
    return runtimes


def _path(entry: Any) -> Any:
    return entry.get("path") if isinstance(entry, dict) else None
