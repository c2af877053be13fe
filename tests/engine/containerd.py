# SPDX-License-Identifier: Apache-2.0
"""containerd in a box, configured by /etc/containerd/config.toml, and ctr."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from . import image, world

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .box import Box, Completed

CONFIGURATION = "/etc/containerd/config.toml"
BUNDLES = "/run/containerd/io.containerd.runtime.v2.task"
ERROR = "failed to create shim task: OCI runtime create failed: "
# What only some releases add to an error: the sandbox before it, and a code after it.
_ADDED = re.compile(r'^failed to start sandbox "[0-9a-f]{64}": |: unknown(?=\n|$)')
# containerd 2 says of a box that its cgroups are old.
_ENVIRON = {"CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS": "1"}

# A pod's sandbox is made from sandbox_image. The third line is for a root
# without CAP_SYS_RESOURCE. The rest is as in `containerd config default`.
_GENERAL = """version = 2
[plugins."io.containerd.grpc.v1.cri"]
restrict_oom_score_adj = true
sandbox_image = "{image}"
enable_cdi = {enable_cdi}
"""
_HANDLER = """
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}]
runtime_type = "io.containerd.runc.v2"
{annotations}[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}.options]
BinaryName = "{program}"
"""
_ANNOTATIONS = 'container_annotations = ["cdi.k8s.io/*", "cdi-hook.local/*"]\n'
_POD_ANNOTATIONS = 'pod_annotations = ["cdi.k8s.io/*"]\n'
# RuntimeClass's handlers: the program, and the annotations that containerd passes to it.
INJECTING = "/run/board/cdi-injecting"
HANDLERS = {
    "runc": ("runc", ""),
    "cdi": ("/usr/bin/cdi-runtime", _ANNOTATIONS),
    "cdi-crun": ("/usr/bin/cdi-crun", _ANNOTATIONS),
    "cdi-runsc": ("/usr/bin/cdi-runsc", _ANNOTATIONS),
    "runsc": ("/usr/local/bin/runsc", ""),
    "cdi-pod": ("/usr/bin/cdi-runtime", _ANNOTATIONS + _POD_ANNOTATIONS),
    "cdi-all": ("/usr/bin/cdi-runtime", _ANNOTATIONS + 'pod_annotations = ["*", "*/*"]\n'),
    "cdi-sandboxes": (INJECTING, _POD_ANNOTATIONS),
}
# The runtime with another configuration: SANDBOXES=inject.
_INJECTING = f"""#!/bin/sh
CDI_HOOK_CONFIG={INJECTING}.conf exec /usr/bin/cdi-runtime "$@"
"""


def plain(error: str) -> str:
    """Return an error as it is in every release."""
    return _ADDED.sub("", error)


class Containerd:
    """A containerd whose CRI knows the handlers."""

    socket = "run/containerd/containerd.sock"
    error = f"failed to create containerd task: {ERROR}{{}}"  # of a pod's container, with the runtime's words
    passing = "cdi-pod"  # the handler that passes a pod's annotations to our runtime

    def __init__(
        self, box: Box, *, enable_cdi: bool = False, handlers: Mapping[str, tuple[str, str]] = HANDLERS
    ) -> None:
        self.box = box
        text = _GENERAL.format(image=image.NAME, enable_cdi=str(enable_cdi).lower())
        for name, (program, passed_on) in handlers.items():
            text += _HANDLER.format(name=name, program=program, annotations=passed_on)
        box.write(CONFIGURATION, text)
        box.write(INJECTING, _INJECTING, "755")
        box.write(f"{INJECTING}.conf", "SANDBOXES=inject\n")
        self._start()
        for namespace in ("default", "k8s.io"):
            box.do("ctr", "-n", namespace, "images", "import", world.ARCHIVE)

    def _start(self) -> None:
        self.box.daemon("containerd", ready=("ctr", "version"))

    def restart(self) -> None:
        """Stop containerd, and start it again."""
        self.box.do("sh", "-c", "kill $(busybox pidof containerd)")  # which sees only the box's processes
        self.box.wait(lambda: self.box.call("busybox", "pidof", "containerd").returncode)
        self._start()

    def config(self, container: str) -> dict[str, Any]:
        """Return the config.json that a pod's container was made from."""
        tree: dict[str, Any] = json.loads(self.box.read(f"{BUNDLES}/k8s.io/{container}/config.json"))
        return tree

    def ctr(self, *arguments: str, **options: Any) -> Completed:
        """Call ctr; its errors are as in every release."""
        done = self.box.call("ctr", *arguments, environ=_ENVIRON, **options)
        done.stderr = plain(done.stderr)
        return done

    def run(
        self,
        container: str,
        *options: str,
        script: str = "",
        device: str = world.FUSE,
        program: str = "cdi-runtime",
    ) -> Completed:
        """Run a container that asks for a device."""
        return self.ctr(
            "run", "--runc-binary", f"/usr/bin/{program}", "--annotation", f"{world.KEY}={device}",
            *options, image.NAME, container, *(("sh", "-c", script) if script else ()),
        )  # fmt: skip
