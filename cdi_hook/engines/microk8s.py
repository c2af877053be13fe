# SPDX-License-Identifier: Apache-2.0
"""MicroK8s: its own containerd, whose containerd.toml it makes at each start from containerd-template.toml.

The template is TOML. What is replaced in it, such as ``${SNAPSHOTTER}``, stands in
strings (microk8s-resources/wrappers/run-containerd-with-args of MicroK8s 1.32).
"""

from __future__ import annotations

from dataclasses import replace

from cdi_hook.engines import containerd


class Microk8sProber(containerd.ContainerdProber):
    own_dir = "/snap/microk8s/current/bin"
    programs = (f"{own_dir}/containerd",)
    socket = "/var/snap/microk8s/common/run/containerd.sock"
    states = ("/var/snap/microk8s/common/run/containerd",)


ENGINE = replace(
    containerd.ENGINE,
    name="microk8s",
    file="/var/snap/microk8s/current/args/containerd-template.toml",
    prober=Microk8sProber,
    help=replace(containerd.ENGINE.help, about=""),
    units=("snap.microk8s.daemon-containerd",),
)
