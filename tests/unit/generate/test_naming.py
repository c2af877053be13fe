# SPDX-License-Identifier: Apache-2.0
"""Names of the kernel and of udev become valid CDI device names, each another one."""

from __future__ import annotations

from random import Random  # noqa: TC003 # hypothesis looks at annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdi_hook.generate import naming
from cdi_hook.leases.choice import may_be_draw
from cdi_hook.names import validate_device_name

NAMES = (
    st.text(min_size=1, max_size=12)
    | st.text("ab0 /#=:-._", min_size=1, max_size=4)
    | st.tuples(st.sampled_from(["", " ", ":_"]), st.sampled_from(["", ":", ":2", ":é"])).map("any".join)
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ttyUSB0", "ttyUSB0"),
        ("0000:03:00.0", "0000:03:00.0"),
        ("usb-Maker_Two=one-if00", "usb-Maker_Two_one-if00-5764d4af"),
        ("-1-", "1-a267d6bd"),
        ("..", "5ec1f7e7"),
        ("\udcff", "a8100ae6"),
        ("any", "any-d6a7cd2a"),
        ("any:2", "any_2-13138bf2"),
        ("Any", "Any"),
    ],
)
def test_a_name(name: str, expected: str) -> None:
    """A valid name stays; another one keeps what it can and gets a checksum."""
    assert naming.valid(name) == expected


@given(NAMES)
def test_every_name_becomes_valid(name: str) -> None:
    """Any text becomes a valid name, and a valid name stays as it is; none asks for any device that is free."""
    made = naming.valid(name)
    validate_device_name(made)
    assert naming.valid(made) == made
    assert not may_be_draw(f"host.local/snd={made}")


@given(NAMES, NAMES)
def test_other_names_stay_others(one: str, other: str) -> None:
    """Two different texts don't become one name."""
    assert (naming.valid(one) == naming.valid(other)) == (one == other)


@given(st.lists(st.lists(NAMES, min_size=1, max_size=4), max_size=5))
def test_no_two_devices_have_one_name(devices: list[list[str]]) -> None:
    """Whatever devices are called, each gets valid names that no other has, and not the reserved one."""
    made = naming.distinct(devices, "all")
    assert [len(names) > 0 for names in made] == [True] * len(devices)
    flat = [name for names in made for name in names]
    assert len(flat) == len({*flat, "all"} - {"all"})
    for name in flat:
        validate_device_name(name)


@given(st.lists(NAMES, min_size=1, max_size=5, unique=True), NAMES, st.randoms())
def test_names_do_not_depend_on_the_order(firsts: list[str], shared: str, random: Random) -> None:
    """Devices keep their names when they are found in another order."""
    devices = [[first, shared] for first in firsts]
    other = devices[:]
    random.shuffle(other)
    made = {tuple(one): names for one, names in zip(map(tuple, devices), naming.distinct(devices, "all"))}
    again = {tuple(one): names for one, names in zip(map(tuple, other), naming.distinct(other, "all"))}
    assert made == again


def test_a_name_of_two_devices() -> None:
    """A name that two devices have gets each one's first name; a device called as the reserved name gets another one."""
    assert naming.distinct([["1-1", "0403:6001:X"], ["1-2", "0403:6001:X", "X"], ["all"]], "all") == [
        {"1-1": "1-1", "0403:6001:X-1-1": "0403:6001:X"},
        {"1-2": "1-2", "0403:6001:X-1-2": "0403:6001:X", "X": "X"},
        {"all-82350db3": "all"},
    ]


def test_a_name_that_looks_like_a_longer_one() -> None:
    """A device whose serial number is the name that another one gets doesn't take it, wherever it is plugged in."""
    devices = [["0-0", "X-1-1"], ["1-1", "X"], ["1-2", "X"]]
    for order in ([0, 1, 2], [2, 1, 0]):
        made = dict(zip(order, naming.distinct([devices[one] for one in order], "all")))
        assert [list(made[one]) for one in range(3)] == [
            ["0-0", "X-1-1-0-0"],
            ["1-1", "X-1-1"],
            ["1-2", "X-1-2"],
        ]
