# SPDX-License-Identifier: Apache-2.0
"""A host to examine: spec dir, configuration, state dir and system dirs below a dir of the test's own."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from cdi_hook.base import programs
from cdi_hook.doctor.patient import Patient
from cdi_hook.inject.pipeline import Host

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from cdi_hook.errors import Finding

    Said = list[tuple[str, str, str]]


class Place:
    """Where the files of a host are; ``programs`` is all of its PATH."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.specs, self.programs, self.config = root / "cdi", root / "bin", root / "cdi-hook.conf"
        for directory in (self.specs, self.programs):
            directory.mkdir(mode=0o755)
        self.configure()

    def configure(self, **values: str) -> None:
        """Write the configuration, with the spec dir here."""
        lines = {"SPEC_DIRS": self.specs, **values}
        self.write(self.config, "".join(f"{key}='{value}'\n" for key, value in lines.items()))

    def write(self, path: Path | str, text: str, mode: int = 0o644) -> str:
        """Write a file; a relative path is below the root. Return its path."""
        file = self.root / path
        file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)
        return str(file)

    def spec(self, name: str = "vendor.json", kind: str = "vendor.com/gpu", **edits: Any) -> str:
        """Write a spec with one device, gpu0, that has these edits."""
        wanted = edits or {"env": ["A=1"]}
        spec = {"cdiVersion": "1.1.0", "kind": kind, "devices": [{"name": "gpu0", "containerEdits": wanted}]}
        return self.write(self.specs / name, json.dumps(spec))

    def program(self, name: str, script: str) -> str:
        """Make a program that is a shell script."""
        return self.write(self.programs / name, f"#!/bin/sh\n{script}\n", 0o755)

    def patient(self) -> Patient:
        """Return the host to examine."""
        environ = {b"CDI_HOOK_CONFIG": os.fsencode(self.config), b"HOME": os.fsencode(self.root)}
        host = Host(environ)
        host.state_dir = str(self.root / "state")
        return Patient(host, str(self.root))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Return a host without engines and specs."""
    made = Place(tmp_path)
    monkeypatch.setenv("PATH", str(made.programs))
    monkeypatch.setenv("CDI_HOOK_CONFIG", str(made.config))
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(programs, "DIRS", ())
    monkeypatch.setattr(programs, "path", lambda name: str(made.programs / name))
    monkeypatch.setattr(programs, "command", lambda: "cdi-hook")
    return made


def said(check: Callable[[Patient], Sequence[Finding]], place: Place) -> Said:
    """Return what a check finds, as level, fact and fix, with the test's own dir as /T."""
    here = str(place.root)
    return [
        (one.level, one.message.replace(here, "/T"), one.fix.replace(here, "/T"))
        for one in check(place.patient())
    ]
