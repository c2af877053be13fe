# SPDX-License-Identifier: Apache-2.0
"""What shows that a generated device is still the one that its name means. Cold.

A spec names nodes by the kernel's names, which may be another device's after a reboot or when hardware was
plugged in again. So a device that has a name of its own (by-id, a serial number, a UUID, an address) has an
annotation with what was true of it on this host, in JSON:

    cdi-hook/proof: '[["/dev/serial/by-id/usb-Thermometer", "/dev/ttyUSB1"]]'

Of each pair, the first is a link that leads to the second, or a file that has the second as a line.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cdi_hook.base import files, json_text
from cdi_hook.base.quoting import quote

if TYPE_CHECKING:
    from collections.abc import Sequence

    Proof = tuple[str, str]

OTHER = "this is another device than the name means: "


def dump(proofs: Sequence[Proof]) -> str:
    """Return the annotation."""
    return json_text.dumps([list(one) for one in dict.fromkeys(proofs)])


def stale(annotation: str) -> str:
    """Return how the host differs from what an annotation says, "" if it doesn't."""
    try:
        proofs = [(str(path), str(wanted)) for path, wanted in json_text.loads(annotation)]
    except (TypeError, ValueError):
        return f"the annotation of the device can't be read: {quote(annotation)}"
    for path, wanted in proofs:
        if os.path.islink(path):
            target = os.path.realpath(path)
            if target != wanted:
                return f"{OTHER}{quote(path)} leads to {quote(target)}, not to {quote(wanted)}"
        elif wanted not in _lines(path):
            fact = "doesn't say" if os.path.exists(path) else "is gone, and said"
            return f"{OTHER}{quote(path)} {fact} {quote(wanted)}"
    return ""


def _lines(path: str) -> list[str]:
    try:
        text = files.read(path).decode("utf-8", "replace")
    except OSError:
        return []
    return [" ".join(line.split()) for line in text.splitlines()]
