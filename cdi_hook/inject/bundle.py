# SPDX-License-Identifier: Apache-2.0
"""A bundle's config.json: load it, replace it in one step (OCI runtime specification, "Bundle").

It is never opened for writing. Whoever reads it sees the old file or the new
one; a failure or a death in between leaves the old one. The new one goes where
the old one was read, whatever whoever owns the bundle has put there meanwhile.
"""

from __future__ import annotations

import posix

from cdi_hook import errors
from cdi_hook.base import files, json_text
from cdi_hook.base.quoting import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    # Where a config.json lies: its dir's descriptor, its name there, its path for messages, what it was.
    ConfigFile = tuple[int, str, str, posix.stat_result]

# bytes. A tree in memory can be 42 times as large as its text, and cost 0.3 s for a MiB. Linux starts no
# program with more than 2 MiB of arguments and variables, and an object of Kubernetes has 1.5 MiB.
MOST = 3 << 20


def load(path: str) -> tuple[dict[str, Any], ConfigFile] | None:
    """Return the tree of a config.json and where that lies; None when there is no such file.

    The path is resolved only here: the dir stays open, until the process ends or becomes the
    runtime. Raises BundleError when it can't be read or isn't a JSON object.
    """
    links = 0
    try:
        directory, name = _enter(path, None)
        while True:
            try:
                descriptor = posix.open(name, files.READ | posix.O_NOFOLLOW, dir_fd=directory)
                break
            except OSError as error:
                import errno

                if error.errno != errno.ELOOP or links == files.MAX_LINKS:
                    raise
            links += 1
            around = directory
            directory, name = _enter(posix.readlink(name, dir_fd=around), around)
            posix.close(around)
        data, status = files.read_open(descriptor, path, MOST)
    except OSError as error:
        if not links and isinstance(error, (FileNotFoundError, NotADirectoryError)):
            return None
        raise errors.BundleError(f"can't read {quote(path)}: {error.strerror}") from error
    return _object(data, quote(path)), (directory, name, path, status)


def load_from(bundle: str) -> tuple[dict[str, Any], ConfigFile]:
    """Return what load() does for a bundle's dir; raises BundleError if there is no config.json, too."""
    path = f"{bundle}/config.json"
    loaded = load(path)
    if loaded is None:
        raise errors.BundleError(f"no bundle at {quote(bundle)}: there is no {quote(path)}")
    return loaded


def parse(stdin: bytes, what: str) -> dict[str, Any]:
    """Return the JSON object on stdin; raises BundleError if it isn't one, or is too large."""
    it = f"stdin must be {what}, but it"
    if len(stdin) > MOST:
        raise errors.BundleError(f"{it} is larger than {MOST} bytes")
    return _object(stdin, it)


def _object(data: bytes, what: str) -> dict[str, Any]:
    try:
        tree = json_text.loads(data.decode("utf-8"))
    except ValueError as error:
        raise errors.BundleError(f"{what} is not valid JSON: {error}") from error
    if not isinstance(tree, dict):
        raise errors.BundleError(f"{what} is not a JSON object")
    return tree


def _enter(path: str, directory: int | None) -> tuple[int, str]:
    """Open the dir of a path that starts in ``directory``; return it and the name there."""
    head, slash, name = path.rpartition("/")
    flags = posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC
    return posix.open(head + slash or ".", flags, dir_fd=directory), name


def replace(place: ConfigFile, text: str) -> None:
    """Replace a config.json by text, keeping its mode and owner.

    Raises BundleError, and then it is as it was.
    """
    directory, name, path, was = place
    try:
        files.replace(
            name, text.encode(), was.st_mode & 0o7777, (was.st_uid, was.st_gid), directory=directory
        )
    except OSError as error:
        raise errors.BundleError(f"can't replace {quote(path)}: {error.strerror}") from error
