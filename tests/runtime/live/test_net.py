# SPDX-License-Identifier: Apache-2.0
"""Containers get their devices while they are created: net devices."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from cdi_hook.base import files
from tests.runtime.lab import BUSYBOX, NATIVE

from .hooked import user_namespace

if TYPE_CHECKING:
    from .hooked import Live

pytestmark = pytest.mark.parametrize("runtime", NATIVE, indirect=True)


@user_namespace
def test_net_device(live: Live, userns: bool) -> None:
    """A network interface is moved and renamed, with its address, and up."""
    if not shutil.which("ip"):
        pytest.skip("ip (iproute2) isn't installed")
    edits = {"netDevices": [{"hostInterfaceName": "cdi0", "name": "eth7"}]}
    bundle = live.bundle("ip -o -4 addr show dev eth7; cat /sys/class/net/eth7/flags", edits, userns=userns)
    (bundle.rootfs / "bin/ip").symlink_to("busybox")
    setup = (
        "ip link add cdi0 type veth peer name cdi1; ip addr add 192.0.2.7/24 dev cdi0; ip link set cdi0 up"
    )
    alone = ("unshare", "-n", "sh", "-ec", f'{setup}; exec "$@"', "sh")
    address, flags = live.run(bundle, alone).splitlines()
    assert (address.split()[1:4], int(flags, 16) & 1) == (["eth7", "inet", "192.0.2.7/24"], 1)
    assert bundle.injected()["linux"]["netDevices"] == {"cdi0": {"name": "eth7"}}


def test_net_device_comes_back(live: Live) -> None:
    """When the last step fails, which is config.json's, a network interface is the host's again."""
    if not shutil.which("ip"):
        pytest.skip("ip (iproute2) isn't installed")
    spoil = {
        "hookName": "createRuntime",
        "path": str(BUSYBOX),
        "args": ["busybox", "mkdir", f"config.json{files.TEMPORARY}"],
    }
    edits = {"netDevices": [{"hostInterfaceName": "cdi0", "name": "eth7"}], "hooks": [spoil]}
    bundle = live.bundle("true", edits)
    after = live.lab.directory / "after"
    setup = "ip link add cdi0 type veth peer name cdi1; ip addr add 192.0.2.7/24 dev cdi0"
    alone = ("unshare", "-n", "sh", "-c", f'{setup}; "$@"; ip -o -4 addr show dev cdi0 >{after}; false', "sh")
    assert live.call("run", bundle, within=alone).returncode != 0
    assert live.logged()[0]["msg"].startswith(
        f'CDI device injection failed: can\'t replace "{bundle.config_file}": '
    )
    assert after.read_text("utf-8").split()[1:4] == ["cdi0", "inet", "192.0.2.7/24"]
