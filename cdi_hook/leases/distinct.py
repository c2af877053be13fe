# SPDX-License-Identifier: Apache-2.0
"""One name for each device, for who offers devices to others, as a device plugin does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdi_hook.leases import choice, same

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cdi_hook.leases.same import Hardware
    from cdi_hook.specs.model import Device


def distinct_devices(devices: Iterable[Device], host_root: str = "") -> list[Device]:
    """Return one of the names of each device, in natural order: of several the first.

    A name for several devices together, as ``all`` is, counts only if none of these has another. Whether
    two names are one device is told by the numbers of their device nodes, which are looked up in the host's
    root dir ``host_root``, by net devices, and without either by all of their container edits.

    >>> cache = Cache(spec_dirs=[])
    >>> distinct_devices(cache.by_name().values())
    []
    """
    known = [
        (same.of_edits(one.qualified_name, one.container_edits, host_root, strict=False), one)
        for one in devices
    ]
    known.sort(key=lambda pair: (len(pair[0].keys), choice.order(pair[0].name)))
    near: dict[str, list[Hardware]] = {}
    found = []
    for hardware, device in known:
        others = [other for key in hardware.keys for other in near.get(key, ())]
        if not any(same.conflict(hardware, other) for other in others):
            found.append(device)
            for key in hardware.keys:
                near.setdefault(key, []).append(hardware)
    return sorted(found, key=lambda device: choice.order(device.qualified_name))
