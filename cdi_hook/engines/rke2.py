# SPDX-License-Identifier: Apache-2.0
"""RKE2: k3s in other dirs and under other units. Its containerd has the socket and the state dir of k3s."""

from __future__ import annotations

from dataclasses import replace

from cdi_hook.engines import k3s


class Rke2Prober(k3s.K3sProber):
    own_dir = "/var/lib/rancher/rke2/bin"
    programs = (f"{own_dir}/containerd",)


ENGINE = replace(
    k3s.ENGINE,
    name="rke2",
    file="/var/lib/rancher/rke2/agent/etc/containerd/config.toml",
    prober=Rke2Prober,
    help=replace(k3s.ENGINE.help, about=", as for k3s"),
    units=("rke2-server", "rke2-agent"),
)
