# SPDX-License-Identifier: Apache-2.0
"""A container's root filesystem, whose paths are resolved as the container will resolve them.

An image can have any link, so no link and no ".." may lead out of the rootfs.
openat2(2) with RESOLVE_IN_ROOT ensures that. If the kernel lacks it, a walk keeps a
descriptor of every dir that it came through.

What is mounted in a container may be a volume, whose files the container may not
read, or not write. A Rootfs that ``owns`` goes to none of it: each of its paths
stays in the one mount of the root filesystem itself (RESOLVE_NO_XDEV). It also counts
what an image has us do: no limit of the container counts yet when a hook works there.

Somebody else, such as another container that shares a volume, may change a path
while it is used. This gains them nothing: a descriptor holds what was found, and
things are made and mounted only by descriptors. A dir that is moved meanwhile was
in the rootfs before.
"""

from __future__ import annotations

import errno
import os
import stat

from cdi_hook.base import files
from cdi_hook.base.quoting import quote
from cdi_hook.container import syscalls
from cdi_hook.errors import CDIError, InjectionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    DirEntry = tuple[int, str, int]  # descriptor of the dir, the name in it, descriptor of the entry or -1

_FLAGS = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
MOST_ENTRIES = (
    100_000  # counted when listed, opened, read; Debian's /usr/lib has 2,000, conda's a few thousand
)
MOST_BYTES = 8 << 20  # of texts, paths and large tables; a linker's cache of 10,000 libraries has 1 MiB
DIR_MODE, FILE_MODE = 0o755, 0o644  # of places to mount on


NOT_ITSELF = (
    "isn't where the container's rootfs is mounted: it has been moved, a volume is mounted over it, "
    "or several filesystems were mounted there before"
)


class OnVolume(InjectionError):
    """A path of a container leads to something that is mounted there."""


class TooMuch(CDIError):
    """An image has more to look at than its container's start may cost."""

    def __init__(self, what: str, path: str) -> None:
        super().__init__(
            f"the search for libraries takes more of the image than {what}, {quote(path)} among them; "
            "build it with fewer dirs in /etc/ld.so.conf, fewer files in them, or without /etc/ld.so.cache"
        )


class Rootfs:
    """A root dir, by a descriptor that the caller owns; see above for ``owns``."""

    def __init__(self, descriptor: int, *, owns: bool = False) -> None:
        self._root = descriptor
        self._mount = mount_of(descriptor) if owns else ""
        self._entries = self._bytes = 0
        self._undo: list[Callable[[], None]] = []

    @property
    def whole(self) -> Rootfs:
        """The same root with all that is mounted there, to look at by O_PATH descriptors."""
        return Rootfs(self._root)

    def spend(self, entries: int, size: int, path: str) -> None:
        """Count what the image has us look at; raises TooMuch, which names the path."""
        self._entries += entries
        self._bytes += size
        if self._entries > MOST_ENTRIES:
            raise TooMuch(f"{MOST_ENTRIES:,} entries of its dirs and files", path)
        if self._bytes > MOST_BYTES:
            raise TooMuch(f"{MOST_BYTES >> 20} MiB", path)

    def open(self, path: str, *, in_proc: bool = False) -> int:
        """Return an O_PATH descriptor of what is at path, with links followed.

        Raises FileNotFoundError if nothing is there, OnVolume if it is mounted and we are to stay
        in the root filesystem, InjectionError if it can't be reached or is in a procfs, unless
        ``in_proc`` says that it may be, and TooMuch.
        """
        path = path.lstrip("/") or "."
        if self._mount:
            self.spend(1, len(path), f"/{path}")
        try:
            try:
                resolve = syscalls.RESOLVE_IN_ROOT | syscalls.RESOLVE_NO_MAGICLINKS
                resolve |= syscalls.RESOLVE_NO_XDEV if self._mount else 0
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
            raise _failure("reach", f"/{path}", error) from error
        # What stays in the root's own mount needs no look: that is no procfs.
        if not (in_proc or self._mount) and syscalls.fstatfs(descriptor) == syscalls.PROC_SUPER_MAGIC:
            os.close(descriptor)
            raise InjectionError(
                f"{quote('/' + path)} is in the container's procfs, where nothing is injected"
            )
        return descriptor

    def real(self, path: str) -> str:
        """Return the path in the root, without links, of what is at path; raises as open does."""
        descriptor = self.open(path)
        found = os.readlink(by(descriptor))
        os.close(descriptor)
        return found[len(os.readlink(by(self._root)).rstrip("/")) :]

    def make(self, path: str, create: Callable[[int, str], None]) -> int:
        """Make something at path with ``create``, which gets a dir's descriptor and a name in that dir.

        Missing dirs on the way are made. Returns an O_PATH descriptor of what was made, or
        of what somebody else made meanwhile. Raises InjectionError.
        """
        try:
            directory, name, descriptor = self._walk(path, self._mkdir)
            try:
                if descriptor < 0:
                    descriptor = self._have(create, directory, name)
            finally:
                os.close(directory)
        except OSError as error:
            raise _failure("make", path, error) from error
        return descriptor

    def attach(self, tree: int, target: int) -> None:
        """Attach a tree of mounts at the place of a descriptor, and close that descriptor."""
        try:
            syscalls.move_mount(tree, target)
            self._undo.append(lambda: syscalls.umount2(by(tree), syscalls.MNT_DETACH))
        finally:
            os.close(target)

    def undo(self) -> None:
        """Remove what was made and attached, the last first, unless somebody has replaced it."""
        while self._undo:
            try:
                self._undo.pop()()
            except OSError:
                pass  # it is gone, or in use

    def _mkdir(self, directory: int, name: str) -> int:
        return self._have(create_dir, directory, name)

    def _have(self, create: Callable[[int, str], None], directory: int, name: str) -> int:
        holder = os.dup(directory)
        was: list[tuple[int, int]] = []  # stays empty if it can't be looked at

        def remove() -> None:
            now = os.stat(name, dir_fd=holder, follow_symlinks=False)
            if was in ([], [(now.st_dev, now.st_ino)]):
                (os.rmdir if stat.S_ISDIR(now.st_mode) else os.unlink)(name, dir_fd=holder)

        try:
            create(directory, name)
        except FileExistsError:  # another container that shares the dir was faster
            return self._open_in(directory, name)
        self._undo.append(remove)
        descriptor = self._open_in(directory, name)
        made = os.fstat(descriptor)
        was.append((made.st_dev, made.st_ino))
        return descriptor

    def _open_in(self, directory: int, name: str) -> int:
        descriptor = os.open(name, _FLAGS, dir_fd=directory)
        if self._mount and mount_of(descriptor) != self._mount:
            os.close(descriptor)
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        return descriptor

    def _walk(self, path: str, mkdir: Callable[[int, str], int] | None) -> DirEntry:
        """Walk to path, one part after another; ``mkdir`` makes missing dirs before the last part."""
        way = [os.dup(self._root)]  # the dirs from the root to here; ".." goes back to the one before
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
                    descriptor = self._open_in(way[-1], part)
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
                    if links > files.MAX_LINKS:
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


