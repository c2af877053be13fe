# SPDX-License-Identifier: Apache-2.0
"""The judgement: what a form may be like after a fault, and what became of it each time."""

from __future__ import annotations

import os
import re
from collections import Counter
from typing import TYPE_CHECKING

from .faults import CANNOT_FAIL, FAULTS, KILL, NOT_HIT

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .faults import Call, Outcome
    from .forms import Form
    from .world import World

SILENT, LOUD, TRACEBACK = "a success without its device", "a success that isn't silent", "a traceback"
# What a shell says of itself although it goes on: that a child was killed, that it can't open or copy a descriptor.
_TOLD = re.compile(r"(Killed\n)?(\S+/cdi-runtime: \d+: .*\n)*")
# What nobody can mend: what is wrong then, and a pattern of the call.
_SCRIPT = r".*/cdi_hook/start\.py>"
NOTHING_TO_DO = (
    # A shell takes a script that it can't read for an empty one, and succeeds. The runtime wasn't called, so the engine
    # misses its container at once.
    (SILENT, r'read\(10<\S*/usr/bin/cdi-(runtime|hook)>, "#!/bin/sh'),
    # Python first looks whether a script is a zip file, and itself says so if it can't.
    (LOUD, _SCRIPT),
    (TRACEBACK, _SCRIPT),
)
_NUMBERS = re.compile(r"0x[0-9a-f]+|\d+")
_LOOKS = re.compile(
    r"(newfstatat|fstat|statx|fstatfs|lseek|ioctl|read|pread64|readlink|readlinkat|access|faccessat2|getdents64|getcwd|"
    r"get\w+|listxattr|flistxattr|uname|sysinfo|prlimit64|poll|close)\(|openat\((?!.*O_CREAT)|fcntl\(.*F_(DUP|GET|SETFD)"
)
EVERY = 240  # of the interpreter's calls, which are many and much alike, one in so many is hit


def chosen(calls: list[Call], fault: str) -> list[Call]:
    """Return the calls to hit: all of them where that is asked for, else a part that covers all of our own.

    A process that is killed before a call that only looks leaves what it would have left at the call before. So
    of our calls those are killed that come after one that changed something. Of calls that differ in nothing but
    numbers, one fails, with one of the errors in turn. Of the interpreter's calls it is one in EVERY.
    """
    if fault != KILL:
        calls = [call for call in calls if not CANNOT_FAIL.match(call.text)]
    if os.environ.get("CDI_HOOK_FAULTS") == "all":
        return calls
    place, errors = FAULTS.index(fault), len(FAULTS) - 1
    ours = [call for call in calls if call.is_ours]
    if fault == KILL:
        ours = [
            call for before, call in zip([None, *ours], ours) if not (before and _LOOKS.match(before.text))
        ]
    else:
        distinct = {(call.process, _NUMBERS.sub("0", call.text.partition(" = ")[0])): call for call in ours}
        ours = list(distinct.values())[place - 1 :: errors]
    return ours + [call for call in calls if not call.is_ours][place::EVERY]


class Survey:
    """All attacks of one kind on one form: ``wrong`` is what must not be, ``became`` counts how the runs ended."""

    def __init__(self, world: World, form: Form, fault: str) -> None:
        self._world, self._form, self._fault = world, form, fault
        self._command = form.command(world)
        self._fresh()
        self.calls = world.attack.calls(self._command, world.environ, world.marks, form.stdin(world))
        self._old = self._fresh()
        outcome = self._run()
        assert outcome.status == (1 if form.refusal else 0), outcome
        assert form.refusal in outcome.err
        assert form.is_done(world, outcome) != bool(form.refusal)
        self._new = world.state()
        self._mended = {self._key(self._old), self._key(self._new)}
        self.wrong: dict[str, list[str]] = {}
        self.became: Counter[str] = Counter()

    def run(self, calls: Iterable[Call]) -> None:
        """Hit each of these calls."""
        for call in calls:
            self._fresh()
            stdin = self._form.stdin(self._world)
            outcome = self._world.attack.hit(call, self._fault, self._command, self._world.environ, stdin)
            for problem in self._problems(outcome):
                if any(problem == what and re.match(text, call.text) for what, text in NOTHING_TO_DO):
                    continue
                self.wrong.setdefault(problem, []).append(
                    f"{call} -> {outcome.status} {self._words(outcome)[-300:]!r}"
                )

    def _fresh(self) -> dict[str, bytes]:
        self._form.prepare(self._world)
        self._world.called()
        for log in (self._world.log, self._world.own_log):
            log.unlink(missing_ok=True)
        return self._world.state()

    def _run(self) -> Outcome:
        return self._world.attack.run(self._command, self._world.environ, self._form.stdin(self._world))

    def _words(self, outcome: Outcome) -> str:
        return outcome.err + (self._world.log.read_text("utf-8") if self._world.log.exists() else "")

    def _key(self, state: dict[str, bytes]) -> frozenset[tuple[str, bytes]]:
        return frozenset(state.items())

    def _problems(self, outcome: Outcome) -> Iterable[str]:
        words, state = self._words(outcome), self._world.state()
        if outcome.status == NOT_HIT:
            self.became["not hit"] += 1
            return
        if outcome.status is None:
            yield "hangs"
        elif outcome.status == 0:
            self.became["right"] += 1
            if self._form.refusal or not self._form.is_done(self._world, outcome):
                yield SILENT
            if not (self._form.may_warn or _TOLD.fullmatch(outcome.err)):
                yield LOUD
        elif outcome.status < 0:
            self.became["killed"] += 1
            if self._fault != KILL:
                yield "a crash"
        else:
            self.became["refused"] += 1
            if not words.strip():
                yield "a failure without words"
        if outcome.status != 0 and self._fault != KILL and self._form.made(self._world):
            yield f"left in the container: {self._form.made(self._world)}"
        if "Traceback" in words:
            yield TRACEBACK
        for path in self._form.whole(self._world):
            if state.get(path) not in (self._old.get(path), self._new.get(path)):
                yield f"half a file: {path}"
        key = self._key(state)
        if key not in self._mended:
            again = self._run()
            if again.status != (1 if self._form.refusal else 0):
                yield f"the next run: {again}"
            left = self._world.state().keys() - self._new.keys()
            if left:
                yield f"left behind: {left}"
            self._mended.add(key)
