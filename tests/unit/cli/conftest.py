# SPDX-License-Identifier: Apache-2.0
"""A host of its own for each test of the command line: spec dir, configuration, bundle, environment."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from cdi_hook.base import files
from cdi_hook.config import settings

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = ROOT / "packaging/bin/cdi-hook"

VENDOR = {
    "cdiVersion": "0.3.0",
    "kind": "vendor.com/gpu",
    "containerEdits": {"env": ["DRIVER=1"]},
    "devices": [
        {
            "name": "gpu0",
            "containerEdits": {
                "env": ["GPU=0"],
                "deviceNodes": [
                    {"path": "/dev/gpu0", "type": "c", "major": 195, "minor": 7, "fileMode": 432}
                ],
            },
        },
        {"name": "gpu1", "containerEdits": {"env": ["GPU=1"]}},
    ],
}


# Where list and show say that a device is.
PLACE = ("name", "path", "priority", "shadowed", "holder")


class Shape(NamedTuple):
    """What test_shapes.py tests of a command. In arguments, SPECS and BUNDLE are the world's dirs, and FILE is one that can't be read."""

    items: tuple[str, ...]  # what an item of --json has
    works: str  # arguments with which it ends with 0
    fails: str  # and with 1


class World:
    """Where the program runs: its files are under ``root``, and its variables are ``environ``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.specs = root / "cdi"
        self.config = root / "cdi-hook.conf"
        self.bundle = root / "bundle"
        self.environ = {"PATH": "/usr/bin:/bin", "HOME": str(root), "CDI_HOOK_CONFIG": str(self.config)}
        self.specs.mkdir(mode=0o755)
        self.bundle.mkdir()
        self.configure()

    def configure(self, **values: str) -> None:
        """Write the configuration, with the spec dir here."""
        lines = {"SPEC_DIRS": self.specs, **values}
        self.config.write_text("".join(f"{key}='{value}'\n" for key, value in lines.items()))

    def spec(self, name: str, data: object = VENDOR) -> str:
        """Write a spec file and return its path."""
        path = self.specs / name
        path.write_text(data if isinstance(data, str) else json.dumps(data))
        path.chmod(0o644)
        return str(path)

    def oci(self, tree: object) -> Path:
        """Write the bundle's config.json and return its path."""
        path = self.bundle / "config.json"
        path.write_text(json.dumps(tree))
        return path

    def __call__(
        self, *arguments: str | Path | bytes, stdin: str | bytes = b"", **environ: str
    ) -> tuple[int, str, str]:
        """Run the program; return its exit status, stdout and stderr."""
        done = subprocess.run(
            [PROGRAM, *arguments],
            input=stdin.encode() if isinstance(stdin, str) else stdin,
            capture_output=True,
            cwd=self.root,
            env={**self.environ, **environ},
            check=False,
            timeout=60,
        )
        return done.returncode, done.stdout.decode(errors="backslashreplace"), done.stderr.decode()

    def items(self, *arguments: str | Path, stdin: str | bytes = b"") -> list[Any]:
        """Run the program with --json, whatever it says on stderr; return the items."""
        said = json.loads(self(*arguments, "--json", stdin=stdin)[1])
        assert [*said] == ["version", "items", "warnings", "errors"]
        items: list[Any] = said["items"]
        return items

    def json(self, *arguments: str | Path, stdin: str | bytes = b"") -> Any:
        """Run the program, which must succeed without a message, and return its decoded output."""
        status, out, err = self(*arguments, stdin=stdin)
        assert (status, err) == (0, "")
        said = json.loads(out)
        if "--json" not in arguments:
            return said
        assert [*said] == ["version", "items", "warnings", "errors"]
        assert (said["version"], said["warnings"], said["errors"]) == (1, [], [])
        return said["items"]


@pytest.fixture
def cdi_hook(tmp_path: Path) -> World:
    """Return the program in a world without specs, and without the user's own dirs."""
    return World(tmp_path)


@pytest.fixture
def state(cdi_hook: World, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The dir for the index, for a command in this process: for root it would be the machine's. The world's configuration."""
    path = cdi_hook.root / "run/cdi-hook"
    path.parent.mkdir()
    monkeypatch.setattr(settings, "state_dir", lambda _environ, _system: str(path))
    monkeypatch.setattr(files, "is_system_root", lambda: False)
    monkeypatch.setenv("CDI_HOOK_CONFIG", str(cdi_hook.config))
    monkeypatch.setenv("HOME", "/nonexistent")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    return path
