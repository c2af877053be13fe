# SPDX-License-Identifier: Apache-2.0
"""Mounts of an OCI specification -> mounts in a container (OCI runtime specification, "Mounts").

This uses the newer system calls: a mount is copied from the host with the mounts
below it, gets its attributes while it is detached, and is attached by descriptors.
"""

from __future__ import annotations

import errno
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

# Option: attributes to set, and attributes to clear. "r" before an option makes it recursive.
_ATTRIBUTES = {
    "ro": (syscalls.MOUNT_ATTR_RDONLY, 0),
    "rw": (0, syscalls.MOUNT_ATTR_RDONLY),
    "nosuid": (syscalls.MOUNT_ATTR_NOSUID, 0),
    "suid": (0, syscalls.MOUNT_ATTR_NOSUID),
    "nodev": (syscalls.MOUNT_ATTR_NODEV, 0),
    "dev": (0, syscalls.MOUNT_ATTR_NODEV),
    "noexec": (syscalls.MOUNT_ATTR_NOEXEC, 0),
    "exec": (0, syscalls.MOUNT_ATTR_NOEXEC),
    "nodiratime": (syscalls.MOUNT_ATTR_NODIRATIME, 0),
    "diratime": (0, syscalls.MOUNT_ATTR_NODIRATIME),
    "nosymfollow": (syscalls.MOUNT_ATTR_NOSYMFOLLOW, 0),
    "symfollow": (0, syscalls.MOUNT_ATTR_NOSYMFOLLOW),
    # These are values of one field, which has to be cleared to be set. Its value 0 is relatime.
    "noatime": (syscalls.MOUNT_ATTR_NOATIME, syscalls.MOUNT_ATTR__ATIME),
    "atime": (0, syscalls.MOUNT_ATTR__ATIME),
    "relatime": (0, syscalls.MOUNT_ATTR__ATIME),
    "norelatime": (0, syscalls.MOUNT_ATTR__ATIME),
    "strictatime": (syscalls.MOUNT_ATTR_STRICTATIME, syscalls.MOUNT_ATTR__ATIME),
    "nostrictatime": (0, syscalls.MOUNT_ATTR__ATIME),
}
_PROPAGATIONS = {
    "private": syscalls.MS_PRIVATE,
    "slave": syscalls.MS_SLAVE,
    "shared": syscalls.MS_SHARED,
    "unbindable": syscalls.MS_UNBINDABLE,
}
_BINDS = ("bind", "rbind")
_IDMAPS = ("idmap", "ridmap")
# These show the namespaces of the process that mounts them, here the hook's.
_NOT_FROM_HERE = ("proc", "sysfs", "mqueue", "cgroup", "cgroup2")


class Attributes:
    """Attributes to set and to clear."""

    def __init__(self) -> None:
        self.set = self.clear = 0

    def add(self, option: str) -> None:
        """Add an option of _ATTRIBUTES; it overrides earlier ones that contradict it."""
        to_set, to_clear = _ATTRIBUTES[option]
        self.set = self.set & ~to_clear | to_set
        self.clear = self.clear & ~to_set | to_clear

    def give(self, tree: int, recursive: bool) -> None:
        """Give a mount these attributes."""
        if not (self.set or self.clear):
            return
        try:
            syscalls.mount_setattr(tree, attr_set=self.set, attr_clr=self.clear, recursive=recursive)
        except PermissionError:
            # A user namespace can't clear attributes of a mount that it got. Runtimes ignore that too.
            atime = self.clear & syscalls.MOUNT_ATTR__ATIME
            syscalls.mount_setattr(tree, attr_set=self.set, attr_clr=atime, recursive=recursive)


