# SPDX-License-Identifier: Apache-2.0
"""process: what a program printed and how it ended, and no wait beyond the deadline."""

from __future__ import annotations

import time

import pytest

from cdi_hook.base.process import Answer, ask


def test_what_it_printed() -> None:
    """stdout, stderr and the exit status are kept apart, the variables are those given, and stdin is empty."""
    done = ask(("/bin/sh", "-c", "cat; echo $A; echo no >&2; echo why >&2; exit 3"), {b"A": b"b"})
    assert done == Answer(3, "b\n", "no\nwhy\n")
    assert (done.said, done.why) == ("", "why")
    assert ask(("/bin/sh", "-c", "echo yes")).said == "yes\n"
    assert ask(("/bin/sh", "-c", "exit 3")).why == "exit status 3"


def test_no_such_program() -> None:
    """A program that can't be started is an answer too."""
    missing = Answer(None, "", "can't run /nonexistent/x: No such file or directory")
    assert ask(("/nonexistent/x", "y")) == missing


@pytest.mark.parametrize("script", ["sleep 30", "sleep 30 & exit 0", "exec >&- 2>&-; sleep 30"])
def test_it_takes_too_long(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that hangs, or leaves somebody behind who holds its output, is left after the deadline."""
    monkeypatch.setattr("cdi_hook.base.process.TIMEOUT_S", 0.3)
    start = time.monotonic()
    done = ask(("/bin/sh", "-c", script))
    assert (done.status, done.why) == (None, f"/bin/sh -c {script} took longer than 0.3 s")
    assert time.monotonic() - start < 5


def test_it_prints_without_end() -> None:
    """A program that prints too much is ended."""
    assert ask(("/usr/bin/yes",)).why == "/usr/bin/yes printed too much"
