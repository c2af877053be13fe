# SPDX-License-Identifier: Apache-2.0
"""dockerd in a box, by /etc/docker/daemon.json, and its client."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from . import image, world

if TYPE_CHECKING:
    from .box import Box, Completed

ERROR = "Error response from daemon: failed to create task for container: failed to create shim task: OCI runtime create failed: "
CONFIGURATION: dict[str, Any] = {
    "runtimes": {
        "cdi": {"path": "/usr/bin/cdi-runtime"},
        "cdi-crun": {"path": "/usr/bin/cdi-crun"},
        "cdi-arguments": {
            "path": "/usr/bin/cdi-runtime",
            "runtimeArgs": ["--debug", "--criu=/usr/sbin/criu"],
        },
    },
    # A box has no network to be set up.
    "bridge": "none",
    "iptables": False,
    "ip6tables": False,
    # For `docker checkpoint`.
    "experimental": True,
}


class Docker:
    """A docker engine."""

    def __init__(self, box: Box, **more: Any) -> None:
        self.box = box
        box.write("/etc/docker/daemon.json", json.dumps({**CONFIGURATION, **more}))
        box.daemon("dockerd", ready=("docker", "version"))
        box.do("docker", "load", "-i", world.ARCHIVE)

    def call(self, *arguments: str, **options: Any) -> Completed:
        """Call docker."""
        return self.box.call("docker", *arguments, **options)

    def do(self, *arguments: str, **options: Any) -> str:
        """Call docker, which has to succeed."""
        return self.box.do("docker", *arguments, **options)

    def run(
        self, *options: str, script: str = "", device: str = world.FUSE, runtime: str = "cdi"
    ) -> Completed:
        """Run a container that asks for a device."""
        return self.call(
            "run", "--network", "none", "--runtime", runtime, "--annotation", f"{world.KEY}={device}",
            *options, image.NAME, *(("sh", "-c", script) if script else ()),
        )  # fmt: skip

    def inspect(self, container: str, what: str) -> Any:
        """Return a part of what docker knows about a container."""
        return json.loads(self.do("inspect", "--format", f"{{{{json .{what}}}}}", container))
