# SPDX-License-Identifier: Apache-2.0
"""What is known of one call of cdi-runtime, a hook, or `cdi-hook inject`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from cdi_hook.edits.target import Change
    from cdi_hook.inject.request import DeviceRequest
    from cdi_hook.leases.lessee import Lessee


class Facts:
    """What is known of one call so far; the lines in LOG tell it.

    ``root`` is where the runtime keeps its state, "" when nobody said; ``start``
    is when our code started, in s, if there is a LOG. ``lessee`` is who takes a lease for exclusive
    devices, None where nobody can; then ``no_lease`` says why ("": nothing is given). ``doubt`` is why the
    container may have asked for a device and gets none, "" when it hasn't. ``note`` is what else LOG tells of
    it. ``may_be_pod`` is
    whether a CRI engine may have called. ``unlogged`` is why a line isn't in LOG, "" if all are.
    """

    def __init__(self) -> None:
        self.container = self.bundle = self.root = self.doubt = self.no_lease = self.note = self.unlogged = ""
        self.lessee: Lessee | None = None
        self.oci: dict[str, Any] | None = None
        self.request: DeviceRequest | None = None
        self.changes: list[Change] = []
        self.start = 0.0
        self.may_be_pod = True
