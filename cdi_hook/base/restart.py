# SPDX-License-Identifier: Apache-2.0
"""A call that fails while a package manager replaces our modules is started again until that is done.

dpkg, rpm and pip rename a new version's files into place one after the other. A
container that is created in between has modules that don't fit each other. This
module is needed just then, so it is small, imports nothing of ours, and stays
as it is.
"""

from __future__ import annotations

import posix
import sys
import time

# How long after the last change in our dirs a failure may be due to that.
_SETTLED_S = 5


def restart_if_replaced(error: Exception, stdin: bytes = b"") -> None:
    """Become a new Python with the same arguments, in a moment; return if our dirs didn't change just now.

    Return at once, too, if the error is that another package than ours is missing. ``stdin`` is what has
    been read of it: the new Python can read it again.
    """
    if isinstance(error, ModuleNotFoundError) and not str(error.name).startswith("cdi_hook"):
        return
    ours = __file__[: -len("/base/restart.py")]
    # Not the dir of byte-code: a new Python may write that, and mustn't be its own reason for one more.
    rooms = (name for name in posix.listdir(ours) if "." not in name and name != "__pycache__")
    dirs = [ours, *(f"{ours}/{name}" for name in rooms)]
    changed = max(posix.stat(one).st_ctime for one in dirs)
    if 0 <= time.time() - changed < _SETTLED_S:
        if stdin:
            file = posix.memfd_create("stdin")
            posix.write(file, stdin)
            posix.lseek(file, 0, 0)
            posix.dup2(file, 0)
        time.sleep(0.1)
        options = ["-ISB" if sys.flags.dont_write_bytecode else "-IS", "-X", f"utf8={sys.flags.utf8_mode}"]
        posix.execv(sys.executable, [sys.executable, *options, *sys.argv])
