# SPDX-License-Identifier: Apache-2.0
"""Runs cases in every environment, interleaved, with a stub as the real runtime."""

from __future__ import annotations

import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .cases import ENVIRONMENTS, FLOOR, MARK, OURS, PEER, SPECS, TREE, Case, Environment, oci

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HERE = Path(__file__).parent
PYTHON = "/usr/bin/python3"
TMPFS = "/dev/shm"
# Where indexes are; their names have the spec dirs in them.
INDEXES = Path("/run/cdi-hook")
WARM_UP = 2
# What changed a moment ago isn't compiled.
SETTLE_S = 0.1


class Samples:
    """The times and peaks of memory of one command."""

    def __init__(self) -> None:
        self.times_ms: list[float] = []
        self.peaks_mb: list[float] = []

    def add(self, result: str) -> bool:
        """Keep what the starter wrote; return whether the command succeeded."""
        nanoseconds, kilobytes, status = map(int, result.split())
        self.times_ms.append(nanoseconds / 1e6)
        self.peaks_mb.append(kilobytes / 1024)
        return status == 0

    @property
    def ms(self) -> float:
        """The median time."""
        return statistics.median(self.times_ms)

    @property
    def mb(self) -> float:
        """The median of the peaks."""
        return statistics.median(self.peaks_mb)


class Starter:
    """The program that runs and measures others."""

    def __init__(self, directory: Path) -> None:
        self.program = compiled(directory, "start")
        self._result = directory / "result"
        self._errors = directory / "stderr"

    def run(self, command: Sequence[str], environment: dict[str, str], samples: Samples) -> None:
        """Run a command that has to succeed, and keep what it took."""
        arguments = [self.program, str(self._result), *command]
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
            (os.POSIX_SPAWN_OPEN, 2, self._errors, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600),
        ]
        child = os.posix_spawn(self.program, arguments, environment, file_actions=actions)
        os.waitpid(child, 0)
        if not samples.add(self._result.read_text("ascii")):
            sys.exit(f"bench: {' '.join(command)[:300]} failed: {self._errors.read_text('utf-8', 'replace')}")


def compiled(directory: Path, name: str) -> str:
    """Compile a program of this dir."""
    program = directory / name
    subprocess.run(["cc", "-O2", "-static", "-o", program, HERE / f"{name}.c"], check=True)
    return str(program)


def install(*variables: str) -> None:
    """Install the tree."""
    subprocess.run(["make", "-s", "-C", TREE, "install", *variables], check=True)


def peer() -> str | None:
    """Return where nvidia-container-runtime is, if it is on PATH."""
    return shutil.which(PEER)


def _script(path: Path, text: str) -> str:
    path.write_text(text, "ascii")
    path.chmod(0o755)
    return str(path)


class Place:
    """A directory with all that the cases need."""

    def __init__(self, directory: Path, memory: Path) -> None:
        directory.chmod(0o755)
        self.directory = directory
        self._disk, self._memory = directory / "bundle", memory
        self._disk.mkdir(mode=0o700)
        # runc is found in the third dir of PATH, as it is on Debian in an engine's PATH.
        (directory / "sbin").mkdir()
        shutil.copy(compiled(directory, "stub"), directory / "sbin/runc")
        self.path = (
            f"{directory}/local/sbin:{directory}/local/bin:{directory}/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
        )
        install(f"PREFIX={directory}/usr", f"SYSCONFDIR={directory}/etc")
        grep = f"grep -q cdi.k8s.io/ {memory}/config.json"
        self._programs = {
            OURS: [f"{directory}/usr/bin/cdi-runtime"],
            PEER: [peer() or ""],
            # What such a script can't do without: find the runtime and become it; with a grep, see what a create asks for.
            "script": [_script(directory / "script", '#!/bin/sh\nexec runc "$@"\n')],
            "grep": [_script(directory / "grep", f'#!/bin/sh\n{grep}\nexec runc "$@"\n')],
            "stub": [str(directory / "stub")],
        }
        for name, make in SPECS.items():
            spec_dir = self.spec_dir(name)
            spec_dir.mkdir(parents=True)
            for file, text in make().items():
                (spec_dir / file).write_text(text, "utf-8")
            self._configure_peer(name)

    def bundle(self, case: Case) -> Path:
        """Return a case's bundle."""
        return self._disk if case.on_disk else self._memory

    def spec_dir(self, specs: str) -> Path:
        """Return where a set of specs is."""
        return self.directory / "specs" / specs

    def _configure_peer(self, specs: str) -> None:
        directory = self.directory / "peer" / specs / PEER
        directory.mkdir(parents=True)
        (directory / "config.toml").write_text(peer_configuration(self.spec_dir(specs)), "utf-8")

    def command(self, case: Case, who: str) -> list[str]:
        """Return a command line, as containerd has it."""
        if who == "python":
            return [
                PYTHON,
                "-IS",
                "-c",
                "import posix; posix._exit(0)",
            ]  # as a create, it has no end of its own
        bundle = self.bundle(case)
        log = ["--root", f"{self.directory}/root", "--log", f"{bundle}/log.json", "--log-format", "json"]
        create = ["--bundle", str(bundle), "--pid-file", f"{bundle}/init.pid"]
        return [
            *self._programs[who],
            *log,
            case.command,
            *(create if case.command == "create" else ()),
            "bench",
        ]

    def environment(self, case: Case, who: str, base: Environment) -> dict[str, str]:
        """Return a runtime's environment."""
        own = {}
        if who == OURS:
            own["CDI_HOOK_CONFIG"] = str(self._configuration(case))
        elif who == PEER:
            own["XDG_CONFIG_HOME"] = f"{self.directory}/peer/{case.specs}"
        return {"PATH": self.path, **base.variables, **own}

    def _configuration(self, case: Case) -> Path:
        """Return the configuration of a case, made when first asked for."""
        path = self.directory / f"{case.name.replace(' ', '-')}.conf"
        if case.settings is not None and not path.exists():
            own = case.settings.format(log=self.directory / "log")
            path.write_text(f"SPEC_DIRS={self.spec_dir(case.specs)}\n{own}\n", "utf-8")
        return path

    def indexes(self, specs: str) -> list[Path]:
        """Return the indexes of a set of specs."""
        return list(INDEXES.glob(f"*{_flat(self.spec_dir(specs))}.*"))


