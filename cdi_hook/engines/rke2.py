# SPDX-License-Identifier: Apache-2.0
"""RKE2: k3s in other dirs and under other units. Its containerd has the socket and the state dir of k3s."""

from __future__ import annotations

from cdi_hook.engines.k3s import K3s


class Rke2(K3s):
    name = "rke2"
    file = "/var/lib/rancher/rke2/agent/etc/containerd/config.toml"
    about = ", as for k3s"
    own_dir = "/var/lib/rancher/rke2/bin"
    programs = (f"{own_dir}/containerd",)
    units = ("rke2-server", "rke2-agent")
