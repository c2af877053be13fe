# SPDX-License-Identifier: Apache-2.0
"""Containers of real runtimes behave as without cdi-runtime, injected ones too: commands, terminals, descriptors."""

from __future__ import annotations

import array
import os
import select
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .lab import NATIVE, TIMEOUT_S

if TYPE_CHECKING:
    from .lab import Lab

native = pytest.mark.parametrize("runtime", NATIVE, indirect=True)


@pytest.fixture(params=["idle", "injected"])
def devices(request: pytest.FixtureRequest, lab: Lab) -> list[str]:
    """What a container asks for: nothing, or one device."""
    return [lab.spec({"env": ["ONE=1"]})] if request.param == "injected" else []


def test_life_of_a_container(lab: Lab, devices: list[str]) -> None:
    """create, state, start, kill and delete work, and only state prints something."""
    bundle = lab.bundle("sleep 60", devices)
    container = lab.create(bundle)
    state = lab.state(container)
    assert (state["id"], state["status"], state["bundle"]) == (container, "created", str(bundle.path))
    for command, status in (
        (("start", container), "running"),
        (("kill", container, "KILL"), "stopped"),
    ):
        completed = lab.call(*command)
        assert (completed.returncode, completed.stdout, completed.stderr) == (0, "", "")
        lab.wait(container, status)
    completed = lab.call("delete", container)
    assert (completed.returncode, completed.stdout, completed.stderr) == (0, "", "")
    assert lab.state(container) == {}


def test_exit_status_of_run(lab: Lab, devices: list[str]) -> None:
    """The exit status of run is the container's."""
    completed = lab.call("run", "--bundle", str(lab.bundle("exit 42", devices).path), lab.container())
    assert (completed.returncode, completed.stdout, completed.stderr) == (42, "", "")


@native
def test_exec_in_container(lab: Lab) -> None:
    """exec runs a program in an injected container, with the environment that was injected."""
    container = lab.create(lab.bundle("sleep 60", [lab.spec({"env": ["ONE=1"]})]))
    assert lab.call("start", container).returncode == 0
    completed = lab.call("exec", container, "sh", "-c", "echo one: $ONE; exit 3")
    assert (completed.returncode, completed.stdout) == (3, "one: 1\n")


@native
def test_pid_file(lab: Lab, devices: list[str]) -> None:
    """--pid-file gets the container's pid."""
    pid_file = lab.directory / "pid"
    container = lab.create(lab.bundle("sleep 60", devices), "--pid-file", str(pid_file))
    pid = int(pid_file.read_text("ascii"))
    assert lab.state(container)["pid"] == pid
    os.kill(pid, 0)
    assert Path(f"/proc/{pid}").is_dir()


