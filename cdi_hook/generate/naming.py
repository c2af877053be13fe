# SPDX-License-Identifier: Apache-2.0
"""A kernel's or udev's name -> a valid CDI device name, the same at every boot.

A name that is valid stays. In any other one, each character that a CDI name can't have
becomes "_", and a few digits of a checksum of the name are added, so that two such names
don't become one. "any" and "any:2" aren't valid here: they ask for a device that is free (EXCLUSIVE).
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from typing import TYPE_CHECKING

from cdi_hook.errors import InvalidName
from cdi_hook.generate.device_class import ALL
from cdi_hook.names import validate_device_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdi_hook.generate.device_class import Found

_DIGITS = 8


def valid(name: str) -> str:
    """Return the CDI device name for a name."""
    try:
        validate_device_name(name if name.partition(":")[0] != "any" else "")
    except InvalidName:
        checksum = hashlib.sha256(os.fsencode(name)).hexdigest()[:_DIGITS]
        plain = re.sub(r"[^A-Za-z0-9_.:-]", "_", name).strip("_.:-")
        plain = plain.replace(":", "_") if plain.startswith("any:") else plain
        return f"{plain}-{checksum}" if plain else checksum
    return name


def distinct(devices: Sequence[Sequence[str]], reserved: str) -> list[dict[str, str]]:
    """Return valid names for devices that have these names, each with what it was; no two are the same.

    A device's first name is its own. Where another name is that of several devices, each
    adds its first name to it; so does one that looks like what another makes so. No name
    is ``reserved``.
    """
    made = [{valid(name): name for name in names} for names in devices]
    taken, firsts = {reserved}, []
    for own in made:
        first = next(iter(own))
        while first in taken:
            first = valid(f"{first} ")
        taken.add(first)
        firsts.append(first)
    others = [list(names)[1:] for names in made]
    owners = Counter([*firsts, *(name for names in others for name in names)])
    longer = {f"{name}-{first}" for first, names in zip(firsts, others) for name in names if owners[name] > 1}
    found = []
    for first, names, origin in zip(firsts, others, made):
        own = {first: next(iter(origin.values()))}
        for name in names:
            unique = f"{name}-{first}" if owners[name] > 1 or name in longer else name
            if unique not in taken:
                taken.add(unique)
                own[unique] = origin[name]
        found.append(own)
    return found


def names(found: Found) -> list[dict[str, str]]:
    """Return the names that a spec has for each of the devices, each with what it is made of.

    A device without a name is only a part of "all".
    """
    made = iter(distinct([device.names for device in found.devices if device.names], ALL))
    return [next(made) if device.names else {} for device in found.devices]
