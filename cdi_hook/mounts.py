# SPDX-License-Identifier: Apache-2.0
"""Which mount a path is on, and which mounts are images', by proc_pid_mountinfo(5).

The files of an image (squashfs, erofs, a verity partition) have the times that they were made with.
Another image in its place may have the same, so its files' times don't tell that they changed.
"""

from __future__ import annotations

import posix


def number(path: str) -> bytes:
    """Return the number of the mount that a path is on; raises OSError."""
    descriptor = posix.open(path, posix.O_PATH | posix.O_CLOEXEC)
    try:
        return number_of(descriptor)
    finally:
        posix.close(descriptor)


def number_of(descriptor: int) -> bytes:
    """Return the number of the mount that an open file is on."""
    source = posix.open(f"/proc/self/fdinfo/{descriptor}", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return posix.read(source, 4096).partition(b"mnt_id:")[2].split(None, 1)[0]
    finally:
        posix.close(source)


def images() -> set[bytes]:
    """Return the numbers of the mounts whose file systems nobody can write to, however they are mounted."""
    found = set()
    try:
        with open("/proc/self/mountinfo", "rb") as stream:
            for line in stream:
                mount, _, system = line.partition(b" - ")
                if b"ro" in system.split()[-1].split(b","):
                    found.add(mount.split()[0])
    except OSError:
        pass  # no /proc
    return found
