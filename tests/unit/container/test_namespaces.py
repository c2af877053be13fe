# SPDX-License-Identifier: Apache-2.0
"""namespaces: a child undoes what it did, whatever happens to the hook; old kernels."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cdi_hook.container import syscalls
from cdi_hook.container.namespaces import Child, Container
from cdi_hook.errors import InjectionError

ROOT = Path(__file__).resolve().parents[3]

# Each is a hook whose child leaves a file when it undoes, and which then ends in its way.
ENDS = {
    "killed while it is done": "Child(lambda: (os.kill(os.getppid(), 9), time.sleep(0.2)), undo)",
    "killed after it": "Child(lambda: None, undo); os.kill(os.getpid(), 9)",
    "Ctrl-C": "Child(lambda: None, undo); os.killpg(0, signal.SIGINT); time.sleep(20)",
    "Ctrl-C in another": (
        "Child(lambda: None, undo); hook = os.getpid(); "
        "Child(lambda: (os.kill(hook, signal.SIGINT), time.sleep(20)))"
    ),
}


@pytest.mark.parametrize("end", ENDS)
def test_hook_that_ends_early(tmp_path: Path, end: str) -> None:
    """A child undoes what it did however the hook ends, and nobody waits for its stdout."""
    undone = tmp_path / "undone"
    script = (
        "import os, signal, sys, time; from pathlib import Path; from cdi_hook.container.namespaces import Child; "
        f"undo = Path({str(undone)!r}).touch; {ENDS[end]}"
    )
    begin = time.monotonic()
    completed = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, start_new_session=True, capture_output=True, check=False
    )
    assert completed.returncode in (-signal.SIGKILL, -signal.SIGINT)
    while not undone.exists():
        assert time.monotonic() - begin < 15
        time.sleep(0.01)
    assert time.monotonic() - begin < 15


def test_child_that_fails() -> None:
    """An error that a child raises is raised here, after the child has undone what it did."""

    def fail() -> None:
        raise OSError(errno.ENOSPC, "no room", "/x")

    with pytest.raises(InjectionError, match=r"^/x: no room$"):
        Child(fail)


def test_child_that_fails_by_a_defect() -> None:
    """An unforeseen error is not a refusal: in the middle of an upgrade the hook restarts because of it."""
    with pytest.raises(RuntimeError, match=r"^ZeroDivisionError: division by zero$"):
        Child(lambda: 1 / 0)


@pytest.mark.parametrize(
    ("call", "where"), [("write", "in the child"), ("read", "in the child"), ("write", "in the hook")]
)
def test_who_does_not_hear_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, where: str
) -> None:
    """If a call by which the hook and its child talk fails, the hook says so, what was done is undone, and nobody waits."""
    made, hook, real = tmp_path / "made", os.getpid(), getattr(os, call)

    def fail(*arguments: object) -> object:
        if made.exists() and (os.getpid() == hook) == (where == "in the hook"):
            raise OSError(errno.EIO, "I/O error")
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(f"os.{call}", fail)
        with pytest.raises(InjectionError, match=r"^the hook's own process died$"):
            Child(made.touch, made.unlink).keep()
    assert not made.exists()


def test_kernels_that_are_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system call that the kernel lacks, or an argument that it doesn't know, gets a message of its own."""
    with pytest.raises(OSError, match=r"Linux 5\.12 or newer") as caught:
        syscalls._syscall(1 << 20)
    assert caught.value.errno == errno.ENOSYS

    def refuse(*_: int) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(syscalls, "setns", refuse)
    container = Container.__new__(Container)
    container._process, container._others = -1, {"mnt"}
    with pytest.raises(
        InjectionError, match=f"^can't join the container's namespaces: {syscalls.TOO_OLD[:20]}"
    ):
        container.join("user", "mnt")
