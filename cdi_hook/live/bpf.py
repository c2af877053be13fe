# SPDX-License-Identifier: Apache-2.0
"""Device rules -> instructions of the BPF programs that control a cgroup's devices.

Bytes in, bytes out; device_rules.py loads and attaches the programs. Each instruction has
eight bytes, struct bpf_insn of linux/bpf.h:

    code   registers: source << 4 | destination   offset   immediate
    u8     u8                                     s16      s32

The kernel calls the program with r1 at a struct bpf_cgroup_dev_ctx of three u32:
the requested accesses << 16 | the device's type; major; minor. The program returns
1 in r0 to allow the whole request, or 0 to refuse it (BPF_PROG_TYPE_CGROUP_DEVICE).
"""

from __future__ import annotations

import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Optional

    # type, major, minor -> accesses, each once; None stands for any number
    Rules = Mapping[tuple[str, Optional[int], Optional[int]], str]

_INSN = struct.Struct("<BBhi")

_TYPES = {"b": 1, "c": 2}  # BPF_DEVCG_DEV_*
_ACCESSES = {"m": 1, "r": 2, "w": 4}  # BPF_DEVCG_ACC_*

_LDX_W = 0x61  # BPF_LDX | BPF_MEM | BPF_W
_MOV64_K, _AND64_K, _JNE_K = 0xB7, 0x57, 0x55
_MOV64_X = 0xBF
_ZEROS = {0xAC: 0xB4, 0xAF: 0xB7}  # xor by register -> mov of an immediate, 32 and 64 bits wide
_EXIT = 0x95
_CALLS = (0x85, 0x8D)
_AX = 11  # the kernel's own register, for constants that it blinds; no program may name it


def allowing(rules: Rules) -> bytes:
    """Return instructions that allow what the rules allow, and leave other requests to what follows them.

    They don't change r1, the only register that a program's code may read at its start.
    """
    program = bytearray()
    for register, at in ((2, 0), (3, 4), (4, 8)):
        program += _INSN.pack(_LDX_W, 1 << 4 | register, at, 0)
    for (kind, major, minor), access in rules.items():
        others = ~(sum(_ACCESSES[letter] for letter in access) << 16)
        # Without the allowed accesses, only the type may be left of the first word.
        tests = [(5, _TYPES[kind])]
        tests += [(register, number) for register, number in ((3, major), (4, minor)) if number is not None]
        program += _INSN.pack(_MOV64_X, 2 << 4 | 5, 0, 0) + _INSN.pack(_AND64_K, 5, 0, others)
        for position, (register, number) in enumerate(tests):
            program += _INSN.pack(_JNE_K, register, len(tests) - position + 1, number)
        program += _INSN.pack(_MOV64_K, 0, 0, 1) + _INSN.pack(_EXIT, 0, 0, 0)
    return bytes(program)


def loadable(program: bytes) -> bytes:
    """Return a program that can be loaded from one that the kernel shows.

    With net.core.bpf_jit_harden the kernel blinds constants: it computes them in a
    register that only it may name, and a zero by ``r ^= r``. Raises ValueError, with
    what the program does, if it can't be loaded again.
    """
    instructions = list(_INSN.iter_unpack(program))
    used = {_AX}
    for code, registers, _, _ in instructions:
        if code in _CALLS:
            raise ValueError("calls functions")
        used |= {registers & 15, registers >> 4}
    spare = next((register for register in range(9, 1, -1) if register not in used), _AX)
    again = bytearray()
    for code, registers, offset, immediate in instructions:
        source, destination = (spare if one == _AX else one for one in (registers >> 4, registers & 15))
        if _AX in (source, destination):
            raise ValueError("has its constants blinded and leaves no register to make them in")
        if code in _ZEROS and source == destination:
            again += _INSN.pack(_ZEROS[code], destination, 0, 0)
        else:
            again += _INSN.pack(code, source << 4 | destination, offset, immediate)
    return bytes(again)
