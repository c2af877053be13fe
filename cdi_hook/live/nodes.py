# SPDX-License-Identifier: Apache-2.0
"""Devices of an OCI specification -> device nodes in a container (OCI runtime specification, "Devices").

Made where that is allowed. In a user namespace it isn't, not even by the
host's root: a node made on a filesystem of the host's own is bound into the
container then. Who isn't the host's root binds the host's node itself, with
the mode and the owner that it has.
"""

from __future__ import annotations

import os
import stat

from cdi_hook import config, linux
from cdi_hook.errors import InjectionError, quote
from cdi_hook.live import rootfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from cdi_hook.live.container import Container
    from cdi_hook.live.rootfs import Rootfs

_TYPES = {"b": stat.S_IFBLK, "c": stat.S_IFCHR, "u": stat.S_IFCHR, "p": stat.S_IFIFO}
_DEFAULT_MODE = 0o666


class Node:
    """One device node: as it is to be, and the tree that it is bound from, if it is."""

    def __init__(self, device: dict[str, Any], host_path: str) -> None:
        """Read the OCI device; ``host_path`` is where the host has it."""
        self.path: str = device["path"]
        self.host_path = host_path
        self.type = _TYPES[device["type"]]
        self.mode = int(device.get("fileMode", _DEFAULT_MODE)) & 0o7777
        try:
            self.rdev = os.makedev(device["major"], device["minor"]) if device["type"] != "p" else 0
        except OverflowError as error:
            raise self.error(f"no device has the numbers {device['major']}:{device['minor']}") from error
        self.owner = int(device.get("uid", 0)), int(device.get("gid", 0))
        self._tree = -1

    def is_like(self, status: os.stat_result) -> bool:
        """Say whether this is the same device."""
        return stat.S_IFMT(status.st_mode) == self.type and (
            self.type == stat.S_IFIFO or status.st_rdev == self.rdev
        )

    def make(self, directory: int, name: str, owner: tuple[int, int]) -> None:
        """Make the node, by a dir's descriptor and a name in it; PermissionError where that isn't allowed."""
        os.mknod(name, self.type | self.mode, self.rdev, dir_fd=directory)
        os.chown(name, *owner, dir_fd=directory, follow_symlinks=False)

    def take(self, directory: int, name: str) -> None:
        """Have the node that is there be the one to bind."""
        self._tree = linux.open_tree(directory, name, linux.OPEN_TREE_CLONE)
        linux.mount_setattr(self._tree, propagation=linux.MS_PRIVATE)

    def bind(self, root: Rootfs) -> None:
        """Bind it into the container."""
        if self._tree < 0:
            self._take_hosts()
        try:
            target = root.open(self.path)
        except FileNotFoundError:
            target = root.make(self.path, rootfs.create_file)
        root.attach(self._tree, target)

    def _take_hosts(self) -> None:
        try:
            if not self.is_like(os.stat(self.host_path)):
                raise self.error(f"{quote(self.host_path)} on the host is another device")
            self.take(linux.AT_FDCWD, self.host_path)
        except OSError as error:
            raise self.error(f"{quote(self.host_path)} on the host: {error.strerror}") from error

    def error(self, reason: str) -> InjectionError:
        """Return an error about this node."""
        return InjectionError(f"can't make device node {quote(self.path)} in the container: {reason}")


def gather(nodes: Sequence[Node], container: Container) -> None:
    """Make the nodes that are to be bound, where we may; from outside the container."""
    if not (nodes and container.has_user_namespace):
        return
    try:
        tmpfs = _own_tmpfs(container.bundle)
        for index, node in enumerate(nodes):
            uid, gid = node.owner
            try:
                owner = container.host_id("uid", uid), container.host_id("gid", gid)
            except InjectionError as error:
                raise node.error(str(error)) from error
            node.make(tmpfs, str(index), owner)
            node.take(tmpfs, str(index))
    except PermissionError:
        return  # then it is the host's nodes that are bound
    except OSError as error:
        raise InjectionError(
            f"can't make device nodes to bind into the container's user namespace: {error.strerror}"
        ) from error


def place(nodes: Sequence[Node], container: Container, root: Rootfs) -> None:
    """Have the nodes be in the container, whose namespaces we are in."""
    for node in nodes:
        try:
            _place(node, container, root)
        except OSError as error:
            raise node.error(str(error.strerror)) from error


def _place(node: Node, container: Container, root: Rootfs) -> None:
    try:
        present = root.open(node.path)
    except FileNotFoundError:
        if container.has_user_namespace:
            return node.bind(root)
        try:
            present = root.make(node.path, lambda directory, name: node.make(directory, name, node.owner))
        except InjectionError as error:
            if not isinstance(error.__cause__, PermissionError):
                raise
            return node.bind(root)  # a host within a container itself
    status = os.fstat(present)
    # What an earlier start of the container was bound on. Where a node can be made, none of the host's
    # is bound: the image could ask for it by such a file, and chmod the host's own.
    is_for_binds = container.has_user_namespace or not config.is_system_root()
    if is_for_binds and stat.S_ISREG(status.st_mode) and not status.st_size:
        return node.bind(root)
    if not node.is_like(status):
        raise node.error("something else is there already")
    if not container.has_user_namespace and _is_runtimes(status, container, root):
        os.chown(f"/proc/self/fd/{present}", *node.owner)
        os.chmod(f"/proc/self/fd/{present}", node.mode)
    return None


def _is_runtimes(status: os.stat_result, container: Container, root: Rootfs) -> bool:
    """Say whether a node is in the /dev that the runtime mounted: others may be the host's own."""
    try:
        dev = root.open("/dev")
    except FileNotFoundError:
        return False
    filesystem = os.fstat(dev).st_dev
    os.close(dev)
    others = os.stat("/dev").st_dev, os.fstat(container.rootfs).st_dev
    return status.st_dev == filesystem not in others


def _own_tmpfs(place: str) -> int:
    """Return a descriptor of a new tmpfs, mounted over a dir in a mount namespace of our own.

    Mounted, since what isn't can be copied only from Linux 6.15 on.
    """
    linux.unshare(linux.CLONE_NEWNS)
    linux.mount("none", "/", linux.MS_REC | linux.MS_SLAVE)
    context = linux.fsopen("tmpfs")
    linux.fsconfig(context, linux.FSCONFIG_CMD_CREATE)
    tmpfs = linux.fsmount(context, linux.MOUNT_ATTR_NOSUID | linux.MOUNT_ATTR_NOEXEC)
    os.close(context)
    linux.move_mount(tmpfs, os.open(place, os.O_PATH | os.O_CLOEXEC))
    return tmpfs
