# SPDX-License-Identifier: Apache-2.0
"""Small files in a container: read, replaced in one step, removed, found by a pattern.

Each takes a Rootfs that ``owns``, so that nothing on a volume is read, listed, made or changed, and all
that is listed or read is counted there: each raises TooMuch.
"""

from __future__ import annotations

import os
import stat

from cdi_hook.base import files
from cdi_hook.base.quoting import quote
from cdi_hook.container import rootfs
from cdi_hook.errors import InjectionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cdi_hook.container.rootfs import Rootfs

_FILE_MODE = 0o644
_LONGEST_NAME = 255
_MOST_TEXT = 1 << 20  # bytes, as a text becomes many small strings


def open_file(root: Rootfs, path: str) -> int | None:
    """Return a descriptor to read a file by; None if there is none of the image's that can be read."""
    try:
        return open_regular(root.open(path))
    except (OSError, InjectionError):
        return None


def open_regular(place: int) -> int | None:
    """Return a descriptor to read a file by, None if it isn't regular; close its O_PATH descriptor.

    Raises OSError.
    """
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            return None  # opening a device could do something
        return os.open(rootfs.by(place), files.READ)
    finally:
        os.close(place)


def is_on_volume(root: Rootfs, path: str) -> bool:
    """Say whether a path leads to something that is mounted in the container."""
    try:
        os.close(root.open(path))
    except rootfs.OnVolume:
        return True
    except (OSError, InjectionError):
        pass
    return False


def read(root: Rootfs, path: str) -> str | None:
    """Return a file's text; None if there is none of the image's that can be read."""
    data = read_bytes(root, path, _MOST_TEXT)
    return None if data is None else data.decode("utf-8", "surrogateescape")


def read_bytes(root: Rootfs, path: str, most: int = rootfs.MOST_BYTES) -> bytes | None:
    """Return what is in a file; None if there is none of the image's that can be read."""
    descriptor = open_file(root, path)
    if descriptor is None:
        return None
    size = os.fstat(descriptor).st_size
    if size > most:
        raise rootfs.TooMuch(f"{most >> 20} MiB of a file", path)
    root.spend(0, size, path)
    try:
        return files.read_open(descriptor, path, most)[0]
    except OSError:
        return None


def write(root: Rootfs, path: str, content: str | bytes, mode: int = _FILE_MODE) -> None:
    """Have a file say this, with missing dirs on the way; raises InjectionError."""
    if isinstance(content, str):
        if content == read(root, path):
            return
        content = content.encode("utf-8", "surrogateescape")
    parent, _, name = path.rpartition("/")
    directory = make_dir(root, parent)
    try:
        files.replace(name, content, mode, directory=directory, is_alone=True)
    except OSError as error:
        raise InjectionError(f"can't write {quote(path)} in the container: {error.strerror}") from error
    finally:
        os.close(directory)


def make_dir(root: Rootfs, path: str) -> int:
    """Return a descriptor of a dir of the image's, made if it is missing; raises InjectionError."""
    return root.make(path, rootfs.create_dir)


def open_dir(root: Rootfs, path: str) -> int:
    """Return a descriptor to list a dir by; raises OSError and InjectionError."""
    place = root.open(path)
    try:
        return os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=place)
    finally:
        os.close(place)


def listed(root: Rootfs, path: str) -> tuple[int, list[tuple[str, bool, bool]]]:
    """Return a dir's descriptor, and of each entry its name, and whether it is a link or a regular file.

    Raises OSError and InjectionError.
    """
    directory = open_dir(root, path)
    entries = []
    with os.scandir(directory) as found:  # which doesn't look at what is mounted on a name
        for one in found:
            root.spend(1, 0, path)
            entries.append((one.name, one.is_symlink(), one.is_file(follow_symlinks=False)))
    return directory, entries


def fill(directory: int, name: str, content: str) -> None:
    """Make a file that says this in a dir by its descriptor; raises OSError."""
    files.replace(name, content.encode("utf-8", "surrogateescape"), _FILE_MODE, directory=directory)


def remove(root: Rootfs, path: str) -> None:
    """Remove a file, if it is there; raises InjectionError."""
    parent, _, name = path.rpartition("/")
    try:
        directory = root.open(parent)
    except FileNotFoundError:
        return
    try:
        os.unlink(name, dir_fd=directory)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError as error:
        raise InjectionError(f"can't remove {quote(path)} in the container: {error.strerror}") from error
    finally:
        os.close(directory)


def matching(root: Rootfs, pattern: str) -> list[str]:
    """Return the paths that match a pattern whose last part may have wildcards, sorted."""
    parent, _, last = pattern.rpartition("/")
    if not any(character in last for character in "*?["):
        return [pattern]
    if len(last) > _LONGEST_NAME:
        return []
    start, _, end = last.partition("*")
    try:
        directory, entries = listed(root, parent)
    except (OSError, InjectionError):
        return []
    names = [name for name, _, _ in entries if name[:1] != "." or last[:1] == "."]
    os.close(directory)
    if any(character in start + end for character in "*?["):
        import fnmatch  # re: 5 ms

        names = [name for name in names if fnmatch.fnmatchcase(name, last)]
    else:
        least = len(start) + len(end)
        names = [
            name for name in names if len(name) >= least and name.startswith(start) and name.endswith(end)
        ]
    return [f"{parent}/{name}" for name in sorted(names)]
