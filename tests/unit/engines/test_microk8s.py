# SPDX-License-Identifier: Apache-2.0
"""engines.microk8s: its template is TOML with ${NAMES} in strings."""

from __future__ import annotations

from cdi_hook.engines.edit.config_editor import Request
from cdi_hook.engines.microk8s import ENGINE

BEFORE = """\
version = 2
[plugins."io.containerd.grpc.v1.cri".containerd]
  snapshotter = "${SNAPSHOTTER}"
  default_runtime_name = "${RUNTIME}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    # the type
    runtime_type = "${RUNTIME_TYPE}"
"""
ADDED = """
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.cdi]  # by cdi-hook configure
runtime_type = "io.containerd.runc.v2"
container_annotations = ["cdi.k8s.io/*"]
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.cdi.options]  # by cdi-hook configure
BinaryName = "/usr/bin/cdi-runtime"
"""


def test_its_template() -> None:
    """The entry is added and removed, and what MicroK8s replaces at each start stays as it is."""
    added = ENGINE.edit(BEFORE).add(Request("/usr/bin/cdi-runtime", annotations=("cdi.k8s.io/*",))).text
    assert added == BEFORE + ADDED
    assert ENGINE.edit(added).remove(ENGINE.edit(BEFORE)).text == BEFORE
