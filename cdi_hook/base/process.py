# SPDX-License-Identifier: Apache-2.0
"""Ask another program something, and never wait for it longer than a deadline."""

from __future__ import annotations

import os
import select
import subprocess
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TIMEOUT_S = 10.0
_MOST = 4 << 20  # bytes


class Answer(NamedTuple):
    """What a program printed.

    ``status`` is its exit status; None if it couldn't be started, took too long or
    printed too much, and then ``err`` says which.
    """

    status: int | None
    out: str
    err: str

    @property
    def said(self) -> str:
        """What it printed; "" if it failed."""
        return self.out if self.status == 0 else ""

    @property
    def why(self) -> str:
        """Why it failed, in one line: the last that it wrote to stderr."""
        lines = self.err.strip().splitlines()
        return lines[-1] if lines else f"exit status {self.status}"


def ask(command: Sequence[str], environ: Mapping[bytes, bytes] | None = None, timeout_s: float = 0) -> Answer:
    """Run a command with empty stdin for so many seconds (0: TIMEOUT_S) at most; return what it prints."""
    timeout_s = timeout_s or TIMEOUT_S
    end = time.monotonic() + timeout_s
    try:
        process = subprocess.Popen(  # noqa: S603 # the callers' commands are their own, without a shell
            command, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
    except OSError as error:
        return Answer(None, "", f"can't run {command[0]}: {error.strerror}")
    with process:
        assert process.stdout
        assert process.stderr
        data = {process.stdout.fileno(): b"", process.stderr.fileno(): b""}
        out, err = data
        waited_for = select.poll()
        for descriptor in data:
            waited_for.register(descriptor, select.POLLIN)
        failure, is_open = "", 2
        while is_open and not failure:
            ready = waited_for.poll(max(0, end - time.monotonic()) * 1000)
            for descriptor, _ in ready:
                chunk = os.read(descriptor, 1 << 16)
                data[descriptor] += chunk
                if not chunk:
                    waited_for.unregister(descriptor)
                    is_open -= 1
            if not ready:
                failure = f"{' '.join(command)} took longer than {timeout_s:.2g} s"
            elif sum(map(len, data.values())) > _MOST:
                failure = f"{' '.join(command)} printed too much"
        try:
            status = None if failure else process.wait(max(0, end - time.monotonic()))
        except subprocess.TimeoutExpired:
            status, failure = None, f"{' '.join(command)} took longer than {timeout_s:.2g} s"
        process.kill()
    said, complained = (data[one].decode("utf-8", "replace") for one in (out, err))
    return Answer(status, said, failure or complained)
