# SPDX-License-Identifier: Apache-2.0
"""cdi-hook list: the known devices, and errors in the specs."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from cdi_hook.inject.explain import NO_SPEC
from tests.unit.cli.conftest import PLACE, Shape

if TYPE_CHECKING:
    from tests.unit.cli.conftest import World


SHAPE = Shape(PLACE, "", "none.com/*")


def listed(path: str) -> str:
    """Return the lines for the devices of VENDOR."""
    return f"vendor.com/gpu=gpu0  {path}\nvendor.com/gpu=gpu1  {path}\n"


def test_names_sorted(cdi_hook: World) -> None:
    """Each device is a line with its spec, sorted by name, whichever file comes first."""
    gpus = cdi_hook.spec("z.json")
    edits = {"env": ["A=1"]}
    nic = {
        "cdiVersion": "0.6.0",
        "kind": "a.org/nic",
        "devices": [{"name": n, "containerEdits": edits} for n in "ba"],
    }
    nics = cdi_hook.spec("zz.json", nic)
    lines = f"a.org/nic=a          {nics}\na.org/nic=b          {nics}\n{listed(gpus)}"
    assert cdi_hook("list") == (0, lines, "")


def test_patterns(cdi_hook: World) -> None:
    """Patterns choose the names that one of them matches; if none does, near names are shown."""
    gpus = cdi_hook.spec("z.json")
    assert cdi_hook("list", "*=gpu0", "*=gpu1") == (0, listed(gpus), "")
    assert cdi_hook("list", "vendor.com/*=gpu?") == (0, listed(gpus), "")
    assert cdi_hook("list", "vendor.com/gpu=gpu1") == (0, f"vendor.com/gpu=gpu1  {gpus}\n", "")
    near = "did you mean vendor.com/gpu=gpu1 or vendor.com/gpu=gpu0?"
    message = f'cdi-hook: there is no device "vendor.com/gpu=gpu2"; {near}\n'
    assert cdi_hook("list", "vendor.com/gpu=gpu2") == (1, "", message)
    status, out, err = cdi_hook("list", "--json", "x")
    assert (status, err) == (1, 'cdi-hook: there is no device "x"; "cdi-hook list" shows the known devices\n')
    assert json.loads(out)["items"] == []


def test_a_name_that_no_spec_dir_reads(cdi_hook: World) -> None:
    """A file that only its name keeps from being read is a warning, with the command that renames it."""
    path = cdi_hook.spec("a b.yml")
    warning = f"cdi-hook: warning: {path} isn't read, because its name ends neither in .json nor in .yaml"
    rename = f"mv '{path}' '{cdi_hook.specs}/a b.yaml'"
    dirs = cdi_hook.specs if os.geteuid() == 0 else f"{cdi_hook.specs}, {cdi_hook.root}/.config/cdi"
    assert cdi_hook("list") == (
        0, "", f"{warning}: {rename}\ncdi-hook: no CDI spec in {dirs}; {NO_SPEC}\n",
    )  # fmt: skip


def test_json(cdi_hook: World) -> None:
    """--json has each device's name, and the path and priority of its spec, which is the later dir's."""
    low = cdi_hook.spec("vendor.json")
    high = cdi_hook.root / "high"
    high.mkdir(mode=0o755)
    spec = {
        "cdiVersion": "0.6.0",
        "kind": "vendor.com/gpu",
        "devices": [{"name": "gpu1", "containerEdits": {"env": ["A=1"]}}],
    }
    path = cdi_hook.spec("vendor.yaml", spec)
    (cdi_hook.specs / "vendor.yaml").rename(high / "vendor.yaml")
    path = str(high / "vendor.yaml")
    assert cdi_hook.json("list", "--json", "--spec-dir", cdi_hook.specs, "--spec-dir", high) == [
        {"name": "vendor.com/gpu=gpu0", "path": low, "priority": 0, "shadowed": [], "holder": None},
        {"name": "vendor.com/gpu=gpu1", "path": path, "priority": 1, "shadowed": [low], "holder": None},
    ]


def test_bad_file_is_a_warning(cdi_hook: World) -> None:
    """A file that can't be used is a warning with its path, and the others still count."""
    good = cdi_hook.spec("good.json")
    bad = cdi_hook.spec("bad.yaml", "kind: x/y\n")
    reason = ".cdiVersion: there is no cdiVersion; this spec needs 0.3.0 (and 1 more)"
    assert cdi_hook("list") == (0, listed(good), f"cdi-hook: warning: {bad}: {reason}\n")


def test_nothing_but_errors_fails(cdi_hook: World) -> None:
    """If errors leave no device at all, the command fails, with --json too."""
    bad = cdi_hook.spec("bad.yaml", "{")
    for arguments in (("list",), ("list", "--json")):
        status, _, err = cdi_hook(*arguments)
        assert status == 1
        assert err.startswith(f"cdi-hook: warning: {bad}: this is no CDI spec: ")


def test_no_specs_is_no_failure(cdi_hook: World) -> None:
    """A host without specs has no devices, and a message names the dirs that were searched."""
    note = f"cdi-hook: no CDI spec in {cdi_hook.specs}; {NO_SPEC}\n"
    assert cdi_hook("list", "--spec-dir", cdi_hook.specs) == (0, "", note)
    assert cdi_hook.items("list", "--spec-dir", cdi_hook.specs) == []
    assert cdi_hook("list", "no/*", "--spec-dir", cdi_hook.specs) == (1, "", note)


def test_bad_configuration_is_a_warning(cdi_hook: World) -> None:
    """A line of the configuration that can't be used is a warning, and the other lines count."""
    path = cdi_hook.spec("vendor.json")
    cdi_hook.configure(SANDBOXES="maybe")
    warning = f'cdi-hook: warning: {cdi_hook.config}:2: SANDBOXES: "maybe" is none of skip, inject\n'
    assert cdi_hook("list") == (0, listed(path), warning)


def test_configuration_that_is_named_has_to_be_there(cdi_hook: World) -> None:
    """A missing configuration means the defaults, but not if --config names it."""
    status, out, err = cdi_hook("list", "--config", "/nowhere", "--spec-dir", cdi_hook.specs)
    assert (status, out, err) == (1, "", 'cdi-hook: --config: there is no "/nowhere"\n')
