# SPDX-License-Identifier: Apache-2.0
"""CRI-O in a box, with the handlers that `cdi-hook configure crio` adds to /etc/crio/crio.conf.d."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cdi_hook.engines.crio import ENGINE
from cdi_hook.engines.edit.config_editor import Request

from . import hooks, image, world

if TYPE_CHECKING:
    from .box import Box

CONFIGURATION = "/etc/crio/crio.conf"
DROP_IN = "/etc/crio/crio.conf.d/99-cdi-hook.conf"
# A box has no systemd, and the machine's /opt, where CRI-O would make dirs for plugins.
_GENERAL = f"""[crio.runtime]
default_runtime = "runc"
cgroup_manager = "cgroupfs"
conmon_cgroup = "pod"
hooks_dir = [{{hooks_dir}}]
[crio.runtime.runtimes.runc]
runtime_path = ""
[crio.image]
pause_image = "{image.NAME}"
signature_policy = "/etc/crio/policy.json"
[crio.network]
plugin_dirs = ["/run/board/cni"]
"""


class Crio:
    """A CRI-O that has our handlers, if it is configured, and that calls our hook of a stage for every container, if one is given."""

    socket = "run/crio/crio.sock"
    error = "container create failed: {}"
    passing = "cdi"

    def __init__(self, box: Box, *, stage: str = "", configured: bool = True) -> None:
        self.box = box
        box.write("/etc/crio/policy.json", '{"default": [{"type": "insecureAcceptAnything"}]}')
        general = _GENERAL.format(hooks_dir=f'"{hooks.PLACE}/{stage}"' if stage else "")
        box.write(CONFIGURATION, general)
        text = ""
        for program, runtime in (("cdi-runtime", ""), ("cdi-crun", "crun")):
            request = Request(f"/usr/bin/{program}", runtime)
            text = ENGINE.edit(text, others=[(CONFIGURATION, general)]).add(request).text
        if configured:
            box.write(DROP_IN, text)
        if stage:
            hooks.furnish(box)
        # which has the same storage
        box.do("podman", "--cgroup-manager=cgroupfs", "load", "--quiet", "--input", world.ARCHIVE)
        self._start()

    def _start(self) -> None:
        self.box.daemon("crio", ready=("test", "-S", f"/{self.socket}"))

    def restart(self) -> None:
        """Stop CRI-O, and start it again."""
        self.box.do("sh", "-c", "kill $(busybox pidof crio)")  # which sees only the box's processes
        self.box.wait(lambda: self.box.call("busybox", "pidof", "crio").returncode)
        self.box.do("rm", "-f", f"/{self.socket}")
        self._start()

    def config(self, container: str) -> dict[str, Any]:
        """Return the config.json that a container was made from."""
        text = self.box.read(f"/run/containers/storage/overlay-containers/{container}/userdata/config.json")
        tree: dict[str, Any] = json.loads(text)
        return tree
