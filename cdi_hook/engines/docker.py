# SPDX-License-Identifier: Apache-2.0
"""docker: daemon.json's ``runtimes`` and ``default-runtime``.

    {"runtimes": {"cdi": {"path": "/usr/bin/cdi-runtime"}}, "default-runtime": "cdi"}

dockerd reads no other file. An empty file means {}. dockerd passes all annotations
to the runtime. After a reload it keeps its default runtime if the file names none.
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
    "docker keeps the old default runtime until it is restarted, because its file names no other. --reload "
    "doesn't restart it: a restart ends containers, unless live-restore is on"
)


class Docker(Engine):
    name = "docker"
    file = "/etc/docker/daemon.json"
    user_file = "docker/daemon.json"
    daemon = "dockerd"
    keeps_runtime = True
    requests = {  # noqa: RUF012 # nobody alters it
        "docker": "docker run --runtime cdi --annotation {key}={names} IMAGE",
        "compose": "services:\n  NAME:\n    image: IMAGE\n    runtime: cdi\n    annotations:\n"
        '      {key}: "{names}"',
    }
    document = JSONText
    default_key = "default-runtime"
    program_key = ("path",)
    cdi_needs_restart = True

    def files(self, path: str) -> Files:
        return Files(path, (path,), (path,))

    def start(self, path: str, others: Sequence[Other]) -> str:  # noqa: ARG002  # see Engine
        return ""

    def is_blank(self, text: str) -> bool:
        return text.strip() == "{}"

    def table(self, document: Document) -> Key:
        if not isinstance(document.tree.get("runtimes", {}), dict):
            raise UnusableConfiguration("runtimes is not an object")
        return ()

    def has(self, name: str, runtimes: dict[str, Any]) -> bool:
        return name == "runc" or name in runtimes or "." in name  # with a dot it is a shim's

    def cdi_key(self, document: Document) -> Key:
        features = document.tree.get("features", {})
        if not isinstance(features, dict):
            raise UnusableConfiguration("features is not an object")
        return ("features", "cdi")

    def remove(self, text: str, before: str | None) -> Edited:
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
