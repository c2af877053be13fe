# SPDX-License-Identifier: Apache-2.0
"""MicroK8s: its own containerd, whose containerd.toml it makes at each start from containerd-template.toml.

The template is TOML. What is replaced in it, such as ``${SNAPSHOTTER}``, stands in
strings (microk8s-resources/wrappers/run-containerd-with-args of MicroK8s 1.32).
"""

from __future__ import annotations

from cdi_hook.engines.containerd import Containerd


class Microk8s(Containerd):
    name = "microk8s"
    file = "/var/snap/microk8s/current/args/containerd-template.toml"
    about = ""
    own_dir = "/snap/microk8s/current/bin"
    programs = (f"{own_dir}/containerd",)
    socket = "/var/snap/microk8s/common/run/containerd.sock"
    state = "/var/snap/microk8s/common/run/containerd"

    def unit(self) -> str:
        return "snap.microk8s.daemon-containerd"
