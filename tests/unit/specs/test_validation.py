# SPDX-License-Identifier: Apache-2.0
"""validation: what they refuse, where the recorded answers have nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cdi_hook.errors import InvalidSpec
from cdi_hook.specs import specfile, validation, versions

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any

ENV = {"env": ["A=1"]}
DEVICE = {"name": "x", "containerEdits": ENV}
GOOD = {"cdiVersion": "1.1.0", "kind": "a.com/bc", "devices": [DEVICE]}
KNOWN_VERSIONS = f"not one of {', '.join(versions.USABLE)}"
KNOWN_HOOKS = "write one of prestart, createRuntime, createContainer, startContainer, poststart, poststop"


@pytest.mark.parametrize(
    ("version", "edits", "message"),
    [
        ("1.1.0", "deviceNodes: [~]", ".containerEdits.deviceNodes[0].path: there is no path"),
        ("1.1.0", "hooks: [~]", f".containerEdits.hooks[0].hookName: there is no hookName; {KNOWN_HOOKS}"),
        ("1.1.0", "mounts: [~]", ".containerEdits.mounts[0].hostPath: there is no hostPath (and 1 more)"),
        (
            "1.1.0",
            "netDevices: [~]",
            ".containerEdits.netDevices[0].hostInterfaceName: there is no hostInterfaceName",
        ),
        (
            "1.1.0",
            "env: [A], hooks: [~]",
            '.containerEdits.env[0]: "A" is no variable; one is written NAME=value (and 1 more)',
        ),
        (
            "9",
            "hooks: [~]",
            f'.cdiVersion: invalid version "9", {KNOWN_VERSIONS}; this spec needs 0.3.0 (and 1 more)',
        ),
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
    assert str(caught.value) == f'"{path}" is not valid: {message}'


def test_a_version_is_too_high_only_if_no_device_needs_it() -> None:
    """The reference overlooks what some devices need; whoever lowers the version by a warning must not lose that."""
    node = {"path": "/dev/a", "hostPath": "/dev/b"}
    devices = [
        {"name": "a", "containerEdits": {"deviceNodes": [node]}},
        {"name": "b", "containerEdits": {"env": ["B=1"]}},
    ]
    data = {"cdiVersion": "0.5.0", "kind": "vendor.com/gpu", "devices": devices}
    assert versions.minimum_version(data) == "0.3.0"
    assert list(validation.warnings(data)) == []
    assert [one.place for one in validation.warnings({**data, "cdiVersion": "0.6.0"})] == [".cdiVersion"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"cdiVersion": ""}, [".cdiVersion: there is no cdiVersion; this spec needs 0.3.0"]),
        (
            {"cdiVersion": "9"},
            [f'.cdiVersion: invalid version "9", {KNOWN_VERSIONS}; this spec needs 0.3.0'],
        ),
        (
            {"cdiVersion": "v1.2.0"},
            [
                '.cdiVersion: invalid version "v1.2.0": a newer CDI than this knows (1.1.0); this spec needs 0.3.0'
            ],
        ),
        (
            {"cdiVersion": "0.6.0", "containerEdits": {"additionalGids": [1]}},
            [".cdiVersion: 0.6.0 is too low: additionalGids needs 0.7.0"],
        ),
        ({"kind": ""}, [".kind: there is no kind; write one such as vendor.com/gpu"]),
        ({"kind": "gpu"}, ['.kind: "gpu" is not vendor/class; write one such as vendor.com/gpu']),
        ({"kind": "a.com/b_"}, ['.kind: invalid class. "b_", should end with a letter or digit']),
        (
            {"containerEdits": {"env": ["A"]}},
            ['.containerEdits.env[0]: "A" is no variable; one is written NAME=value'],
        ),
        ({"devices": []}, [".devices: there are no devices; a spec has at least one"]),
        (
            {"devices": [DEVICE, {"name": "", "containerEdits": ENV}]},
            [".devices[1].name: there is no name"],
        ),
        (
            {"devices": [{"name": "-", "containerEdits": ENV}]},
            ['.devices[0].name: invalid name "-", should start with a letter or digit'],
        ),
        (
            {"devices": [DEVICE, {"name": "y", "containerEdits": {}}]},
            ['.devices[1].containerEdits: device "y" has no edits; a device has at least one'],
        ),
        ({"devices": [DEVICE, DEVICE]}, ['.devices[1].name: another device has the name "x"']),
        (
            {"devices": [{"name": "x", "containerEdits": {"env": ["A=b=c", "=A"]}}]},
            ['.devices[0].containerEdits.env[1]: "=A" is no variable; one is written NAME=value'],
        ),
    ],
)
def test_what_a_person_is_told(change: dict[str, Any], said: list[str]) -> None:
    """Each finding names its place, what is wrong there, and what to write instead."""
    assert [str(one) for one in validation.validate({**GOOD, **change})] == said


@pytest.mark.parametrize(
    ("kind", "edits", "said"),
    [
        ("env", ["A=1", "=A=b"], ['[1]: "=A=b" is no variable; one is written NAME=value']),
        ("env", ["A=1", "B"], ['[1]: "B" is no variable; one is written NAME=value']),
        ("deviceNodes", [{"path": "/dev/a"}, {}], ["[1].path: there is no path"]),
        (
            "deviceNodes",
            [{"path": "/dev/a", "type": "x"}],
            ['[0].type: device "/dev/a": invalid type "x"; it is one of b, c, u, p'],
        ),
        (
            "deviceNodes",
            [{"path": "/dev/a", "permissions": "Xrw"}],
            [
                '[0].permissions: device "/dev/a": invalid permissions "Xrw"; '
                "they are some of r (read), w (write) and m (mknod), such as rw, or none"
            ],
        ),
        (
            "hooks",
            [{}, {"hookName": "createruntime"}, {"hookName": "poststop"}],
            [
                f"[0].hookName: there is no hookName; {KNOWN_HOOKS}",
                '[1].hookName: invalid hook name "createruntime"; did you mean createRuntime?',
                "[2].path: poststop hook: there is no path",
            ],
        ),
        (
            "hooks",
            [{"hookName": "poststop", "path": "/bin/true", "env": ["A"]}],
            ['[0].env[0]: "A" is no variable; one is written NAME=value'],
        ),
        (
            "mounts",
            [{}],
            ["[0].hostPath: there is no hostPath", "[0].containerPath: there is no containerPath"],
        ),
        (
            "netDevices",
            [
                {"hostInterfaceName": "a", "name": "b"},
                {},
                {"hostInterfaceName": "c"},
                {"hostInterfaceName": "a", "name": "d"},
                {"hostInterfaceName": "e", "name": "b"},
            ],
            [
                "[1].hostInterfaceName: there is no hostInterfaceName",
                "[2].name: there is no name",
                '[3].hostInterfaceName: "a" has two names, "b" and "d"',
                '[4].name: two net devices have the name "b", "a" and "e"',
            ],
        ),
        ("intelRdt", {"closID": "a/b"}, ['.closID: invalid closID "a/b"; it is a dir\'s name']),
        ("intelRdt", {"closID": "a" * 4096}, [f'.closID: invalid closID "{"a" * 80}"; it is a dir\'s name']),
        ("additionalGids", [0], []),
    ],
)
def test_what_a_person_is_told_of_edits(kind: str, edits: Any, said: list[str]) -> None:
    """The same for each kind of edit, wherever the edits stand."""
    assert [str(one) for one in validation.validate_edits({kind: edits}, ".edits")] == [
        f".edits.{kind}{one}" for one in said
    ]
    assert [str(one) for one in validation.validate_edits({kind: edits})] == [f".{kind}{one}" for one in said]


def test_what_troubles_some_engines() -> None:
    """A vendor or a class of one letter, and a version that nothing in the spec needs; a v before it isn't one."""
    assert [str(one) for one in validation.warnings({**GOOD, "cdiVersion": "v0.3.0", "kind": "a/b"})] == [
        f'.kind: the {part} "{text}" has one letter, which crashes docker, podman and other engines '
        "(CDI's own library up to 1.1.0); take a longer name"
        for part, text in (("vendor", "a"), ("class", "b"))
    ]
    assert [str(one) for one in validation.warnings(GOOD)] == [
        ".cdiVersion: 1.1.0 is higher than this spec needs; engines that know only 0.3.0 could read it too"
    ]
