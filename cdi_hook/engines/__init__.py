# SPDX-License-Identifier: Apache-2.0
"""Container engines, one module each, and the edits of their configuration that make them use cdi-runtime.

ENGINES is the only list of them. engine.py says what an engine has to know,
plan.py which files change, filechange.py how a file is replaced. jsonedit.py and
tomledit.py edit a text, and keep every byte that the edit isn't about.
"""

from cdi_hook.engines.containerd import Containerd
from cdi_hook.engines.crio import Crio
from cdi_hook.engines.docker import Docker
from cdi_hook.engines.engine import Engine
from cdi_hook.engines.podman import Podman

ENGINES: dict[str, Engine] = {engine.name: engine for engine in (Docker(), Containerd(), Crio(), Podman())}
