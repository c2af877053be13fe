# SPDX-License-Identifier: Apache-2.0
"""The targets: the tests in this dir that hypothesis feeds. One run is of one target, guided by coverage or at random.

    python -m tests.fuzz.targets TARGET SECONDS

It prints how many inputs the target took, or what it failed on, with exit status 1. atheris, where
it is installed, mutates inputs that reach new lines of cdi_hook; otherwise hypothesis draws them.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, is_hypothesis_test, settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

HERE = Path(__file__).parent
CORPUS = HERE.parents[1] / ".hypothesis/corpus"  # what atheris has found worth keeping
HANGS_S = 20  # an input that takes longer is a failure


def load(module: str = "*") -> dict[str, Any]:
    """Return all targets, or those of a module, by MODULE.NAME."""
    found = {}
    for path in sorted(HERE.glob(f"test_{module}.py")):
        for name, value in vars(importlib.import_module(f"{__package__}.{path.stem}")).items():
            if is_hypothesis_test(value):
                found[f"{path.stem.removeprefix('test_')}.{name.removeprefix('test_')}"] = value
    return found


class Run:
    """One run of a target: what it is given, until the time is over or it fails."""

    def __init__(self, name: str, seconds: float) -> None:
        self.name = name
        self.count = 0
        settings.register_profile(
            "fuzz", deadline=None, max_examples=50, suppress_health_check=list(HealthCheck)
        )
        settings.load_profile("fuzz")
        self.atheris = _atheris()
        with (
            self.atheris.instrument_imports(include=["cdi_hook"])
            if self.atheris
            else contextlib.nullcontext()
        ):
            self.target: Any = load(name.partition(".")[0])[name]
        self.target.hypothesis.inner_test = self._counting(self.target.hypothesis.inner_test)
        self._end = time.monotonic() + seconds
        signal.signal(signal.SIGALRM, _hang)

    def _counting(self, check: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(check)
        def counted(*arguments: Any, **named: Any) -> None:
            self.count += 1
            signal.alarm(HANGS_S)
            try:
                check(*arguments, **named)
            except TimeoutError as error:  # to make it small would take many times as long
                self._show(f"{error}: {arguments or ''}{named or ''}\n{traceback.format_exc()}")
            finally:
                signal.alarm(0)

        return counted

    def drawn(self) -> NoReturn:
        """Have hypothesis draw inputs, and end."""
        while time.monotonic() < self._end:
            self._try()
        self._leave(0)

    def guided(self) -> NoReturn:
        """Have atheris mutate inputs, and end."""
        self._try()  # what it once failed on, and what is drawn
        corpus = CORPUS / self.name
        corpus.mkdir(parents=True, exist_ok=True)
        feed = self.target.hypothesis.fuzz_one_input

        def one(data: bytes) -> None:
            try:
                feed(data)
            except BaseException:  # noqa: BLE001 # hypothesis has noted what it failed on
                self._try()  # once more, so that it becomes small and is shown
                self._show("it failed once, and not again")
            if time.monotonic() > self._end:
                self._leave(0)

        options = ["-timeout=0", "-rss_limit_mb=0", "-verbosity=0", str(corpus)]
        self.atheris.Setup([sys.argv[0], *options], one)
        self.atheris.Fuzz()
        raise AssertionError

    def _try(self) -> None:
        try:
            self.target()
        except BaseException:  # noqa: BLE001 # whatever it is, it is shown
            self._show(traceback.format_exc())

    def _show(self, failure: str) -> NoReturn:
        print(failure, file=sys.stderr)
        self._leave(1)

    def _leave(self, status: int) -> NoReturn:
        print(self.count, flush=True)
        atexit._run_exitfuncs()
        os._exit(status)  # atheris takes a normal exit for a crash


def _atheris() -> Any:
    try:
        return importlib.import_module("atheris")
    except ImportError:
        return None


def _hang(*_: object) -> NoReturn:
    raise TimeoutError(f"an input takes longer than {HANGS_S} s")


if __name__ == "__main__":
    run = Run(sys.argv[1], float(sys.argv[2]))
    run.guided() if run.atheris else run.drawn()
