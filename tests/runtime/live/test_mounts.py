# SPDX-License-Identifier: Apache-2.0
"""Containers get their devices while they are created: mounts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.runtime.lab import DEVICE, NATIVE

from .hooked import NODE, user_namespace

if TYPE_CHECKING:
    from .hooked import Live

pytestmark = pytest.mark.parametrize("runtime", NATIVE, indirect=True)


@user_namespace
def test_mount_options(live: Live, userns: bool) -> None:
    """Each option of the OCI runtime specification does to a mount what it says, the recursive ones to those below."""
    with_mount = live.lab.directory / "tree"
    (with_mount / "below").mkdir(parents=True)
    host = str(with_mount)
    mounts = {
        "/m/plain": ["bind"],
        "/m/ro": ["rbind", "ro"],
        "/m/rro": ["rbind", "rro"],
        "/m/flags": ["rbind", "nosuid", "nodev", "noexec", "noatime", "nodiratime"],
        "/m/recursive": ["rbind", "rnosuid", "rnodev", "rnoexec", "rstrictatime"],
        "/m/undone": ["rbind", "ro", "rw", "nosuid", "suid"],
        "/m/both": ["rbind", "bind", "rro", "rw"],
        "/m/shared": ["rbind", "rshared"],
        "/m/slave": ["rbind", "rslave"],
        "/m/private": ["rbind", "rprivate"],
        "/m/unbindable": ["bind", "unbindable"],
    }
    edits = {
        "mounts": [
            {"hostPath": host, "containerPath": path, "options": options} for path, options in mounts.items()
        ]
    }
    bundle = live.bundle("cat /proc/self/mountinfo", edits, userns=userns)
    mounted = (
        "unshare",
        "-m",
        "--propagation",
        "shared",
        "sh",
        "-ec",
        f'mount -t tmpfs t {host}/below; exec "$@"',
        "sh",
    )
    output = live.run(bundle, mounted)
    found = {}
    for line in output.splitlines():
        fields = line.split()
        if fields[4].startswith("/m/"):
            options = [one for one in fields[5].split(",") if one not in ("rw", "idmapped")]
            tags = [tag.partition(":")[0] for tag in fields[6 : fields.index("-")]]
            found[fields[4]] = ",".join(options + tags)
    # In the end crun makes all mounts private, whoever made them.
    shared, slave, unbindable = (
        ("", "", "") if live.lab.runtime.name == "crun" else (",shared,master", ",master", ",unbindable")
    )
    assert found == {
        "/m/plain": "relatime",
        "/m/ro": "ro,relatime",
        "/m/ro/below": "relatime",
        "/m/rro": "ro,relatime",
        "/m/rro/below": "ro,relatime",
        "/m/flags": "nosuid,nodev,noexec,noatime,nodiratime",
        "/m/flags/below": "relatime",
        "/m/recursive": "nosuid,nodev,noexec",
        "/m/recursive/below": "nosuid,nodev,noexec",
        "/m/undone": "relatime",
        "/m/undone/below": "relatime",
        "/m/both": "ro,relatime",
        "/m/both/below": "ro,relatime",
        "/m/shared": f"relatime{shared}",
        "/m/shared/below": f"relatime{shared}",
        "/m/slave": f"relatime{slave}",
        "/m/slave/below": f"relatime{slave}",
        "/m/private": "relatime",
        "/m/private/below": "relatime",
        "/m/unbindable": f"relatime{unbindable}",
    }


@user_namespace
def test_tmpfs_has_the_mode_of_the_dir(live: Live, userns: bool) -> None:
    """A tmpfs on a dir of the image has that dir's mode, unless the spec says one, as from the runtimes."""
    mounts = {"/private": [], "/said": ["mode=711"], "/new": []}
    edits = {
        "mounts": [
            {"hostPath": "tmpfs", "containerPath": path, "type": "tmpfs", "options": options}
            for path, options in mounts.items()
        ]
    }
    bundle = live.bundle("stat -c '%n %a %u' /private /said /new", edits, userns=userns)
    for name in ("private", "said"):
        (bundle.rootfs / name).mkdir(mode=0o700)
    assert live.run(bundle) == "/private 700 0\n/said 711 0\n/new 1777 0\n"


