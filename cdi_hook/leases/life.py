# SPDX-License-Identifier: Apache-2.0
"""Whether the container that has a lease is still there.

First the processes that create it are looked for, and only when they are gone its runtime is asked: while a
container is being created, its runtime says that there is none. Only "stopped", another container's
token, or the runtime's words for no such container free a device. Whatever else is said, or isn't, holds it.
"""

from __future__ import annotations

import posix

from cdi_hook.leases.store import TOKEN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from cdi_hook.base.process import Answer
    from cdi_hook.leases.store import Lease

    Creator = list[Any]  # [pid, start time in ticks, pid namespace], as store.py has it

CREATING = "creating"
MOST_S = 10.0  # for all answers of runtimes that one create waits for
# What `state` says of a container that isn't there, by runtime: the end of the last line on stderr.
_GONE = (
    'msg="container does not exist"',  # runc
    "/{id}/status`: No such file or directory",  # crun
    "loading container: file does not exist",  # runsc
)


def creator(pid: int | str = "self") -> Creator:
    """Return what tells a process from all others; raises OSError if there is none."""
    fields = _stat(pid)
    number = posix.getpid() if pid == "self" else int(pid)
    return [number, int(fields[19]), _namespace()]


def is_there(one: Creator) -> bool:
    """Say whether a process is there; one of another pid namespace can't be seen, so it may be."""
    pid, start, namespace = one
    try:
        if namespace != _namespace():
            return True
        fields = _stat(pid)
    except (FileNotFoundError, ProcessLookupError):
        return False
    except OSError:
        return True
    is_dead = fields[0] in (b"Z", b"X") and int(fields[17]) <= 1  # else its other threads still run
    return int(fields[19]) == start and not is_dead


def _stat(pid: int | str) -> list[bytes]:
    """Return what proc_pid_stat(5) has after a process's name: the state, ..., [17] threads, [19] start."""
    descriptor = posix.open(f"/proc/{pid}/stat", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return posix.read(descriptor, 4096).rpartition(b") ")[2].split()
    finally:
        posix.close(descriptor)


def _namespace() -> str:
    return posix.readlink("/proc/self/ns/pid")


def how(lease: Lease, left_s: float) -> str:
    """Return how a lease's container is, in a word of the OCI specification or why that can't be told.

    "" if it is gone. The runtime has ``left_s`` seconds to answer.
    """
    if any(map(is_there, lease["creators"])):
        return CREATING if lease["state"] else "running"
    if not lease["state"]:
        return ""
    if left_s <= 0:
        return f"its runtime wasn't asked, because others took {MOST_S:g} s to answer"
    from cdi_hook.base import process  # 10 ms

    environ = {name: value for name, value in posix.environ.items() if name != b"XDG_RUNTIME_DIR"}
    if lease["xdg"] is not None:
        environ[b"XDG_RUNTIME_DIR"] = lease["xdg"].encode("utf-8", "surrogateescape")
    answer = process.ask(lease["state"], environ, left_s)
    return meaning(answer, lease["id"], lease["token"])


def living(leases: Iterable[Lease]) -> list[Lease]:
    """Return the leases whose containers aren't known to be gone; each runtime is asked."""
    import time

    end = time.monotonic() + MOST_S
    return [one for one in leases if how(one, end - time.monotonic())]


def meaning(answer: Answer, container: str, token: str) -> str:
    """Return what a runtime's answer to `state` means, as `how` does."""
    if answer.status is None:
        return answer.err
    if not answer.out.strip():
        words = answer.err.strip()
        return "" if words.endswith(tuple(one.format(id=container) for one in _GONE)) else f"{answer.why}"
    import json

    try:
        tree = json.loads(answer.out)
        status, annotations = tree["status"], tree.get("annotations") or {}
        found = annotations.get(TOKEN, token)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"its runtime's answer is no state: {answer.out[:80]}"
    return "" if status == "stopped" or found != token else str(status)[:80]
