# SPDX-License-Identifier: Apache-2.0
"""The registry to a container that is being created: which edits can be made, and which come too late."""

from __future__ import annotations

import copy

from cdi_hook import edits
from cdi_hook.errors import InjectionError, TooLate, quote
from cdi_hook.live.plan import STAGES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from cdi_hook.index import Registry
    from cdi_hook.specs.model import Device, Spec

    Edits = dict[str, Any]

# What belongs to the container's first process, about which the runtime has read.
_TOO_LATE = ("env", "additionalGids", "intelRdt")


class Late:
    """Injects as a Registry does, but for what comes too late.

    ``host_paths`` says afterwards where the host has a device, by its path in
    the container.
    """

    def __init__(self, registry: Registry, warn: Callable[[str], None] | None) -> None:
        """``warn`` is told of what comes too late; without it, that is an error."""
        self._registry = registry
        self._warn = warn
        self.host_paths: dict[str, str] = {}

    @property
    def errors(self) -> dict[str, list[str]]:
        """What is wrong with the specs, by path."""
        return self._registry.errors

    def inject(self, oci: dict[str, Any], names: Sequence[str]) -> None:
        """Edit oci as far as it can still be made true; raises TooLate, or as a Registry does."""
        wanted = self._registry.edits(names)
        possible, late = _split(wanted)
        try:
            if late:
                more = copy.deepcopy(oci)
                edits.apply(more, late, keep_present=True)
                if more != oci:
                    self._refuse(names)
            edits.apply(oci, possible, keep_present=True)
        except TooLate:
            raise
        except InjectionError as error:
            raise InjectionError(f"failed to inject devices: {error}") from error
        nodes = wanted.get("deviceNodes") or ()
        self.host_paths = {node["path"]: node.get("hostPath") or node["path"] for node in nodes}

    def _refuse(self, names: Sequence[str]) -> None:
        asking = []
        for source, part in self._registry.cache.parts(names):
            late = _words(_split(part)[1])
            if late:
                asking.append(f"{_who(source)} needs {late}")
        what = f"{'; '.join(asking)}: too late for a container that is being created"
        if self._warn:
            self._warn(f"{what}, and left out, as HOOK_UNSUPPORTED=warn has it")
        else:
            raise TooLate(
                f"{what}; use cdi-runtime or the precreate hook, which come earlier, or set "
                "HOOK_UNSUPPORTED=warn to have it left out"
            )


def _split(wanted: Edits) -> tuple[Edits, Edits]:
    """Return the container edits that are still possible, and the others."""
    hooks = wanted.get("hooks") or []
    possible = {name: value for name, value in wanted.items() if name not in _TOO_LATE}
    possible["hooks"] = [hook for hook in hooks if hook["hookName"] in STAGES]
    late = {name: wanted[name] for name in _TOO_LATE if wanted.get(name)}
    if len(possible["hooks"]) < len(hooks):
        late["hooks"] = [hook for hook in hooks if hook["hookName"] not in STAGES]
    return possible, late


def _who(source: Device | Spec) -> str:
    from cdi_hook.specs.model import Device  # with YAML, and read already

    if isinstance(source, Device):
        return f"device {source.qualified_name} ({source.spec.path})"
    return f"any device of {source.path}"


def _words(late: Edits) -> str:
    words = [f"variable {quote(variable)}" for variable in late.get("env", ())]
    words += [f"additional group {gid}" for gid in late.get("additionalGids", ())]
    words += ["Intel RDT"] if "intelRdt" in late else []
    words += [f"{hook['hookName']} hook {quote(hook['path'])}" for hook in late.get("hooks", ())]
    return ", ".join(words)
