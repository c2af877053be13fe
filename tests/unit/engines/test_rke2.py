# SPDX-License-Identifier: Apache-2.0
"""engines.rke2: it is as k3s, and what differs is its places and units."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cdi_hook.engines.edit import template
from cdi_hook.engines.edit.document import UnusableConfiguration
from cdi_hook.engines.engine import Request
from cdi_hook.engines.rke2 import Rke2

if TYPE_CHECKING:
    from pathlib import Path


def test_the_unit_that_runs_is_restarted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A node runs the server or the agent; if none runs, it is the server."""
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    systemctl = tmp_path / "systemctl"
    for running, unit in (("rke2-agent", "rke2-agent"), ("rke2-server", "rke2-server"), ("x", "rke2-server")):
        systemctl.write_text(f'#!/bin/sh\n[ "$*" = "is-active --quiet {running}" ]\n')
        systemctl.chmod(0o755)
        assert Rke2().reload_command(Rke2.file, restart=False) == ["systemctl", "restart", unit]


def test_a_default_runtime_is_set_in_its_own_file() -> None:
    """What it writes names RKE2, and what it refuses names RKE2's own file."""
    with pytest.raises(UnusableConfiguration) as caught:
        Rke2().check(template.BASE, Request("/usr/bin/cdi-runtime", set_default=True), [])
    assert str(caught.value).endswith("into /etc/rancher/rke2/config.yaml")
    assert Rke2().start("/config.toml.tmpl", []).splitlines() == [
        "# Written by `cdi-hook configure rke2`; --remove removes it.",
        '{{ template "base" . }}',
    ]
