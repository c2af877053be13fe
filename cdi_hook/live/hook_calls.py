# SPDX-License-Identifier: Apache-2.0
"""A CDI spec's own hooks, run as a runtime runs them (OCI runtime specification, "POSIX-platform Hooks")."""

from __future__ import annotations

import os
import signal
import subprocess

from cdi_hook.base.quoting import quote
from cdi_hook.errors import InjectionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_LONGEST = 1 << 20  # seconds; poll(2) doesn't take much more
_SHOWN = 2000  # bytes, the last of a hook's output


def run(hooks: Sequence[tuple[str, dict[str, Any]]], state: bytes) -> None:
    """Run (stage, hook) pairs one after another in the current dir, with the container's state on stdin.

    Raises InjectionError for the first hook that can't be run, fails, or runs
    longer than its timeout (in seconds).
    """
    for stage, hook in hooks:
        reason = _run(hook, state)
        if reason:
            raise InjectionError(f"the {stage} hook {quote(hook['path'])} {reason}")


def _run(hook: dict[str, Any], state: bytes) -> str:
    """Run a hook; return what went wrong, or ""."""
    output = os.memfd_create("output")  # not a pipe: processes that the hook leaves behind could hold it open
    env = dict(variable.split("=", 1) for variable in hook["env"]) if hook.get("env") else None
    try:
        process = subprocess.Popen(  # noqa: S603  # running what a spec says is the task; see SPEC_TRUST
            hook.get("args") or [hook["path"]],
            executable=hook["path"],
            env=env,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    except OSError as error:
        os.close(output)
        return f"can't be run: {error.strerror}"
    try:
        timeout = hook.get("timeout")
        process.communicate(state, timeout and min(timeout, _LONGEST))
        status = process.returncode
        if status == 0:
            return ""
        ended = f"failed with exit status {status}" if status > 0 else f"was ended by signal {-status}"
    except subprocess.TimeoutExpired:
        ended = f"ran longer than its timeout of {hook['timeout']} s"
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    finally:
        size = os.fstat(output).st_size
        printed = os.pread(output, _SHOWN, max(0, size - _SHOWN)).decode("utf-8", "replace").strip()
        os.close(output)
    return f"{ended}: {printed}" if printed else ended
