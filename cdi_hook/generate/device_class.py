# SPDX-License-Identifier: Apache-2.0
"""A class of devices: what it is called, and how its devices are found on a host.

What is found is plain data. spec_data.py makes a spec of it: it turns names into valid
ones, makes names that several devices have distinct, and adds the device "all".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cdi_hook.edits.proof import Proof
    from cdi_hook.generate.root import Root

# The vendor of plain classes. No vendor can own a name below .local (RFC 6762), so it names this host.
HOST = "host.local"
ALL = "all"


@dataclass(frozen=True)
class FoundDevice:
    """A device: its names, and its containerEdits as a CDI spec has them.

    ``names`` are as the kernel or udev has them. The first is unique among the devices of
    its kind. A container may ask for the device by any of them, and if there are none by
    "all" alone. ``proofs`` are, by such a name, what shows that it is this device's; see
    proof.py.
    """

    names: Sequence[str]
    edits: dict[str, Any]
    proofs: Mapping[str, Sequence[Proof]] = field(default_factory=dict)


@dataclass(frozen=True)
class Found:
    """The devices of one kind, and the containerEdits that the spec has for all of them."""

    kind: str
    devices: Sequence[FoundDevice]
    edits: dict[str, Any] = field(default_factory=dict)


class DeviceClass(ABC):
    """One class.

    ``kinds`` are the CDI kinds of its devices, ``vendor/class``. ``about`` says in a few
    words what its devices are, and ``called`` what they are called. ``events`` are the udev
    events at which its specs are made again, in the words of udev(7). The manual and udev's
    rules are made of these. With ``takes_hook`` the class has a choice of hooks: its find()
    also takes the value of --hook.
    """

    name: str
    kinds: Sequence[str]
    about: str
    called: str
    events: Sequence[str] = ()
    takes_hook = False

    @abstractmethod
    def find(self, root: Root) -> list[Found]:
        """Return what the host has, an entry for each kind of which it has a device."""

    @abstractmethod
    def missing(self, root: Root) -> list[str]:
        """Return what the host lacks to use this class: each one line, a fact and what to do."""

    def notes(self, root: Root) -> list[str]:  # noqa: ARG002 # most classes have nothing to say
        """Return what somebody who uses its devices has to know: each one line."""
        return []
