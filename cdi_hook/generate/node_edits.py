# SPDX-License-Identifier: Apache-2.0
"""Device nodes, and files that a device needs -> containerEdits: their paths, their groups.

Major and minor numbers are left out, because they may change: a container's start reads
them from the host's node.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any

from cdi_hook.edits.kinds import merge

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cdi_hook.generate.root import Root


# Options of mounts, as nvidia-ctk has them.
_FILE = ("ro", "nosuid", "nodev", "rbind", "rprivate")
SOCKET = ("nosuid", "nodev", "rbind", "rprivate", "noexec")


def is_node(root: Root, path: str) -> bool:
    """Say whether there is a device node at a path, or at what a link there leads to."""
    status = root.stat(path)
    return status is not None and (stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode))


def edits(root: Root, paths: Iterable[str]) -> dict[str, Any]:
    """Return the containerEdits that put the device nodes at these paths into a container.

    A path may be a link, such as udev's by-id names: the container then has a node of that
    name. What is no device node is left out. A node's group, unless it is root's, becomes
    the group of the container's node, and one of its process's groups.
    """
    nodes: list[dict[str, Any]] = []
    gids: list[int] = []
    for path in paths:
        status = root.stat(path)
        if status is None or not is_node(root, path):
            continue
        node: dict[str, Any] = {"path": path}
        host_path = root.on_host(root.real(path))
        if host_path != path:
            node["hostPath"] = host_path
        if status.st_gid:
            node["gid"] = status.st_gid
            gids.append(status.st_gid)
        nodes.append(node)
    return together([{"deviceNodes": nodes, "additionalGids": gids}])


def mount(root: Root, path: str, inside: str = "", options: Sequence[str] = _FILE) -> dict[str, Any]:
    """Return a mount of a file or dir, in a container at the same path unless ``inside`` is another."""
    return {"hostPath": root.on_host(path), "containerPath": inside or path, "options": [*options]}


def together(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return one containerEdits object that does what these do, each edit once."""
    merged = merge(parts)
    for name, items in merged.items():
        if isinstance(items, list):
            merged[name] = [item for index, item in enumerate(items) if item not in items[:index]]
    return {name: items for name, items in merged.items() if items != []}
