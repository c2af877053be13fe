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

from cdi_hook.engines.client import Daemon, KnownContainer, Unreachable, ask_json, dig, oci
from cdi_hook.engines.edit.document import UnusableConfiguration
from cdi_hook.engines.edit.json_document import JSONText
from cdi_hook.engines.engine import Edited, Engine, Files, as_numbers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cdi_hook.engines.edit.document import Document, Key
    from cdi_hook.engines.engine import Other

# Where its containers' bundles are: with a containerd of its own, and with the host's.
_BUNDLES = (
    "/run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby/{}",
    "/run/containerd/io.containerd.runtime.v2.task/moby/{}",
)
_NEEDS_RESTART = (
    "docker keeps the old default runtime until it is restarted, because its file names no other; --reload "
    "does without a restart, which ends containers unless live-restore is on"
)
_ANNOTATES_SINCE = (24, 0)  # docker run --annotation, and compose's annotations
_CDI_SINCE = (25, 0)
_BY_ENV = "with DEVICE_ENV=CDI_DEVICES in /etc/cdi-hook/cdi-hook.conf"


class Docker(Engine):
    name = "docker"
    file = "/etc/docker/daemon.json"
    user_file = "docker/daemon.json"
    daemon = "dockerd"
    keeps_runtime = True
    programs = ("dockerd", "docker")
    own_cdi = "what --device vendor.com/class=name asks for"
    own_cdi_since = (28, 2)
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

    def has_own_cdi(self, text: str, version: str) -> bool:
        return (not version or as_numbers(version) >= _CDI_SINCE) and super().has_own_cdi(text, version)

    def asks(self) -> Mapping[str, str]:
        version = self.version() if self.found() else ""
        if not version or as_numbers(version) >= _ANNOTATES_SINCE:
            return self.requests
        return {
            "docker": f"docker run --runtime cdi --env CDI_DEVICES={{names}} IMAGE  # {_BY_ENV}",
            "compose": f"services:  # {_BY_ENV}\n  NAME:\n    image: IMAGE\n    runtime: cdi\n"
            '    environment:\n      CDI_DEVICES: "{names}"',
        }

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
        if path != self.default_path() or {"DOCKER_HOST", "DOCKER_CONTEXT"} & os.environ.keys():
            return None  # another daemon may answer than the one that reads the file
        try:
            daemon = self.says()
        except Unreachable:
            return None
        entries = self.runtimes(text).items()
        has_runtimes = all(daemon.runtimes.get(name) == program for name, program in entries if program)
        return has_runtimes and self.default(text) in (None, daemon.default)

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
        daemon = self.says() if found else None
        containers = []
        for one in found or ():
            identity, runtime = str(dig(one, "Id")), str(dig(one, "HostConfig", "Runtime") or "")
            native = [
                f"--device {', '.join(names)}" if (names := dig(request, "DeviceIDs")) else "--gpus"
                for request in dig(one, "HostConfig", "DeviceRequests") or ()
            ]
            mounts = [{"destination": dig(mount, "Destination")} for mount in dig(one, "Mounts") or ()]
            labels = dig(one, "Config", "Labels") or {}
            containers.append(
                KnownContainer(
                    identity,
                    runtime,
                    daemon.runtimes.get(runtime, "") if daemon else "",
                    next(filter(os.path.isdir, (place.format(identity) for place in _BUNDLES)), ""),
                    oci(dig(one, "HostConfig", "Annotations"), dig(one, "Config", "Env"), mounts),
                    labels,
                    tuple(native),
                    str(dig(one, "State", "Error") or ""),
                    dig(one, "State", "Running") is True,
                    client="compose" if "com.docker.compose.project" in labels else "docker",
                )
            )
        return containers
