# SPDX-License-Identifier: Apache-2.0
"""The devices that the specs define, and what each stands for: found out when asked for, and once."""

from __future__ import annotations

from cdi_hook import errors
from cdi_hook.leases import same

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cdi_hook.catalog.registry import Registry
    from cdi_hook.leases.same import Hardware
    from cdi_hook.leases.store import Lease


class Stock:
    """The devices of a registry."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._hardware: dict[str, Hardware | None] = {}
        self._specs: dict[str, str] | None = None

    @property
    def specs(self) -> dict[str, str]:
        """The path of each device's spec, by the device's name."""
        if self._specs is None:
            self._specs = self._registry.specs_of_devices()
        return self._specs

    def hardware(self, names: Iterable[str], *, strict: bool = False) -> list[Hardware]:
        """Return what devices stand for; without ``strict`` only those whose nodes the host has.

        Raises UnresolvableDevices, and if ``strict`` InjectionError.
        """
        names = list(names)
        unknown = [name for name in names if self._hardware.get(name) is None]
        for source, edits in self._registry.parts(unknown) if unknown else ():
            name = source[0]
            if name is None:
                continue
            try:
                self._hardware[name] = same.of_edits(name, edits)
            except errors.InjectionError as error:
                self._hardware[name] = None
                if strict:
                    error.source = source
                    raise
        return [found for name in names if (found := self._hardware[name])]

    def holders(self, names: Sequence[str], leases: Iterable[Lease]) -> dict[str, Lease]:
        """Return the lease that keeps each of these devices from other containers, where one does."""
        taken = [(lease, one) for lease in leases for one in lease.devices]
        found = self.hardware(names) if taken else []
        ignored = self.ignored([*names, *(one.name for _, one in taken)]) if taken else frozenset()
        return {
            device.name: lease
            for device in found
            for lease, one in reversed(taken)
            if same.conflict(device, one, ignored)
        }

    def ignored(self, names: Iterable[str]) -> frozenset[str]:
        """Return the keys that all devices have of the specs that define these; other names don't count."""
        paths = {self.specs[name] for name in names if name in self.specs}
        by_path: dict[str, list[str]] = {path: [] for path in paths}
        for name, path in self.specs.items():
            if path in paths:
                by_path[path].append(name)
        return same.for_all(
            {path: found for path, several in by_path.items() if (found := self.hardware(several))}
        )
