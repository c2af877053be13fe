# SPDX-License-Identifier: Apache-2.0
"""A bundle's config.json: load it, replace it in one step (OCI runtime specification, "Bundle").

It is never opened for writing. Whoever reads it sees the old file or the new
one; a failure or a death in between leaves the old one.
"""

from __future__ import annotations

import posix

from cdi_hook import errors, files, jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def load(path: str) -> dict[str, Any] | None:
    """Return the tree of a config.json; None when there is no such file.

    Raises BundleError when it can't be read or isn't a JSON object.
    """
    try:
        data = files.read(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise errors.BundleError(f"can't read {errors.quote(path)}: {error.strerror}") from error
    try:
        tree = jsontext.loads(data.decode("utf-8"))
    except ValueError as error:
        raise errors.BundleError(f"{errors.quote(path)} is not valid JSON: {error}") from error
    if not isinstance(tree, dict):
        raise errors.BundleError(f"{errors.quote(path)} is not a JSON object")
    return tree


def replace(path: str, text: str) -> None:
    """Replace a config.json by text, keeping its mode and owner.

    Raises BundleError, and then it is as it was.
    """
    path = _real(path)
    try:
        status = posix.stat(path)
        files.replace(path, text.encode(), status.st_mode & 0o7777, (status.st_uid, status.st_gid))
    except OSError as error:
        raise errors.BundleError(f"can't replace {errors.quote(path)}: {error.strerror}") from error


def _real(path: str) -> str:
    """Return where a config.json that is a link really lies, so that the link stays one."""
    for _ in range(40):
        try:
            target = posix.readlink(path)
        except OSError:
            break
        path = target if target.startswith("/") else f"{path[: path.rfind('/') + 1]}{target}"
    return path
