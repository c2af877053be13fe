# SPDX-License-Identifier: Apache-2.0
"""Files by their paths: a path's shortest form, a file's identity, reading one whole, replacing one.

What a file holds is for whoever reads it. Who could have written it is trust.py's question. A
container's start imports this, so it imports nothing but posix: os would cost 2 ms more.
"""

from __future__ import annotations

import posix
from _thread import allocate_lock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

Identity = tuple[int, ...]
_S_IFMT, _S_IFDIR, _S_IFREG = 0o170000, 0o040000, 0o100000
READ = posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK
TEMPORARY = ".cdi-hook.tmp"  # what is added to a file's name while a new one is written beside it
_MOST_TRIES = 200
MOST = 16 << 20  # bytes
MAX_LINKS = 40  # of a path, by the kernel
_replacing = allocate_lock()  # _create's lock is its process's, so threads need one


def clean(path: str) -> str:
    """Return the shortest equivalent path, by text alone, as Go's filepath.Clean does."""
    root = path.startswith("/")
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and (parts or root):
            if parts and parts[-1] != "..":
                parts.pop()
            elif not root:
                parts.append(part)
        elif part not in ("", "."):
            parts.append(part)
    return ("/" if root else "") + "/".join(parts) or "."


def identify(path: str) -> Identity | None:
    """Return what changes whenever the file or dir at path does; None where there is none.

    Device, inode, size, mtime and ctime in ns, mode and owner, links followed.
    """
    try:
        status = posix.stat(path)
    except (OSError, ValueError):
        return None
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_mode,
        status.st_uid,
    )


def is_system_root() -> bool:
    """Say whether all files are ours: whether we are root, and not only so inside a user namespace."""
    if posix.geteuid() != 0:
        return False
    try:
        descriptor = posix.open("/proc/self/uid_map", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return True
    try:
        return posix.read(descriptor, 64).split() == [b"0", b"0", b"4294967295"]
    finally:
        posix.close(descriptor)


def content(path: str) -> str | None:
    """Return what is in a file, or the names in a dir, as text; None where it can't be read."""
    try:
        try:
            data = read(path)
        except IsADirectoryError:
            return "/".join(sorted(posix.listdir(path)))
    except (OSError, ValueError):
        return None
    return text(data)


def text(data: bytes) -> str:
    """Return bytes as text, from which the same bytes can be made again."""
    return data.decode("utf-8", "surrogateescape")


def is_gone(path: str) -> bool:
    """Say whether there is no such file; one that we fail to look at isn't gone."""
    try:
        if not posix.access(path, posix.F_OK):  # faster than stat
            posix.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        pass
    return False


def read(path: str, most: int = MOST) -> bytes:
    """Return what is in a regular file of at most so many bytes; never wait for a FIFO or touch a device.

    Raises OSError; for a larger file and for what isn't a regular file its strerror says so,
    and for a dir it is an IsADirectoryError.
    """
    return read_open(posix.open(path, READ), path, most)[0]


def read_open(descriptor: int, path: str, most: int = MOST) -> tuple[bytes, posix.stat_result]:
    """Return what read returns, and the status, of a file that was opened with READ; close it.

    ``path`` is for the error.
    """
    try:
        status = posix.fstat(descriptor)
        kind = status.st_mode & _S_IFMT
        if kind != _S_IFREG:
            import errno

            raise OSError(errno.EISDIR if kind == _S_IFDIR else errno.EINVAL, "not a regular file", path)
        chunks: list[bytes] = []
        left = most if status.st_size <= most else -1
        while left >= 0:
            chunk = posix.read(descriptor, status.st_size + 1 if status.st_size else 1 << 16)  # procfs has 0
            if not chunk:
                return b"".join(chunks), status
            chunks.append(chunk)
            left -= len(chunk)
        import errno

        raise OSError(errno.EFBIG, f"larger than {most} bytes", path)
    finally:
        posix.close(descriptor)


def replace(
    path: str,
    data: bytes,
    mode: int,
    owner: tuple[int, int] | None = None,
    *,
    durable: bool = False,
    directory: int | None = None,
    is_alone: bool = False,
    prepare: Callable[[int], object] | None = None,
) -> None:
    """Put a file with this data, mode and (uid, gid) in path's place, in one step.

    ``directory`` is the descriptor of the dir where path starts. If path is a link, it is replaced.
    ``prepare`` is called with the new file's descriptor before it gets its mode.
    With ``is_alone`` nobody else replaces the file now, so what is beside it already is removed unopened.
    With ``durable`` the data is on the disk before the file has that name. Otherwise
    some filesystems have an empty file there after a power failure. Raises OSError,
    and then the old file is still there, with nothing left beside it. What a killed
    process leaves there, the next one that replaces the file removes.
    """
    temporary = f"{path}{TEMPORARY}"
    with _replacing:
        descriptor, status = _create(temporary, directory, is_alone=is_alone)
        try:
            if owner is not None and owner != (status.st_uid, status.st_gid):
                posix.fchown(descriptor, *owner)
            if prepare:
                prepare(descriptor)
            posix.fchmod(descriptor, mode)  # whatever the umask
            while data:
                data = data[posix.write(descriptor, data) :]
            if durable:
                posix.fsync(descriptor)
            posix.rename(temporary, path, src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException as error:
            posix.unlink(temporary, dir_fd=directory)
            if isinstance(error, OSError) and not error.filename:
                error.filename = path  # of a full disk
            raise
        finally:
            posix.close(descriptor)


def _create(path: str, directory: int | None, *, is_alone: bool) -> tuple[int, posix.stat_result]:
    """Create a file and lock it; return its descriptor and status.

    The lock ends with its process, so a file without a lock is what a killed process left.
    """
    for _ in range(_MOST_TRIES):
        try:
            descriptor = _open(path, directory, is_new=True)
        except FileExistsError:
            if is_alone:
                posix.unlink(path, dir_fd=directory)
            else:
                _remove_left(path, directory)
            continue
        try:
            if _lock(descriptor):
                status = posix.fstat(descriptor)
                if status.st_nlink:
                    return descriptor, status
        except OSError:
            posix.unlink(path, dir_fd=directory)
            posix.close(descriptor)
            raise
        posix.close(descriptor)  # before it was locked, another process took it for what one left
    import errno

    raise OSError(errno.EBUSY, "another process is writing it", path)


def _remove_left(path: str, directory: int | None) -> None:
    """Remove a file that a killed process left; wait a moment if its process is alive."""
    try:
        descriptor = _open(path, directory, is_new=False)
        try:
            if _lock(descriptor):
                left = posix.fstat(descriptor)
                there = posix.stat(path, dir_fd=directory, follow_symlinks=False)
                if (left.st_dev, left.st_ino) == (there.st_dev, there.st_ino):
                    posix.unlink(path, dir_fd=directory)
                return
        finally:
            posix.close(descriptor)
    except FileNotFoundError:
        return  # its process has just finished
    import time

    time.sleep(0.01)


def _open(path: str, directory: int | None, *, is_new: bool) -> int:
    flags = posix.O_WRONLY | posix.O_CLOEXEC | posix.O_NONBLOCK | posix.O_NOFOLLOW
    if is_new:
        flags |= posix.O_CREAT | posix.O_EXCL
    return posix.open(path, flags, 0o600, dir_fd=directory)


def _lock(descriptor: int) -> bool:
    """Lock a file; False if another process has locked it."""
    try:
        posix.lockf(descriptor, posix.F_TLOCK, 0)
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        pass  # a filesystem without locks
    return True
