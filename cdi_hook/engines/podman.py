# SPDX-License-Identifier: Apache-2.0
"""podman, and other readers of containers.conf: ``engine.runtimes`` and ``engine.runtime``, in a drop-in.

    [engine]
    runtime = "cdi"
    [engine.runtimes]
    cdi = ["/usr/bin/cdi-runtime"]

The files of containers.conf.d are read after containers.conf, in the order of
their names, and add to ``runtimes`` (containers.conf(5); seen with podman 5.4.2).
podman passes all annotations to the runtime.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from cdi_hook.engines.client import KnownContainer, Unreachable, ask_json, dig, inspected
from cdi_hook.engines.edit.config_editor import Editor, Files, drop_ins
from cdi_hook.engines.edit.configuration import Configuration
from cdi_hook.engines.engine import BY_ENV, Engine, HelpText, OwnCDI, Prober

if TYPE_CHECKING:
    from cdi_hook.engines.edit.config_editor import Request
    from cdi_hook.engines.edit.document import Key


class PodmanEditor(Editor):
    table = ("engine",)
    default_key = "runtime"
    hooks_key = ("engine", "hooks_dir")

    @classmethod
    def files(cls, path: str) -> Files:
        return drop_ins(path, "*.conf")

    def program(self, entry: Any) -> Any:
        return entry[0] if isinstance(entry, list) and entry else None  # a list of paths to try

    def set_entry(self, key: Key, request: Request) -> list[str]:
        if self.program(self.document.get(key)) != request.path:
            self.document.set(key, [request.path])
        return []


class PodmanProber(Prober):
    programs = ("podman",)

    def closes_nodes(self) -> str:
        try:
            options = ask_json("podman", "info", "--format", "{{json .Store.GraphOptions}}") or {}
        except Unreachable:
            return ""
        mounted = ",".join(str(value) for key, value in options.items() if key.endswith(".mountopt"))
        return "mountopt of storage.conf has nodev" if "nodev" in mounted.split(",") else ""

    def inspect(self, name: str) -> list[KnownContainer]:
        found = ask_json("podman", "inspect", "--type", "container", "--", name, unknown="no such container")
        return [self._container(one) for one in found or ()]

    def _container(self, one: Any) -> KnownContainer:
        runtime, file = str(dig(one, "OCIRuntime") or ""), str(dig(one, "OCIConfigPath") or "")
        program = runtime if "/" in runtime else Configuration(self.engine).program(runtime)
        directory = os.path.dirname(file) if os.path.exists(file) else ""
        return inspected(one, runtime, program, directory, dig(one, "Config", "Annotations"))


ENGINE = Engine(
    "podman",
    "/etc/containers/containers.conf.d/99-cdi-hook.conf",
    PodmanEditor,
    PodmanProber,
    HelpText(
        {
            "podman": "podman --runtime {program} run --annotation {key}={names} IMAGE",
            "buildah": "buildah run --isolation oci --runtime {program} --env CDI_DEVICES={names} CONTAINER "
            f"COMMAND  # {BY_ENV}",
        },
        keeps_runtime=True,
        needs_configuration=False,
    ),
    user_file="containers/containers.conf.d/99-cdi-hook.conf",
    units=("podman-restart",),
    hooks_dirs=("/usr/share/containers/oci/hooks.d", "/etc/containers/oci/hooks.d"),
    own_cdi=OwnCDI("what --device vendor.com/class=name asks for"),
)
