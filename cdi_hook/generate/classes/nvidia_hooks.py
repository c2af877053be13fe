# SPDX-License-Identifier: Apache-2.0
"""What NVIDIA's files need in a container beside being mounted: the edits with the hooks that do it."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cdi_hook.base import programs
from cdi_hook.base.quoting import quote
from cdi_hook.edits.kinds import HOOK_ENV
from cdi_hook.errors import CDIError
from cdi_hook.generate.node_edits import SOCKET, mount
from cdi_hook.libraries.needs import TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdi_hook.generate.root import Root

# NVIDIA's own runtime then adds nothing of its own.
ENV = "NVIDIA_VISIBLE_DEVICES=void"
_OUR_HOOK, _ITS_HOOK, _ITS_TOOL = "cdi-hook", "nvidia-cdi-hook", "nvidia-ctk"


@dataclass(frozen=True)
class DriverFiles:
    """DriverFiles of a driver, below the root.

    ``mounts`` are read-only, each with its path in a container; ``links`` are target and
    path there; ``dirs`` have libraries, of which ``libraries`` are mounted. ``version`` is
    that of a driver for PCI GPUs, else "".
    """

    mounts: Sequence[tuple[str, str]]
    links: Sequence[tuple[str, str]]
    dirs: Sequence[str]
    libraries: Sequence[str]
    sockets: Sequence[str] = field(default_factory=tuple)
    version: str = ""

    def edits(self, root: Root, hook: str) -> dict[str, Any]:
        """Return the containerEdits; raises CDIError if ``hook``, the value of --hook, is no such program."""
        mounts = [
            *(mount(root, path, inside) for path, inside in self.mounts),
            *(mount(root, path, options=SOCKET) for path in self.sockets),
        ]
        return {
            "env": [ENV],
            "mounts": sorted(mounts, key=lambda one: str(one["containerPath"])),
            "hooks": self._hooks(_program(hook), root.path),
        }

    def _hooks(self, program: str, root: str) -> list[dict[str, Any]]:
        """Return the hooks; ``root`` is before the host paths of the files."""
        name = os.path.basename(program)
        calls = self._our_calls(root) if name == _OUR_HOOK else self._its_calls()
        first = [name, "hook"] if name == _ITS_TOOL else [name]
        one: dict[str, Any] = {"hookName": "createContainer", "path": program}
        if name == _OUR_HOOK:
            one["timeout"] = TIMEOUT_S
        return [{**one, "args": [*first, *call], "env": list(HOOK_ENV)} for call in calls]

    def _our_calls(self, root: str) -> list[list[str]]:
        dirs = [word for path in self.dirs for word in ("--ldcache", path)]
        mounted = [word for path in self.libraries for word in ("--library", path)]
        place = ["--driver-root", root] if root else []
        version = ["--driver-version", self.version] if self.version else []
        return [["createContainer", *self._link_options(), *dirs, *mounted, *place, *version]]

    def _its_calls(self) -> list[list[str]]:
        links = self._link_options()
        folders = [word for path in self.dirs for word in ("--folder", path)]
        calls = [["create-symlinks", *links]] if links else []
        if not self.version:
            return [*calls, ["update-ldcache", *folders]]
        return [
            *calls,
            ["enable-cuda-compat", f"--host-driver-version={self.version}"],
            ["update-ldcache", *folders],
            ["disable-device-node-modification"],
            ["update-application-profile"],
        ]

    def _link_options(self) -> list[str]:
        return [word for target, path in self.links for word in ("--link", f"{target}::{path}")]


def _program(hook: str) -> str:
    """Return the path of the hook's program: ours, or the one that is named; raises CDIError."""
    if not hook:
        return programs.path(_OUR_HOOK)
    path = os.path.abspath(hook) if "/" in hook else shutil.which(hook) or ""
    if not os.access(path, os.X_OK):
        raise CDIError(f"--hook: there is no program {quote(hook)}")
    if os.path.basename(path) not in (_OUR_HOOK, _ITS_HOOK, _ITS_TOOL):
        raise CDIError(f"--hook: {quote(hook)} is neither {_OUR_HOOK} nor {_ITS_HOOK} nor {_ITS_TOOL}")
    return path
