# SPDX-License-Identifier: Apache-2.0
"""Where programs are: those of this installation, and those of others, runtimes above all.

Ours are in the dir that cdi-hook was called in, by the path that it was called by: it outlives an upgrade
where a link leads to the version in use, such as /opt/cdi-hook/current. Others' are found as cdi-runtime
(packaging/bin/cdi-runtime) finds them.
"""

from __future__ import annotations

import glob
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_CALLED = "cdi-hook"
_LIB = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
_OF_CLONE = os.path.join(_LIB, "packaging", "bin")
# Where cdi-runtime looks after PATH; the last is where CRI-O's packages have their runtimes.
DIRS = (
    "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/libexec/crio",
)  # fmt: skip


def ours(name: str) -> Iterator[str]:
    """Yield the paths of a program that exist; that of this installation comes first."""
    directories = [
        _dir(),
        _OF_CLONE,
        os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(_LIB))), "bin"),
        # /opt/cdi-hook/VERSION/lib: what installs on Kubernetes' nodes has a link to the version in use
        os.path.join(os.path.dirname(os.path.dirname(_LIB)), "current", "bin"),
        *os.environ.get("PATH", "").split(":"),
        "/usr/bin",
    ]
    for directory in directories:
        program = os.path.join(directory, name)
        if directory.startswith("/") and os.access(program, os.X_OK):
            yield program


def path(name: str) -> str:
    """Return the path of a program of ours, or where packages install it."""
    return next(ours(name), f"/usr/bin/{name}")


def command() -> str:
    """Return what a person types for cdi-hook: its name if root finds it by that, else its path."""
    program = path(_CALLED)
    return _CALLED if os.path.dirname(program) in ("/usr/bin", "/usr/local/bin") else program


def advice(text: str) -> str:
    """Return a text that names commands of cdi-hook's in quotes, with its path if its name isn't enough."""
    program = command()
    return text if os.path.dirname(program) == _OF_CLONE else text.replace('"cdi-hook ', f'"{program} ')


def fleeting(program: str) -> str:
    """Return why a program may vanish without any engine's file being changed, "" if a package keeps it."""
    if os.path.dirname(program) == _OF_CLONE:
        return f"{program} is in a clone of the source"
    if glob.glob(f"{glob.escape(_LIB)}/cdi_hook-*.dist-info"):
        return "`pip uninstall` removes it without changing the engine's configuration back"
    return ""


def _dir() -> str:
    """Return the dir of the program that was called, "" if Python was started by another.

    A link to the program itself is followed: somebody may have made it for themselves.
    """
    program = os.path.abspath(sys.argv[0])
    if os.path.basename(program) != _CALLED:
        return ""
    while os.path.islink(program):
        program = os.path.normpath(os.path.join(os.path.dirname(program), os.readlink(program)))
    return os.path.dirname(program)


def theirs(names: Sequence[str]) -> Iterator[str]:
    """Yield the path of each program that there is, in the order of their names; never our own program."""
    for name in names:
        paths = [name]
        if "/" not in name:
            paths = [f"{one}/{name}" for one in (*os.environ.get("PATH", "").split(":"), *DIRS)]
        for path in paths:
            if path.startswith("/") and is_runtime(path):
                yield path
                break


def is_runtime(path: str) -> bool:
    """Say whether a path is a program, and not cdi-runtime."""
    ours = any(name.startswith("cdi-") for name in map(os.path.basename, (path, os.path.realpath(path))))
    return not ours and os.path.isfile(path) and os.access(path, os.X_OK)
