# SPDX-License-Identifier: Apache-2.0
"""SELinux: what the loaded policy lets engines read, and the label of our dirs below /run that lets them.

A file gets its dir's label. Policies have a label for engines' own dirs below /run,
and no word for ours, which so get the label of whoever makes them: Debian's policy
lets no engine read what a service or root's shell made there.
"""

from __future__ import annotations

import contextlib
import os

from cdi_hook.base import files, trust
from cdi_hook.base.process import ask

FS = "/sys/fs/selinux"
# The command that prints the label of engines' own dirs.
THEIRS = ("matchpathcon", "-n", "/run/containers")
_RUN = "/run/"
_NO_WORD = "<<none>>"
_LABEL = "security.selinux"


def share(directory: str) -> None:
    """Make a dir whose files engines may read: below /run, as root, if SELinux's policy has no label for it.

    A dir that another user could exchange or write to isn't labelled. Then, for other dirs, or if that
    fails, whoever needs the dir makes it, and `cdi-hook doctor` says what follows.
    """
    if not os.path.isdir(FS) or os.geteuid() != 0 or not is_below_run(directory):
        return
    labels = ask([*THEIRS, directory]).said.split()
    if len(labels) == 2 and labels[0] != _NO_WORD == labels[1]:
        theirs = labels[0].encode() + b"\0"
        with contextlib.suppress(OSError, trust.Untrusted):
            os.makedirs(directory, 0o755, exist_ok=True)
            with trust.trusted(os.path.abspath(directory)) as held:
                if os.getxattr(held, _LABEL) != theirs:
                    os.setxattr(held, _LABEL, theirs)


def is_below_run(directory: str) -> bool:
    """Say whether a dir is below /run, which policies leave to whoever makes it."""
    return os.path.realpath(directory).startswith(_RUN)


def refused(context: str, path: str, root: str = "") -> str:
    """Return the label because of which a process with a context may not read a file or dir, "" if it may.

    ``root`` stands before /sys. Raises OSError or ValueError if the kernel doesn't say.
    """
    label = os.getxattr(path, _LABEL).decode().rstrip("\0")
    kind = f"{root}{FS}/class/{'dir' if os.path.isdir(path) else 'file'}"
    number, bit = (int(files.read(f"{kind}/{name}")) for name in ("index", "perms/read"))
    descriptor = os.open(f"{root}{FS}/access", os.O_RDWR | os.O_CLOEXEC)
    try:
        os.write(descriptor, f"{context} {label} {number}".encode())
        allowed = int(os.read(descriptor, 100).split()[0], 16)
    finally:
        os.close(descriptor)
    return "" if allowed >> (bit - 1) & 1 else label
