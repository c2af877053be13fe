# SPDX-License-Identifier: Apache-2.0
"""The spec files that `cdi-hook generate` makes, and no others.

Their first line says so:

    # Made by `cdi-hook generate COMMAND`, which ...

A file without it was made by somebody else, or somebody has edited it: it stays. What
`cdi-hook generate --configured` made, that command also removes.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from cdi_hook.base import files, selinux
from cdi_hook.catalog.cache import Cache
from cdi_hook.errors import CDIError
from cdi_hook.generate import changes
from cdi_hook.generate.renewal import CONFIGURED, MARK
from cdi_hook.specs import specfile
from cdi_hook.specs.dump import dump

if TYPE_CHECKING:
    from collections.abc import Container

_EXTENSION = ".yaml"


class SpecFiles:
    """The spec files in a dir, which may be missing."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._cache = Cache([directory])

    def write(self, data: dict[str, Any], name: str = "", *, is_configured: bool = False) -> str:
        """Write a spec in one step and return the file's path; a file with that text already is left alone.

        Without a ``name`` the file is called after the spec's kind. Raises CDIError if the
        file there isn't ours, or if another file of the dir defines the same device.
        """
        name = name or specfile.name_for(data) + _EXTENSION
        path = os.path.join(self._directory, name)
        first = (
            f"{CONFIGURED} replaces and removes this file"
            if is_configured
            else f"{MARK}`, which replaces this file"
        )
        text = f"{first} as long as this line is here.\n".encode() + dump(data, name)
        there = _read(path)
        try:
            self._check_conflicts(data, name)
        except CDIError:
            if is_configured and there and there.startswith(CONFIGURED.encode()):
                os.unlink(path)  # of two files neither counts, so ours gives way
            raise
        if there == text:
            return path
        if there is not None and not there.startswith(MARK.encode()):
            raise CDIError(
                f"{path} isn't replaced: cdi-hook generate didn't make it, or somebody has edited it"
            )
        selinux.share(self._directory)
        specfile.replace(path, text)
        return path

    def changes(self, data: dict[str, Any], name: str = "") -> list[str]:
        """Return what writing a spec changes for those who ask by the names of the one that it replaces."""
        name = name or specfile.name_for(data) + _EXTENSION
        return [
            line
            for spec in self._cache.specs
            if os.path.basename(spec.path) == name and spec.kind == data["kind"]
            for line in changes.between(spec.data["devices"], data["devices"])
        ]

    def remove(self, keep: Container[str]) -> list[str]:
        """Remove the files that --configured made, but not those at these paths; return the paths."""
        old = []
        names = os.listdir(self._directory) if os.path.isdir(self._directory) else ()
        for name in sorted(names):
            path = os.path.join(self._directory, name)
            if path not in keep and (_read(path) or b"").startswith(CONFIGURED.encode()):
                os.unlink(path)
                old.append(path)
        return old

    def _check_conflicts(self, data: dict[str, Any], name: str) -> None:
        names = {device["name"] for device in data["devices"]}
        for other in self._cache.specs:
            same = names.intersection(other.devices) if other.kind == data["kind"] else set()
            if same and os.path.basename(other.path) != name:
                raise CDIError(
                    f"{other.path} already defines {data['kind']}={min(same)}, and two files in one dir "
                    "must not: remove it, or choose another kind with --vendor or --name"
                )


def _read(path: str) -> bytes | None:
    try:
        return files.read(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError:
        return b""  # something that isn't ours
