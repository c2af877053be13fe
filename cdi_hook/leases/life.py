# SPDX-License-Identifier: Apache-2.0
"""The processes that create a container: which they are, and whether they are still there.

While they are, the container is being created, and its runtime may say that there is none.
"""

from __future__ import annotations

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Creator = list[Any]  # [pid, start time in ticks, pid namespace], as store.py has it

INITIAL = "pid:[4026531836]"  # the pid namespace from which all processes can be seen


def creator(pid: int | str = "self") -> Creator:
    """Return what tells a process from all others; raises OSError if there is none."""
    fields = _stat(pid)
    number = posix.getpid() if pid == "self" else int(pid)
    return [number, int(fields[19]), namespace()]


def is_there(one: Creator) -> bool:
    """Say whether a process may be there; one that can't be seen may be."""
    pid, start, space = one
    try:
        if space != namespace():
            return _may_be_elsewhere(pid, start, space)
        fields = _stat(pid)
    except (FileNotFoundError, ProcessLookupError):
        return _is_hidden(pid)
    except OSError:
        return True
    is_it = int(fields[19]) == start and not _is_dead(fields)
    return is_it or posix.readlink("/proc/self") != str(posix.getpid())  # a /proc of another namespace


def _is_dead(fields: list[bytes]) -> bool:
    return fields[0] in (b"Z", b"X") and int(fields[17]) <= 1  # else its other threads still run


def _is_hidden(pid: int) -> bool:
    """Say whether a process has a pid, though /proc has none: with hidepid it hides those of others."""
    try:
        posix.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def _may_be_elsewhere(pid: int, start: int, space: str) -> bool:
    """Say whether a process may be there that has this pid in another pid namespace."""
    try:
        if namespace() != INITIAL or not _stat(1):  # with hidepid there is no /proc/1
            return True
    except OSError:
        return True
    for name in filter(str.isdecimal, posix.listdir("/proc")):
        try:
            pids = read(f"/proc/{name}/status").partition(b"\nNSpid:")[2].partition(b"\n")[0].split()
            if len(pids) > 1 and int(pids[-1]) == pid:
                fields = _stat(name)
                if int(fields[19]) == start and not _is_dead(fields) and _may_be_in(name, space):
                    return True
        except (FileNotFoundError, ProcessLookupError):
            pass  # it has just ended
    return False


def _may_be_in(pid: str, space: str) -> bool:
    try:
        return namespace(pid) == space
    except PermissionError:  # another user's
        return True


def _stat(pid: int | str) -> list[bytes]:
    """Return what proc_pid_stat(5) has after a process's name: the state, ..., [17] threads, [19] start."""
    return read(f"/proc/{pid}/stat").rpartition(b") ")[2].split()


def read(path: str) -> bytes:
    """Return what a file of /proc has; raises OSError."""
    descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return posix.read(descriptor, 1 << 16)
    finally:
        posix.close(descriptor)


def namespace(pid: str = "self") -> str:
    """Return which pid namespace a process is in; raises OSError."""
    return posix.readlink(f"/proc/{pid}/ns/pid")


def cgroups(pid: int | str = "self") -> dict[str, str]:
    """Return the cgroups of a process, by their controllers ("": cgroup v2); {} if that can't be read.

    Raises OSError if it is our own process, and the kernel has cgroups.
    """
    try:
        text = read(f"/proc/{pid}/cgroup").decode("utf-8", "surrogateescape")
    except OSError as error:
        if pid == "self" and not isinstance(error, FileNotFoundError):
            raise
        return {}
    return {names: path for line in text.splitlines() for _, names, path in [line.split(":", 2)]}
