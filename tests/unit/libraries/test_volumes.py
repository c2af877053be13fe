# SPDX-License-Identifier: Apache-2.0
"""createContainer and what is mounted in the container: only the spec's own libraries are read, nothing is changed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cdi_hook.container.rootfs import NOT_ITSELF
from cdi_hook.libraries import ldcache
from tests.elffile import library
from tests.unit.libraries.test_libraries import cached, is_x86_64, put, tree

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")

WATCHED = Path(__file__).with_name("watched.py")
LIB = "usr/local/driver/lib64"
NAME = "libcuda.so.580.1"
ROUNDS = 300
# Runs in the dir that has root, volume and host: prepares the root, or shows why that can't be done.
PREPARE = """
import sys
from cdi_hook.errors import CDIError
from cdi_hook.libraries import needs, preparing
try:
    preparing.prepare(needs.parse(sys.argv[2:])[0], sys.argv[1])
except CDIError as error:
    print(error)
"""
HIDE_OPENAT2 = Path(__file__).parents[2] / "runtime/live/no_openat2.py"
each_kernel = pytest.mark.parametrize(
    "before", [(), (sys.executable, str(HIDE_OPENAT2))], ids=["", "no openat2"]
)


def run(script: str, *words: str, cwd: Path) -> str:
    """Run a shell script in a mount namespace of its own; return its output."""
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
    command = ["unshare", "-m", "--propagation", "private", "sh", "-ec", script, "sh", *words]
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, cwd=cwd, env=environ, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def prepare(top: Path, mounts: str, *needs: str, before: tuple[str, ...] = ()) -> str:
    """Make mounts below root, and prepare that; return the error, or ""."""
    return run(
        f'mount --bind root root; {mounts}\nexec "$@"',
        *(*before, sys.executable, "-c", PREPARE, str(top / "root"), *needs, "--driver-root", str(top / "host")),
        cwd=top,
    )  # fmt: skip


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A root with a driver's library mounted, and a volume."""
    put(tmp_path / "host", {f"{LIB}/{NAME}": library("libcuda.so.1")})
    put(tmp_path / "root", {f"{LIB}/{NAME}": "", "vol/here": ""})
    put(
        tmp_path / "volume", {"lib/libz.so.1.2": library("libz.so.1"), "lib/libx.so.1": "->/only/on/the/host"}
    )
    return tmp_path


MOUNT = f"mount --bind host/{LIB}/{NAME} root/{LIB}/{NAME}; mount --bind volume root/vol;"
NEEDS = ("--ldcache", f"/{LIB}", "--library", f"/{LIB}/{NAME}")


@is_x86_64
@each_kernel
def test_a_library_that_the_spec_mounts(world: Path, before: tuple[str, ...]) -> None:
    """A library that --library names is read, and gets its link; a volume's libraries aren't looked at."""
    put(world / "root", {"etc/ld.so.conf": "include /etc/ld.so.conf.d/*.conf\n/vol/lib\n"})
    was = tree(world / "volume")
    assert prepare(world, MOUNT, *NEEDS, before=before) == ""
    assert cached(world / "root") == [f"libcuda.so.1 (libc6,x86-64) => /{LIB}/libcuda.so.1"]
    assert (world / f"root/{LIB}/libcuda.so.1").readlink() == Path(NAME)
    assert tree(world / "volume") == was


@is_x86_64
def test_a_dir_on_a_volume(world: Path) -> None:
    """Where the spec's library is mounted on a volume, its name is known, and nothing is made or listed there."""
    (world / f"volume/{LIB}").mkdir(parents=True)
    (world / f"volume/{LIB}/{NAME}").touch()
    (world / f"volume/{LIB}/libother.so.1").write_bytes(library("libother.so.1"))
    was = tree(world / "volume")
    mounts = f"mount --bind volume/usr root/usr; mount --bind host/{LIB}/{NAME} root/{LIB}/{NAME};"
    assert prepare(world, mounts, *NEEDS) == ""
    assert cached(world / "root") == [f"libcuda.so.1 (libc6,x86-64) => /{LIB}/{NAME}"]
    assert tree(world / "volume") == was


