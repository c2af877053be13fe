# SPDX-License-Identifier: Apache-2.0
"""Device nodes become edits: with the host's path where it is another one, with a group that isn't root's, no numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cdi_hook.generate import node_edits
from cdi_hook.generate.root import Root

from .fakehost import FakeHost

if TYPE_CHECKING:
    from pathlib import Path


def test_groups_and_links(tmp_path: Path) -> None:
    """A link becomes a node of its name; a group counts once; what is no node is left out."""
    host = FakeHost(tmp_path)
    host.node("/dev/a", 44)
    host.node("/dev/b", 44)
    host.node("/dev/c")
    host.file("/dev/file")
    host.link("/dev/by-id/x", "../a")
    paths = ["/dev/a", "/dev/by-id/x", "/dev/b", "/dev/c", "/dev/file", "/dev", "/dev/none"]
    assert node_edits.edits(Root(str(tmp_path)), paths) == {
        "deviceNodes": [
            {"path": "/dev/a", "hostPath": f"{tmp_path}/dev/a", "gid": 44},
            {"path": "/dev/by-id/x", "hostPath": f"{tmp_path}/dev/a", "gid": 44},
            {"path": "/dev/b", "hostPath": f"{tmp_path}/dev/b", "gid": 44},
            {"path": "/dev/c", "hostPath": f"{tmp_path}/dev/c"},
        ],
        "additionalGids": [44],
    }


def test_the_hosts_own_nodes() -> None:
    """Below / a node's path says all."""
    assert node_edits.edits(Root(), ["/dev/null"]) == {"deviceNodes": [{"path": "/dev/null"}]}
    assert node_edits.edits(Root(), ["/dev/none"]) == {}


def test_together() -> None:
    """Edits of several devices are joined, each edit once."""
    one, other = {"path": "/dev/a"}, {"path": "/dev/b"}
    parts: list[dict[str, Any]] = [{"deviceNodes": [one], "env": ["A=1"]}, {"deviceNodes": [one, other]}, {}]
    assert node_edits.together(parts) == {"deviceNodes": [one, other], "env": ["A=1"]}
