# SPDX-License-Identifier: Apache-2.0
"""A change of a configuration file: shown as a diff, or made in one step, with a backup copy.

The copy is FILE.before-cdi-hook, beside FILE. For a FILE in a dir whose name ends
in .d the copy is beside that dir, because CRI-O reads every file in crio.conf.d.
plan.py decides which files change, and which need a copy.
"""

from __future__ import annotations

import contextlib
import difflib
import os
import stat
from dataclasses import dataclass, field

from cdi_hook.base import files
from cdi_hook.base.quoting import quote
from cdi_hook.errors import CDIError

_BACKUP = ".before-cdi-hook"
WITH_DIR = "it and its dir"  # the first line of a file for which a dir was made ends so
_OF_THE_CONTENT = ("security.evm", "security.ima")  # signatures of what the file held


@dataclass
class FileChange:
    """A file's old and new text (None: no file), and its backup."""

    path: str
    before: str | None
    after: str | None
    backup: str | None = None  # the path of the copy to make
    obsolete: list[str] = field(default_factory=list)  # copies to delete

    def diff(self) -> list[str]:
        """Return the change as a unified diff's lines."""
        old, new = ("/dev/null" if text is None else self.path for text in (self.before, self.after))
        lines = []
        for line in difflib.unified_diff(_lines(self.before), _lines(self.after), old, new):
            lines += [line[:-1]] if line.endswith("\n") else [line, "\\ No newline at end of file"]
        return lines

    def summary(self) -> str:
        """Say in one line what was changed."""
        if self.after is None:
            return f"{self.path}: removed"
        if self.before is None:
            return f"{self.path}: written"
        return f"{self.path}: changed{f'; as it was: {self.backup}' if self.backup else ''}"

    def make(self) -> None:
        """Write the files. A failure leaves no new copy behind."""
        with contextlib.ExitStack() as undo:
            try:
                now = None if self.before is None else _Rights(self.path)
                if self.backup is not None and self.before is not None:
                    is_new = not os.path.lexists(self.backup)
                    _create(self.backup, self.before, now)
                    if is_new:
                        undo.callback(os.unlink, self.backup)
                if self.after is None:
                    os.unlink(os.path.realpath(self.path))
                    if (self.before or "").partition("\n")[0].endswith(f"{WITH_DIR}."):
                        with contextlib.suppress(OSError):  # others have files there by now
                            os.rmdir(os.path.dirname(self.path))
                else:
                    os.makedirs(os.path.dirname(self.path), mode=0o755, exist_ok=True)
                    _create(os.path.realpath(self.path), self.after, now)
                undo.pop_all()
                for path in self.obsolete:
                    os.unlink(path)
            except OSError as error:
                raise CDIError(
                    f"can't write {quote(error.filename or self.path)}: {error.strerror}"
                ) from error


def _lines(text: str | None) -> list[str]:
    lines = (text or "").split("\n")
    return [f"{line}\n" for line in lines[:-1]] + ([lines[-1]] if lines[-1] else [])


def read(path: str) -> str | None:
    """Return a file's text; None if there is no file."""
    try:
        data = files.read(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CDIError(f"can't read {quote(path)}: {error.strerror}") from error
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise CDIError(
            f"{path}: not UTF-8: byte 0x{data[error.start]:02x} at line {line} column {column}"
        ) from error


class _Rights:
    """Who may do what with a file: mode, owner, and extended attributes, among them the ACL."""

    def __init__(self, path: str) -> None:
        status = os.stat(path)
        self.mode, self.owner = stat.S_IMODE(status.st_mode), (status.st_uid, status.st_gid)
        self._attributes = _attributes(path)

    def give(self, descriptor: int) -> None:
        """Give a new file the same attributes; what it has from its dir's default ACL goes."""
        now = _attributes(descriptor)
        for name in now.keys() - self._attributes.keys():
            os.removexattr(descriptor, name)
        for name, value in self._attributes.items():
            if now.get(name) != value:
                try:
                    os.setxattr(descriptor, name, value)
                except OSError as error:
                    why = f"its extended attribute {name} can't be kept: {error.strerror}"
                    raise OSError(error.errno, why) from error


def _attributes(file: str | int) -> dict[str, bytes]:
    try:
        names = os.listxattr(file)
    except OSError:
        return {}  # a filesystem without any
    return {name: os.getxattr(file, name) for name in names if name not in _OF_THE_CONTENT}


def _create(path: str, text: str, like: _Rights | None) -> None:
    """Write or replace a file in one step, with the rights of ``like``."""
    try:
        if like is None:
            files.replace(path, text.encode(), 0o644, durable=True)
        else:
            files.replace(path, text.encode(), like.mode, like.owner, durable=True, prepare=like.give)
    except OSError as error:  # it has the temporary file's path
        raise OSError(error.errno, error.strerror, path) from error


def backup_of(path: str) -> str:
    """Return the path of a file's backup copy."""
    directory, name = os.path.split(path)
    if directory.endswith(".d"):
        directory = os.path.dirname(directory)
    return os.path.join(directory, f"{name}{_BACKUP}")