def leftovers(directory: Path) -> list[Path]:
    """Return what lies in INDEXES for a place in this directory."""
    return list(INDEXES.glob(f"*{_flat(directory)}*"))


def _flat(path: Path) -> str:
    return str(path).strip("/").replace("/", "-")


def peer_configuration(spec_dir: object) -> str:
    """Return nvidia-container-runtime's configuration that does as ours."""
    return (
        '[nvidia-container-runtime]\nruntimes = ["runc"]\nmode = "cdi"\n'
        f'[nvidia-container-runtime.modes.cdi]\nspec-dirs = ["{spec_dir}"]\n'
        'annotation-prefixes = ["cdi.k8s.io/"]\n'
    )


class Run:
    """A command to measure: somebody's case in an environment."""

    def __init__(self, place: Place, case: Case, who: str, base: Environment) -> None:
        self.case = case
        self.who = who
        self.key = base.name, case.name, who if who in {OURS, PEER} else FLOOR
        self.samples = Samples()
        self._place = place
        self._command = place.command(case, who)
        self._environment = place.environment(case, who, base)
        self._oci = oci(case.asked, case.size) if case.command == "create" else ""
        self._config = place.bundle(case) / "config.json"

    def prepare(self) -> None:
        """Put back what the last run changed."""
        if self._oci:
            self._config.write_text(self._oci, "utf-8")
        if self.case.cold:
            for path in self._place.indexes(self.case.specs):
                path.unlink()

    def run(self, starter: Starter) -> None:
        """Run once."""
        self.prepare()
        starter.run(self._command, self._environment, self.samples)

    def check(self) -> None:
        """See that the command has done what it is measured for."""
        if self._oci and self.who in {OURS, PEER}:
            injected = MARK in self._config.read_text("utf-8")
            if injected != bool(self.case.asked):
                sys.exit(f"bench: {self.who}, {self.case.name}: injected is {injected}")
        if self.case.cold and not self._place.indexes(self.case.specs):
            sys.exit(f"bench: {self.case.name}: there is no index in {INDEXES} to be removed")


def measure(cases: Iterable[Case], rounds: int, directory: Path) -> dict[tuple[str, str, str], Samples]:
    """Return what each case took, by environment, case and who; each round runs all of them, in an order of its own."""
    with tempfile.TemporaryDirectory(prefix="cdi-hook-bench-", dir=TMPFS) as memory:
        return _measure(cases, rounds, directory, Path(memory))


def _measure(
    cases: Iterable[Case], rounds: int, directory: Path, memory: Path
) -> dict[tuple[str, str, str], Samples]:
    place = Place(directory, memory)
    starter = Starter(directory)
    runs = [
        Run(place, case, who, environment)
        for environment in ENVIRONMENTS
        for case in cases
        for who in case.who
        if who != PEER or peer()
    ]
    time.sleep(SETTLE_S)
    before = Path.cwd()
    os.chdir(memory)  # as containerd does
    try:
        for _ in range(WARM_UP):
            for run in runs:
                run.run(starter)
                run.check()
        for run in runs:
            run.samples = Samples()
        chance = random.Random(0)
        for number in range(rounds):
            chance.shuffle(runs)
            for run in runs:
                if number % run.case.every == 0:
                    run.run(starter)
            progress(f"round {number + 1} of {rounds}")
    finally:
        os.chdir(before)
        for path in leftovers(directory):
            path.unlink()
    return {run.key: run.samples for run in runs}


def progress(text: str) -> None:
    """Say how far it is, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r{text}\033[K", end="", file=sys.stderr, flush=True)
