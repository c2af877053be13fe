# SPDX-License-Identifier: Apache-2.0
"""Hosts that were made up, and what vendors' tools made of them: amd-ctk, nvidia-ctk 1.20, rbln-ctk, mind-cluster.

rbln-ctk is Rebellions', of 2026-05, without librbln-ml; mind-cluster is Huawei's, of 2026-08, with its base.list.

``files`` maps a path to {text}, {link}, {dir}, {elf: SONAME} or {node: [c|b, major, minor], mode, gid}.
``expect`` has an entry for each tool, and for each of nvidia-ctk's modes: its kind, and for each device
its nodes, or its nodes and mounts; or its error. CDI_HOOK_HOSTS names another file of such hosts, for
`pytest tests/unit/generate/test_hosts.py -k test_what_the_tool_gives`.
"""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.cases.driverroot import make

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE = Path(os.environ.get("CDI_HOOK_HOSTS", Path(__file__).parent / "data/hosts.json.gz"))
HOSTS: dict[str, dict[str, Any]] = {
    host["id"]: host for host in json.loads(gzip.decompress(FILE.read_bytes()))
}


def build(root: Path, files: Mapping[str, Any]) -> Path:
    """Make a host's files below a dir, and give its nodes their groups."""
    if os.geteuid() != 0:
        pytest.skip("device nodes need root")
    make(root, files)
    for path, file in files.items():
        if "node" in file:
            os.chown(root / path, 0, file.get("gid", 0))
    return root
