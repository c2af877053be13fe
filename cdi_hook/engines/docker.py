# SPDX-License-Identifier: Apache-2.0
"""docker: daemon.json's ``runtimes`` and ``default-runtime``.

    {"runtimes": {"cdi": {"path": "/usr/bin/cdi-runtime"}}, "default-runtime": "cdi"}

dockerd reads no other file. An empty file means {}. dockerd passes all annotations
to the runtime. After a reload it keeps its default runtime if the file names none,
and all runtimes that it had. It has read the file some time after a reload's end.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from cdi_hook.engines.document import UnusableConfiguration
from cdi_hook.engines.engine import Edited, Engine, Files
from cdi_hook.engines.jsonedit import JSONText

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdi_hook.engines.document import Document, Key
    from cdi_hook.engines.engine import Other

_NEEDS_RESTART = (
    "docker keeps the old default runtime until it is restarted, because its file names no other; --reload "
    "does without a restart, which ends containers unless live-restore is on"
)
_SOCKETS = "/var/run/docker.sock", "docker.sock"  # the host's, and a user's in XDG_RUNTIME_DIR
_TIMEOUT_S = 10
_ASKED = '{"runtimes": {{json .Runtimes}}, "default": {{json .DefaultRuntime}}}'


class Docker(Engine):
    name = "docker"
    file = "/etc/docker/daemon.json"
    user_file = "docker/daemon.json"
    daemon = "dockerd"
    keeps_runtime = True
    still = "docker lists a removed runtime until it is restarted, but it can't run it without its program"
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
        if not is_default_gone:
            return Edited(after, edited.notes)
        first = JSONText(text)
        first.set((self.default_key,), "runc")
        return Edited(after, edited.notes, _NEEDS_RESTART, first.text)

    def has_read(self, path: str, text: str) -> bool | None:
        import subprocess

        if path != self.default_path():
            return None
        user = os.path.join(os.environ.get("XDG_RUNTIME_DIR", ""), _SOCKETS[1])
        socket = _SOCKETS[0] if path == self.file else user
        command = ("docker", "--host", f"unix://{socket}", "info", "--format", _ASKED)
        try:
            done = subprocess.run(command, check=False, capture_output=True, timeout=_TIMEOUT_S)  # noqa: S603  # all our own words
            said = json.loads(done.stdout)
        except (OSError, ValueError, subprocess.TimeoutExpired):
            return None
        if not said["runtimes"]:
            return None  # the client answers without a daemon
        programs = {name: entry.get("path") for name, entry in said["runtimes"].items()}
        has_runtimes = all(programs.get(name) == program for name, program in self.programs(text))
        return has_runtimes and self.default(text) in (None, said["default"])
