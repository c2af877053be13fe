# SPDX-License-Identifier: Apache-2.0
"""What a later call needs to ask the same runtime about the same container: global options, and an id that is certain."""

from __future__ import annotations

import pytest

from cdi_hook.runtime import argv, later


@pytest.mark.parametrize(
    ("arguments", "asking"),
    [
        ("create -b B id", ""),
        # containerd, docker
        ("--root /r --log L --log-format json --systemd-cgroup create --bundle B --pid-file P id", "--root /r --systemd-cgroup"),
        # conmon
        ("--log-format=json --log=L create --bundle B id", ""),
        ("--cgroup-manager cgroupfs --log file:L --log-level debug --debug --root r create id", "--cgroup-manager cgroupfs --root /here/r"),
        ("--root=r create id", "--root /here/r"),
        ("-root r -log L create id", "--root /here/r"),
        ("-r r -l L create id", "--root /here/r"),
        ("--rootless true --root create create id", "--rootless true --root /here/create"),
        ("--rootless create id", "--rootless"),
        ("--unknown x --log L create id", "--unknown x"),
        ("--network=none --debug-log D/ create id", "--network=none --debug-log D/"),
        ("--root", ""),
    ],
)  # fmt: skip
def test_global_options(arguments: str, asking: str) -> None:
    """They stay, without those about logs, and a root that isn't absolute starts in the dir of the create."""
    invocation = argv.parse(arguments.split())
    assert later.to_ask(invocation.global_options, "/here") == asking.split()


@pytest.mark.parametrize(
    ("arguments", "is_certain"),
    [
        ("create id", True),
        ("create -b B id", True),
        ("create id -b B", True),
        ("create --no-pivot id", True),
        ("create --unknown value id", False),  # which of the two?
        ("create", False),
        ("create --id", False),
        ("create -- -id", True),
        ("run -d -b B id", True),
    ],
)
def test_the_id(arguments: str, is_certain: bool) -> None:
    """It is certain if no other word can be one."""
    assert argv.parse(arguments.split()).has_one_id is is_certain
