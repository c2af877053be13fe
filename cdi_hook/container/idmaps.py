# SPDX-License-Identifier: Apache-2.0
"""Whether this kernel can map the ids of a source's file system: it is asked, with a copy that nobody sees.

Of devtmpfs, sysfs, proc and, on most kernels, overlay it can't, and a runtime that is told to fails.
"""

from __future__ import annotations

import functools
import os

from cdi_hook.container import syscalls

# What a user namespace has to be told before its ids can be used.
_MAPS = (("setgroups", b"deny"), ("uid_map", b"0 0 1"), ("gid_map", b"0 0 1"))


def can_map(source: str, *, recursive: bool) -> bool:
    """Say whether a bind mount of a source can be id-mapped; True where the kernel can't be asked."""
    flags = syscalls.OPEN_TREE_CLONE | (syscalls.AT_RECURSIVE if recursive else 0)
    try:
        userns, tree = _user_namespace(), syscalls.open_tree(syscalls.AT_FDCWD, source, flags)
    except OSError:
        return True
    try:
        syscalls.mount_setattr(
            tree, attr_set=syscalls.MOUNT_ATTR_IDMAP, userns_fd=userns, recursive=recursive
        )
    except OSError:
        return False
    finally:
        os.close(tree)
    return True


@functools.lru_cache(1)
def _user_namespace() -> int:
    """Return a descriptor of a new user namespace, which a forked process made; raises OSError."""
    made, made_write = os.pipe()
    used, used_write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(used_write)
            syscalls.unshare(syscalls.CLONE_NEWUSER)
            for name, text in _MAPS:
                os.write(os.open(f"/proc/self/{name}", os.O_WRONLY), text)
            os.write(made_write, b".")
            os.read(used, 1)  # until the other end is closed
        finally:
            os._exit(0)
    os.close(made_write)
    try:
        if not os.read(made, 1):
            raise ChildProcessError
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        for descriptor in (made, used, used_write):
            os.close(descriptor)
        os.waitpid(child, 0)
