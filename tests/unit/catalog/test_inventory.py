# SPDX-License-Identifier: Apache-2.0
"""inventory: all devices and problems, the same by the index and by the specs."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from cdi_hook.catalog import index_writer, inventory
from cdi_hook.catalog.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path


def spec(path: Path, *names: str, **more: Any) -> str:
    """Write a spec that settled long ago, and return its path."""
    devices = [{"name": name, "containerEdits": {"env": ["A=1"]}} for name in names]
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps({"cdiVersion": "0.3.0", "kind": "vendor.com/gpu", "devices": devices, **more}))
    os.utime(path, (1, 1))
    return str(path)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """Two spec dirs: the second overrides a device of the first, and has a file that can't be used."""
    spec(tmp_path / "low/a.json", "a", "b")
    spec(tmp_path / "high/b.json", "b")
    spec(tmp_path / "high/bad.json", "c", cdiVersion="9")
    return Registry(
        [str(tmp_path / "low"), str(tmp_path / "high"), str(tmp_path / "none")],
        str(tmp_path / "state"),
        strict=False,
    )


def without_specs(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> inventory.Inventory:
    """Return the inventory by a new registry that must not read a spec."""

    def refuse(_registry: Registry) -> None:
        raise AssertionError("the specs were read")

    with monkeypatch.context() as patch:
        patch.setattr(Registry, "cache", property(refuse))
        dirs, state = registry.spec_dirs, os.path.dirname(registry.index.path)
        return Registry(dirs, state, strict=False).inventory()


def test_by_specs_and_by_index(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each device has its spec and those that it overrides; the index gives the same without reading a spec."""
    found = registry.inventory()
    low, high, bad = (str(tmp_path / name) for name in ("low/a.json", "high/b.json", "high/bad.json"))
    assert found.devices == {"vendor.com/gpu=a": (low, []), "vendor.com/gpu=b": (high, [low])}
    ((path, (told,)),) = found.problems.items()
    assert (path, told.place, told.message.startswith('invalid version "9"')) == (bad, ".cdiVersion", True)
    index_writer.build(registry.index, registry.cache)
    assert without_specs(registry, monkeypatch) == found


def test_a_change_is_seen(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An index that doesn't fit the specs any more counts as none, and reading doesn't write one."""
    index_writer.build(registry.index, registry.cache)
    time.sleep(0.01)
    spec(tmp_path / "low/c.json", "d")
    with pytest.raises(AssertionError, match="the specs were read"):
        without_specs(registry, monkeypatch)
    before = (tmp_path / "state").stat().st_mtime_ns
    again = Registry(registry.spec_dirs, str(tmp_path / "state"), strict=False)
    assert "vendor.com/gpu=d" in again.inventory().devices
    assert (tmp_path / "state").stat().st_mtime_ns == before


def test_priority() -> None:
    """A spec's priority is the last place of its dir among the spec dirs."""
    dirs = ["/etc/cdi/", "/var/run/cdi", "/etc/cdi", "."]
    places = ("/etc/cdi/a.json", "/var/run/cdi/a.json", "a.json")
    assert [inventory.priority(path, dirs) for path in places] == [2, 1, 3]