@pytest.mark.parametrize(
    ("mounts", "needs", "error"),
    [
        (
            "mount --bind volume/lib/libz.so.1.2 root/$L;",
            NEEDS,
            f'"/{LIB}/{NAME}" in the container isn\'t "TOP/host/{LIB}/{NAME}", which the spec mounts',
        ),
        ("rm root/$L;", NEEDS, f'can\'t find the mounted "/{LIB}/{NAME}": No such file or directory'),
        (
            MOUNT,
            (*NEEDS[:2], "--driver-version", "580.1"),
            f'the CDI spec mounts "/{LIB}/{NAME}", but its hook doesn\'t name it with --library; make the spec again '
            "with cdi-hook generate",
        ),
    ],
    ids=["another", "none", "not named"],
)  # fmt: skip
def test_no_library_of_the_spec(world: Path, mounts: str, needs: tuple[str, ...], error: str) -> None:
    """A container doesn't start if a library isn't the host's, is missing, or isn't named by an older spec."""
    said = prepare(world, mounts.replace("$L", f"{LIB}/{NAME}"), *needs)
    assert said == f"{error.replace('TOP', str(world))}\n"


@each_kernel
@pytest.mark.parametrize("path", ["/vol/libcuda.so", "/conf/new/libcuda.so", "/vol/here"])
def test_nothing_is_made_on_a_volume(world: Path, path: str, before: tuple[str, ...]) -> None:
    """A link on a volume, or in a dir that would be made there, is refused, and leaves nothing there."""
    put(world / "root", {"conf": "->/vol"})
    was = tree(world / "volume")
    place = path.rpartition("/")[0]
    said = prepare(world, MOUNT, "--link", f"x::{path}", before=before)
    assert said == f'"{place}" is on a volume of the container, where nothing is read or written\n'
    assert (tree(world / "volume"), (world / "volume/new").exists()) == (was, False)


@is_x86_64
def test_what_the_cache_has_of_volumes(world: Path) -> None:
    """The cache keeps what the image's had of volumes, also a single mounted file, and of nothing else."""
    kept = [("libz.so.1", "/vol/lib/libz.so.1.2", ""), ("libone.so.1", "/opt/libone.so.1", "x86-64-v3")]
    others = [("libcuda.so.1", "/vol/lib/libcuda.so.1", ""), ("libgone.so.1", "/usr/lib/libgone.so.1", "")]
    flags = 0x0303
    entries = [ldcache.Entry(name, path, flags, hwcaps) for name, path, hwcaps in (*kept, *others)]
    put(world / "root", {"etc/ld.so.cache": ldcache.build(entries), "opt/libone.so.1": ""})
    assert prepare(world, f"{MOUNT} mount --bind volume/lib/libz.so.1.2 root/opt/libone.so.1", *NEEDS) == ""
    found = ldcache.parse((world / "root/etc/ld.so.cache").read_bytes())
    assert sorted((one.name, one.path, one.hwcaps) for one in found) == sorted(
        [*kept, ("libcuda.so.1", f"/{LIB}/libcuda.so.1", "")]
    )


@is_x86_64
def test_the_configuration_on_a_volume(world: Path) -> None:
    """A single file that is mounted as ld.so.conf stays, unread, and the driver's libraries are found."""
    put(world / "root", {"etc/ld.so.conf": ""})
    put(world / "volume", {"conf": "/vol/lib\n"})
    mounts = f"{MOUNT} mount --bind volume/conf root/etc/ld.so.conf"
    assert prepare(world, mounts, *NEEDS) == ""
    assert cached(world / "root") == [f"libcuda.so.1 (libc6,x86-64) => /{LIB}/libcuda.so.1"]
    assert (world / "volume/conf").read_text() == "/vol/lib\n"


@is_x86_64
def test_links_to_a_library_of_the_spec(world: Path) -> None:
    """The image's links lead to it: from its dir, from another, by a dir that is a link, and each has an entry."""
    links = {"libcuda.so.1": "libcuda.so.580", "libcuda.so.580": NAME, "libcuda.so": "libcuda.so.1"}
    files: dict[str, bytes | str] = {f"{LIB}/{name}": f"->{target}" for name, target in links.items()}
    put(world / "root", {**files, "opt/libcuda.so.1": f"->/driver/{NAME}", "driver": f"->{LIB}", "opt/x": ""})
    put(world / "root", {"etc/ld.so.conf": "/driver\n/opt\n"})
    assert prepare(world, MOUNT, "--ldcache", "/driver", *NEEDS[2:]) == ""
    shown = [f"{name} (libc6,x86-64) => /driver/{name}" for name in ("libcuda.so.1", "libcuda.so")]
    assert cached(world / "root") == [shown[0], "libcuda.so.1 (libc6,x86-64) => /opt/libcuda.so.1", shown[1]]


