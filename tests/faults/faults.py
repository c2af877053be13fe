# SPDX-License-Identifier: Apache-2.0
"""The system calls that a command makes, and the command again with one of them failing.

strace lists the calls, with their files; inject.c has one of them fail. A process's
calls count from the moment when it opens a file of ours: what the dynamic linker and
the interpreter do before that is the same for every program. They end where the
process becomes another program that isn't part of ours, such as the real runtime.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

KILL = "KILL"
FAULTS = (KILL, "EIO", "ENOSPC", "EMFILE", "ENOMEM", "EINTR")
TIMEOUT_S = 30
_CALL = re.compile(r"(?P<pid>\d+) +\[ *(?P<number>\d+)\] (?P<text>\w+\(.*)")
_EXECUTED = re.compile(r"(?P<pid>\d+) +\[.*\] (execve\(|<\.\.\. execve resumed>).* = 0")
# What the interpreter does for itself: its memory and signals, and loading modules, also ours.
_INTERPRETER = re.compile(
    r"(mmap|munmap|mremap|mprotect|madvise|brk|rt_sigaction|rt_sigprocmask|getrandom)\(|"
    r'.*["<](/usr/lib|/lib)|.*dist-packages(?!/cdi_hook)|'
    r".*dist-packages/cdi_hook[^\" ]*([\">]|__pycache__/(?!start\.)|\.(py|pyc|so|abi3\.so)\")"
)
# Signals, ids and locks can't fail, wait4 fails only if there is no child, and brk tells a failure by its usual answer.
CANNOT_FAIL = re.compile("(brk|exit_group|futex|rt_sig\\w+|umask|gete?[ug]id|getp?pid|wait4)\\(")
NOT_HIT = 124  # the exit status of inject if the call wasn't made this time


class Call(NamedTuple):
    """A system call: of which process, its number in the kernel, the how-manieth of these, and how strace shows it."""

    process: int
    number: int
    nth: int
    text: str

    @property
    def is_ours(self) -> bool:
        """Whether it is for our own work, and not the interpreter's for its own."""
        return not _INTERPRETER.match(self.text)


class Outcome(NamedTuple):
    """What became of a run; ``status`` is None if it was still running after TIMEOUT_S."""

    status: int | None
    out: str
    err: str


def calls(trace: str, marks: Sequence[str]) -> list[Call]:
    """Return the calls that count in what `strace -f -n -y` wrote; a mark is in the path of each file of ours."""
    found: list[Call] = []
    made: dict[str, Counter[int]] = {}  # by process, in the order in which these were forked
    counting: set[str] = set()
    for line in trace.splitlines():
        match = _CALL.match(line)
        if match:
            pid, number, text = match["pid"], int(match["number"]), match["text"]
            if not made:
                made[pid] = Counter({number: -1})  # the command's own exec
            elif pid not in made:
                made[pid] = Counter()
                counting |= {pid} if counting else set()
            made[pid][number] += 1
            if text.startswith("openat(") and any(mark in text for mark in marks):
                counting.add(pid)
            if pid in counting:
                found.append(Call(list(made).index(pid), number, made[pid][number], text))
        executed = _EXECUTED.match(line)
        if executed:
            counting.discard(executed["pid"])
    return found


class Attack:
    """A command, and the ways to run it; ``prefix`` is a command that runs it where it belongs."""

    def __init__(self, injector: Path, directory: Path, prefix: Sequence[str]) -> None:
        self._injector = injector
        self._directory = directory
        self.prefix = prefix

    def run(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        stdin: str = "",
        before: Sequence[str] = (),
    ) -> Outcome:
        """Run a command, by another one that runs it."""
        process = subprocess.Popen(
            [*self.prefix, *before, *command], env=environ, cwd=self._directory, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        try:
            out, err = process.communicate(stdin, TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            return Outcome(None, out, err)
        return Outcome(process.returncode, out, err)

    def calls(
        self, command: Sequence[str], environ: Mapping[str, str], marks: Sequence[str], stdin: str = ""
    ) -> list[Call]:
        """Return the calls that count."""
        trace = self._directory / "trace"
        strace = ("strace", "-f", "-n", "-y", "-qq", "-s", "60", "-o", str(trace))
        outcome = self.run(command, environ, stdin, strace)
        assert outcome.status == 0 or outcome.err, outcome
        return calls(trace.read_text("utf-8", "replace"), marks)

    def hit(
        self,
        call: Call,
        fault: str,
        command: Sequence[str],
        environ: Mapping[str, str],
        stdin: str = "",
    ) -> Outcome:
        """Run a command with one fault."""
        number = 0 if fault == KILL else getattr(errno, fault)
        place = (str(call.process), str(call.number), str(call.nth), str(number))
        return self.run(command, environ, stdin, (str(self._injector), *place))
