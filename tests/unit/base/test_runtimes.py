# SPDX-License-Identifier: Apache-2.0
"""programs: the same runtimes as the door finds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cdi_hook.base import programs

if TYPE_CHECKING:
    import pytest

DOOR = Path(__file__).resolve().parents[3] / "packaging/bin/cdi-runtime"


def test_it_looks_where_the_door_looks() -> None:
    """The dirs after PATH are the door's."""
    assert f"in ${{PATH-}} {' '.join(programs.DIRS)}; do" in DOOR.read_text("utf-8")


def test_what_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of each name the first program counts, by path, on PATH or in the dirs; cdi-runtime and links to it don't."""
    monkeypatch.setattr(programs, "DIRS", (f"{tmp_path}/last",))
    monkeypatch.setenv("PATH", f".:{tmp_path}/first")
    for name in ("first/one", "last/one", "last/two", "else/three", "first/cdi-four"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch(0o755)
    (tmp_path / "first/five").symlink_to(tmp_path / "first/cdi-four")
    (tmp_path / "last/six").touch(0o644)
    names = ("one", "two", "three", "cdi-four", "five", "six", f"{tmp_path}/else/three", "else/three")
    assert [*programs.theirs(names)] == [
        f"{tmp_path}/{name}" for name in ("first/one", "last/two", "else/three")
    ]