def test_a_volume_over_the_rootfs(world: Path) -> None:
    """A volume in the place of the rootfs, which crun mounts there by an image's link to "/", isn't taken for it."""
    was = tree(world / "volume")
    said = prepare(world, "mount --bind volume root; mount -o remount,bind,ro root", *NEEDS)
    assert said == f'"{world}/root" {NOT_ITSELF}\n'
    assert tree(world / "volume") == was
    # A runtime mounts the rootfs on itself, and that is no volume.
    assert prepare(world, f"mount --bind root root; cd .; {MOUNT}", *NEEDS) == ""


def test_a_volume_that_does_not_answer(world: Path) -> None:
    """A volume isn't even looked at: a file system whose server doesn't answer holds nothing up."""
    put(world / "root", {"etc/ld.so.conf": "/fuse/lib\n/fuse\n", "fuse/x": "", "conf": "->/fuse"})
    put(
        world / "root",
        {"opt/libx.so.1": "->/fuse/lib/libx.so.1", "etc/ld.so.conf.d/a.conf": "include /conf/*\n"},
    )
    put(world / "root", {f"{LIB}/libfoo.so.2": library("libbar.so.1"), f"{LIB}/libbar.so.1": ""})
    put(world / "root", {"usr/local/cuda/compat/libcuda.so.999.1": ""})
    files = (f"{LIB}/libbar.so.1", "usr/local/cuda/compat/libcuda.so.999.1")
    # The descriptors of FUSE mounts that nobody reads.
    script = "".join(
        f"exec {number}<>/dev/fuse; mount -i -t fuse "
        f"-o fd={number},rootmode=100000,user_id=0,group_id=0 x root/{name}; "
        for number, name in enumerate(files, 7)
    )
    script += (
        "exec 9<>/dev/fuse; mount -i -t fuse -o fd=9,rootmode=40000,user_id=0,group_id=0 x root/fuse; "
        f"{MOUNT}"
    )
    assert prepare(world, script, *NEEDS, "--driver-version", "580.1") == ""


@is_x86_64
def test_a_newer_library_of_the_image(world: Path) -> None:
    """The spec's library is found by its SONAME, also where the image's own is newer."""
    put(world / "root", {f"{LIB}/libcuda.so.999.1": library("libcuda.so.1")})
    link = ("--link", f"{NAME}::/{LIB}/libcuda.so.1")
    assert prepare(world, MOUNT, *NEEDS, *link) == ""
    assert (world / f"root/{LIB}/libcuda.so.1").readlink() == Path(NAME)
    assert cached(world / "root") == [f"libcuda.so.1 (libc6,x86-64) => /{LIB}/libcuda.so.1"]


def test_what_is_left_beside_a_file(world: Path) -> None:
    """What an image has put where a new file is written first isn't opened: a FIFO, a device, a link."""
    left = world / "root/etc/ld.so.cache.cdi-hook.tmp"
    for make in (
        os.mkfifo,
        lambda path: os.mknod(path, 0o20666, os.makedev(10, 229)),
        lambda path: os.symlink("/x", path),
    ):
        left.parent.mkdir(exist_ok=True)
        make(left)
        assert prepare(world, MOUNT, *NEEDS) == ""
        assert not os.path.lexists(left)


@each_kernel
def test_links_and_mounts_that_change(tmp_path: Path, before: tuple[str, ...]) -> None:
    """Whatever an image links and whatever changes meanwhile, the hook opens nothing on a volume, as fanotify tells.

    An image's musl path file that was a link to a 0600 file of a volume came out in a 0644 file of the rootfs.
    """
    words = [*before, sys.executable, str(WATCHED), str(tmp_path), str(ROUNDS)]
    report: dict[str, Any] = json.loads(run('exec "$@"', *words, cwd=tmp_path))
    refusal = " is on a volume of the container, where nothing is read or written"
    assert report.pop("watched") > 0
    assert all(not said or refusal in said or "/usr/lib/driver" in said for said in report.pop("said"))
    assert report == {"by us": [], "changed": False, "first": "", "words": []}
