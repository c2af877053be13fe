# SPDX-License-Identifier: Apache-2.0
"""The system calls that Python has no function for: one thin wrapper each, named after its man page.

A wrapper raises OSError, with the path if there is one. Descriptors are close-on-exec.
"""

from __future__ import annotations

import ctypes
import errno
import os

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

# These numbers are the same on every architecture (asm-generic), except x32 and alpha.
_OPEN_TREE, _MOVE_MOUNT, _FSOPEN, _FSCONFIG, _FSMOUNT = 428, 429, 430, 431, 432
_OPENAT2, _MOUNT_SETATTR = 437, 442
_BPF = {"aarch64": 280, "x86_64": 321}

AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE = -100, 0x1000, 0x8000
RESOLVE_NO_XDEV, RESOLVE_NO_MAGICLINKS, RESOLVE_IN_ROOT = 0x01, 0x02, 0x10
OPEN_TREE_CLONE = 1
MOVE_MOUNT_F_EMPTY_PATH, MOVE_MOUNT_T_EMPTY_PATH = 0x04, 0x40
FSCONFIG_SET_FLAG, FSCONFIG_SET_STRING, FSCONFIG_CMD_CREATE = 0, 1, 6

MOUNT_ATTR_RDONLY = 0x01
MOUNT_ATTR_NOSUID = 0x02
MOUNT_ATTR_NODEV = 0x04
MOUNT_ATTR_NOEXEC = 0x08
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x100000
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC = 1, 2, 4, 8
MS_REMOUNT, MS_NOATIME, MS_NODIRATIME, MS_BIND, MS_REC = 0x20, 0x400, 0x800, 0x1000, 0x4000
MS_RELATIME = 1 << 21
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MNT_DETACH = 2

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

PROC_SUPER_MAGIC = 0x9FA0
PR_SET_DUMPABLE = 4

BPF_PROG_LOAD, BPF_PROG_ATTACH, BPF_PROG_QUERY = 5, 8, 16
BPF_PROG_GET_FD_BY_ID, BPF_OBJ_GET_INFO_BY_FD = 13, 15
BPF_PROG_TYPE_CGROUP_DEVICE, BPF_CGROUP_DEVICE = 15, 6
BPF_F_ALLOW_MULTI, BPF_F_REPLACE = 2, 4

TOO_OLD = "this kernel is too old for that: it takes Linux 5.12 or newer"


def _checked(result: int, path: str = "") -> int:
    if result < 0:
        number = ctypes.get_errno()
        reason = TOO_OLD if number == errno.ENOSYS else os.strerror(number)
        raise OSError(number, reason, *([path] if path else []))
    return result


def _syscall(number: int, *arguments: object, path: str = "") -> int:
    return _checked(_libc.syscall(ctypes.c_long(number), *arguments), path)


def _text(text: str) -> ctypes.c_char_p:
    if "\0" in text:  # the kernel would read only up to it
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), text)
    return ctypes.c_char_p(os.fsencode(text))


def openat2(dirfd: int, path: str, flags: int, resolve: int) -> int:
    """Open path, resolved as the RESOLVE_* flags say; ENOSYS before Linux 5.6."""
    how = (ctypes.c_uint64 * 3)(flags | os.O_CLOEXEC, 0, resolve)
    size = ctypes.c_size_t(ctypes.sizeof(how))
    return _syscall(_OPENAT2, ctypes.c_int(dirfd), _text(path), ctypes.byref(how), size, path=path)


def open_tree(dirfd: int, path: str, flags: int) -> int:
    """Return a descriptor of the mount at path, or with OPEN_TREE_CLONE of a detached copy (Linux 5.2)."""
    flags |= os.O_CLOEXEC
    return _syscall(_OPEN_TREE, ctypes.c_int(dirfd), _text(path), ctypes.c_uint(flags), path=path)


