# SPDX-License-Identifier: Apache-2.0
"""The plain classes of devices: each is a row that says where its nodes are and what they are called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdi_hook.devices import nodes
from cdi_hook.devices.deviceclass import HOST, Device, DeviceClass, Found

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cdi_hook.devices.root import Root


class Fixed(DeviceClass):
    """A class whose nodes always have the same paths.

    ``paths`` maps a device's name to its node, ``modules`` to what makes the node appear.
    """

    def __init__(self, name: str, about: str, paths: Mapping[str, str], modules: Mapping[str, str]) -> None:
        self.name = name
        self.about = about
        self.kinds = (f"{HOST}/{name}",)
        self._paths = paths
        self._modules = modules

    def find(self, root: Root, hook: str = "") -> list[Found]:  # noqa: ARG002 # it has no choice of hooks
        """Return the nodes that there are."""
        devices = [
            Device((name,), nodes.edits(root, (path,)))
            for name, path in self._paths.items()
            if nodes.is_node(root, path)
        ]
        return [Found(self.kinds[0], devices)] if devices else []

    def missing(self, root: Root) -> list[str]:
        """Return the nodes that there aren't."""
        return [
            f"no {path}: {self._modules[name]}"
            for name, path in self._paths.items()
            if not nodes.is_node(root, path)
        ]


_ALL = (
    Fixed(
        "kvm",
        "virtual machines and their networks",
        {
            "kvm": "/dev/kvm",
            "vhost-net": "/dev/vhost-net",
            "vhost-vsock": "/dev/vhost-vsock",
            "tun": "/dev/net/tun",
        },
        {
            "kvm": "modprobe kvm_intel or kvm_amd, with virtualization enabled in the firmware",
            "vhost-net": "modprobe vhost_net",
            "vhost-vsock": "modprobe vhost_vsock",
            "tun": "modprobe tun",
        },
    ),
)
CLASSES = {one.name: one for one in _ALL}
