# SPDX-License-Identifier: Apache-2.0
"""log: runc's format, without words that engines misread."""

from __future__ import annotations

import errno
import json
import os
import re
from typing import TYPE_CHECKING

import pytest

from cdi_hook.base import log

if TYPE_CHECKING:
    from pathlib import Path


def test_json_lines_are_runcs() -> None:
    """A JSON line has level, msg and time in UTC, and error if there is one."""
    fields = json.loads(log.line("error", 'a "b"\n', "json"))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", fields.pop("time"))
    assert fields == {"level": "error", "msg": 'a "b"\n'}
    assert json.loads(log.line("warning", "m", "json", "e"))["error"] == "e"


def test_text_lines_are_runcs() -> None:
    """A text line is logfmt, quoted as in Go."""
    line = log.line("error", 'a "b"', "text", "x")
    assert re.fullmatch(r'time="[^"]*Z" level=error msg="a \\"b\\"" error="x"\n', line)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("a\nb\t c", "a b c"),
        ("open /x: no such file or directory", "open /x: does not exist"),
        ("No Such File Or Directory, permission denied twice: Permission Denied",
         "does not exist, access refused twice: access refused"),
        ("/x: Is a directory, /x/y: Not a directory, Operation not permitted", "/x: is a dir, /x/y: no directory, not allowed"),
        ("a\x1b[31m\x07 \x7f\x9b\u202e \udcff €", "a\\x1b[31m\\a \\x7f\\u009b\\u202e \\xff €"),
        ("executable file not found in $PATH", "executable file missing in $PATH"),
        ("the system cannot find the file specified, failed to run runc create/exec call, open executable",
         "the system can't find the file specified, running runc failed, open an executable"),
    ],
)  # fmt: skip
def test_no_phrase_that_changes_an_engines_exit_code(message: str, expected: str) -> None:
    """The phrases that engines turn into 126 and 127 are replaced by other words, on one line, and no character controls a terminal."""
    assert log.plain(message) == expected


@pytest.mark.parametrize("call", ["write", "close"])
def test_a_log_that_fails_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    """A filesystem may say only when a file is written or closed that it can't be: that is no error of the caller's."""

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "I/O error")

    with monkeypatch.context() as patch:
        patch.setattr(f"posix.{call}", fail)
        assert not log.append(str(tmp_path / "log"), "a\n")


def test_appending(tmp_path: Path) -> None:
    """A log is appended to, and made if it is missing, also as crun's file:PATH; anything but a file is left alone."""
    path = tmp_path / "log"
    assert log.append(str(path), "a\n")
    assert log.append(f"file:{path}", "b\n")
    assert path.read_text() == "a\nb\n"
    for other in ("", "journald:x", "syslog:x", str(tmp_path), str(tmp_path / "no" / "log")):
        assert not log.append(other, "c\n")
    assert [one.name for one in tmp_path.iterdir()] == ["log"]


def test_a_fifo_without_a_reader_does_not_hang(tmp_path: Path) -> None:
    """A --log that is a FIFO without a reader is given up at once."""
    os.mkfifo(tmp_path / "log")
    assert not log.append(str(tmp_path / "log"), "a\n")