def move_mount(from_fd: int, to_fd: int) -> None:
    """Attach the mount of one descriptor at the place of another (Linux 5.2)."""
    flags = ctypes.c_uint(MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH)
    _syscall(_MOVE_MOUNT, ctypes.c_int(from_fd), _text(""), ctypes.c_int(to_fd), _text(""), flags)


def mount_setattr(
    fd: int,
    *,
    attr_set: int = 0,
    attr_clr: int = 0,
    propagation: int = 0,
    userns_fd: int = 0,
    recursive: bool = False,
) -> None:
    """Change a mount's attributes (MOUNT_ATTR_*) and propagation (MS_*); ENOSYS before Linux 5.12."""
    attr = (ctypes.c_uint64 * 4)(attr_set, attr_clr, propagation, userns_fd)
    flags = ctypes.c_uint(AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0))
    size = ctypes.c_size_t(ctypes.sizeof(attr))
    _syscall(_MOUNT_SETATTR, ctypes.c_int(fd), _text(""), flags, ctypes.byref(attr), size)


def fsopen(fstype: str) -> int:
    """Return a context that configures a filesystem of this type (Linux 5.2)."""
    return _syscall(_FSOPEN, _text(fstype), ctypes.c_uint(1))  # FSOPEN_CLOEXEC


def fsconfig(fd: int, command: int, key: str | None = None, value: str | None = None) -> None:
    """Set a parameter of a filesystem's context, or create the filesystem (FSCONFIG_*)."""
    texts = [None if text is None else _text(text) for text in (key, value)]
    _syscall(_FSCONFIG, ctypes.c_int(fd), ctypes.c_uint(command), *texts, ctypes.c_int(0))


def fsmount(fd: int, attributes: int) -> int:
    """Mount a context's filesystem, detached, with MOUNT_ATTR_* attributes; return its descriptor."""
    return _syscall(_FSMOUNT, ctypes.c_int(fd), ctypes.c_uint(1), ctypes.c_uint(attributes))


def setns(fd: int, nstype: int) -> None:
    """Join a namespace, or with the descriptor of a process those of its namespaces that nstype names."""
    _checked(_libc.setns(ctypes.c_int(fd), ctypes.c_int(nstype)))


def unshare(flags: int) -> None:
    """Move this process to new namespaces (CLONE_NEW*)."""
    _checked(_libc.unshare(ctypes.c_int(flags)))


def umount2(target: str, flags: int) -> None:
    """Detach the mount at target."""
    _checked(_libc.umount2(_text(target), ctypes.c_int(flags)), target)


def mount(source: str, target: str, flags: int, fstype: str = "none") -> None:
    """Mount something at target, or change the mount there, as the flags (MS_*) say."""
    text = _text(source), _text(target), _text(fstype)
    _checked(_libc.mount(*text, ctypes.c_ulong(flags), None), target)


def prctl(option: int, value: int) -> None:
    """Change something of this process (PR_*)."""
    zero = ctypes.c_ulong(0)
    _checked(_libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), zero, zero, zero))


def fstatfs(fd: int) -> int:
    """Return the magic number (``*_SUPER_MAGIC``) of a descriptor's filesystem."""
    buffer = (ctypes.c_long * 64)()  # larger than any struct statfs
    _checked(_libc.fstatfs(ctypes.c_int(fd), ctypes.byref(buffer)))
    return buffer[0] & 0xFFFFFFFF


def bpf(cmd: int, attr: bytearray) -> int:
    """Run a BPF_* command; the kernel writes its answer into attr."""
    machine = os.uname().machine
    if machine not in _BPF:
        raise OSError(errno.ENOSYS, f"the number of the system call bpf on {machine} isn't known")
    buffer = (ctypes.c_char * len(attr)).from_buffer(attr)
    return _syscall(_BPF[machine], ctypes.c_int(cmd), ctypes.byref(buffer), ctypes.c_uint(len(attr)))
