# SPDX-License-Identifier: Apache-2.0
"""cdi-hook release: free an exclusive device whose container is gone though nobody can tell."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdi_hook.base.quoting import quote
from cdi_hook.cli import host, output
from cdi_hook.errors import UnresolvableDevices
from cdi_hook.leases import in_use, inquiry, store
from cdi_hook.leases.stock import Stock

if TYPE_CHECKING:
    import argparse

    from cdi_hook.inject.pipeline import Host
    from cdi_hook.leases.store import Lease

HELP = """\
Free a device that EXCLUSIVE keeps for a container, if nothing of this container is
seen alive. This is needed only where nobody can tell whether it is gone, such as
when its runtime was removed. Each container that has the device is shown, and how
it is. Root frees root's devices, and a user their own. A container whose device is
freed by --force while it runs still has it.

exit status: 0 if nobody has the device any more; 1 if a container has it that is
alive, and then nothing is freed; 2 for wrong arguments"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a device, such as vendor.com/class=name")
    parser.add_argument("--force", action="store_true", help="don't ask whether the containers are alive")


def run(options: argparse.Namespace) -> int:
    found = host.host(options)
    host.warn_of_problems(found)
    leases = store.known(found.lease_dir)
    held = _holders(options.name, leases, found)
    if not options.force:
        inquiry.ask(held, leases, inquiry.SHORT_S)
    for lease in held:
        output.say(
            f"{in_use.holder(lease.tree)}: {'released by --force' if options.force else lease.how or 'gone'}"
        )
    if any(lease.how in inquiry.STATES for lease in held):
        output.complain(f"{quote(options.name)} is in use; stop the container, or see --help about --force")
        return 1
    if not held:
        output.say(f"no container has {options.name} for itself")
    for lease in held:
        lease.how = ""
    store.keep(found.lease_dir, held)
    return 0


def _holders(name: str, leases: list[Lease], found: Host) -> list[Lease]:
    """Return the leases of a device by this name, and those that keep it from other containers by another."""
    held = [lease for lease in leases if any(device.name == name for device in lease.devices)]
    try:
        stock = Stock(found.registry())
        stock.hardware([name])
        while near := stock.holders([name], [lease for lease in leases if lease not in held]):
            held += near.values()
    except UnresolvableDevices:
        if not held:
            raise
    return held
