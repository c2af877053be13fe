# SPDX-License-Identifier: Apache-2.0
"""The hook createContainer beside those of nvidia-cdi-hook on the same root filesystem: the same tree, in less time."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import stat
import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.elffile import library

from .glibc import driver_root, give_glibc
from .lab import NATIVE, ROOT, Lab

if TYPE_CHECKING:
    from collections.abc import Sequence

THEIRS = shutil.which("nvidia-cdi-hook")
VERSION = "580.159.04"
DRIVER = "/usr/local/nvidia/lib64"
LINKS = [word for number in range(40) for word in ("--link", f"libq{number}.so.1::{DRIVER}/libq{number}.so")]
GBM = ["--link", f"../libnvidia-allocator.so.1::{DRIVER}/gbm/nvidia-drm_gbm.so"]
THEIR_CALLS = [
    ["create-symlinks", *GBM],
    ["create-symlinks", *LINKS],
    ["enable-cuda-compat", f"--host-driver-version={VERSION}"],
    ["update-ldcache", "--folder", DRIVER],
    ["disable-device-node-modification"],
    ["update-application-profile"],
]
OUR_CALLS = [["createContainer", *GBM, *LINKS, "--ldcache", DRIVER, "--driver-version", VERSION]]
# What theirs leaves by the way: ldconfig's own memory of what it read, and dirs that it mounted on.
BY_THE_WAY = re.compile(r"var/cache/ldconfig(/.*)?|run/nvidia-ctk-hook.*")
RANDOM = re.compile(r"(00-compat|00-nvcr|zz-nvcr)-[^/]*\.conf$")
ROUNDS = 9

pytestmark = [
    pytest.mark.skipif(not THEIRS, reason="nvidia-cdi-hook isn't installed"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount"),
]


def image(bundle: Path, kind: str) -> Path:
    """Make a bundle with a root filesystem as an image of this kind has it, the driver mounted into it."""
    rootfs = bundle / "rootfs"
    for name in ("etc", "proc", "dev", "run", "var/cache", "usr/lib", "usr/lib64", DRIVER[1:]):
        (rootfs / name).mkdir(parents=True)
    for name in ("lib", "lib64"):
        (rootfs / name).symlink_to(f"usr/{name}")
    for number in range(40):
        path = rootfs / DRIVER[1:] / f"libq{number}.so.{VERSION}"
        path.write_bytes(library(f"libq{number}.so.1"))
    for minor in (0, 3):
        os.mknod(rootfs / f"dev/nvidia{minor}", stat.S_IFCHR | 0o666, os.makedev(195, minor))
    (bundle / "config.json").write_text('{"root": {"path": "rootfs"}}')
    if kind == "debian":
        machine = f"{os.uname().machine}-linux-gnu"
        subprocess.run(["cp", "-a", f"/usr/lib/{machine}", rootfs / "usr/lib"], check=True)
        for name in ("ld.so.conf", "ld.so.conf.d", "ld.so.cache", "debian_version"):
            subprocess.run(["cp", "-a", f"/etc/{name}", rootfs / "etc"], check=True)
        compat = rootfs / "usr/local/cuda-13.0/compat"
        compat.mkdir(parents=True)
        (rootfs / "usr/local/cuda").symlink_to("cuda-13.0")
        (compat / "libcuda.so.590.10").write_bytes(library("libcuda.so.1"))
    if kind == "redhat":
        for number in range(30):
            path = rootfs / f"usr/lib64/liba{number}.so.{number}.2"
            path.write_bytes(library(f"liba{number}.so.{number}"))
        (rootfs / "usr/lib64/libstale.so.1").symlink_to("libstale.so.1.0")
    return bundle


def call(program: str, calls: Sequence[Sequence[str]], bundle: Path) -> float:
    """Call hooks one after another, as a runtime does; return the processor time that it took, in seconds."""
    state = json.dumps({"ociVersion": "1.0.2", "id": "x", "pid": 1, "bundle": str(bundle)}).encode()
    begin = resource.getrusage(resource.RUSAGE_CHILDREN)
    for arguments in calls:
        subprocess.run([program, *arguments], input=state, check=True, capture_output=True)
    end = resource.getrusage(resource.RUSAGE_CHILDREN)
    return end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime


def tree(rootfs: Path) -> dict[str, str]:
    """Return what is in a rootfs: kind and mode, a link's target, a configuration's text."""
    found = {}
    for path in rootfs.rglob("*"):
        name = RANDOM.sub(r"\1-x.conf", str(path.relative_to(rootfs)))
        if not BY_THE_WAY.fullmatch(name):
            found[name] = stat.filemode(path.lstat().st_mode)
            if path.is_symlink():
                found[name] += f" {path.readlink()}"
            elif path.suffix in (".conf", ".path"):
                found[name] += f" {path.read_text()}"
    return found


def cached(rootfs: Path) -> list[str]:
    command = ["/sbin/ldconfig", "-p", "-C", f"{rootfs}/etc/ld.so.cache"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [line for line in shown.splitlines() if "=>" in line]


def in_a_mount_namespace(function: str, *arguments: object) -> str:
    """Run a function of this module in a mount namespace of its own, as hooks run."""
    program = f"from tests.runtime import test_peer; test_peer.{function}(*{tuple(map(str, arguments))!r})"
    command = ["unshare", "-m", "--propagation", "private", sys.executable, "-c", program]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout


def compare(directory: str, ours: str, kind: str, rounds: str) -> None:
    """Call both on images of a kind, and print the times in ms; called in a mount namespace."""
    places = {name: image(Path(directory, name), kind) for name in ("theirs", "ours")}
    subprocess.run(["mount", "--bind", *[str(places["theirs"] / "rootfs")] * 2], check=True)
    times: dict[str, list[float]] = {"theirs": [], "ours": []}
    for _ in range(int(rounds)):
        times["theirs"].append(call(THEIRS or "", THEIR_CALLS, places["theirs"]))
        times["ours"].append(call(ours, OUR_CALLS, places["ours"]))
    print(json.dumps({name: round(1000 * statistics.median(each), 1) for name, each in times.items()}))


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our program as packages install it."""
    directory = tmp_path_factory.mktemp("installed")
    make = ["make", "-s", "-C", str(ROOT), "install", f"PREFIX={directory}", f"SYSCONFDIR={directory}/etc"]
    subprocess.run(make, check=True, capture_output=True)
    return directory / "bin/cdi-hook"


