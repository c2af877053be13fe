# SPDX-License-Identifier: Apache-2.0
"""Without EXCLUSIVE nothing of the leases is imported, and no file of theirs is opened."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
# Creates a container, up to the point where the runtime takes over.
_CREATE = """
import sys
sys.path.insert(0, sys.argv[1])
opened = []
sys.addaudithook(lambda event, arguments: opened.append(str(arguments[0])) if event == "open" else None)
from cdi_hook.inject import audit, pipeline
from cdi_hook.runtime import argv, shim
shim.Call(argv.parse(["create", "--bundle", sys.argv[2], "id"]), pipeline.Host({b"CDI_HOOK_CONFIG": sys.argv[3].encode(), b"XDG_RUNTIME_DIR": sys.argv[2].encode()})).inject("/bin/true")
print(*[name for name in sys.modules if "leases" in name or name.endswith((".deal", ".policy"))])
print(*[path for path in opened if "-leases" in path])
"""


@pytest.mark.parametrize("is_exclusive", [False, True])
def test_without_exclusive(tmp_path: Path, is_exclusive: bool) -> None:
    """With it the modules are there, which shows that the test can tell."""
    (tmp_path / "cdi").mkdir()
    device = {
        "name": "0",
        "containerEdits": {"deviceNodes": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3}]},
    }
    spec = {"cdiVersion": "0.6.0", "kind": "v.com/d", "devices": [device]}
    (tmp_path / "cdi/v.json").write_text(json.dumps(spec))
    conf = f"SPEC_DIRS={tmp_path}/cdi\nSPEC_TRUST=none\n" + (
        "EXCLUSIVE=other.com/*\n" if is_exclusive else ""
    )
    (tmp_path / "conf").write_text(conf)
    (tmp_path / "config.json").write_text(json.dumps({"annotations": {"cdi.k8s.io/t": "v.com/d=0"}}))
    command = [sys.executable, "-IS", "-c", _CREATE, str(ROOT), str(tmp_path), str(tmp_path / "conf")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    modules, opened = done.stdout.split("\n")[:2]
    assert bool(modules) is is_exclusive, done
    assert opened == ""  # nor by a container that asks for none of what is exclusive
    assert "/dev/x" in (tmp_path / "config.json").read_text()
    assert not (tmp_path / "cdi-hook-leases").exists()
