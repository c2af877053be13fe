# SPDX-License-Identifier: Apache-2.0
"""Run a program on a kernel without openat2(2): a seccomp filter answers it with ENOSYS."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys

OPENAT2 = 437
PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 38, 22, 2
SECCOMP_RET_ERRNO, SECCOMP_RET_ALLOW = 0x00050000, 0x7FFF0000
BPF_LD_W_ABS, BPF_JEQ_K, BPF_RET_K = 0x20, 0x15, 0x06

INSTRUCTIONS = (
    (BPF_LD_W_ABS, 0, 0, 0),  # the number of the system call
    (BPF_JEQ_K, 0, 1, OPENAT2),
    (BPF_RET_K, 0, 0, SECCOMP_RET_ERRNO | errno.ENOSYS),
    (BPF_RET_K, 0, 0, SECCOMP_RET_ALLOW),
)

filter_ = b"".join(struct.pack("HBBI", *one) for one in INSTRUCTIONS)
buffer = ctypes.create_string_buffer(filter_, len(filter_))
program = struct.pack("HxxxxxxQ", len(INSTRUCTIONS), ctypes.addressof(buffer))
libc = ctypes.CDLL(None, use_errno=True)
for arguments in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0)):
    if libc.prctl(*arguments):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
os.execv(sys.argv[1], sys.argv[1:])
