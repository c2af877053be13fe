# SPDX-License-Identifier: Apache-2.0
"""docker: daemon.json's ``runtimes`` and ``default-runtime``.

    {"runtimes": {"cdi": {"path": "/usr/bin/cdi-runtime"}}, "default-runtime": "cdi"}

dockerd reads no other file. It takes an empty file for {}, and passes all
annotations to the runtime. When it reloads a file that names no default runtime,
it keeps the one that it has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cdi_hook.engines.document import UnusableConfiguration
from cdi_hook.engines.engine import Edited, Engine, Files
from cdi_hook.engines.jsonedit import JSONText

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdi_hook.engines.document import Document, Key
    from cdi_hook.engines.engine import Other

_NEEDS_RESTART = (
    "docker keeps the default runtime until it is restarted: a reload changes none that its file doesn't "
    "name. A restart ends containers, unless live-restore is on, so --reload leaves it to you"
)


class Docker(Engine):
    """See Engine."""

    name = "docker"
    file = "/etc/docker/daemon.json"
    user_file = "docker/daemon.json"
    daemon = "dockerd"
    keeps_runtime = True
    document = JSONText
    default_key = "default-runtime"
    program_key = ("path",)

    def files(self, path: str) -> Files:
        """See Engine."""
        return Files(path, (path,), (path,))

    def start(self, path: str, others: Sequence[Other]) -> str:  # noqa: ARG002  # see Engine
        """See Engine."""
        return ""

    def is_blank(self, text: str) -> bool:
        """See Engine."""
        return text.strip() == "{}"

    def table(self, document: Document) -> Key:
        """See Engine."""
        if not isinstance(document.tree.get("runtimes", {}), dict):
            raise UnusableConfiguration("runtimes is not an object")
        return ()

    def has(self, name: str, runtimes: dict[str, Any]) -> bool:
        """See Engine; a name with a dot is that of a shim."""
        return name == "runc" or name in runtimes or "." in name

    def remove(self, text: str, before: str | None) -> Edited:
        """See Engine."""
        edited = super().remove(text, before)
        if edited.text == text:
            return edited
        document, old = JSONText(edited.text), JSONText(before or "")
        if document.get(("runtimes",)) == {} != old.get(("runtimes",)):
            document.remove(("runtimes",))
        is_default_gone = self.default(text) is not None and self.default(document.text) is None
        is_empty = not document.tree and before is not None and not before.strip()
        after = before if before is not None and is_empty else document.text
        return Edited(after, edited.notes, _NEEDS_RESTART if is_default_gone else "")