@pytest.mark.parametrize("kind", ["empty", "debian", "redhat"])
def test_the_same_tree(tmp_path: Path, installed: Path, kind: str) -> None:
    """One call of ours leaves the files, links and cache that six calls of theirs leave."""
    in_a_mount_namespace("compare", tmp_path, installed, kind, 1)
    ours, theirs = tmp_path / "ours/rootfs", tmp_path / "theirs/rootfs"
    assert tree(ours) == tree(theirs)
    assert cached(ours) == cached(theirs)


@pytest.mark.parametrize("runtime", NATIVE, indirect=True)
def test_the_same_tree_in_a_container(lab: Lab) -> None:
    """A runtime that runs our hook leaves the same root filesystem as one that runs theirs, and the container works."""
    driver = driver_root(lab.directory / "driver", "GPU-00000001-0000-0000-0000-000000000000")
    trees = []
    for name, hook in (("ours", []), ("theirs", ["--hook", "nvidia-cdi-hook"])):
        words = ["generate", "nvidia", "--root", str(driver), "--output", str(lab.specs), *hook]
        environ = lab.environ | {"PATH": os.environ["PATH"]}
        subprocess.run([str(ROOT / "packaging/bin/cdi-hook"), *words], check=True, env=environ)
        bundle = lab.bundle("probe libcuda.so.1 cuInit libcuda.so cuInit", ["nvidia.com/gpu=0"], name=name)
        give_glibc(bundle.rootfs)
        for directory in ("etc", "run"):  # without etc theirs fails, and run it makes
            (bundle.rootfs / directory).mkdir()
        assert lab.run(bundle) == "libcuda.so.1 42\nlibcuda.so 42\n"
        trees.append((tree(bundle.rootfs), cached(bundle.rootfs)))
    assert trees[0] == trees[1]


@pytest.mark.parametrize("kind", ["empty", "debian"])
def test_the_time(tmp_path: Path, installed: Path, kind: str) -> None:
    """One call of ours takes no longer than theirs together, in an image without libraries and in one with many.

    It is processor time, which other processes of the machine change little: none of them waits for anything.
    """
    times = json.loads(in_a_mount_namespace("compare", tmp_path, installed, kind, ROUNDS))
    assert times["ours"] <= times["theirs"]
