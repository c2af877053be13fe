# SPDX-License-Identifier: Apache-2.0
"""rules: what they refuse, where the recorded answers have nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cdi_hook.errors import InvalidSpec
from cdi_hook.specs import rules, specfile, versions

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("version", "edits", "message"),
    [
        ("1.1.0", "deviceNodes: [~]", "invalid (empty) device path"),
        ("1.1.0", "hooks: [~]", 'invalid hook name ""'),
        ("1.1.0", "mounts: [~]", "invalid mount, empty host path"),
        ("1.1.0", "netDevices: [~]", "invalid linux net device, empty HostInterfaceName"),
        ("1.1.0", "env: [A], hooks: [~]", 'invalid container edits: invalid environment variable "A"'),
        ("9", "hooks: [~]", 'invalid version "9"'),
    ],
)
def test_a_null_in_a_list_is_refused_in_its_turn(
    version: str, edits: str, message: str, tmp_path: Path
) -> None:
    """Data at which the reference panics is an error, after the findings that the reference has before it."""
    text = f"cdiVersion: '{version}'\nkind: a.b/c\ncontainerEdits: {{{edits}}}\n"
    path = tmp_path / "a.yaml"
    path.write_text(f"{text}devices: [{{name: x, containerEdits: {{env: [A=1]}}}}]\n")
    with pytest.raises(InvalidSpec) as caught:
        specfile.load(str(path))
    assert str(caught.value) == f"invalid CDI Spec: {message}"


def test_a_version_is_too_high_only_if_no_device_needs_it() -> None:
    """The reference overlooks what some devices need; whoever lowers the version by a warning must not lose that."""
    node = {"path": "/dev/a", "hostPath": "/dev/b"}
    devices = [
        {"name": "a", "containerEdits": {"deviceNodes": [node]}},
        {"name": "b", "containerEdits": {"env": ["B=1"]}},
    ]
    data = {"cdiVersion": "0.5.0", "kind": "vendor.com/gpu", "devices": devices}
    assert versions.minimum_version(data) == "0.3.0"
    assert list(rules.warnings(data)) == []
    assert [one.path for one in rules.warnings({**data, "cdiVersion": "0.6.0"})] == [".cdiVersion"]
