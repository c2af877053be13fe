# SPDX-License-Identifier: Apache-2.0
"""Libraries that the dynamic linker has to find: the same links and cache as ldconfig itself would make."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from cdi_hook.container.rootfs import Rootfs
from cdi_hook.libraries import ldconfig
from tests.elffile import library, need_new_ldconfig

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

DRIVER = "/usr/local/driver/lib64"
CONF_DIR = "etc/ld.so.conf.d"
OURS, SYSTEM = f"{CONF_DIR}/00-nvcr-cdi-hook.conf", f"{CONF_DIR}/zz-nvcr-cdi-hook.conf"
X86_64 = os.uname().machine == "x86_64"
is_x86_64 = pytest.mark.skipif(not X86_64, reason="the dirs of another machine have other names")


def put(root: Path, files: dict[str, bytes | str]) -> Path:
    """Write files, a link for each value that begins with "->"."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str) and content.startswith("->"):
            path.symlink_to(content[2:])
        else:
            path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


def update(root: Path, dirs: Sequence[str] = (DRIVER,), before: Sequence[str] = ()) -> None:
    descriptor = os.open(root, os.O_PATH | os.O_DIRECTORY)
    try:
        rootfs = Rootfs(descriptor, owns=True)
        ldconfig.update(rootfs, dirs, before, ldconfig.Mounted(rootfs))
    finally:
        os.close(descriptor)


def tree(root: Path) -> dict[str, str]:
    """Return what is in a dir: a link's target, a file's text, or what else it is."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file():
            found[name] = "library" if ".so." in name and CONF_DIR not in name else path.read_text()
    return found


def cached(root: Path) -> list[str]:
    """Return what ldconfig reads in a cache: "name (flags) => path"."""
    command = ["/sbin/ldconfig", "-p", "-C", f"{root}/etc/ld.so.cache"]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return [line.strip() for line in done.stdout.splitlines() if "=>" in line]


@is_x86_64
def test_a_drivers_libraries(tmp_path: Path) -> None:
    """A dir of libraries is configured, gets the links of the SONAMEs, and is in the cache."""
    files: dict[str, bytes | str] = {
        f"{DRIVER[1:]}/libcuda.so.580.1": library("libcuda.so.1"),
        f"{DRIVER[1:]}/libplain.so.580.1": library(""),
        f"{DRIVER[1:]}/notes.so.txt": "no library",
        f"{DRIVER[1:]}/libscript.so": "INPUT(-lcuda)",
        f"{DRIVER[1:]}/libpipe.so.2": "->libpipe.so.1",
        "etc/debian_version": "13",
    }
    put(tmp_path, files)
    os.mkfifo(f"{tmp_path}{DRIVER}/libpipe.so.1")
    update(tmp_path)
    assert tree(tmp_path / DRIVER[1:])["libcuda.so.1"] == "-> libcuda.so.580.1"
    assert (tmp_path / "etc/ld.so.conf").read_text() == "include /etc/ld.so.conf.d/*.conf\n"
    assert (tmp_path / OURS).read_text() == f"{DRIVER}\n"
    assert (
        tmp_path / SYSTEM
    ).read_text() == "/lib/x86_64-linux-gnu\n/usr/lib/x86_64-linux-gnu\n/lib\n/usr/lib\n"
    assert cached(tmp_path) == [
        f"libplain.so.580.1 (libc6,x86-64) => {DRIVER}/libplain.so.580.1",
        f"libcuda.so.1 (libc6,x86-64) => {DRIVER}/libcuda.so.1",
    ]


def test_a_second_time(tmp_path: Path) -> None:
    """Doing it again changes nothing."""
    put(tmp_path, {f"{DRIVER[1:]}/libcuda.so.580.1": library("libcuda.so.1"), "etc/alpine-release": "3"})
    update(tmp_path)
    once = tree(tmp_path), (tmp_path / "etc/ld.so.cache").read_bytes()
    update(tmp_path)
    assert (tree(tmp_path), (tmp_path / "etc/ld.so.cache").read_bytes()) == once


def test_another_driver(tmp_path: Path) -> None:
    """A container that is started again with a driver elsewhere has that one's dir, and no longer the first one's."""
    put(tmp_path, {f"{DRIVER[1:]}/libcuda.so.580.1": library("libcuda.so.1")})
    update(tmp_path, before=["/compat"])
    put(tmp_path, {"opt/new/libcuda.so.590.1": library("libcuda.so.1")})
    update(tmp_path, ["/opt/new"])
    assert (tmp_path / OURS).read_text() == "/opt/new\n"
    assert not (tmp_path / CONF_DIR / "00-compat-cdi-hook.conf").exists()
    assert [line.partition("=> ")[2] for line in cached(tmp_path)] == ["/opt/new/libcuda.so.1"]


@is_x86_64
def test_a_dir_that_is_searched_anyway(tmp_path: Path) -> None:
    """A dir that is the system's, or that the image's configuration has, isn't added."""
    put(tmp_path, {"etc/ld.so.conf": "include conf/*.conf # ours\nhwcap 0 x", "etc/conf/a.conf": "/opt/a/\n"})
    update(tmp_path, ["/usr/lib64", "/opt/a", "/opt/b"])
    assert (tmp_path / OURS).read_text() == "/opt/b\n"


