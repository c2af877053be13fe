# SPDX-License-Identifier: Apache-2.0
"""Files by their paths: a path's shortest form, a file's identity, reading one whole, replacing one.

What a file holds is for whoever reads it. Who could have written it is trust.py's question. A
container's start imports this, so it imports nothing but posix: os would cost 2 ms more.
"""

from __future__ import annotations

import posix

Identity = tuple[int, ...]
_S_IFMT, _S_IFDIR, _S_IFREG = 0o170000, 0o040000, 0o100000
_EINVAL, _EISDIR = 22, 21
READ = posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK


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


def read(path: str) -> bytes:
    """Return what is in a regular file; never wait for a FIFO or touch a device.

    Raises OSError; for what isn't a regular file its strerror says so, and for a dir it is an
    IsADirectoryError.
    """
    return read_open(posix.open(path, READ), path)[0]


def read_open(descriptor: int, path: str) -> tuple[bytes, posix.stat_result]:
    """Return what read returns, and the status, of a file that was opened with READ; close it.

    ``path`` is for the error.
    """
    try:
        status = posix.fstat(descriptor)
        kind = status.st_mode & _S_IFMT
        if kind != _S_IFREG:
            raise OSError(_EISDIR if kind == _S_IFDIR else _EINVAL, "not a regular file", path)
        data = b""
        while chunk := posix.read(descriptor, status.st_size + 1):
            data += chunk
        return data, status
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
) -> None:
    """Put a file with this data, mode and (uid, gid) in path's place, in one step.

    ``directory`` is the descriptor of the dir where path starts. If path is a link, it is replaced.
    With ``durable`` the data is on the disk before the file has that name. Otherwise
    some filesystems have an empty file there after a power failure. Raises OSError,
    and then the old file is still there, with nothing left beside it.
    """
    temporary = f"{path}.{posix.getpid()}.tmp"
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC | posix.O_NOFOLLOW
    descriptor = posix.open(temporary, flags, 0o600, dir_fd=directory)
    try:
        status = posix.fstat(descriptor)
        if owner is not None and owner != (status.st_uid, status.st_gid):
            posix.fchown(descriptor, *owner)
        posix.fchmod(descriptor, mode)  # whatever the umask
        while data:
            data = data[posix.write(descriptor, data) :]
        if durable:
            posix.fsync(descriptor)
        posix.rename(temporary, path, src_dir_fd=directory, dst_dir_fd=directory)
    except BaseException:
        posix.unlink(temporary, dir_fd=directory)
        raise
    finally:
        posix.close(descriptor)