def by(descriptor: int) -> str:
    """Return a path by which system calls reach what a descriptor is of."""
    return f"/proc/self/fd/{descriptor}"


def is_rootfs(directory: int, process: str = "self") -> bool:
    """Say whether a dir is where a runtime has mounted a rootfs, and nothing else over it; raises OSError.

    crun mounts a volume over it if an image's link leads the volume's place to "/". ``process`` is in the
    mount namespace.
    """
    parent = os.open("..", _FLAGS, dir_fd=directory)
    around = mount_of(parent)
    os.close(parent)
    mount = mount_of(directory)
    table = mounts(process)
    if mount == around or mount not in table:
        return False  # nothing is mounted there, or no longer
    there = [where for where in table.values() if where[2] == table[mount][2]]
    # A runtime mounts the rootfs itself once more, from the same place of the same filesystem. NFS says
    # "/" for every place.
    is_nfs = any(where[3].startswith("nfs") for where in there)
    return len(there) == 1 or (len({where[:2] for where in there}) == 1 and not is_nfs)


def mounts(process: str = "self") -> dict[str, tuple[str, str, str, str]]:
    """Return the mounts that a process sees, by their ids (proc_pid_mountinfo(5)).

    Each is its device, the place there that is mounted, the mount point, and the kind of filesystem.
    """
    found = {}
    with open(f"/proc/{process}/mountinfo", "rb") as lines:
        for line in lines:
            before, _, after = line.decode("ascii", "surrogateescape").partition(" - ")
            number, _, device, root, point, *_ = before.split(" ")
            found[number] = device, root, point, after.partition(" ")[0]
    return found


def mount_of(descriptor: int) -> str:
    """Return the id of the mount that a descriptor is in (proc_pid_fdinfo(5))."""
    with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as lines:
        return next(line.split()[1] for line in lines if line.startswith("mnt_id:"))


def _failure(what: str, path: str, error: OSError) -> InjectionError:
    if error.errno == errno.EXDEV:
        return OnVolume(f"{quote(path)} is on a volume of the container, where nothing is read or written")
    return InjectionError(f"can't {what} {quote(path)} in the container: {error.strerror}")


def create_file(directory: int, name: str) -> None:
    """Make an empty file to mount on."""
    os.mknod(name, stat.S_IFREG | FILE_MODE, dir_fd=directory)


def create_dir(directory: int, name: str) -> None:
    """Make a dir to mount on."""
    os.mkdir(name, DIR_MODE, dir_fd=directory)


def _parts(path: str) -> list[str]:
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


def _openat2(root: int, path: str, resolve: int) -> int:
    """Call openat2, again if somebody moves a dir of the path meanwhile."""
    for _ in range(1000):
        try:
            return syscalls.openat2(root, path, os.O_PATH, resolve)
        except BlockingIOError:
            continue
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN))