class Mount:
    """One mount: first its options are read, then its tree is copied, then it is attached."""

    def __init__(self, mount: dict[str, Any], hidden: Sequence[str], container: Container) -> None:
        """Read the OCI mount; ``hidden`` are the destinations below it that are mounted again on top.

        Raises InjectionError for a mount that can't be made while a container is created.
        """
        self.destination: str = mount["destination"]
        self._hidden = hidden
        self._container = container
        self._source = str(mount.get("source") or "")
        self._type = str(mount.get("type") or "")
        self._own, self._all = Attributes(), Attributes()
        self._propagation = 0
        self._propagation_is_recursive = False
        self._idmap = ""
        self._data: list[str] = []
        self._tree = -1
        bind = "bind" if self._type == "bind" else ""
        for option in mount.get("options") or ():
            if option in _BINDS:
                bind = max(bind, option)  # with both, rbind
            elif option in _IDMAPS:
                self._idmap = option
            elif option in _ATTRIBUTES:
                self._own.add(option)
            elif option[:1] == "r" and option[1:] in _ATTRIBUTES:
                self._all.add(option[1:])
            elif option in _PROPAGATIONS or (option[:1] == "r" and option[1:] in _PROPAGATIONS):
                self._propagation_is_recursive = option not in _PROPAGATIONS
                self._propagation = _PROPAGATIONS[option[self._propagation_is_recursive :]]
            elif option == "tmpcopyup":
                raise self._error('the option "tmpcopyup" is one of the runtime\'s own')
            elif option != "defaults":
                self._data.append(option)
        self._bind = bind
        if not bind and not self._type:
            raise self._error('it has neither a type nor the option "bind" or "rbind"')
        if not bind and self._type in _NOT_FROM_HERE:
            raise self._error(f"a {self._type} can only be mounted by the runtime itself")
        if self._idmap and not (bind and container.has_user_namespace):
            raise self._error(f"the option {quote(self._idmap)} is for binds into a user namespace")

    def gather(self) -> None:
        """Copy the source's tree from outside the container, if that is allowed."""
        if not self._bind:
            return
        try:
            self._copy()
        except PermissionError:
            pass  # attach() tries it as the container's root, in the container's mount namespace
        except OSError as error:
            raise self._error(_reason(error)) from error

    def attach(self, root: Rootfs) -> None:
        """Attach the mount; called in the container's namespaces."""
        try:
            if not self._bind:
                self._make(root)
            elif self._tree < 0:
                self._copy()
            hidden = [self._again(root, path) for path in self._hidden]
            target = self._target(root, self.destination, self._tree)
            if os.path.sameopenfile(target, self._container.rootfs):
                raise self._error("it would hide the whole rootfs")
            root.attach(self._tree, target)
            for path, tree in hidden:
                root.attach(tree, self._target(root, path, tree))
        except OSError as error:
            raise self._error(_reason(error)) from error

    def _target(self, root: Rootfs, path: str, tree: int) -> int:
        is_dir = stat.S_ISDIR(os.fstat(tree).st_mode)
        try:
            target = root.open(path)
        except FileNotFoundError:
            return root.make(path, rootfs.create_dir if is_dir else rootfs.create_file)
        if stat.S_ISDIR(os.fstat(target).st_mode) != is_dir:
            raise self._error(
                "it is a dir, and what is there isn't" if is_dir else "a dir is there, and it isn't one"
            )
        return target

    def _again(self, root: Rootfs, path: str) -> tuple[str, int]:
        descriptor = root.open(path)
        flags = syscalls.OPEN_TREE_CLONE | syscalls.AT_RECURSIVE | syscalls.AT_EMPTY_PATH
        return path, syscalls.open_tree(descriptor, "", flags)

    def _copy(self) -> None:
        """Set _tree to a copy of the source's mounts, with the options' attributes."""
        flags = syscalls.OPEN_TREE_CLONE | (syscalls.AT_RECURSIVE if self._bind == "rbind" else 0)
        source = os.path.join(self._container.bundle, self._source)
        tree = syscalls.open_tree(syscalls.AT_FDCWD, source, flags)
        # The copy of a shared mount is its peer: mounts below one would also appear below the other.
        follows = self._propagation in (syscalls.MS_SLAVE, syscalls.MS_SHARED)
        syscalls.mount_setattr(
            tree, propagation=syscalls.MS_SLAVE if follows else syscalls.MS_PRIVATE, recursive=True
        )
        if self._propagation in (syscalls.MS_SHARED, syscalls.MS_UNBINDABLE):
            syscalls.mount_setattr(
                tree, propagation=self._propagation, recursive=self._propagation_is_recursive
            )
        # As in the runtimes, a recursive option wins: "rro" and "rw" together are read-only.
        for attributes, recursive in ((self._own, False), (self._all, True)):
            attributes.give(tree, recursive)
        if self._idmap:
            self._map_ids(tree)
        self._tree = tree

    def _map_ids(self, tree: int) -> None:
        userns = self._container.namespace("user")
        try:
            syscalls.mount_setattr(
                tree, attr_set=syscalls.MOUNT_ATTR_IDMAP, userns_fd=userns, recursive=self._idmap == "ridmap"
            )
        except PermissionError:
            if files.is_system_root():
                raise
            # A user's own runtime may not map ids: the files keep the ids that they have.
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            raise self._error("its filesystem can't be id-mapped") from error
        finally:
            os.close(userns)

    def _make(self, root: Rootfs) -> None:
        """Set _tree to a new filesystem that belongs to the container's user namespace."""
        if self._type == "tmpfs" and not any(option.startswith("mode=") for option in self._data):
            self._data += _mode_there(root, self.destination)
        context = syscalls.fsopen(self._type)
        if self._source:
            syscalls.fsconfig(context, syscalls.FSCONFIG_SET_STRING, "source", self._source)
        for option in self._data:
            key, equals, value = option.partition("=")
            command = syscalls.FSCONFIG_SET_STRING if equals else syscalls.FSCONFIG_SET_FLAG
            try:
                syscalls.fsconfig(context, command, key, value if equals else None)
            except OSError as error:
                raise self._error(f"the option {quote(option)}: {error.strerror}") from error
        syscalls.fsconfig(context, syscalls.FSCONFIG_CMD_CREATE)
        self._tree = syscalls.fsmount(context, self._own.set | self._all.set)
        os.close(context)
        if self._propagation:
            syscalls.mount_setattr(self._tree, propagation=self._propagation)

    def _error(self, reason: str) -> InjectionError:
        what = (
            f"{quote(self._source)} on {quote(self.destination)}" if self._source else quote(self.destination)
        )
        return InjectionError(f"can't mount {what} while the container is created: {reason}")


def _mode_there(root: Rootfs, path: str) -> list[str]:
    """Return the option that gives a tmpfs the mode of the dir it hides, as the runtimes do."""
    try:
        descriptor = root.open(path)
    except FileNotFoundError:
        return []
    mode = stat.S_IMODE(os.fstat(descriptor).st_mode)
    os.close(descriptor)
    return [f"mode={mode:o}"]


def _reason(error: OSError) -> str:
    return f"{quote(error.filename)}: {error.strerror}" if error.filename else str(error.strerror)
