# SPDX-License-Identifier: Apache-2.0
"""All devices of the spec dirs, where each is defined, and what is wrong: what `cdi-hook list` shows.

It comes from the index while that holds, else from the specs. The index has it as
its last record, in JSON:

    {"devices": [[name, its spec, specs whose device of that name doesn't count...], ...],
     "problems": [[path, what a person is told], ...]}

The devices are sorted by name. A spec is the number of its path among the watched paths.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from cdi_hook import index
from cdi_hook.files import clean

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdi_hook.registry import Registry
    from cdi_hook.specs.cache import Snapshot


class Place(NamedTuple):
    """Where a device is defined: its spec's path, and the specs of lower dirs that it overrides."""

    spec: str
    shadowed: list[str]


class Inventory(NamedTuple):
    """The devices by name, sorted, and what a person is told of each path with which something is wrong."""

    devices: dict[str, Place]
    problems: list[tuple[str, str]]


def read(registry: Registry) -> Inventory:
    """Return the inventory of a registry's spec dirs."""
    found = (
        index.read(registry.path, _read, registry.path, registry.spec_dirs, registry.strict)
        if registry.path
        else None
    )
    return _inventory(*found) if found else of_specs(registry)


def of_specs(registry: Registry) -> Inventory:
    """Return the same by what the specs say, whatever the index does."""
    snapshot = registry.cache.snapshot()
    return _inventory(list(snapshot.identities), compile_inventory(snapshot))


def _inventory(paths: list[str], record: dict[str, Any]) -> Inventory:
    devices = {name: Place(paths[spec], [paths[one] for one in shadowed])
               for name, spec, *shadowed in record["devices"]}  # fmt: skip
    return Inventory(devices, [(path, plain) for path, plain in record["problems"]])


def compile_inventory(snapshot: Snapshot) -> dict[str, Any]:
    """Return the index's record."""
    numbers = {path: number for number, path in enumerate(snapshot.identities)}
    everywhere: dict[str, list[int]] = {}
    for spec in snapshot.specs:
        for device in spec.devices.values():
            everywhere.setdefault(device.qualified_name, []).append(numbers[spec.path])
    devices = []
    for name, device in sorted(snapshot.devices.items()):
        winner = numbers[device.spec.path]
        devices.append([name, winner, *(one for one in everywhere[name] if one != winner)])
    problems = [[path, one.plain] for path, found in sorted(snapshot.problems.items()) for one in found]
    return {"devices": devices, "problems": problems}


def _read(descriptor: int, path: str, spec_dirs: Sequence[str], strict: bool) -> tuple[list[str], Any] | None:
    start, slots, table = index.head(descriptor)
    if not index.holds(start, path, spec_dirs, strict):
        return None
    paths = [path for path, _ in start["watched"]]
    return paths, index.record(descriptor, table, slots + 2 * len(paths))


def priority(path: str, spec_dirs: Sequence[str]) -> int:
    """Return the priority of a spec's dir: its last place among the spec dirs."""
    dirs = [clean(one) for one in spec_dirs]
    return len(dirs) - 1 - dirs[::-1].index(os.path.dirname(path) or ".")
