# SPDX-License-Identifier: Apache-2.0
"""Symbolic links in a container: each replaces what is there, in one step."""

from __future__ import annotations

import errno
import os

from cdi_hook.base.files import TEMPORARY
from cdi_hook.base.quoting import quote
from cdi_hook.errors import InjectionError
from cdi_hook.libraries import texts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdi_hook.container.rootfs import Rootfs


def make(root: Rootfs, links: Sequence[tuple[str, str]]) -> None:
    """Make links, each a target and a path, and missing dirs on the way; raises InjectionError."""
    dirs: dict[str, int] = {}
    for target, path in links:
        parent, _, name = path.rpartition("/")
        if parent not in dirs:
            dirs[parent] = texts.make_dir(root, parent)
        try:
            put(dirs[parent], name, target)
        except OSError as error:
            raise InjectionError(
                f"can't make {quote(path)} a link to {quote(target)} in the container: {error.strerror}"
            ) from error
    for directory in dirs.values():
        os.close(directory)


def put(directory: int, name: str, target: str) -> None:
    """Have a name in a dir be a link that says target; raises OSError."""
    try:
        if os.readlink(name, dir_fd=directory) == target:
            return
    except FileNotFoundError:
        pass
    except OSError as error:
        if error.errno != errno.EINVAL:  # that is no link
            raise
    temporary = f"{name}{TEMPORARY}"
    try:
        os.symlink(target, temporary, dir_fd=directory)
    except FileExistsError:  # a hook that was killed left it
        os.unlink(temporary, dir_fd=directory)
        os.symlink(target, temporary, dir_fd=directory)
    try:
        os.rename(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        os.unlink(temporary, dir_fd=directory)
        raise
