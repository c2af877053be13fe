# SPDX-License-Identifier: Apache-2.0
"""What a new spec changes for those who ask by the names of the one that it replaces.

A name that says what a device is, or where it is plugged in, means the same in both specs. An index
or a name of the kernel's may be another device's: it is, if the names beside it are others.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from cdi_hook.base import words
from cdi_hook.generate.device_class import ALL

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_FEW = 8  # names in a line
_COUNTED = re.compile(r"\d+(:\d+)?|[A-Za-z]\w*\d")  # 0, 0:1, card0, mlx5_0


class _Meaning:
    """What a name means in a spec: the nodes, and the device's names that aren't counted."""

    def __init__(self, edits: Mapping[str, Any]) -> None:
        self.nodes = [
            (str(node["path"]), str(node.get("hostPath", node["path"])))
            for node in edits.get("deviceNodes", ())
        ]
        self.names: list[str] = []

    def is_own(self, name: str) -> bool:
        """Say whether a name is the device's own, and not one by which the kernel or a class counts."""
        kernels = {path.rpartition("/")[2] for path, host in self.nodes if host.endswith(path)}
        return name not in kernels and not _COUNTED.fullmatch(name)

    def __str__(self) -> str:
        return self.names[0] if self.names else words.some([path for path, _ in self.nodes], 1)


def between(old: Sequence[Mapping[str, Any]], new: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what is different for those who ask by the names of a spec's devices: each one line."""
    before, after = _meanings(old), _meanings(new)
    gone = [name for name in before if name not in after]
    moved = [
        f"{name} (now {after[name]}, before {meant})"
        for name, meant in before.items()
        if name in after and not meant.is_own(name) and _differ(meant, after[name], before, after)
    ]
    return [
        *([f"gone: {words.some(gone, _FEW)}"] if gone else []),
        *([f"another device now: {words.some(moved, _FEW)}"] if moved else []),
    ]


def _differ(
    old: _Meaning, new: _Meaning, before: Mapping[str, _Meaning], after: Mapping[str, _Meaning]
) -> bool:
    """Say whether a counted name has another meaning now."""
    lost = [name for name in old.names if name not in new.names]
    won = [name for name in new.names if name not in old.names]
    if any(name in after for name in lost) or any(name in before for name in won):
        return True  # the former device is still there, or the present one was: it has its own name elsewhere
    if old.names and new.names:
        return lost == old.names
    return old.nodes != new.nodes


def _meanings(devices: Sequence[Mapping[str, Any]]) -> dict[str, _Meaning]:
    """Return what each name means, but for "all"."""
    found = {
        device["name"]: _Meaning(device["containerEdits"]) for device in devices if device["name"] != ALL
    }
    own: dict[tuple[tuple[str, str], ...], list[str]] = {}
    for name, meaning in found.items():
        names = own.setdefault(tuple(meaning.nodes), [])
        meaning.names = names
        if meaning.is_own(name):
            names.append(name)
    return found
