# SPDX-License-Identifier: Apache-2.0
"""bpf: what the instructions decide, in a small interpreter; tests/live has the kernel's decisions."""

from __future__ import annotations

import itertools
import operator
import struct
from typing import TYPE_CHECKING

import pytest

from cdi_hook.live import bpf

if TYPE_CHECKING:
    from collections.abc import Callable

INSN = struct.Struct("<BBhi")
M, R, W = 1, 2, 4
BLOCK, CHAR = 1, 2
ALU: dict[int, Callable[[int, int], int]] = {
    0x50: operator.and_,
    0x70: operator.rshift,
    0xA0: operator.xor,
    0xB0: lambda _, value: value,
}
JUMPS: dict[int, Callable[[object, object], bool]] = {
    0x00: lambda *_: True,
    0x10: operator.eq,
    0x50: operator.ne,
}
REQUESTS = list(itertools.product((BLOCK, CHAR), (1, 5, 10), (1, 3, 229), range(1, 8)))

# Allows all of 1:3, and reading 1:5, as character devices; uses r0 to r5.
SOME = bytes.fromhex(
    "6112000000000000 bf23000000000000 57030000ffff0000 7702000010000000 6114040000000000 6115080000000000"
    "5503060002000000 5504050001000000 1505020003000000 5505030005000000 5502020002000000 b700000001000000"
    "9500000000000000 b400000000000000 9500000000000000"
)
# The same, as Linux 6.18 shows it if net.core.bpf_jit_harden is 2.
SOME_BLINDED = bytes.fromhex(
    "6112000000000000 bf23000000000000 b70b00001c85b9f8 a70b0000e37ab9f8 5fb3000000000000 7702000010000000"
    "6114040000000000 6115080000000000 b70b0000b1fbe1af a70b0000b3fbe1af 5db3100000000000 b70b00000f1d1730"
    "a70b00000e1d1730 5db40d0000000000 b70b0000bdd81ea4 a70b0000bed81ea4 1db5060000000000 b70b0000be9430c6"
    "a70b0000bb9430c6 5db5070000000000 b70b0000461cc4cf a70b0000441cc4cf 5db2040000000000 b70b0000641a5923"
    "a70b0000651a5923 bfb0000000000000 9500000000000000 af00000000000000 9500000000000000"
)
NOTHING = INSN.pack(0xB7, 0, 0, 0) + INSN.pack(0x95, 0, 0, 0)


def decides(program: bytes, kind: int, major: int, minor: int, access: int) -> bool:
    """Run a program as the kernel would; an uninitialized register or an undefined code is a KeyError."""
    instructions = list(INSN.iter_unpack(program))
    context = {0: access << 16 | kind, 4: major, 8: minor}
    registers: dict[int, int | dict[int, int]] = {1: context}
    at = 0
    while True:
        code, named, offset, immediate = instructions[at]
        source, destination = named >> 4, named & 15
        at += 1
        if code == 0x61:
            assert registers[source] is context
            registers[destination] = context[offset]
        elif code == 0x95:
            return registers[0] == 1
        elif code & 7 in (4, 7):
            value = registers[source] if code & 8 else immediate & (1 << 64) - 1
            before = registers[destination] if code & 0xF0 != 0xB0 else 0
            assert isinstance(value, int)
            assert isinstance(before, int)
            registers[destination] = ALU[code & 0xF0](before, value)
        elif code & 7 == 5:
            value = registers[source] if code & 8 else immediate
            if JUMPS[code & 0xF0](registers.get(destination), value):
                at += offset
        else:
            raise KeyError(code)


def allows(rules: bpf.Rules, kind: int, major: int, minor: int, access: int) -> bool:
    """Return what a list of rules decides: one of them must have all that is requested."""
    letters = {letter for letter, bit in (("m", M), ("r", R), ("w", W)) if access & bit}
    return any(
        {"b": BLOCK, "c": CHAR}[type_] == kind
        and one in (None, major)
        and two in (None, minor)
        and letters <= set(has)
        for (type_, one, two), has in rules.items()
    )


