# SPDX-License-Identifier: Apache-2.0
"""A kernel's or udev's name -> a valid CDI device name, the same at every boot.

A name that is valid stays. In any other one, each character that a CDI name can't have
becomes "_", and a few digits of a checksum of the name are added, so that two such names
don't become one.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from typing import TYPE_CHECKING

from cdi_hook.errors import InvalidName
from cdi_hook.names import validate_device_name

if TYPE_CHECKING:
    from collections.abc import Sequence

_DIGITS = 8


def valid(name: str) -> str:
    """Return the CDI device name for a name."""
    try:
        validate_device_name(name)
    except InvalidName:
        checksum = hashlib.sha256(os.fsencode(name)).hexdigest()[:_DIGITS]
        plain = re.sub(r"[^A-Za-z0-9_.:-]", "_", name).strip("_.:-")
        return f"{plain}-{checksum}" if plain else checksum
    return name


def distinct(devices: Sequence[Sequence[str]], reserved: str) -> list[list[str]]:
    """Return valid names for devices that have these names; no two of them are the same.

    A device's first name is its own. Where another name is that of several devices, each
    adds its first name to it. No name is ``reserved``.
    """
    made = [list(dict.fromkeys(map(valid, names))) for names in devices]
    taken = {reserved}
    for names in made:
        while names[0] in taken:
            names[0] = valid(f"{names[0]} ")
        taken.add(names[0])
    owners = Counter(name for names in made for name in names)
    for names in made:
        for name in names[1:]:
            names.remove(name)
            if owners[name] > 1:
                name = f"{name}-{names[0]}"  # noqa: PLW2901 # that is the name from here on
            if name not in taken:
                taken.add(name)
                names.append(name)
    return made
