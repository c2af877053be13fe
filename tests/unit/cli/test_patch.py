# SPDX-License-Identifier: Apache-2.0
"""cdi_hook.cli.patch: changes traced to their sources; tests/fuzz holds that the patch is exact and complete."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from cdi_hook.cli import patch
from cdi_hook.edits import editor

if TYPE_CHECKING:
    from cdi_hook.edits.target import Part
    from cdi_hook.errors import Source


def changed(before: dict[str, Any], *asked: Part) -> list[str]:
    """Return the lines for applying edits to a spec."""
    after = copy.deepcopy(before)
    return [patch.line(change) for change in editor.apply(after, asked, keep_present=True)]


A0: Source = ("a.com/x=0", "/etc/cdi/a.yaml")
A1: Source = ("a.com/x=1", "/etc/cdi/a.yaml")
B0: Source = ("b.com/y=0", "/run/cdi/b.json")


def test_all_who_ask_are_named() -> None:
    """What several devices ask for is traced to all of them, by spec file."""
    part = {"env": ["A=1"]}
    before: dict[str, Any] = {"process": {"env": []}}
    assert changed(before, (A0, part), (B0, part), (A1, part)) == [
        '+ .process.env[0] "A=1"  # a.com/x=0, a.com/x=1, /etc/cdi/a.yaml; b.com/y=0, /run/cdi/b.json'
    ]


def test_of_two_that_differ_the_winner_is_named() -> None:
    """Where a later device overrides an earlier one, only the later is the source."""
    before = {"process": {"env": ["A=0"]}}
    assert changed(before, (A0, {"env": ["A=1"]}), (B0, {"env": ["A=2"]})) == [
        '~ .process.env[0] "A=0" -> "A=2"  # b.com/y=0, /run/cdi/b.json'
    ]


def test_what_edits_replace_and_move() -> None:
    """A device replaced goes and comes; mounts that only change places are moved, for the device that adds one."""
    before = {
        "mounts": [{"destination": "/a/b"}, {"destination": "/c"}],
        "linux": {"devices": [{"path": "/dev/cdi-a"}, {"path": "/dev/cdi-b"}], "resources": {"devices": []}},
    }
    asked = {
        "deviceNodes": [{"path": "/dev/cdi-a", "type": "p"}],
        "mounts": [{"hostPath": "/h", "containerPath": "/d"}],
    }
    node = '{"path":"/dev/cdi-a","type":"p","major":0,"minor":0}'
    assert changed(before, (A0, asked)) == [
        '- .linux.devices[0] {"path":"/dev/cdi-a"}  # a.com/x=0, /etc/cdi/a.yaml',
        f"+ .linux.devices[1] {node}  # a.com/x=0, /etc/cdi/a.yaml",
        '> .mounts[1] -> .mounts[0] {"destination":"/c"}  # a.com/x=0, /etc/cdi/a.yaml',
        '+ .mounts[1] {"destination":"/d","source":"/h"}  # a.com/x=0, /etc/cdi/a.yaml',
    ]


def test_what_is_made_for_others_is_traced_to_who_needs_it() -> None:
    """An object that wasn't there comes from the first who puts something into it."""
    net = {"netDevices": [{"hostInterfaceName": "e0", "name": "e1"}]}
    assert changed({"process": {"env": []}}, (A0, {"env": ["A=1"]}), (B0, net)) == [
        '+ .process.env[0] "A=1"  # a.com/x=0, /etc/cdi/a.yaml',
        "+ .linux {}  # b.com/y=0, /run/cdi/b.json",
        "+ .linux.netDevices {}  # b.com/y=0, /run/cdi/b.json",
        '+ .linux.netDevices.e0 {"name":"e1"}  # b.com/y=0, /run/cdi/b.json',
    ]


def test_a_rule_that_two_devices_need_is_traced_to_both() -> None:
    """A rule is added once, for all whose nodes have these numbers."""
    before: dict[str, Any] = {"linux": {"devices": [], "resources": {"devices": []}}}
    parts = [
        (source, {"deviceNodes": [{"path": path, "type": "c", "major": 240, "minor": 1}]})
        for source, path in ((A0, "/dev/cdi-a"), (B0, "/dev/cdi-b"))
    ]
    assert changed(before, *parts)[-1] == (
        '+ .linux.resources.devices[0] {"allow":true,"type":"c","major":240,"minor":1,"access":"rwm"}'
        "  # a.com/x=0, /etc/cdi/a.yaml; b.com/y=0, /run/cdi/b.json"
    )


def test_places_in_jq_notation() -> None:
    """A name that isn't plain is quoted, and one that is a number is no index."""
    part = {
        "netDevices": [
            {"hostInterfaceName": host, "name": "eth0"} for host in ("eth0", "eth0.1", "7", "a/b~c")
        ]
    }
    lines = changed({"linux": {"netDevices": {}}}, ((None, "/etc/cdi/a.yaml"), part))
    names = [".eth0", '["eth0.1"]', '["7"]', '["a/b~c"]']
    assert lines == [f'+ .linux.netDevices{name} {{"name":"eth0"}}  # /etc/cdi/a.yaml' for name in names]
