# SPDX-License-Identifier: Apache-2.0
"""What a call costs: the CPU and the memory of its process, and what it writes."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .lab import CDI_RUNTIME, STANDARD_PATH

if TYPE_CHECKING:
    from pathlib import Path

# A process of its own: a child that is made by vfork begins with its parent's peak. What a second of CPU does depends
# on what else the machine does; so a piece of work is measured before and after the call, and the slower one counts. If
# that took no longer than it takes by itself, nothing says that the call did: its seconds are taken as they are.
_METER = """
import os, sys, time

def yardstick():
    start, seen = time.process_time(), {}
    for number in range(500_000):
        seen[str(number & 4095)] = (number, "")
    return time.process_time() - start

YARDSTICK_S = 0.08  # what that takes where nothing else runs, on a machine of 2024
before = yardstick()
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, used = os.wait4(pid, 0)
work = max(before, yardstick())
with open("cost", "w") as file:
    cpu = (used.ru_utime + used.ru_stime) / max(work / YARDSTICK_S, 1)
    print(os.waitstatus_to_exitcode(status), cpu, used.ru_maxrss, file=file)
"""
RUNTIME = "/bin/true"
TIMEOUT_S = 120


@dataclass(frozen=True)
class Cost:
    """What a call cost, in s of a machine's CPU that does nothing else and MB, and what it said.

    It may have said something on stderr, in --log and in LOG.
    """

    status: int
    cpu: float
    memory: float
    stderr: str
    runtime_log: str
    log: str


class Meter:
    """A place for one spec dir, one configuration and one bundle."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.specs, self.bundle = directory / "cdi", directory / "bundle"
        self.configuration = directory / "cdi-hook.conf"
        self.log, self.runtime_log = directory / "LOG", directory / "runtime.log"
        for place in (self.specs, self.bundle, directory / "run"):
            place.mkdir(mode=0o755)
        self.spec("gpu", [f"gpu{number}" for number in range(8)])
        self.configure()

    def spec(self, class_: str, names: list[str], **edits: Any) -> None:
        """Write a spec with devices of these names, which make a variable each if nothing else is said."""
        devices = [
            {"name": name, "containerEdits": edits or {"env": [f"{name.upper()}=1"]}} for name in names
        ]
        text = json.dumps({"cdiVersion": "0.6.0", "kind": f"vendor.com/{class_}", "devices": devices})
        (self.specs / f"{class_}.json").write_text(text, "utf-8")

    def configure(self, rules: str = "", **values: str) -> None:
        """Write the configuration, with rules as they stand."""
        values = {"RUNTIMES": RUNTIME, "SPEC_DIRS": str(self.specs), "LOG": str(self.log), **values}
        text = "".join(f"{key}='{value}'\n" for key, value in values.items())
        self.configuration.write_text(f"{text}{rules}", "utf-8")

    def create(self, oci: str | dict[str, Any], *more: str) -> Cost:
        """Create a container with this config.json."""
        text = oci if isinstance(oci, str) else json.dumps(oci)
        (self.bundle / "config.json").write_text(text, "utf-8")
        options = (
            "--log",
            str(self.runtime_log),
            "--log-format",
            "json",
            "create",
            "--bundle",
            str(self.bundle),
        )
        return self.call(str(CDI_RUNTIME), *options, *(more or ("container",)))

    def call(self, *command: str, stdin: str = "") -> Cost:
        """Run a command."""
        for one in (self.log, self.runtime_log):
            one.unlink(missing_ok=True)
        environ = {
            "PATH": STANDARD_PATH,
            "CDI_HOOK_CONFIG": str(self.configuration),
            "XDG_RUNTIME_DIR": str(self.directory / "run"),
        }
        done = subprocess.run(
            [sys.executable, "-ISc", _METER, *command], env=environ, cwd=self.directory, timeout=TIMEOUT_S,
            input=stdin.encode(), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
        status, cpu, memory = (self.directory / "cost").read_text("ascii").split()
        stderr = done.stderr.decode("utf-8", "replace")
        logs = [one.read_text("utf-8") if one.exists() else "" for one in (self.runtime_log, self.log)]
        return Cost(int(status), float(cpu), int(memory) * 1024 / 1e6, stderr, *logs)
