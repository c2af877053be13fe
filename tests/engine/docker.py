# SPDX-License-Identifier: Apache-2.0
"""dockerd in a box, configured by /etc/docker/daemon.json, and its client."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from . import hooks, image, world
from .box import need
from .containerd import plain

if TYPE_CHECKING:
    from .box import Box, Completed

ERROR = "Error response from daemon: failed to create task for container: failed to create shim task: OCI runtime create failed: "
ANNOTATIONS = ("docker", (24, 0), "--annotation")
OWN_CDI = ("dockerd", (25, 0), "CDI of its own")
CONFIGURATION: dict[str, Any] = {
    "runtimes": {
        "cdi": {"path": "/usr/bin/cdi-runtime"},
        "cdi-crun": {"path": "/usr/bin/cdi-crun"},
        "cdi-arguments": {
            "path": "/usr/bin/cdi-runtime",
            "runtimeArgs": ["--debug", "--rootless=false"],
        },
        "createRuntime": {"path": f"{hooks.PLACE}/createRuntime/runc"},
        "prestart": {"path": f"{hooks.PLACE}/prestart/runc"},
    },
    # A box can't set up a network.
    "bridge": "none",
    "iptables": False,
    "ip6tables": False,
    # For `docker checkpoint`.
    "experimental": True,
    # For `docker run --device vendor.com/class=name`.
    "features": {"cdi": True},
}

# docker has no OCI hooks of its own: this runtime adds one, of the stage that its dir is named after.
RUNC_WITH_HOOK = f"""#!/usr/bin/python3 -I
import json, os, sys
from pathlib import Path
stage = Path(sys.argv[0]).parent.name
if "create" in sys.argv:
    bundle = Path(sys.argv[sys.argv.index("--bundle") + 1])
    config = json.loads((bundle / "config.json").read_text())
    hook = {{
        "path": "/usr/bin/cdi-hook",
        "args": ["cdi-hook", stage],
        "env": ["CDI_HOOK_CONFIG={hooks.CONF}"],
    }}
    config.setdefault("hooks", {{}}).setdefault(stage, []).append(hook)
    (bundle / "config.json").write_text(json.dumps(config))
os.execvp("runc", ["runc", *sys.argv[1:]])
"""


# How `docker run` ends an error, in older and in newer releases.
_ENDING = re.compile(r"(?:\.|\n\nRun 'docker run --help' for more information)\n\Z")


def without_help(error: str) -> str:
    """Return an error of `docker run` without its ending."""
    return _ENDING.sub("\n", error)


class Docker:
    """A docker engine."""

    def __init__(self, box: Box, **more: Any) -> None:
        self.box = box
        for stage in ("createRuntime", "prestart"):
            box.write(f"{hooks.PLACE}/{stage}/runc", RUNC_WITH_HOOK, "755")
        box.write("/etc/docker/daemon.json", json.dumps({**CONFIGURATION, **more}))
        self._start()
        box.do("docker", "load", "-i", world.ARCHIVE)

    def _start(self) -> None:
        self.box.daemon("dockerd", ready=("docker", "version"))

    def restart(self) -> None:
        """Stop dockerd, and start it again."""
        self.box.do("sh", "-c", "kill $(busybox pidof dockerd)")  # which sees only the box's processes
        self.box.wait(lambda: self.box.call("busybox", "pidof", "dockerd").returncode)
        self._start()

    def _need(self, *arguments: str) -> None:
        """Skip the test if docker hasn't one of these options."""
        if any(one.startswith("--annotation") for one in arguments):
            need(*ANNOTATIONS)
        if any(word == "--device" and "=" in value for word, value in zip(arguments, arguments[1:])):
            need(*OWN_CDI)

    def call(self, *arguments: str, **options: Any) -> Completed:
        """Call docker; its errors are as in every release."""
        self._need(*arguments)
        done = self.box.call("docker", *arguments, **options)
        done.stderr = plain(without_help(done.stderr))
        return done

    def do(self, *arguments: str, **options: Any) -> str:
        """Call docker; the call must succeed."""
        self._need(*arguments)
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
        """Return a part of what docker inspect says of a container."""
        return json.loads(self.do("inspect", "--format", f"{{{{json .{what}}}}}", container))
