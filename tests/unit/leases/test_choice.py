# SPDX-License-Identifier: Apache-2.0
"""choice: which devices `any` takes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cdi_hook.leases import choice
from cdi_hook.leases.same import Hardware

NONE: frozenset[str] = frozenset()


def gpus(number: int) -> list[Hardware]:
    """Return what a spec of so many GPUs has: index, UUID, and all."""
    made = []
    for index in range(number):
        made += [Hardware(f"v.com/d={name}", {f"c 195:{index}"}) for name in (index, f"GPU-{index:04x}")]
    return [Hardware("v.com/d=all", {f"c 195:{index}" for index in range(number)}), *made]


def names(found: list[Hardware]) -> list[str]:
    return [one.name.partition("=")[2] for one in found]


def test_natural_order() -> None:
    """Numbers are compared as numbers, and come before letters; "all" comes last."""
    wanted = ["0", "2", "10", "10a", "GPU-1", "GPU-a", "card2", "card10", "card10-a", "all"]
    found = wanted[::-1]
    found.sort(key=lambda one: choice.order(f"v.com/d={one}"))
    assert found == wanted


def test_candidates() -> None:
    """What is several others together is none."""
    assert names(choice.candidates(gpus(2))) == ["0", "1", "GPU-0000", "GPU-0001"]
    assert names(choice.candidates(gpus(1))) == ["0", "GPU-0000", "all"]


def test_pick() -> None:
    """The first without conflict are taken, and no device twice by two of its names."""
    devices = choice.candidates(gpus(12))
    assert names(choice.pick(1, devices, [], NONE)) == ["0"]
    assert names(choice.pick(3, devices, [devices[1]], NONE)) == ["0", "2", "3"]
    assert names(choice.pick(99, devices, gpus(12)[1:5], NONE)) == [str(one) for one in range(2, 12)]
    assert (
        choice.pick(1, devices, [Hardware("w.com/e=all", {f"c 195:{one}" for one in range(12)})], NONE) == []
    )


@given(
    st.lists(st.sets(st.integers(0, 6), min_size=1), max_size=12),
    st.integers(1, 5),
    st.sets(st.integers(0, 6)),
)
def test_nothing_is_dealt_twice(devices: list[set[int]], number: int, taken: set[int]) -> None:
    """Whatever devices share: what is picked is disjoint, and disjoint from what is taken."""
    made = [Hardware(f"v.com/d={index}", map(str, keys)) for index, keys in enumerate(devices)]
    found = choice.pick(number, choice.candidates(made), [Hardware("v.com/d=x", map(str, taken))], NONE)
    together = [key for one in found for key in one.keys]
    assert len(found) <= number
    assert len(together) == len(set(together))
    assert not {str(one) for one in taken} & set(together)
