# SPDX-License-Identifier: Apache-2.0
"""Container engines, one module each, and the edits that make an engine use cdi-runtime.

ENGINES is the only list of engines. engine.py has what all engines share, client.py asks
an engine's own command, and edit/ changes files.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping

from cdi_hook.engines.engine import Engine

# An engine's name: its module, which has it as ENGINE.
_MODULES = {
    "docker": "cdi_hook.engines.docker",
    "containerd": "cdi_hook.engines.containerd",
    "crio": "cdi_hook.engines.crio",
    "podman": "cdi_hook.engines.podman",
    "k3s": "cdi_hook.engines.k3s",
    "rke2": "cdi_hook.engines.rke2",
    "microk8s": "cdi_hook.engines.microk8s",
}


class _Engines(Mapping[str, Engine]):
    """The engines by name. A module is imported only when its engine is asked for."""

    def __getitem__(self, name: str) -> Engine:
        found: Engine = importlib.import_module(_MODULES[name]).ENGINE
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(_MODULES)

    def __len__(self) -> int:
        return len(_MODULES)


ENGINES = _Engines()
