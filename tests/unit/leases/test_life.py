# SPDX-License-Identifier: Apache-2.0
"""life: whether a container that has a lease is still there."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from cdi_hook.base.process import Answer
from cdi_hook.leases import life
from cdi_hook.leases.store import TOKEN, Lease

from .test_store import TREE

GONE = [1 << 22, 1, os.readlink("/proc/self/ns/pid")]  # larger than any pid


def await_stat(pid: int, text: bytes) -> None:
    """Wait until a process's stat has a text."""
    end = time.monotonic() + 20
    while text not in Path(f"/proc/{pid}/stat").read_bytes():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_process_is_told_from_a_later_one_with_its_pid() -> None:
    """Pid and start time tell it; a zombie is gone."""
    with subprocess.Popen(["sleep", "100"]) as process:
        one = life.creator(process.pid)
        assert one[0] == process.pid
        assert life.is_there(one)
        assert not life.is_there([one[0], one[1] + 1, one[2]])
        process.kill()
        await_stat(process.pid, b") Z ")
        assert not life.is_there(one)
    assert not life.is_there(one)
    assert life.is_there(life.creator())
    assert life.creator() == life.creator(os.getpid())


def test_the_start_time_survives_exec() -> None:
    """cdi-runtime becomes the real runtime: it is the same process."""
    program = (
        "import os, sys; from cdi_hook.leases import life; print(life.creator(), flush=True); "
        "os.execv('/bin/sleep', ['sleep', '100'])"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        one = json.loads(process.stdout.readline().replace("'", '"'))
        await_stat(process.pid, b"(sleep)")
        assert life.is_there(one)
        process.kill()


def test_a_process_without_its_first_thread() -> None:
    """It looks like a zombie, and its other threads still have the device."""
    program = (
        "import ctypes, threading, time; threading.Thread(target=time.sleep, args=(100,)).start(); "
        "print(flush=True); ctypes.CDLL(None).syscall(60, 0)"
    )
    if os.uname().machine != "x86_64":
        pytest.skip("the number of exit(2) is x86-64's")
    assert ctypes.sizeof(ctypes.c_long) == 8
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        await_stat(process.pid, b") Z ")
        assert life.is_there(life.creator(process.pid))
        process.kill()


def test_a_name_with_parentheses(tmp_path: Path) -> None:
    """A process can choose its name, and with it what stands before its state."""
    program = tmp_path / "x) Z 1 1"
    program.symlink_to("/bin/busybox")
    with subprocess.Popen(["sleep", "100"], executable=str(program)) as process:
        assert life.is_there(life.creator(process.pid))
        process.kill()


def test_another_pid_namespace_can_not_be_seen() -> None:
    """A process there may be there, whatever has its pid here."""
    assert life.is_there([GONE[0], 1, "pid:[1]"])
    assert not life.is_there(GONE)


def answer(out: object = "", err: str = "", status: int | None = 1) -> str:
    text = out if isinstance(out, str) else json.dumps(out)
    return life.meaning(Answer(status, text, err), "c1", "t")


@pytest.mark.parametrize("status", ["creating", "created", "running", "paused", "odd"])
def test_what_holds(status: str) -> None:
    """Any status but "stopped" does, with our token or without any."""
    for found in ({TOKEN: "t"}, {}, None):
        assert answer({"status": status, "annotations": found}, status=0) == status


def test_what_frees() -> None:
    """A container that was stopped, another container with its id, and no such container."""
    assert answer({"status": "stopped", "annotations": {TOKEN: "t"}}) == ""
    assert answer({"status": "running", "annotations": {TOKEN: "u"}}) == ""
    assert answer(err='time="2026-11-29T20:36:25Z" level=error msg="container does not exist"\n') == ""
    assert answer(err="error opening file `/run/crun/c1/status`: No such file or directory\n") == ""
    assert answer(err="loading container: file does not exist\n") == ""


@pytest.mark.parametrize(
    ("out", "err", "words"),
    [
        ("", "", "exit status 1"),
        ("", "container does not exist", "container does not exist"),
        ("", 'msg="container does not exist"\nmsg="permission denied"', 'msg="permission denied"'),
        ("", "error opening file `/run/crun/c2/status`: No such file or directory", "error opening file `/run/crun/c2/status`: No such file or directory"),
        ("[]", "", "its runtime's answer is no state: []"),
        ("no", 'msg="container does not exist"', "its runtime's answer is no state: no"),
        ('{"status": "running", "annotations": 7}', "", "its runtime's answer is no state: {\"status\": \"running\", \"annotations\": 7}"),
        ("[" * 100_000, "", f"its runtime's answer is no state: {'[' * 80}"),
    ],
)  # fmt: skip
def test_nonsense_holds(out: str, err: str, words: str) -> None:
    """What isn't understood is told, and holds."""
    assert answer(out, err) == words


def lease(**fields: Any) -> Lease:
    return Lease({**TREE, "creators": [GONE], **fields})


def script(directory: Path, text: str) -> list[str]:
    """Make a runtime of a shell script; return the command that asks it."""
    path = directory / "runtime"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return [str(path), "--root", "/r", "state", "c1"]


def test_the_creators_come_first(tmp_path: Path) -> None:
    """While one of them lives the runtime isn't asked: it would say that there is no such container."""
    command = script(tmp_path, f"touch {tmp_path}/asked; echo 'msg=\"container does not exist\"' >&2; exit 1")
    assert life.how(lease(creators=[GONE, life.creator()], state=command), 9) == "creating"
    assert not (tmp_path / "asked").exists()
    assert life.how(lease(state=command), 9) == ""
    assert (tmp_path / "asked").exists()


def test_a_container_s_own_process() -> None:
    """The hook's lease is by the container's first process: there is nobody to ask."""
    assert life.how(lease(creators=[life.creator()], state=[]), 9) == "running"
    assert life.how(lease(state=[]), 9) == ""


def test_how_the_runtime_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the arguments and the XDG_RUNTIME_DIR of the create, or without one if that had none."""
    command = script(tmp_path, 'echo "{\\"status\\": \\"$* ${XDG_RUNTIME_DIR-none}\\"}"')
    monkeypatch.setitem(__import__("posix").environ, b"XDG_RUNTIME_DIR", b"/mine")
    assert life.how(lease(state=command), 9) == "--root /r state c1 none"
    assert life.how(lease(state=command, xdg="/theirs"), 9) == "--root /r state c1 /theirs"


def test_a_runtime_that_hangs_or_is_gone_holds(tmp_path: Path) -> None:
    """Neither frees a device, and neither is waited for beyond the bound."""
    start = time.monotonic()
    command = script(tmp_path, "exec sleep 100")
    assert life.how(lease(state=command), 0.3) == f"{' '.join(command)} took longer than 0.3 s"
    assert time.monotonic() - start < 5
    assert "wasn't asked" in life.how(lease(state=command), 0)
    assert "can't run /nonexistent/runc" in life.how(lease(state=["/nonexistent/runc", "state", "c1"]), 9)
