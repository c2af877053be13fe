# SPDX-License-Identifier: Apache-2.0
"""A container's root filesystem, in which every path is resolved as the container will see it.

Whoever made the image chose the links in it: they lead from the rootfs to the
rootfs, however they are written. Nothing here follows a link by the kernel's
own rules or goes up by "..": openat2(2) with RESOLVE_IN_ROOT does it where the
kernel has it, else a walk that holds a descriptor of every dir it came through.

What changes a path while it is looked at, such as another container that
shares a volume, gains nothing: what was found is held by its descriptor, and
things are made and mounted by descriptors alone. A dir that is moved in
between is still a dir that was in the rootfs.
"""

from __future__ import annotations

import errno
import os
import stat

from cdi_hook import linux
from cdi_hook.errors import InjectionError, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Found = tuple[int, str, int]  # descriptor of the dir, the name in it, descriptor of the thing or -1

_FLAGS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_LINKS = 40  # as the kernel has it
DIR_MODE, FILE_MODE = 0o755, 0o644  # of what is made to mount on


class Rootfs:
    """A dir that is a root, by a descriptor that stays the caller's."""

    def __init__(self, descriptor: int) -> None:
        self._root = descriptor
        self._undo: list[Callable[[], None]] = []

    def open(self, path: str) -> int:
        """Return an O_PATH descriptor of what is at path, links followed; FileNotFoundError for nothing.

        Raises InjectionError for what can't be reached, or lies in a procfs.
        """
        path = path.lstrip("/") or "."
        try:
            try:
                resolve = linux.RESOLVE_IN_ROOT | linux.RESOLVE_NO_MAGICLINKS
                descriptor = _openat2(self._root, path, resolve)
            except OSError as error:
                if error.errno not in (errno.ENOSYS, errno.EPERM):  # a seccomp filter says EPERM
                    raise
                directory, _, descriptor = self._walk(path, None)
                os.close(directory)
                if descriptor < 0:
                    raise FileNotFoundError from error
        except FileNotFoundError:
            raise
        except OSError as error:
            raise InjectionError(
                f"can't reach {quote('/' + path)} in the container: {error.strerror}"
            ) from error
        if linux.fstatfs(descriptor) == linux.PROC_SUPER_MAGIC:
            os.close(descriptor)
            raise InjectionError(
                f"{quote('/' + path)} is in the container's procfs, where nothing is injected"
            )
        return descriptor

    def make(self, path: str, create: Callable[[int, str], None]) -> int:
        """Have create make something at path, where nothing is, by a dir's descriptor and a name in it.

        Dirs on the way are made. Returns an O_PATH descriptor of what was made,
        or of what was there after all. Raises InjectionError.
        """
        try:
            directory, name, descriptor = self._walk(path, self._mkdir)
            try:
                if descriptor < 0:
                    descriptor = self._have(create, directory, name)
            finally:
                os.close(directory)
        except OSError as error:
            raise InjectionError(f"can't make {quote(path)} in the container: {error.strerror}") from error
        return descriptor

    def attach(self, tree: int, target: int) -> None:
        """Attach a tree of mounts to the place behind a descriptor, which is closed."""
        try:
            linux.move_mount(tree, target)
        finally:
            os.close(target)
        self._undo.append(lambda: linux.umount2(f"/proc/self/fd/{tree}", linux.MNT_DETACH))

    def undo(self) -> None:
        """Take back what was made and attached, the last first; what isn't what it was is left alone."""
        while self._undo:
            try:
                self._undo.pop()()
            except OSError:
                pass  # gone, or in use by others now

    def _mkdir(self, directory: int, name: str) -> int:
        return self._have(create_dir, directory, name)

    def _have(self, create: Callable[[int, str], None], directory: int, name: str) -> int:
        try:
            create(directory, name)
        except FileExistsError:  # another container, which shares the place, was quicker
            return os.open(name, _FLAGS, dir_fd=directory)
        return self._note(directory, name)

    def _note(self, directory: int, name: str) -> int:
        descriptor = os.open(name, _FLAGS, dir_fd=directory)
        was = os.fstat(descriptor)
        holder = os.dup(directory)

        def remove() -> None:
            now = os.stat(name, dir_fd=holder, follow_symlinks=False)
            if (now.st_dev, now.st_ino) == (was.st_dev, was.st_ino):
                (os.rmdir if stat.S_ISDIR(now.st_mode) else os.unlink)(name, dir_fd=holder)

        self._undo.append(remove)
        return descriptor

    def _walk(self, path: str, mkdir: Callable[[int, str], int] | None) -> Found:
        """Go to path one step at a time; what is missing before its last part is made by mkdir."""
        way = [os.dup(self._root)]  # from the root to here: ".." is the one before
        pending = _parts(path)
        links = 0
        try:
            while pending:
                part = pending.pop()
                if part == "..":
                    if len(way) > 1:
                        os.close(way.pop())
                    continue
                try:
                    descriptor = os.open(part, _FLAGS, dir_fd=way[-1])
                except FileNotFoundError:
                    if not pending:
                        return way.pop(), part, -1
                    if mkdir is None:
                        raise
                    descriptor = mkdir(way[-1], part)
                mode = os.fstat(descriptor).st_mode
                if stat.S_ISLNK(mode):
                    target = os.readlink("", dir_fd=descriptor)
                    os.close(descriptor)
                    links += 1
                    if links > _MAX_LINKS:
                        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                    if target.startswith("/"):
                        while len(way) > 1:
                            os.close(way.pop())
                    pending += _parts(target)
                elif pending:
                    way.append(descriptor)
                    if not stat.S_ISDIR(mode):
                        raise OSError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
                else:
                    return way.pop(), part, descriptor
            return os.dup(way[-1]), ".", way.pop()
        finally:
            for descriptor in way:
                os.close(descriptor)


def create_file(directory: int, name: str) -> None:
    """Make an empty file to mount on."""
    os.mknod(name, stat.S_IFREG | FILE_MODE, dir_fd=directory)


def create_dir(directory: int, name: str) -> None:
    """Make a dir to mount on."""
    os.mkdir(name, DIR_MODE, dir_fd=directory)


def _parts(path: str) -> list[str]:
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _openat2(root: int, path: str, resolve: int) -> int:
    """Try again while the kernel finds the tree being moved about under it."""
    for _ in range(1000):
        try:
            return linux.openat2(root, path, os.O_PATH, resolve)
        except BlockingIOError:
            continue
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
