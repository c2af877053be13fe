# SPDX-License-Identifier: Apache-2.0
"""The spy (spy.c) in place of a runtime, and what it recorded."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .lab import CDI_RUNTIME, STANDARD_PATH, TIMEOUT_S

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# What a process got, by the names of spy.c.
Record = dict[str, list[bytes]]


@dataclass(frozen=True)
class Situation:
    """How to start a process."""

    environ: dict[bytes, bytes] = field(default_factory=dict)  # besides PATH, HOME, CDI_HOOK_CONFIG
    unset: tuple[bytes, ...] = ()  # besides these
    arguments: tuple[bytes, ...] = ()  # more arguments, at the end
    setup: Callable[[], object] | None = None  # called in the new process, before exec
    prefix: tuple[str, ...] = ()  # a command before the program's


def compiled(source: Path, directory: Path) -> Path:
    """Compile a program of one file into a directory; skip the test if there is no compiler."""
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("cc isn't installed")
    program = directory / source.stem
    subprocess.run([compiler, "-O1", "-Wall", "-Wextra", "-Werror", "-o", program, source], check=True)
    return program


class Spy:
    """A program in place of a runtime, which records what it got, by whichever name it is called."""

    def __init__(self, compiled: Path, directory: Path) -> None:
        self.directory = directory
        self.compiled = compiled
        self.configuration = directory / "cdi-hook.conf"
        self.program = self.install(directory / "spy")
        self.output = directory / "output"
        self.output.touch()

    def install(self, program: Path) -> Path:
        """Copy the spy to another place, under another name."""
        program.parent.mkdir(parents=True, exist_ok=True)
        return Path(shutil.copy(self.compiled, program))

    def configure(self, **values: str | Path) -> None:
        """Write the configuration."""
        text = "".join(f"{key}='{value}'\n" for key, value in values.items())
        self.configuration.write_text(text, "utf-8")

    def seen(self, command: Sequence[str | bytes | Path], situation: Situation) -> Record:
        """Run a command that must become the spy, silently and as the same process; return the spy's record."""
        environ = {
            b"PATH": STANDARD_PATH.encode(),
            b"HOME": os.fsencode(self.directory),
            b"CDI_HOOK_CONFIG": os.fsencode(self.configuration),
        }
        for name in situation.unset:
            del environ[name]
        # Any two calls get the same open files; Python's own are close-on-exec.
        with self.output.open("r+b", buffering=0) as output:
            process = subprocess.Popen(
                [*situation.prefix, *command, *situation.arguments],
                env=environ | situation.environ, cwd=self.directory,
                preexec_fn=situation.setup,  # noqa: PLW1509 # there are no threads
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, close_fds=False,
            )  # fmt: skip
            try:
                status = process.wait(TIMEOUT_S)
            finally:
                process.kill()
        printed = self.output.read_bytes()
        self.output.write_bytes(b"")
        assert (status, printed) == (0, b"")
        record = self.record(self.program)
        assert record.pop("pid") == [str(process.pid).encode()], "the process wasn't replaced"
        return record

    @staticmethod
    def record(program: Path) -> Record:
        """Return a spy's record, or {} if it wasn't called, and remove the record."""
        file = program.with_name(f"{program.name}.record")
        record: Record = {}
        if file.exists():
            for line in file.read_text("ascii").splitlines():
                name, _, value = line.partition(" ")
                record.setdefault(name, []).append(bytes.fromhex(value))
            file.unlink()
        record.get("environment", []).sort()  # the order of variables doesn't matter
        return record

    def call(
        self, *arguments: str, program: str | Path = CDI_RUNTIME, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """Call cdi-runtime with this environment only."""
        return subprocess.run(
            [program, *arguments],
            env={"CDI_HOOK_CONFIG": str(self.configuration), **environ}, cwd=self.directory,
            stdin=subprocess.DEVNULL, capture_output=True, timeout=TIMEOUT_S, check=False, text=True,
        )  # fmt: skip
