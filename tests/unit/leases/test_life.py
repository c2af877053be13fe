# SPDX-License-Identifier: Apache-2.0
"""life: whether the processes that create a container are still there."""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cdi_hook.leases import life

# Our modules may be where only root can read them.
AS_NOBODY = "import os; from cdi_hook.leases import life; os.setgroups([]); os.setuid(65534)"
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


@pytest.mark.skipif(os.geteuid() != 0, reason="unshare and mount need root")
def test_a_pid_namespace_below_ours() -> None:
    """From the initial one all processes can be seen; from any other, those elsewhere may be there."""
    program = (
        "from cdi_hook.leases import life; print(life.creator(), flush=True); __import__('sys').stdin.read()"
    )
    command = ["unshare", "-pf", "--mount-proc", sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        one = json.loads(process.stdout.readline().replace("'", '"'))
        assert one[2] != life.namespace()
        assert life.is_there(one)
        for gone in [one[0], one[1] + 1, one[2]], [one[0], one[1], "pid:[1]"]:
            assert life.is_there(gone) is (life.namespace() != life.INITIAL)
        # whoever may not see a process's namespace can't tell it from another with its pid
        look = [sys.executable, "-c", f"{AS_NOBODY}; print(life.is_there({[one[0], one[1], 'pid:[1]']}))"]
        assert subprocess.run(look, check=True, capture_output=True, text=True).stdout == "True\n"
        process.communicate("")
    assert life.is_there(one) is (life.namespace() != life.INITIAL)
    program = f"from cdi_hook.leases import life; print(life.is_there({GONE}))"
    command = ["unshare", "-pf", "--mount-proc", sys.executable, "-c", program]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "True\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="unshare and mount need root")
def test_a_proc_that_hides_processes() -> None:
    """hidepid makes another user's process look as if it were gone, and so does a /proc of another namespace."""
    with subprocess.Popen(["sleep", "100"]) as process:
        one = life.creator(process.pid)
        program = f"{AS_NOBODY}; print(life.is_there({one}), life.is_there({GONE}))"
        script = 'mount -t proc -o hidepid=2 none /proc && exec "$@"'
        command = ["unshare", "-m", "sh", "-ec", script, "sh", sys.executable, "-c", program]
        assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "True False\n"
        process.kill()
    program = (
        "import os; from cdi_hook.leases import life; "
        "one = [os.getpid(), 1, life.namespace()]; print(life.is_there(one))"
    )
    command = ["unshare", "-pf", sys.executable, "-c", program]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "True\n"


def test_the_cgroups_of_a_process() -> None:
    """They are the kernel's, by controllers; there are none of a process that is gone."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    assert life.cgroups() == {line.split(":")[1]: line.split(":", 2)[2] for line in lines}
    assert life.cgroups(1 << 22) == {}