@native
def test_process_is_replaced(lab: Lab, devices: list[str]) -> None:
    """run keeps the pid that was started, and a signal sent to it reaches the container."""
    bundle = lab.bundle("trap 'echo ended; exit 7' TERM; echo ready; while :; do sleep 0.01; done", devices)
    process = subprocess.Popen(
        lab.command("run", "--bundle", str(bundle.path), lab.container()),
        env=lab.environ, cwd=lab.directory, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        # comm, because crun's /proc/PID/exe isn't its own path any more
        assert Path(f"/proc/{process.pid}/comm").read_text("ascii") == f"{lab.runtime.name}\n"
        process.send_signal(signal.SIGTERM)  # nohup, for one, has SIGHUP ignored
        assert process.wait(TIMEOUT_S) == 7
        assert process.stdout.read() == "ended\n"
    finally:
        process.kill()
        process.wait(TIMEOUT_S)
        if process.stdout is not None:
            process.stdout.close()


@native
def test_preserved_descriptors(lab: Lab, devices: list[str]) -> None:
    """With --preserve-fds, descriptors from 3 on reach the container."""
    given, taken = lab.directory / "given", lab.directory / "taken"
    given.write_text("for the container\n", "utf-8")
    bundle = lab.bundle("cat <&3 >&4", devices)
    command = lab.command("run", "--bundle", str(bundle.path), "--preserve-fds", "2", lab.container())
    subprocess.run(
        ["sh", "-c", f'exec "$@" 3<{given} 4>{taken}', "sh", *command],
        env=lab.environ, cwd=lab.directory, timeout=TIMEOUT_S, check=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert taken.read_text("utf-8") == "for the container\n"


def receive_terminal(listener: socket.socket) -> int:
    """Return the terminal that a runtime sends through a console socket."""
    listener.settimeout(TIMEOUT_S)
    connection, _ = listener.accept()
    descriptors = array.array("i")
    with connection:
        connection.settimeout(TIMEOUT_S)
        _, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_LEN(descriptors.itemsize))
    [(level, kind, data)] = ancillary
    assert (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
    descriptors.frombytes(data)
    return descriptors[0]


def read_terminal(terminal: int, last: bytes) -> bytes:
    """Read from a terminal until a text comes."""
    output = b""
    end = time.monotonic() + TIMEOUT_S
    while last not in output:
        assert select.select([terminal], [], [], max(0, end - time.monotonic()))[0], (
            f"no more than {output!r}"
        )
        output += os.read(terminal, 4096)
    return output


def test_terminal(lab: Lab, devices: list[str]) -> None:
    """A container with a terminal sends it through --console-socket, and communicates over it."""
    bundle = lab.bundle("read line; echo read: $line $ONE; sleep 60", devices)
    bundle.config["process"]["terminal"] = True
    bundle.write()
    path = lab.directory / "tty"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        container = lab.create(bundle, "--console-socket", str(path))
        terminal = receive_terminal(listener)
    try:
        assert lab.call("start", container).returncode == 0
        os.write(terminal, b"hello\n")
        end = b"read: hello 1\r\n" if devices else b"read: hello\r\n"
        assert read_terminal(terminal, end) == b"hello\r\n" + end  # a terminal's echo, and ends of lines
    finally:
        os.close(terminal)


@native
def test_id_that_is_a_command(lab: Lab) -> None:
    """A container may have a command's name: `state create` shows its state, and creates nothing."""
    bundle = lab.bundle("true", [lab.spec({"env": ["ONE=1"]})])
    before = bundle.identity()
    completed = lab.call("state", "create")
    assert completed.returncode != 0
    assert bundle.identity() == before
    container = lab.container()
    assert lab.call("create", "--bundle", str(bundle.path), container).returncode == 0
    assert bundle.injected()["process"]["env"][-1] == "ONE=1"


@pytest.mark.parametrize("runtime", ["runc-v1"], indirect=True)
@pytest.mark.parametrize("word", ["create", "run", "restore"])
def test_container_called_as_a_command(lab: Lab, word: str) -> None:
    """A container called create, run or restore is created with its device, and deleted."""
    bundle = lab.bundle("true", [lab.spec({"env": ["ONE=1"]})])
    created = lab.call("create", "--bundle", str(bundle.path), lab.container(word))
    assert created.returncode == 0
    assert lab.state(word)["status"] == "created"
    assert bundle.injected()["process"]["env"][-1] == "ONE=1"
    assert lab.call("delete", "--force", word).returncode == 0
    assert lab.state(word) == {}


@pytest.mark.parametrize("arguments", [("--version",), ("features",), ("--help",)], ids=lambda one: one[0])
@pytest.mark.parametrize("runtime", ["runc-v1", "crun-v2"], indirect=True)
def test_questions_to_the_runtime(lab: Lab, arguments: tuple[str, ...]) -> None:
    """The runtime answers the questions that engines ask it at their start."""
    ours = lab.call(*arguments)
    theirs = lab.call(*arguments, program=lab.runtime.name)
    assert (ours.returncode, ours.stdout, ours.stderr) == (theirs.returncode, theirs.stdout, theirs.stderr)
