# SPDX-License-Identifier: Apache-2.0
"""programs: the paths of this installation, as others may write them down."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from cdi_hook.base import programs

ROOT = Path(__file__).resolve().parents[3]


def installed(place: Path) -> Path:
    """Make the program in a dir, with the tree's modules; it prints what others write down of it."""
    text = (ROOT / "packaging/bin/cdi-hook").read_text("utf-8")
    text = text.replace("cdi_lib='' ", f"cdi_lib={ROOT} ", 1)
    text = text.replace("from cdi_hook.cli import run", "from cdi_hook.base.programs import path, command")
    place.mkdir(parents=True)
    for name in ("cdi-hook", "cdi-runtime"):
        (place / name).write_text(
            text.replace("\nrun()'", '\nprint(path("cdi-runtime"), command())\''), "utf-8"
        )
        (place / name).chmod(0o755)
    return place / "cdi-hook"


def shown(*command: str | Path, cwd: Path | None = None) -> list[str]:
    """Run the program; return the path of cdi-runtime and what a person types."""
    environ = {"PATH": "/usr/bin:/bin"}
    return subprocess.run(
        command, check=True, capture_output=True, text=True, env=environ, cwd=cwd
    ).stdout.split()


def test_the_dir_that_was_called(tmp_path: Path) -> None:
    """It is the dir by the path that was called, also relative to the current dir, with a link that an upgrade changes."""
    program = installed(tmp_path / "1.0/bin")
    (tmp_path / "current").symlink_to("1.0")
    stable = tmp_path / "current/bin"
    assert shown(stable / "cdi-hook") == [f"{stable}/cdi-runtime", f"{stable}/cdi-hook"]
    assert shown("./cdi-hook", cwd=program.parent) == [f"{program.parent}/cdi-runtime", str(program)]


@pytest.mark.parametrize("target", ["{stable}/cdi-hook", "../current/bin/cdi-hook"])
def test_a_link_to_the_program(tmp_path: Path, target: str) -> None:
    """A link that somebody has made to the program is followed, one that leads to its dir isn't."""
    installed(tmp_path / "1.0/bin")
    (tmp_path / "current").symlink_to("1.0")
    (tmp_path / "own").mkdir()
    stable = tmp_path / "current/bin"
    (tmp_path / "own/cdi-hook").symlink_to(target.format(stable=stable))
    assert shown(tmp_path / "own/cdi-hook") == [f"{stable}/cdi-runtime", f"{stable}/cdi-hook"]


@pytest.mark.parametrize(
    ("place", "typed"), [("/usr/bin", "cdi-hook"), ("/opt/x/bin", "/opt/x/bin/cdi-hook")]
)
def test_what_a_person_types(monkeypatch: pytest.MonkeyPatch, place: str, typed: str) -> None:
    """The name is enough where sudo's PATH has it; elsewhere it is the path."""
    monkeypatch.setattr(programs, "path", lambda name: f"{place}/{name}")
    assert programs.command() == typed
