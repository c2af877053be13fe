# SPDX-License-Identifier: Apache-2.0
"""Container engines, one module each, and the edits that make an engine use cdi-runtime.

ENGINES is the only list of engines. engine.py has what all engines share, client.py asks
an engine's own command, and edit/ changes files.
"""

from cdi_hook.engines.containerd import Containerd
from cdi_hook.engines.crio import Crio
from cdi_hook.engines.docker import Docker
from cdi_hook.engines.engine import Engine
from cdi_hook.engines.k3s import K3s
from cdi_hook.engines.microk8s import Microk8s
from cdi_hook.engines.podman import Podman
from cdi_hook.engines.rke2 import Rke2

ENGINES: dict[str, Engine] = {
    engine.name: engine for engine in (Docker(), Containerd(), Crio(), Podman(), K3s(), Rke2(), Microk8s())
}
