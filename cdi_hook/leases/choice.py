# SPDX-License-Identifier: Apache-2.0
"""Which devices `any` may take, and in which order. Pure: what the devices are is same.py's."""

from __future__ import annotations

from cdi_hook import errors
from cdi_hook.base.quoting import quote
from cdi_hook.leases import same

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cdi_hook.leases.same import Hardware

ANY = "any"
_ALL = "all"  # by convention, the name of all devices together


def may_be_draw(name: str) -> bool:
    """Say whether a qualified name asks for any device, if no spec defines it."""
    device = name.partition("=")[2]
    return device == ANY or device.startswith(f"{ANY}:")


class Draw:
    """A request for any devices of a kind: its name, how many, and those that may be taken, in order."""

    __slots__ = ("candidates", "kind", "name", "number")

    def __init__(self, name: str) -> None:
        """Read the name; raises InvalidRequest if it doesn't say how many."""
        self.name = name
        self.kind, _, device = name.partition("=")
        number = device.partition(":")[2] if device != ANY else "1"
        if not number.isdecimal() or not number.isascii() or number[0] == "0":
            raise errors.InvalidRequest(
                f"{quote(name)} doesn't say how many devices to take",
                f"write {self.kind}={ANY}, or {self.kind}={ANY}:2 for two",
            )
        self.number = int(number[:9])  # more than there are, if it is cut
        self.candidates: list[Hardware] = []


def order(name: str) -> tuple[bool, list[tuple[bool, int, str]]]:
    """Return what sorts qualified names naturally, 2 before 10; one for all devices comes last.

    >>> sorted(["v.com/d=all", "v.com/d=10", "v.com/d=2", "v.com/d=GPU-1"], key=order)
    ['v.com/d=2', 'v.com/d=10', 'v.com/d=GPU-1', 'v.com/d=all']
    """
    device = name.partition("=")[2]
    words = [""]
    for character in device:
        is_digit = character in "0123456789"
        if words[-1] and is_digit == (words[-1][-1] in "0123456789"):
            words[-1] += character
        else:
            words.append(character)
    return device == _ALL, [
        (False, int(word), "") if word[0] in "0123456789" else (True, 0, word) for word in words[1:]
    ]


def candidates(devices: Sequence[Hardware]) -> list[Hardware]:
    """Return those of a kind's devices that aren't several others together, in natural order."""
    near: dict[str, list[Hardware]] = {}
    for device in devices:
        _note(device, device.keys, near)
    found = [one for one in devices if not same.is_union(one, _near(one.keys, near))]
    return sorted(found, key=lambda one: order(one.name))


def pick(
    number: int, devices: Iterable[Hardware], taken: Sequence[Hardware], ignored: frozenset[str]
) -> list[Hardware]:
    """Return the first so many devices, or fewer, that conflict neither with what is taken nor each other."""
    found: list[Hardware] = []
    near: dict[str, list[Hardware]] = {}
    for device in taken:
        _note(device, device.keys, near)
    for device in devices:
        if len(found) == number:
            break
        own = device.keys - ignored
        if not any(same.conflict(device, other, ignored) for other in _near(own, near)):
            found.append(device)
            _note(device, own, near)
    return found


def _note(device: Hardware, keys: Iterable[str], near: dict[str, list[Hardware]]) -> None:
    for key in keys:
        near.setdefault(key, []).append(device)


def _near(keys: Iterable[str], near: Mapping[str, Sequence[Hardware]]) -> list[Hardware]:
    """Return the devices that have one of these keys; 16,000 can't all be compared with each other."""
    return [device for key in keys for device in near.get(key, ())]
