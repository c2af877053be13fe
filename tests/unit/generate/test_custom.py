# SPDX-License-Identifier: Apache-2.0
"""Devices that are named by hand: the spec of them, and what is wrong with what was named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cdi_hook.edits.kinds import HOOK_ENV
from cdi_hook.errors import CDIError
from cdi_hook.generate import custom
from cdi_hook.generate.root import Root

from .fakehost import FakeHost

if TYPE_CHECKING:
    from pathlib import Path


def test_everything(tmp_path: Path) -> None:
    """Nodes with the same name are one device; mounts, variables and hooks are for all devices."""
    host = FakeHost(tmp_path)
    host.node("/dev/a", 44)
    host.node("/dev/b")
    host.link("/dev/by-path/pci-0000:00:1.0", "../b")
    host.file("/etc/a.conf")
    host.file("/opt/a/x")
    made = custom.spec(
        Root(str(tmp_path)),
        "vendor.com/thing",
        [
            "one=/dev/a:rw",
            "one=/dev/b",
            "two=/dev/by-path/pci-0000:00:1.0:r",
            "three=/dev/by-path/pci-0000:00:1.0:/dev/c:r",
            "four=/dev/a:/dev/my",
        ],
        ["/etc/a.conf:/etc/a.conf:ro", "/opt/a:/a", "/opt/a:/b:bind,ro"],
        ["A=1"],
        ["createContainer:/bin/sh --flag 'two words'", "poststop:/bin/cat"],
    )
    a = {"path": "/dev/a", "hostPath": f"{tmp_path}/dev/a", "gid": 44, "permissions": "rw"}
    b = {"path": "/dev/b", "hostPath": f"{tmp_path}/dev/b"}
    link = {"path": "/dev/by-path/pci-0000:00:1.0", "hostPath": f"{tmp_path}/dev/b", "permissions": "r"}
    three = {"path": "/dev/c", "hostPath": f"{tmp_path}/dev/b", "permissions": "r"}
    four = {"path": "/dev/my", "hostPath": f"{tmp_path}/dev/a", "gid": 44}
    assert made == {
        "cdiVersion": "0.7.0",
        "kind": "vendor.com/thing",
        "devices": [
            {"name": "one", "containerEdits": {"deviceNodes": [a, b], "additionalGids": [44]}},
            {"name": "two", "containerEdits": {"deviceNodes": [link]}},
            {"name": "three", "containerEdits": {"deviceNodes": [three]}},
            {"name": "four", "containerEdits": {"deviceNodes": [four], "additionalGids": [44]}},
            {
                "name": "all",
                "containerEdits": {"deviceNodes": [a, b, link, three, four], "additionalGids": [44]},
            },
        ],
        "containerEdits": {
            "env": ["A=1"],
            "mounts": [
                {
                    "hostPath": f"{tmp_path}/etc/a.conf",
                    "containerPath": "/etc/a.conf",
                    "options": ["ro", "bind"],
                },
                {"hostPath": f"{tmp_path}/opt/a", "containerPath": "/a", "options": ["rbind"]},
                {"hostPath": f"{tmp_path}/opt/a", "containerPath": "/b", "options": ["bind", "ro"]},
            ],
            "hooks": [
                {
                    "hookName": "createContainer",
                    "path": "/bin/sh",
                    "args": ["sh", "--flag", "two words"],
                    "env": HOOK_ENV,
                },
                {"hookName": "poststop", "path": "/bin/cat", "env": HOOK_ENV},
            ],
        },
    }


def test_a_device_called_all() -> None:
    """Somebody's own "all" is theirs."""
    made = custom.spec(Root(), "vendor.com/thing", ["all=/dev/null", "zero=/dev/zero"])
    assert [(one["name"], one["containerEdits"]["deviceNodes"]) for one in made["devices"]] == [
        ("all", [{"path": "/dev/null"}]),
        ("zero", [{"path": "/dev/zero"}]),
    ]
    assert made["cdiVersion"] == "0.3.0"


