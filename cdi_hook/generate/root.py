# SPDX-License-Identifier: Apache-2.0
"""The host whose devices are looked for, or a dir that stands for it: a driver's root, or an image.

Every path here is a path below that root, as a process would see it whose root dir this
is: links are followed inside. on_host() is the path that the host has for it.
"""

from __future__ import annotations

import errno
import fnmatch
import os
import re
import stat
from typing import TYPE_CHECKING

from cdi_hook.base import files
from cdi_hook.base.quoting import quote
from cdi_hook.errors import CDIError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_IS_PATTERN = re.compile(r"[*?[]")


class Root:
    """A root dir."""

    def __init__(self, path: str = "/") -> None:
        """Take the path of the root dir; raises CDIError if it is no dir."""
        if not os.path.isdir(path):
            raise CDIError(f"{quote(path)} is not a directory that can be the root")
        self.path = "" if os.path.realpath(path) == "/" else os.path.realpath(path)

    def on_host(self, path: str) -> str:
        """Return the path on the host of what is at a path; see real()."""
        return self.path + path

    def real(self, path: str) -> str:
        """Return the path without links; raises OSError if nothing is there."""
        pending = path.split("/")[::-1]
        here, links = "", 0
        while pending:
            part = pending.pop()
            if part in ("", "."):
                continue
            if part == "..":
                here = here.rpartition("/")[0]
                continue
            try:
                target = os.readlink(f"{self.path}{here}/{part}")
            except OSError as error:
                if error.errno != errno.EINVAL:  # that is no link
                    raise
                here = f"{here}/{part}"
                continue
            links += 1
            if links > files.MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            if target.startswith("/"):
                here = ""
            pending += target.split("/")[::-1]
        return here or "/"

    def resolved(self, path: str) -> str:
        """Return the path without links; "" if nothing is there."""
        try:
            return self.real(path)
        except (OSError, ValueError):
            return ""

    def stat(self, path: str) -> os.stat_result | None:
        """Return the status of what is at a path; None if nothing is there."""
        try:
            return os.lstat(self.on_host(self.real(path)))
        except (OSError, ValueError):
            return None

    def exists(self, path: str) -> bool:
        """Say whether something is at a path."""
        return self.stat(path) is not None

    def target(self, path: str) -> str:
        """Return what a link says; "" if it is no link."""
        directory, _, name = path.rpartition("/")
        try:
            return os.readlink(f"{self.on_host(self.real(directory))}/{name}")
        except (OSError, ValueError):
            return ""

    def read_bytes(self, path: str) -> bytes:
        """Return what is in a file; raises OSError."""
        place = os.open(self.on_host(self.real(path)), os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            if not stat.S_ISREG(os.fstat(place).st_mode):
                raise OSError(errno.EINVAL, "not a regular file", path)
            return files.read(f"/proc/self/fd/{place}")
        finally:
            os.close(place)

    def read(self, path: str) -> str:
        """Return the text of a file without spaces around it; "" if it can't be read."""
        try:
            return self.read_bytes(path).decode("utf-8", "replace").strip()
        except (OSError, ValueError):
            return ""

    def read_number(self, path: str) -> int:
        """Return the number in a file of the device tree, of 32 bits; 0 if there is none."""
        try:
            data = self.read_bytes(path)
        except (OSError, ValueError):
            data = b""
        return int.from_bytes(data, "big") if len(data) == 4 else 0

    def names(self, path: str) -> list[str]:
        """Return the names in a dir, numbers in their order; [] if it can't be read.

        Names that no CDI spec can have, because they aren't UTF-8, are left out.
        """
        try:
            names = os.listdir(self.on_host(self.real(path)))
        except (OSError, ValueError):
            return []
        return sorted((name for name in names if name.isprintable()), key=in_order)

    def tree(self, path: str) -> list[str]:
        """Return the dirs below a dir, without following links, and that dir itself first."""
        found = [path]
        for directory in found:
            for name in self.names(directory):
                below = f"{directory}/{name}"
                if not self.target(below) and os.path.isdir(self.on_host(below)):
                    found.append(below)
        return found

    def glob(self, *patterns: str) -> list[str]:
        """Return the paths that match, pattern by pattern; unlike in a shell, * matches a dot too."""
        return [path for pattern in patterns for path in self._glob("", pattern.strip("/").split("/"))]

    def _glob(self, directory: str, parts: list[str]) -> Iterator[str]:
        if not parts:
            yield directory
            return
        names: Iterable[str] = parts[:1]
        if _IS_PATTERN.search(parts[0]):
            names = fnmatch.filter(self.names(directory or "/"), parts[0])
        elif not self.exists(f"{directory}/{parts[0]}"):
            names = ()
        for name in names:
            yield from self._glob(f"{directory}/{name}", parts[1:])


def in_order(name: str) -> list[tuple[int, str]]:
    """Return a key that sorts card2 before card10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
