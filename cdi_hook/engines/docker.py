# SPDX-License-Identifier: Apache-2.0
"""docker: daemon.json's ``runtimes`` and ``default-runtime``.

    {"runtimes": {"cdi": {"path": "/usr/bin/cdi-runtime"}}, "default-runtime": "cdi"}

dockerd reads no other file. An empty file means {}. dockerd passes all annotations
to the runtime. After a reload it keeps its default runtime if the file names none,
and all runtimes that it had. It has read the file some time after a reload's end.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from cdi_hook.engines.client import Daemon, KnownContainer, Unreachable, ask_json, bundle, dig, inspected
from cdi_hook.engines.edit.config_editor import Edited, Editor
from cdi_hook.engines.edit.json_document import JSONText
from cdi_hook.engines.engine import BY_ENV, Engine, HelpText, OwnCDI, Prober, as_numbers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cdi_hook.engines.edit.config_editor import Request

_DEFAULT_NEEDS_RESTART = (
    "docker keeps the old default runtime until it is restarted, because its file names no other; --reload "
    "does without a restart, which ends containers unless live-restore is on"
)
_CDI_NEEDS_RESTART = (
    "docker turns its own CDI on when it starts, not at a reload. --reload doesn't restart it: "
    "a restart ends containers, unless live-restore is on"
)
_ANNOTATES_SINCE = (24, 0)  # docker run --annotation, and compose's annotations


class DockerEditor(Editor):
    form = JSONText
    default_key = "default-runtime"
    program_key = ("path",)
    cdi_key = ("features", "cdi")

    def has(self, name: str) -> bool:
        return name == "runc" or name in self.programs or "." in name  # with a dot it is a shim's

    def add(self, request: Request) -> Edited:
        had = self.cdi
        edited = super().add(request)
        return edited if self.cdi == had else edited._replace(restart=_CDI_NEEDS_RESTART)

    def remove(self, before: Editor | None) -> Edited:
        first = JSONText(self.document.text)
        edited = super().remove(before)
        if self.default is not None or first.get((self.default_key,)) is None:
            return edited
        first.set((self.default_key,), "runc")
        return edited._replace(restart=_DEFAULT_NEEDS_RESTART, first=first.text)


class DockerProber(Prober):
    programs = ("dockerd", "docker")
    # Of a containerd of its own, and of the host's.
    states = ("/run/docker/containerd/daemon", "/run/containerd")

    def requests(self) -> Mapping[str, str]:
        version = self.version() if self.found() else ""
        if not version or as_numbers(version) >= _ANNOTATES_SINCE:
            return super().requests()
        return {
            "docker": f"docker run --runtime cdi --env CDI_DEVICES={{names}} IMAGE  # {BY_ENV}",
            "compose": f"services:  # {BY_ENV}\n  NAME:\n    image: IMAGE\n    runtime: cdi\n"
            '    environment:\n      CDI_DEVICES: "{names}"',
        }

    def has_read(self, path: str, text: str) -> bool | None:
        if path != self.engine.default_path() or {"DOCKER_HOST", "DOCKER_CONTEXT"} & os.environ.keys():
            return None  # another daemon may answer than the one that reads the file
        try:
            daemon = self.says()
        except Unreachable:
            return None
        editor = self.engine.edit(text)
        entries = editor.programs.items()
        has_runtimes = all(daemon.runtimes.get(name) == program for name, program in entries if program)
        return has_runtimes and editor.default in (None, daemon.default)

    def says(self) -> Daemon:
        said = ask_json("docker", "info", "--format", "{{json .}}")
        errors = dig(said, "ServerErrors")
        if errors or not dig(said, "ServerVersion"):
            raise Unreachable(" ".join(errors or ["docker's daemon says nothing of itself"]))
        entries = dig(said, "Runtimes") or {}
        runtimes = {name: str(dig(entry, "path") or "") for name, entry in entries.items()}
        return Daemon(runtimes, str(dig(said, "DefaultRuntime") or ""))

    def inspect(self, name: str) -> list[KnownContainer]:
        found = ask_json("docker", "inspect", "--type", "container", "--", name, unknown="no such container")
        return [self._container(one) for one in found or ()]

    def _container(self, one: Any) -> KnownContainer:
        runtime = str(dig(one, "HostConfig", "Runtime") or "")
        native = [
            f"--device {', '.join(names)}" if (names := dig(request, "DeviceIDs")) else "--gpus"
            for request in dig(one, "HostConfig", "DeviceRequests") or ()
        ]
        is_compose = dig(one, "Config", "Labels", "com.docker.compose.project") is not None
        return inspected(
            one,
            runtime,
            self.says().runtimes.get(runtime, ""),
            bundle(self.states, "moby", str(dig(one, "Id"))),
            dig(one, "HostConfig", "Annotations"),
            native=tuple(native),
            client="compose" if is_compose else "docker",
        )


ENGINE = Engine(
    "docker",
    "/etc/docker/daemon.json",
    DockerEditor,
    DockerProber,
    HelpText(
        {
            "docker": "docker run --runtime cdi --annotation {key}={names} IMAGE",
            "compose": "services:\n  NAME:\n    image: IMAGE\n    runtime: cdi\n    annotations:\n"
            '      {key}: "{names}"',
        },
        still="docker lists a removed runtime until it is restarted, but it can't run it without its program",
        keeps_runtime=True,
    ),
    user_file="docker/daemon.json",
    daemon="dockerd",
    units=("docker",),
    own_cdi=OwnCDI("what --device vendor.com/class=name asks for", since=(25, 0), on_since=(28, 2)),
)
