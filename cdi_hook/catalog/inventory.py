# SPDX-License-Identifier: Apache-2.0
"""All devices of the spec dirs, where each is defined, and what is wrong: what `cdi-hook list` shows.

The index has it as its last record, in JSON:

    {"devices": [[name, its spec, specs whose device of that name doesn't count...], ...],
     "problems": [[path, the fields of a Finding...], ...]}

The devices are sorted by name. A spec is the number of its path among the watched paths.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from cdi_hook.base.files import clean
from cdi_hook.errors import ERROR, Finding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PRIVATE = 'it is not valid; not everybody may read it, so only "cdi-hook validate" says why'


Problems = dict[str, list[Finding]]  # by path of a file or dir


class Definition(NamedTuple):
    """Where a device is defined: its spec's path, and the specs of lower dirs that it overrides."""

    spec: str
    shadowed: list[str]


class Inventory(NamedTuple):
    """The devices by name, sorted, and what is wrong, by path, sorted."""

    devices: dict[str, Definition]
    problems: Problems

    @property
    def for_everybody(self) -> Problems:
        """The problems without what is quoted from specs that not everybody may read.

        Whoever starts a container sees them, in an event of Kubernetes for example.
        """
        return {
            path: [
                Finding(ERROR, PRIVATE) if one.kind == "invalid" and not _is_public(path) else one
                for one in found
            ]
            for path, found in self.problems.items()
        }


def of_record(paths: Sequence[str], record: dict[str, Any]) -> Inventory:
    """Return what the index's record says, with the watched paths."""
    devices = {name: Definition(paths[spec], [paths[one] for one in shadowed])
               for name, spec, *shadowed in record["devices"]}  # fmt: skip
    problems: Problems = {}
    for path, *fields in record["problems"]:
        problems.setdefault(path, []).append(Finding(*fields))
    return Inventory(devices, problems)


def to_record(inventory: Inventory, numbers: Mapping[str, int]) -> dict[str, Any]:
    """Return the index's record, with the numbers of the watched paths."""
    return {
        "devices": [
            [name, numbers[place.spec], *(numbers[one] for one in place.shadowed)]
            for name, place in inventory.devices.items()
        ],
        "problems": [[path, *one.fields] for path, found in inventory.problems.items() for one in found],
    }


def priority(path: str, spec_dirs: Sequence[str]) -> int:
    """Return the priority of a spec's dir: its last place among the spec dirs."""
    dirs = [clean(one) for one in spec_dirs]
    return len(dirs) - 1 - dirs[::-1].index(os.path.dirname(path) or ".")


def _is_public(path: str) -> bool:
    try:
        return bool(os.stat(path).st_mode & 0o004 and os.stat(os.path.dirname(path) or ".").st_mode & 0o001)
    except OSError:
        return False