@user_namespace
def test_mount_hides_nothing_that_lies_deeper(live: Live, userns: bool) -> None:
    """A mount above one of the container's own comes to lie under it, as it would in the specification's order."""
    deeper = live.lab.directory / "deeper"
    deeper.mkdir()
    (deeper / "own").write_text("of the container\n", "utf-8")
    (live.data / "deeper").mkdir()
    edits = {"mounts": [{"hostPath": str(live.data), "containerPath": "/m", "options": ["bind", "ro"]}]}
    bundle = live.bundle("cat /m/file /m/deeper/own", edits, userns=userns)
    own = {"destination": "/m/deeper", "source": str(deeper), "type": "bind", "options": ["bind", "ro"]}
    bundle.config["mounts"].append(own)
    bundle.write()
    assert live.run(bundle) == "of the host\nof the container\n"
    destinations = [mount["destination"] for mount in bundle.injected()["mounts"]]
    assert [path for path in destinations if path.startswith("/m")] == ["/m", "/m/deeper"]


def test_source_that_the_kernel_cannot_map(live: Live) -> None:
    """In a user namespace, a mount from a file system without id-mapped mounts is made without that."""
    edits = {
        "mounts": [
            {"hostPath": path, "containerPath": target, "options": ["bind"]}
            for path, target in (
                ("/dev/null", "/m/null"),
                ("/sys/module", "/m/sys"),
                (str(live.data), "/m/data"),
            )
        ]
    }
    script = "stat -c %t:%T /m/null; stat -c %u /m/sys /m/data/file"
    assert live.run(live.bundle(script, edits, userns=True)) == "1:3\n65534\n0\n"


@user_namespace
def test_source_in_the_bundle(live: Live, userns: bool) -> None:
    """A mount's relative source is found in the bundle, whatever else the device brings."""
    edits = {
        "mounts": [{"hostPath": "rootfs/bin", "containerPath": "/m", "options": ["bind"]}],
        "deviceNodes": [{"path": NODE, "hostPath": str(DEVICE)}],
    }
    bundle = live.bundle(f"stat -c %t:%T {NODE}; readlink /m/sh", edits, userns=userns)
    assert live.run(bundle) == "a:e5\nbusybox\n"


def test_many_mounts_with_few_descriptors(live: Live) -> None:
    """How many descriptors a process may have by default doesn't limit what can be injected."""
    mounts = [
        {"hostPath": str(live.data / "file"), "containerPath": f"/m/{number}/file", "options": ["bind"]}
        for number in range(40)
    ]
    few = ("/bin/sh", "-c", 'ulimit -Sn 64; exec "$@"', "sh")
    assert live.run(live.bundle("cat /m/39/file", {"mounts": mounts}, before=few)) == "of the host\n"


@pytest.mark.parametrize(
    ("source", "path", "message"),
    [
        ("/none/x", "/m", 'the host has no "/none/x", needed by the spec\'s mounts; device '),
        (
            "/bin\0",
            "/m",
            'can\'t mount "/bin\\x00" on "/m" while the container is created: "/bin\\x00": Invalid',
        ),
        ("/bin", "/m\0", 'can\'t reach "/m\\x00" in the container: Invalid argument; '),
        (
            "/",
            "/..",
            'can\'t mount "/" on "/.." while the container is created: it would hide the whole rootfs',
        ),
        (
            "/",
            "/bin/busybox",
            'can\'t mount "/" on "/bin/busybox" while the container is created: it is a dir, and ',
        ),
        (
            "/bin/sh",
            "/bin",
            'can\'t mount "/bin/sh" on "/bin" while the container is created: a dir is there, and ',
        ),
    ],
)
def test_mounts_that_are_refused(live: Live, source: str, path: str, message: str) -> None:
    """A mount that can't be made is named."""
    edits = {"mounts": [{"hostPath": source, "containerPath": path, "options": ["bind"]}]}
    assert live.refused(live.bundle("true", edits)).startswith(f"CDI device injection failed: {message}")
