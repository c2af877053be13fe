# SPDX-License-Identifier: Apache-2.0
"""Devices of an OCI specification -> device nodes in a container (OCI runtime specification, "Devices").

A node is made in the container if that is allowed. In a user namespace nobody may
make nodes: the host's root makes the node on a filesystem of its own and binds it
into the container; anybody else binds the host's node, whose mode and owner stay.
"""

from __future__ import annotations

import os
import stat

from cdi_hook.base import files
from cdi_hook.base.quoting import quote
from cdi_hook.container import rootfs, syscalls
from cdi_hook.errors import InjectionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from cdi_hook.container.namespaces import Container
    from cdi_hook.container.rootfs import Rootfs

_TYPES = {"b": stat.S_IFBLK, "c": stat.S_IFCHR, "u": stat.S_IFCHR, "p": stat.S_IFIFO}
_DEFAULT_MODE = 0o666


class Node:
    """One device node to make, or to bind from a tree."""

    def __init__(self, device: dict[str, Any], host_path: str) -> None:
        """Read the OCI device; ``host_path`` is its path on the host."""
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
        """Say whether a file is this device."""
        return stat.S_IFMT(status.st_mode) == self.type and (
            self.type == stat.S_IFIFO or status.st_rdev == self.rdev
        )

    def make(self, directory: int, name: str, owner: tuple[int, int]) -> None:
        """Make the node under a name in a dir; PermissionError if that isn't allowed."""
        os.mknod(name, self.type | self.mode, self.rdev, dir_fd=directory)
        try:
            os.chown(name, *owner, dir_fd=directory, follow_symlinks=False)
        except OSError:
            os.unlink(name, dir_fd=directory)  # nobody knows of it yet who could undo it
            raise

    def take(self, directory: int, name: str) -> None:
        """Choose the node under a name in a dir as the one to bind."""
        self._tree = syscalls.open_tree(directory, name, syscalls.OPEN_TREE_CLONE)
        syscalls.mount_setattr(self._tree, propagation=syscalls.MS_PRIVATE)

    def bind(self, root: Rootfs) -> None:
        """Bind the node into the container."""
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
            self.take(syscalls.AT_FDCWD, self.host_path)
        except OSError as error:
            raise self.error(f"{quote(self.host_path)} on the host: {error.strerror}") from error

    def error(self, reason: str) -> InjectionError:
        """Return an error about this node."""
        return InjectionError(f"can't make device node {quote(self.path)} in the container: {reason}")


def gather(nodes: Sequence[Node], container: Container) -> None:
    """Make the nodes to bind, if that is allowed; called outside the container."""
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
        return  # the host's nodes are bound instead
    except OSError as error:
        raise InjectionError(
            f"can't make device nodes to bind into the container's user namespace: {error.strerror}"
        ) from error


def place(nodes: Sequence[Node], container: Container, root: Rootfs) -> None:
    """Put the nodes into the container; called in its namespaces."""
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
            return node.bind(root)  # this host is itself in a container
    status = os.fstat(present)
    # An empty file may be left by an earlier start, as the place to bind on. If nodes can be made, such a
    # file isn't used: an image could have it to get the host's own node, and chmod that.
    is_for_binds = container.has_user_namespace or not files.is_system_root()
    if is_for_binds and stat.S_ISREG(status.st_mode) and not status.st_size:
        return node.bind(root)
    if not node.is_like(status):
        raise node.error("something else is there already")
    if not container.has_user_namespace and _is_runtimes(status, container, root):
        os.chown(f"/proc/self/fd/{present}", *node.owner)
        os.chmod(f"/proc/self/fd/{present}", node.mode)
    return None


def _is_runtimes(status: os.stat_result, container: Container, root: Rootfs) -> bool:
    """Say whether a node is in the /dev that the runtime mounted; another one may be the host's own."""
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

    It is mounted because only Linux 6.15 and later can copy a detached mount.
    """
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount("none", "/", syscalls.MS_REC | syscalls.MS_SLAVE)
    context = syscalls.fsopen("tmpfs")
    syscalls.fsconfig(context, syscalls.FSCONFIG_CMD_CREATE)
    tmpfs = syscalls.fsmount(context, syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NOEXEC)
    os.close(context)
    syscalls.move_mount(tmpfs, os.open(place, os.O_PATH | os.O_CLOEXEC))
    return tmpfs
