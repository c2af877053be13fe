# SPDX-License-Identifier: Apache-2.0
"""A spec dir, a configuration and two runtimes in a mount namespace of their own, where anything may be mounted."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from .lab import CDI_RUNTIME, STANDARD_PATH

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

DEVICE = "vendor.com/device=one"
MTIME = 1_000_000_000
OTHER = "s/ONE=1/ONE=2/;s/runtime-a/runtime-b/"  # as sed makes the new file of the old one


class World:
    """A spec dir, a configuration in a dir of its own, two runtimes, and a mount namespace."""

    def __init__(self, directory: Path, keeper: int, file: str) -> None:
        self.directory, self.keeper, self._file = directory, keeper, file
        self.is_before = False
        for name in ("cdi", "etc", "new", "bundle"):
            (directory / name).mkdir(parents=True)
        for name in "ab":
            program = directory / f"runtime-{name}"
            program.write_text(f"#!/bin/sh\necho {name} >{directory}/called\n")
            program.chmod(0o755)
        device = {"name": "one", "containerEdits": {"env": ["ONE=1"]}}
        spec = {"cdiVersion": "0.6.0", "kind": "vendor.com/device", "devices": [device]}
        self.conf, self.spec = directory / "etc/conf", directory / "cdi/one.json"
        self.spec.write_text(json.dumps(spec))
        self.configure(f"{directory}/cdi")
        self.old = self.spec if file == "spec" else self.conf
        self.new = directory / "new" / self.old.name
        text = self.old.read_text().replace("ONE=1", "ONE=2").replace("runtime-a", "runtime-b")
        self.new.write_text(text)
        for path in (self.spec, self.conf, self.new, self.new.parent, self.old.parent):
            os.utime(path, (MTIME, MTIME))

    def configure(self, spec_dirs: str) -> None:
        """Write the configuration."""
        self.conf.write_text(f"RUNTIMES={self.directory}/runtime-a\nSPEC_DIRS={spec_dirs}\n")

    def complain(self, arguments: str) -> str:
        """Run cdi-hook, or create a container by "runtime"; return what it says on stdout and stderr."""
        if arguments != "runtime":
            return self.say(f"{arguments} 2>&1 || :")
        self.ask()
        return self.run(f"CDI_HOOK_CONFIG={self.conf} {CDI_RUNTIME} create --bundle bundle id 2>&1 || :")

    def say(self, arguments: str) -> str:
        """Run cdi-hook in the namespace; return what it says."""
        return self.run(f"CDI_HOOK_CONFIG={self.conf} {CDI_RUNTIME.with_name('cdi-hook')} {arguments}")

    def run(self, script: str) -> str:
        """Run a script in the namespace; return its output."""
        words = {
            "old": self.old,
            "new": self.new.relative_to(self.directory),
            "dir": self.old.parent,
            "other": OTHER,
        }
        environ = {"PATH": STANDARD_PATH, "HOME": "/", **{name: str(value) for name, value in words.items()}}
        return subprocess.run(
            ["nsenter", f"--mount=/proc/{self.keeper}/ns/mnt", "sh", "-efc", 'cd "$1"; set +f; eval "$2"', "sh",
             str(self.directory), script],
            env=environ, check=True, stdout=subprocess.PIPE, text=True,
        ).stdout  # fmt: skip

    def ask(self) -> Path:
        """Have the bundle ask for the device; return its config.json."""
        config = self.directory / "bundle/config.json"
        config.write_text(json.dumps({"annotations": {"cdi.k8s.io/test": DEVICE}}))
        return config

    def create(self) -> str:
        """Create a container; return what says which file counted."""
        config = self.ask()
        self.run(f"CDI_HOOK_CONFIG={self.conf} {CDI_RUNTIME} create --bundle bundle id")
        if self._file == "spec":
            return str(json.loads(config.read_text())["process"]["env"])
        called = (self.directory / "called").read_text()
        self.run(f"CDI_HOOK_CONFIG={self.conf} {CDI_RUNTIME} state id")
        assert (self.directory / "called").read_text() == called
        return called


@pytest.fixture(scope="module")
def keeper() -> Generator[int]:
    """A process in a mount namespace of its own, where nothing is kept yet."""
    script = (
        "mkdir -p /run/cdi-hook; mount -t tmpfs -o mode=755 none /run/cdi-hook; echo; exec sleep infinity"
    )
    with subprocess.Popen(
        ["unshare", "-m", "--propagation", "private", "sh", "-ec", script], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"\n"
        yield process.pid
        process.kill()