def test_another_path_in_the_container() -> None:
    """A node that a container has elsewhere names its path on the host."""
    (stick, _) = custom.spec(Root(), "vendor.com/thing", ["stick=/dev/null:/dev/zigbee:rw"])["devices"]
    assert stick["containerEdits"]["deviceNodes"] == [
        {"path": "/dev/zigbee", "hostPath": "/dev/null", "permissions": "rw"}
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((["/dev/null"],), '--device "/dev/null": there is no name; write --device null=/dev/null'),
        ((["/dev/null:rw"],), '--device "/dev/null:rw": there is no name; write --device null=/dev/null:rw'),
        ((["null"],), '--device "null": not of the form NAME=PATH[:CONTAINERPATH][:PERMISSIONS]'),
        ((["a=dev/null"],), '--device "a=dev/null": not of the form NAME=PATH[:CONTAINERPATH][:PERMISSIONS]'),
        ((["a b=/dev/null"],), '--device "a b=/dev/null": invalid character \' \' in device name "a b"'),
        ((["any=/dev/null"],), '--device "any=/dev/null": any asks for any device that is free (EXCLUSIVE)'),
        ((["any:2=/dev/null"],), '--device "any:2=/dev/null": any:2 asks for any device that is free (EXCLUSIVE)'),
        ((["a=/dev/none:rw"],), '--device "a=/dev/none:rw": there is no "/dev/none"'),
        ((["a=/dev"],), '--device "a=/dev": "/dev" is no device node'),
        ((["a=/dev/none:x"],), '--device "a=/dev/none:x": there is no "/dev/none:x"'),
        *(
            (
                ([f"a=/dev/null:{rest}"],),
                f'--device "a=/dev/null:{rest}": '
                'after "/dev/null:" comes a path that begins with /, or some of rwm',
            )
            for rest in ("rx", "zigbee")
        ),
        ((["a=/dev/null"], ["/etc"]), '--mount "/etc": not of the form HOST:CONTAINER or HOST:CONTAINER:OPTION,...'),
        ((["a=/dev/null"], ["/none:/x"]), '--mount "/none:/x": there is no "/none"'),
        (
            (["a=/dev/null"], [], [], ["createRuntime"]),
            "--hook \"createRuntime\": not of the form NAME:PROGRAM or 'NAME:PROGRAM ARGUMENT ...'",
        ),
        (
            (["a=/dev/null"], [], [], ["createRuntime:/x 'y"]),
            "--hook \"createRuntime:/x 'y\": not of the form NAME:PROGRAM or 'NAME:PROGRAM ARGUMENT ...'",
        ),
        ((["a=/dev/null"], [], [], ["poststop:/none"]), '--hook "poststop:/none": there is no "/none"'),
        (
            (["a=/dev/null"], [], [], ["onCreate:/bin/sh"]),
            'the spec is not valid: .containerEdits.hooks[0].hookName: invalid hook name "onCreate"; write one of prestart, '
            'createRuntime, createContainer, startContainer, poststart, poststop',
        ),
        ((["a=/dev/null"], [], ["A"]), 'the spec is not valid: .containerEdits.env[0]: "A" is no variable; one is written NAME=value'),
    ],
)  # fmt: skip
def test_what_is_wrong(arguments: tuple[list[str], ...], message: str) -> None:
    """Each mistake is named, with the option that has it."""
    with pytest.raises(CDIError) as caught:
        custom.spec(Root(), "vendor.com/thing", *arguments)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("vendor.com/x", '"vendor.com/x": a vendor or class of one letter makes docker and podman crash'),
        ("v/thing", '"v/thing": a vendor or class of one letter makes docker and podman crash'),
        ("thing", '--kind: "thing" is not vendor/class; write one such as vendor.com/gpu'),
    ],
)  # fmt: skip
def test_a_kind_that_nobody_can_use(kind: str, message: str) -> None:
    """A kind that CDI forbids, or that makes engines crash, is refused."""
    with pytest.raises(CDIError) as caught:
        custom.spec(Root(), kind, ["a=/dev/null"])
    assert str(caught.value) == message