RULES: list[bpf.Rules] = [
    {("c", 10, 229): "rw"},
    {("c", 10, 229): "m"},
    {("b", 1, 3): "rwm", ("c", 5, 1): "r", ("c", 10, 229): "wr"},
    {("c", 10, None): "rw"},
    {("b", None, 3): "w"},
    {("c", None, None): "rwm"},
    {("c", 0x7FFFFFFF, 0): "rwm"},
    {("c", 1, 5): "w"},
]


@pytest.mark.parametrize("old", [SOME, NOTHING], ids=["some", "nothing"])
@pytest.mark.parametrize("rules", RULES, ids=str)
def test_what_rules_allow_is_added_and_nothing_else(rules: bpf.Rules, old: bytes) -> None:
    """A request is allowed if one rule has all of it, and otherwise the old program decides."""
    new = bpf.allowing(rules) + bpf.loadable(old)
    for request in REQUESTS:
        expected = allows(rules, *request) or decides(old, *request)
        assert (request, decides(new, *request)) == (request, expected)


def test_rules_do_not_add_up() -> None:
    """Reading and writing at once isn't allowed by a program that allows reading and a rule that allows writing."""
    new = bpf.allowing({("c", 1, 5): "w"}) + SOME
    assert [decides(new, CHAR, 1, 5, access) for access in (R, W, R | W)] == [True, True, False]


def test_the_instructions() -> None:
    """A rule becomes these instructions: little-endian, as on every machine that this runs on."""
    assert bpf.allowing({("c", 10, 229): "rw"}) == bytes.fromhex(
        "6112000000000000"  # r2 = the accesses and the type
        "6113040000000000"  # r3 = major
        "6114080000000000"  # r4 = minor
        "bf25000000000000"  # r5 = r2
        "570500 00fffff9ff"  # r5 &= ~(the accesses << 16)
        "550504 0002000000"  # if r5 != 2: on to the next rule
        "550303 000a000000"  # if r3 != 10
        "550402 00e5000000"  # if r4 != 229
        "b700000001000000"  # r0 = 1
        "9500000000000000"  # exit
    )


def test_what_was_not_blinded_stays() -> None:
    """A program without blinded constants is loaded again byte for byte, except ``r ^= r``."""
    assert bpf.loadable(SOME) == SOME
    assert bpf.loadable(INSN.pack(0xAC, 0x33, 0, 0)) == INSN.pack(0xB4, 3, 0, 0)
    assert bpf.loadable(INSN.pack(0xAF, 0x34, 0, 0)) == INSN.pack(0xAF, 0x34, 0, 0)


def test_a_blinded_program_decides_as_before() -> None:
    """A program that the kernel blinded names no register of the kernel's any more, and decides the same."""
    program = bpf.loadable(SOME_BLINDED)
    assert {
        register for _, named, _, _ in INSN.iter_unpack(program) for register in (named & 15, named >> 4)
    } <= set(range(10))
    for request in REQUESTS:
        assert (request, decides(program, *request)) == (request, decides(SOME, *request))


def test_a_blinded_program_may_use_nearly_all_registers() -> None:
    """The register for blinded constants is one that the program doesn't use."""
    uses = b"".join(INSN.pack(0xB7, register, 0, 0) for register in (0, 2, 3, 4, 5, 6, 8, 9))
    assert bpf.loadable(uses + INSN.pack(0xB7, 11, 0, 1)) == uses + INSN.pack(0xB7, 7, 0, 1)


@pytest.mark.parametrize(
    ("program", "reason"),
    [
        (INSN.pack(0x85, 0, 0, 5), "calls functions"),
        (INSN.pack(0x85, 1 << 4, 0, 1), "calls functions"),
        (
            b"".join(INSN.pack(0xB7, register, 0, 1) for register in (0, 2, 3, 4, 5, 6, 7, 8, 9, 11)),
            "has its constants blinded and leaves no register to make them in",
        ),
    ],
    ids=["helper", "subprogram", "no register"],
)
def test_what_cannot_be_loaded_again(program: bytes, reason: str) -> None:
    """A program that is more than its instructions, or has no free register, is refused."""
    with pytest.raises(ValueError, match=f"^{reason}$"):
        bpf.loadable(program + NOTHING)
