# SPDX-License-Identifier: Apache-2.0
"""Containers get their devices while they are created: links and other things of an image that are in the way."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.runtime.lab import DEVICE, NATIVE

from .hooked import FIRST_ID, NO_OPENAT2, user_namespace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .hooked import Live

pytestmark = pytest.mark.parametrize("runtime", NATIVE, indirect=True)


@pytest.mark.parametrize("before", [(), (sys.executable, str(NO_OPENAT2))], ids=["openat2", "walk"])
@user_namespace
def test_links_in_the_image_lead_nowhere(live: Live, userns: bool, before: Sequence[str]) -> None:
    """Links in a rootfs, however they are written, lead to places in it, and the host's own stay as they are."""
    outside = live.lab.directory / "outside"
    outside.mkdir()
    bundle = live.bundle(
        "cat /in/data/file /target; stat -c %t:%T /in/nodes/made/node; readlink /up/x >&2; true",
        {
            "mounts": [
                {"hostPath": str(live.data), "containerPath": "/absolute/data", "options": ["bind"]},
                {"hostPath": str(live.data / "file"), "containerPath": "/dangling", "options": ["bind"]},
            ],
            "deviceNodes": [{"path": "/up/made/node", "hostPath": str(DEVICE)}],
        },
        userns=userns, before=before,
    )  # fmt: skip
    (bundle.rootfs / "absolute").symlink_to("/in")
    (bundle.rootfs / "dangling").symlink_to("../../../../../../../../../../target")
    (bundle.rootfs / "up").symlink_to(f"..{outside}/../../../../../../../../../../in/nodes")
    for made in ("in", f".{outside}"):
        (bundle.rootfs / made).mkdir(parents=True)
    if userns:
        for directory, _, _ in os.walk(bundle.rootfs):
            os.chown(directory, FIRST_ID, FIRST_ID)
    assert live.run(bundle) == "of the host\nof the host\na:e5\n"
    assert (list(outside.iterdir()), Path("/target").exists(), Path("/in").exists()) == ([], False, False)


@pytest.mark.parametrize("before", [(), (sys.executable, str(NO_OPENAT2))], ids=["openat2", "walk"])
@pytest.mark.parametrize("link", ["/proc/self/root", "/proc/1/root"])
def test_magic_links_lead_nowhere(live: Live, before: Sequence[str], link: str) -> None:
    """A link of procfs to the host's root stops the container; the walk takes the second for one to the container's own."""
    path = str(live.data)  # which the host has, too
    mount = {"hostPath": path, "containerPath": f"/magic{path}", "options": ["bind"]}
    bundle = live.bundle(f"cat {path}/file", {"mounts": [mount]}, before=before)
    (bundle.rootfs / "magic").symlink_to(link)
    is_taken = before and link == "/proc/1/root"
    assert live.call("run", bundle).stdout == ("of the host\n" if is_taken else "")


@pytest.mark.parametrize("before", [(), (sys.executable, str(NO_OPENAT2))], ids=["openat2", "walk"])
@pytest.mark.parametrize(
    ("path", "link", "message"),
    [
        ("/proc/sys/x", None, 'can\'t make "/proc/sys/x" in the container: '),
        ("/proc/version", None, '"/proc/version" is in the container\'s procfs, where nothing is injected'),
        ("/loop/x", "loop", 'can\'t reach "/loop/x" in the container: Too many levels of symbolic links'),
        ("/bin/busybox/x", None, 'can\'t reach "/bin/busybox/x" in the container: no directory'),
    ],
)
def test_places_that_are_none(
    live: Live, before: Sequence[str], path: str, link: str | None, message: str
) -> None:
    """What can't be a mount point, or must not be one, stops the container."""
    edits = {"mounts": [{"hostPath": str(live.data / "file"), "containerPath": path, "options": ["bind"]}]}
    bundle = live.bundle("true", edits, before=before)
    if link:
        (bundle.rootfs / link).symlink_to(link)
    assert live.refused(bundle).startswith(f"CDI device injection failed: {message}")


@pytest.mark.parametrize("before", [(), (sys.executable, str(NO_OPENAT2))], ids=["openat2", "walk"])
@pytest.mark.parametrize("mounted", [False, True], ids=["", "tmpfs"])
def test_a_dev_that_is_a_link(live: Live, before: Sequence[str], mounted: bool) -> None:
    """Where an image's /dev leads to a dir of the host's, as in CVE-2026-41579 and CVE-2026-47766, no node is made there."""
    outside = live.lab.directory / "outside"
    outside.mkdir()
    made = outside.relative_to("/")
    edits = {"deviceNodes": [{"path": "/dev/node", "hostPath": str(DEVICE)}]}
    bundle = live.bundle("stat -c %t:%T /dev/node", edits, before=before)
    mounts = [one for one in bundle.config["mounts"] if not one["destination"].startswith("/dev")]
    if mounted:
        mounts.append({"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755"]})
    bundle.config["mounts"] = mounts
    bundle.write()
    (bundle.rootfs / made).mkdir(parents=True)
    os.mknod(
        bundle.rootfs / made / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3)
    )  # for crun, which opens it
    (bundle.rootfs / "dev").symlink_to(outside)
    starts = not mounted or live.lab.runtime.name == "runc"  # such a crun finds no /dev/null
    assert live.call("run", bundle).stdout == ("a:e5\n" if starts else "")
    # An old runtime makes links there itself, such as runc 1.1.15.
    assert not (outside / "node").exists()


def test_a_rootfs_that_has_been_moved(live: Live) -> None:
    """Where the rootfs's path leads to another dir of the host meanwhile, nothing is made in that."""
    victim = live.lab.directory / "victim"
    victim.mkdir()
    bundle = live.bundle("true", {"deviceNodes": [{"path": "/opt/node", "hostPath": "/dev/null"}]})
    (hook,) = bundle.config["hooks"]["createRuntime"]
    script = f'mv {bundle.rootfs} {bundle.rootfs}.old; ln -s {victim} {bundle.rootfs}; exec "$@"'
    bundle.config["hooks"]["createRuntime"] = [
        {**hook, "path": "/bin/sh", "args": ["sh", "-c", script, "sh", hook["path"], "createRuntime"]}
    ]
    bundle.write()
    assert live.call("run", bundle).returncode != 0
    assert list(victim.iterdir()) == []
