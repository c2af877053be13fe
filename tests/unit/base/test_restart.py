# SPDX-License-Identifier: Apache-2.0
"""restart: which failures a package manager that replaces our modules may be the cause of."""

from __future__ import annotations

import posix
import time
from typing import TYPE_CHECKING

import pytest

from cdi_hook.base import restart

if TYPE_CHECKING:
    from pathlib import Path

OURS = (
    AttributeError("no such name"),
    ModuleNotFoundError("", name="cdi_hook.new"),
    SyntaxError("half a file"),
)
OTHERS = (ModuleNotFoundError("", name="yaml"), ModuleNotFoundError("", name="tomllib"))


@pytest.mark.parametrize("error", [*OURS, *OTHERS], ids=str)
@pytest.mark.parametrize("is_new", [True, False])
def test_what_is_tried_again(
    error: Exception, is_new: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call whose modules don't fit each other is tried again while our dirs are new; a missing package isn't ours."""
    (tmp_path / "base").mkdir()
    monkeypatch.setattr(restart, "__file__", f"{tmp_path}/base/restart.py")
    if not is_new:
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 60)
    calls: list[str] = []
    monkeypatch.setattr(posix, "execv", lambda path, _: calls.append(path))
    restart.restart_if_replaced(error)
    assert bool(calls) is (is_new and error in OURS)


def test_byte_code_is_no_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a start itself writes into __pycache__ doesn't make it start again, or it would do so for ever."""
    (tmp_path / "base").mkdir()
    cache = tmp_path / "__pycache__"
    cache.mkdir()
    monkeypatch.setattr(restart, "__file__", f"{tmp_path}/base/restart.py")
    monkeypatch.setattr(restart, "_SETTLED_S", 0.1)
    calls: list[str] = []
    monkeypatch.setattr(posix, "execv", lambda path, _: calls.append(path))
    time.sleep(0.2)
    (cache / "start.pyc").touch()
    restart.restart_if_replaced(OURS[0])
    assert calls == []
