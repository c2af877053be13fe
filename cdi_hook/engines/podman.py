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

from typing import Any

from cdi_hook.engines.engine import Engine, Files, drop_ins


class Podman(Engine):
    name = "podman"
    file = "/etc/containers/containers.conf.d/99-cdi-hook.conf"
    user_file = "containers/containers.conf.d/99-cdi-hook.conf"
    daemon = ""
    keeps_runtime = True
    requests = {"podman": "podman --runtime {program} run --annotation {key}={names} IMAGE"}  # noqa: RUF012 # as above
    tables = (("engine",),)
    default_key = "runtime"

    def files(self, path: str) -> Files:
        return drop_ins(path, "*.conf")

    def program(self, entry: Any) -> Any:
        return entry[0] if isinstance(entry, list) and entry else None  # a list of paths to try

    def value(self, program: str) -> Any:
        return [program]
