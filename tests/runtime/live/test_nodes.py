# SPDX-License-Identifier: Apache-2.0
"""Containers get their devices while they are created: device nodes and rules."""

from __future__ import annotations

import os
import shutil
import stat
from typing import TYPE_CHECKING

import pytest

from tests.runtime.lab import DEVICE, NATIVE

from .hooked import NODE, OPEN, identity, user_namespace

if TYPE_CHECKING:
    from .hooked import Live

pytestmark = pytest.mark.parametrize("runtime", NATIVE, indirect=True)


@pytest.mark.parametrize(
    ("permissions", "output"),
    [
        (None, "read\nwrite\n"),
        ("rw", "read\nwrite\n"),
        ("r", f"read\nsh: can't create {NODE}: Operation not permitted\n"),
        (
            "w",
            f"sh: can't open {NODE}: Operation not permitted\nsh: can't create {NODE}: Operation not permitted\n",
        ),
        (
            "none",
            f"sh: can't open {NODE}: Operation not permitted\nsh: can't create {NODE}: Operation not permitted\n",
        ),
    ],
)
def test_device_opens_as_its_rule_says(live: Live, permissions: str | None, output: str) -> None:
    """A device opens for what the spec's permissions allow, and no other device with it."""
    node = {"path": NODE, "hostPath": str(DEVICE)} | ({"permissions": permissions} if permissions else {})
    other = "(: </dev/other) && echo too much"
    bundle = live.bundle(f"{OPEN}; {other}; true", {"deviceNodes": [node]})
    bundle.config["linux"]["devices"] += [{"path": "/dev/other", "type": "c", "major": 10, "minor": 237}]
    bundle.write()
    assert live.run(bundle) == f"{output}sh: can't open /dev/other: Operation not permitted\n"


@user_namespace
def test_same_device_is_there(live: Live, userns: bool) -> None:
    """A node of the same device is taken as it is."""
    bundle = live.bundle(
        f"stat -c %t:%T {DEVICE}",
        {"deviceNodes": [{"path": str(DEVICE)}]},
        userns=userns,
    )
    assert live.run(bundle) == "a:e5\n"


@user_namespace
def test_another_device_is_there(live: Live, userns: bool) -> None:
    """Where a node of another device is, the container isn't started."""
    bundle = live.bundle(
        "true", {"deviceNodes": [{"path": "/dev/null", "hostPath": str(DEVICE)}]}, userns=userns
    )
    assert live.refused(bundle) == (
        'CDI device injection failed: can\'t make device node "/dev/null" in the container: something else is there '
        'already; asked for by annotation "cdi.k8s.io/test"'
    )


def test_owner_that_is_not_mapped(live: Live) -> None:
    """A node whose owner the container's user namespace doesn't have is named."""
    node = {"path": NODE, "hostPath": str(DEVICE), "uid": 70000}
    assert live.refused(live.bundle("true", {"deviceNodes": [node]}, userns=True)).startswith(
        f'CDI device injection failed: can\'t make device node "{NODE}" in the container: uid 70000 is not mapped in its '
        "user namespace; map it, or have the CDI spec say another"
    )


def test_numbers_that_no_device_has(live: Live) -> None:
    """A node whose numbers are too large is named."""
    node = {"path": NODE, "type": "c", "major": 1 << 32, "minor": 0}
    assert live.refused(live.bundle("true", {"deviceNodes": [node]})).startswith(
        f'CDI device injection failed: can\'t make device node "{NODE}" in the container: no device has the numbers '
        "4294967296:0; "
    )


@pytest.mark.parametrize("dev", ["of its own", "in the rootfs"])
def test_nodes_of_the_host_stay_as_they_are(live: Live, dev: str) -> None:
    """A node in a volume is the host's: it is used, and its mode and owner are left alone, as runtimes do."""
    node = live.data / "node"
    os.mknod(node, 0o600 | stat.S_IFCHR, DEVICE.stat().st_rdev)
    edits = {
        "deviceNodes": [{"path": "/data/node", "hostPath": str(DEVICE), "fileMode": 0o666, "uid": 7}],
    }
    bundle = live.bundle("stat -c %t:%T /data/node", edits)
    volume = {"destination": "/data", "source": str(live.data), "type": "bind", "options": ["rbind"]}
    if dev == "in the rootfs":  # which is on the volume's filesystem here
        own = [mount for mount in bundle.config["mounts"] if not mount["destination"].startswith("/dev")]
        bundle.config["mounts"] = own
        (bundle.rootfs / "dev").mkdir()
    bundle.config["mounts"].append(volume)
    bundle.write()
    assert live.run(bundle) == "a:e5\n"
    assert identity(node) == (0o600, 0, 0)


def test_present_node_gets_mode_and_owner(live: Live) -> None:
    """A node that the runtime has made in the container's own /dev gets the mode and the owner of the CDI spec."""
    edits = {"deviceNodes": [{"path": str(DEVICE), "fileMode": 0o640, "uid": 7, "gid": 8}]}
    host = identity(DEVICE)
    assert live.run(live.bundle(f"stat -c '%a %u %g' {DEVICE}", edits)) == "640 7 8\n"
    assert identity(DEVICE) == host


@pytest.mark.parametrize(("userns", "text"), [(False, ""), (True, "of the image")], ids=["empty", "userns"])
def test_file_of_the_image(live: Live, userns: bool, text: str) -> None:
    """An image gets no node of the host's bound by an empty file: root in the container could chmod that; nor by another."""
    node = {"path": "/node", "hostPath": str(DEVICE)}
    bundle = live.bundle("true", {"deviceNodes": [node]}, userns=userns)
    (bundle.rootfs / "node").write_text(text, "utf-8")
    assert 'can\'t make device node "/node" in the container: something else is' in live.refused(bundle)


def test_host_that_may_not_make_nodes(live: Live) -> None:
    """Where root may not make nodes, as within a container itself, the host's is bound, and its rule is there."""
    setpriv = shutil.which("setpriv")
    assert setpriv  # of util-linux, as unshare
    edits = {"deviceNodes": [{"path": NODE, "hostPath": str(DEVICE), "permissions": "r"}]}
    before = (setpriv, "--bounding-set=-mknod", "--inh-caps=-mknod")
    bundle = live.bundle(
        f"{OPEN}; grep -c ' /{DEVICE.name} {NODE} ' /proc/self/mountinfo", edits, before=before
    )
    assert live.run(bundle) == f"read\nsh: can't create {NODE}: Operation not permitted\n1\n"
