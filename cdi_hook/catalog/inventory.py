# SPDX-License-Identifier: Apache-2.0
"""All devices of the spec dirs, where each is defined, and what is wrong: what `cdi-hook list` shows.

The index has it as its last record, in JSON:

    {"devices": [[name, its spec, specs whose device of that name doesn't count...], ...],
     "problems": [[path, the fields of a Problem...], ...]}

The devices are sorted by name. A spec is the number of its path among the watched paths.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from cdi_hook.base.files import clean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PRIVATE = 'failed to load CDI Spec; not everybody may read it, so only "cdi-hook validate" says why'


class Problem(NamedTuple):
    """Something wrong with a spec file or a spec dir.

    ``kind`` says what: others could have written the file, it isn't valid, another file of its
    dir has the same ``device``, or it can't be read, because of its mode or otherwise.
    ``message`` is in the reference's words, ``plain`` what a person is told; only those of an
    invalid file quote what it says.
    """

    kind: Literal["untrusted", "invalid", "conflict", "denied", "unreadable"]
    message: str
    plain: str
    device: str = ""


Problems = dict[str, list[Problem]]  # by path of a file or dir


class Place(NamedTuple):
    """Where a device is defined: its spec's path, and the specs of lower dirs that it overrides."""

    spec: str
    shadowed: list[str]


class Inventory(NamedTuple):
    """The devices by name, sorted, and what is wrong, by path, sorted."""

    devices: dict[str, Place]
    problems: Problems

    @property
    def told(self) -> list[tuple[str, str]]:
        """What a person is told of each path with which something is wrong."""
        return [(path, one.plain) for path, found in self.problems.items() for one in found]

    @property
    def for_everybody(self) -> Problems:
        """The problems without what is quoted from specs that not everybody may read.

        Whoever starts a container sees them, in an event of Kubernetes for example.
        """
        return {
            path: [
                one._replace(message=PRIVATE, plain=PRIVATE)
                if one.kind == "invalid" and not _is_public(path)
                else one
                for one in found
            ]
            for path, found in self.problems.items()
        }


def of_record(paths: Sequence[str], record: dict[str, Any]) -> Inventory:
    """Return what the index's record says, with the watched paths."""
    devices = {name: Place(paths[spec], [paths[one] for one in shadowed])
               for name, spec, *shadowed in record["devices"]}  # fmt: skip
    problems: Problems = {}
    for path, *fields in record["problems"]:
        problems.setdefault(path, []).append(Problem(*fields))
    return Inventory(devices, problems)


def to_record(inventory: Inventory, numbers: Mapping[str, int]) -> dict[str, Any]:
    """Return the index's record, with the numbers of the watched paths."""
    return {
        "devices": [
            [name, numbers[place.spec], *(numbers[one] for one in place.shadowed)]
            for name, place in inventory.devices.items()
        ],
        "problems": [[path, *one] for path, found in inventory.problems.items() for one in found],
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
