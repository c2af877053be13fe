# SPDX-License-Identifier: Apache-2.0
"""The devices that the specs define, and what each stands for: found out when asked for, and once."""

from __future__ import annotations

from cdi_hook import errors
from cdi_hook.leases import same, store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cdi_hook.catalog.registry import Registry
    from cdi_hook.leases.same import Hardware
    from cdi_hook.leases.store import Lease


class Stock:
    """The devices of a registry; ``gone`` says of which the host lacks a node.

    ``directory`` is where leases are kept ("": nowhere).
    """

    def __init__(self, registry: Registry, directory: str = "") -> None:
        self._registry, self.directory = registry, directory
        self._hardware: dict[str, Hardware] = {}
        self._specs: dict[str, str] | None = None
        self.gone: dict[str, errors.InjectionError] = {}

    @property
    def specs(self) -> dict[str, str]:
        """The path of each device's spec, by the device's name."""
        if self._specs is None:
            self._specs = self._registry.specs_of_devices()
        return self._specs

    def hardware(self, names: Iterable[str], *, strict: bool = False) -> list[Hardware]:
        """Return what devices stand for.

        Raises UnresolvableDevices, and if ``strict`` InjectionError for one of which the host lacks a node.
        """
        names = list(names)
        unknown = [name for name in names if name not in self._hardware]
        for source, edits in self._registry.parts(unknown) if unknown else ():
            name = source[0]
            if name is None:
                continue
            try:
                self._hardware[name] = same.of_edits(name, edits)
            except errors.InjectionError as error:
                error.source = source
                self.gone[name] = error
                self._hardware[name] = same.of_edits(name, edits, strict=False)
        for name in names if strict else ():
            if name in self.gone:
                raise self.gone[name]
        return [self._hardware[name] for name in names]

    def holders(self, names: Sequence[str], leases: Iterable[Lease]) -> dict[str, Lease]:
        """Return the lease that keeps each of these devices from other containers, where one does."""
        taken = [(lease, one) for lease in leases for one in lease.devices]
        found = self.hardware(names) if taken else []
        common = self.common([one for _, one in taken]) if taken else frozenset()
        return {
            device.name: lease
            for device in found
            for lease, one in reversed(taken)
            if same.conflict(device, one, common)
        }

    def common(self, leased: Sequence[Hardware] = ()) -> frozenset[str]:
        """Return the keys that tell no device.

        For devices that are ``leased`` the specs speak, unless these no longer know their kind.
        """
        by_path: dict[str, list[Hardware]] = {}
        for device in self.hardware(self.specs):
            by_path.setdefault(self.specs[device.name], []).append(device)
        known = {name.partition("=")[0] for name in self.specs}
        return same.common(
            by_path.values(), [one for one in leased if one.name.partition("=")[0] not in known]
        )

    def leased(self) -> list[Hardware]:
        """Return the devices that leases are for; none if these can't be read."""
        try:
            return [device for lease in store.known(self.directory) for device in lease.devices]
        except errors.LeaseError:  # whoever wants an exclusive device hears of it
            return []

    def asked(self, names: Iterable[str]) -> list[Hardware]:
        """Return what comes with these devices, also by their specs for all; unknown ones don't count."""
        parts = self._registry.parts([name for name in names if name in self.specs])
        return [same.of_edits("", edits, strict=False) for _, edits in parts]

    def aliases(self, names: Iterable[str], others: Iterable[str]) -> dict[str, list[str]]:
        """Return which of the ``others`` are names of these devices too, or of parts of them."""
        near: dict[str, list[Hardware]] = {}
        for other in self.hardware(others):
            for key in other.keys:
                near.setdefault(key, []).append(other)
        owns = self.hardware(name for name in names if name in self.specs)
        if near.keys().isdisjoint(key for own in owns for key in own.keys):
            return {}
        common = self.common()
        return {
            own.name: [
                name
                for name, other in {one.name: one for key in own.keys for one in near.get(key, ())}.items()
                if name != own.name
                and same.is_part(other, own, common)
                and not (name in self.gone and same.is_union(other, self.hardware(self.specs)))
            ]
            for own in owns
        }
