# SPDX-License-Identifier: Apache-2.0
"""InfiniBand and RoCE: an adapter's nodes are those whose ``ibdev`` in sysfs is its name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdi_hook.generate import node_edits, sysfs
from cdi_hook.generate.device_class import HOST, DeviceClass, Found, FoundDevice

if TYPE_CHECKING:
    from cdi_hook.edits.proof import Proof
    from cdi_hook.generate.root import Root

_ADAPTERS = "/sys/class/infiniband"
_MANAGER = "/dev/infiniband/rdma_cm"  # every adapter's connections are made by it


class InfiniBand(DeviceClass):
    """The adapters."""

    name = "infiniband"
    kinds = (f"{HOST}/infiniband",)
    about = "InfiniBand and RoCE adapters"
    called = "mlx5_0, address. Every device has /dev/infiniband/rdma_cm."
    events = (
        'SUBSYSTEM=="infiniband|infiniband_verbs|infiniband_mad"',
        'SUBSYSTEM=="misc", KERNEL=="rdma_cm"',
    )

    def find(self, root: Root) -> list[Found]:
        """Return the adapters that have a node; a name is the kernel's, or the address on the PCI bus."""
        nodes_of: dict[str, list[str]] = {}
        proofs: dict[str, list[Proof]] = {}
        for entry in sysfs.entries(root, ".*", "/sys/class/infiniband_verbs", "/sys/class/infiniband_mad"):
            if node_edits.is_node(root, entry.node):
                adapter = root.read(f"{entry.path}/ibdev")
                nodes_of.setdefault(adapter, []).append(entry.node)
                proofs.setdefault(adapter, []).extend(sysfs.says(root, f"{entry.link}/ibdev", adapter))
        adapters = [name for name in root.names(_ADAPTERS) if name in nodes_of]
        addresses = [sysfs.address(root, root.resolved(f"{_ADAPTERS}/{name}/device")) for name in adapters]
        devices = [
            FoundDevice(
                [name, *([address] if address and addresses.count(address) == 1 else [])],
                node_edits.edits(root, nodes_of[name]),
                {name: proofs[name], address: [*proofs[name], *sysfs.at(root, f"{_ADAPTERS}/{name}")]},
            )
            for name, address in zip(adapters, addresses)
        ]
        return [Found(self.kinds[0], devices, node_edits.edits(root, (_MANAGER,)))] if devices else []

    def missing(self, root: Root) -> list[str]:
        """Return what keeps the adapters from being used."""
        if not root.names(_ADAPTERS):
            return ["no InfiniBand or RoCE adapter: load its module (mlx5_ib, irdma, bnxt_re, rdma_rxe)"]
        said = [] if self.find(root) else ["no /dev/infiniband/uverbs*: modprobe ib_uverbs"]
        return said if node_edits.is_node(root, _MANAGER) else [*said, f"no {_MANAGER}: modprobe rdma_ucm"]


CLASSES = {"infiniband": InfiniBand()}