def test_musl(tmp_path: Path) -> None:
    """An Alpine image's linker gets the dirs too, before its own defaults or what its path file has."""
    put(tmp_path, {"etc/alpine-release": "3.22"})
    update(tmp_path)
    path = tmp_path / f"etc/ld-musl-{os.uname().machine}.path"
    assert path.read_text().splitlines()[:4] == [DRIVER, "/lib", "/usr/local/lib", "/usr/lib"]
    path.write_text("/lib:/opt\n")
    update(tmp_path)
    assert path.read_text().splitlines()[:3] == [DRIVER, "/lib", "/opt"]


def test_nothing_leads_out(tmp_path: Path) -> None:
    """Neither links of the image nor a SONAME with a slash have anything made outside its root."""
    outside = tmp_path / "outside"
    outside.mkdir()
    files: dict[str, bytes | str] = {
        "etc": f"->{outside}",
        DRIVER[1:]: f"->{outside}",
        "libevil.so.1": library("../../outside/made"),
    }
    root = put(tmp_path / "root", files)
    put(root, {f"{outside}/libcuda.so.580.1": library("libcuda.so.1")})
    update(root, ["/", DRIVER])
    assert os.listdir(outside) == ["libcuda.so.580.1"]
    inside = root / str(outside)[1:]
    assert (inside / "ld.so.conf").exists()
    assert [line.partition(" ")[0] for line in cached_in(inside)] == ["libevil.so.1"]


def cached_in(etc: Path) -> list[str]:
    (etc / "etc").mkdir()
    (etc / "ld.so.cache").rename(etc / "etc/ld.so.cache")
    return cached(etc)


@is_x86_64
def test_files_that_are_none(tmp_path: Path) -> None:
    """FIFOs, devices, dirs and files of a TiB where text or a library should be hold nothing up."""
    files: dict[str, bytes | str] = {f"{DRIVER[1:]}/libcuda.so.580.1": library("libcuda.so.1"), "etc/x": ""}
    put(tmp_path, files)
    for name in ("etc/ld.so.conf.d/a.conf", "etc/alpine-release", f"{DRIVER[1:]}/libfifo.so.1"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        os.mkfifo(tmp_path / name)
    (tmp_path / "etc/debian_version").mkdir()
    with (tmp_path / f"{DRIVER[1:]}/libhuge.so.1").open("wb") as stream:
        stream.truncate(1 << 40)
    update(tmp_path)
    assert cached(tmp_path) == [f"libcuda.so.1 (libc6,x86-64) => {DRIVER}/libcuda.so.1"]


def anything(seed: int) -> dict[str, bytes | str]:
    """Return the files of a system with libraries, links and configuration of all sorts."""
    choose = random.Random(seed)
    files: dict[str, bytes | str] = {
        "etc/ld.so.conf": choose.choice(
            ["include /etc/ld.so.conf.d/*.conf\n", "include ld.so.conf.d/*\n/opt/x\n"]
        ),
        f"{CONF_DIR}/b.conf": "# dirs\n/opt/b  # here\n/opt/a/\n\n",
        f"{CONF_DIR}/a.conf": choose.choice(["/opt/c\n", "/opt/c/\n/opt/c", "/nowhere\n"]),
    }
    dirs = [
        "opt/a",
        "opt/b",
        "opt/c",
        "opt/x",
        "usr/lib",
        "usr/lib/glibc-hwcaps/x86-64-v3",
        "opt/b/glibc-hwcaps/x86-64-v2",
    ]
    for directory in dirs:
        for _ in range(choose.randrange(5)):
            base = choose.choice(["liba", "libb-2", "libc_x", "ld-x", "lib10", "other", "libz.y"])
            version = choose.choice(["1", "2", "10", "1.9", "1.10.3", "20240102030405"])
            name = f"{directory}/{base}.so.{version}"
            files[name] = choose.choice([
                library(f"{base}.so.{version.partition('.')[0]}"), library(f"{base}.so.1"), library(""),
                library(f"{base}.so"), library(f"{base}.so.{version}"), b"", b"\x7fELF",
            ])  # fmt: skip
            for link in (f"{base}.so", f"{base}.so.1", f"{base}-alias.so.3", f"{base}.so.0"):
                if base != "other" and choose.random() < 0.3 and f"{directory}/{link}" not in files:
                    target = choose.choice(
                        [
                            name.rpartition("/")[2],
                            f"{base}.so.1",
                            "nowhere.so.1",
                            "../b/liba.so.1",
                            f"/{name}",
                        ]
                    )
                    files[f"{directory}/{link}"] = f"->{target}"
    return files


@pytest.mark.parametrize("seed", range(25))
def test_as_ldconfig(tmp_path: Path, seed: int) -> None:
    """On whatever system, the links and the cache are those that ldconfig makes."""
    if os.geteuid() != 0:
        pytest.skip("only root can run ldconfig in another root")
    need_new_ldconfig()
    ours, its = put(tmp_path / "ours", anything(seed)), put(tmp_path / "its", anything(seed))
    update(ours, ["/opt/c"])
    for name in (OURS, SYSTEM):
        if (ours / name).exists():
            shutil.copy(ours / name, its / name)
    for root in (ours, its):
        (root / "var").mkdir()
    subprocess.run(["/sbin/ldconfig", "-r", its], check=True, capture_output=True)
    assert cached(ours) == cached(its)
    without = {"etc/ld.so.cache"}
    trees = [{name: what for name, what in tree(root).items() if name not in without} for root in (ours, its)]
    assert trees[0] == trees[1]
