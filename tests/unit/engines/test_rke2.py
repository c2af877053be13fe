# SPDX-License-Identifier: Apache-2.0
"""engines.rke2: it is as k3s, and what differs is its places and units."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdi_hook.engines.rke2 import ENGINE

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_the_unit_that_runs_is_restarted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node runs the server or the agent; if none runs, it is the server."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    systemctl = tmp_path / "systemctl"
    for running, unit in (("rke2-agent", "rke2-agent"), ("rke2-server", "rke2-server"), ("x", "rke2-server")):
        systemctl.write_text(f'#!/bin/sh\n[ "$*" = "is-active --quiet {running}" ]\n')
        systemctl.chmod(0o755)
        assert ENGINE.reload_command(ENGINE.file) == ["systemctl", "restart", unit]
