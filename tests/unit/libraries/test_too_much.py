# SPDX-License-Identifier: Apache-2.0
"""What an image can make createContainer do is bounded: a count of the real process's CPU and memory says so."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cdi_hook.container import rootfs
from cdi_hook.libraries import ldcache, ldconfig
from tests.elffile import library
from tests.unit.libraries.test_libraries import DRIVER, put

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[3]
SAYS = "CDI device injection failed: the search for libraries takes more of the image than"
ENTRIES = f"{rootfs.MOST_ENTRIES:,} entries of its dirs and files"
MOST_CPU_S, MOST_MIB = 5, 128
LIB = "/usr/lib/driver"
is_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")

# Calls the hook, and prints its exit status, its message, and what it took: seconds of CPU, MiB.
CALL = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[2:], input=sys.argv[1], capture_output=True, text=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([done.returncode, done.stderr, used.ru_utime + used.ru_stime, used.ru_maxrss >> 10]))
"""
# Calls it with a bound that is as small as a test needs: argv has its name and value.
LOWERED = """
import posix, sys
from cdi_hook.hooks import entry
from cdi_hook.libraries import needs
setattr(entry, sys.argv[1], float(sys.argv[2]))
posix._exit(entry.main("createContainer", sys.argv[3], needs=needs.parse(sys.argv[4:])[0]))
"""


def call(top: Path, command: list[str], before: str = "") -> tuple[int, str, float, int]:
    """Call the hook in a mount namespace in which the rootfs is mounted; return what CALL prints."""
    (top / "host").mkdir(exist_ok=True)
    state = json.dumps({"id": "x", "bundle": str(top), "root": str(top / "root")})
    script = f'mount --bind root root; {before}\n"$@"'
    words = [
        "unshare",
        "-m",
        "--propagation",
        "private",
        "sh",
        "-ec",
        script,
        "sh",
        sys.executable,
        "-c",
        CALL,
        state,
    ]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*words, *command], check=True, stdout=subprocess.PIPE, text=True, cwd=top, env=environ, timeout=120
    )
    status, message, cpu, memory = json.loads(done.stdout)
    return status, message, cpu, memory


def prepare(top: Path) -> tuple[int, str, float, int]:
    return call(top, [str(ROOT / "packaging/bin/cdi-hook"), "createContainer", "--ldcache", LIB])


def many(directory: Path, contents: dict[str, bytes]) -> None:
    """Write files faster than put."""
    directory.mkdir(parents=True)
    for name, content in contents.items():
        with open(f"{directory}/{name}", "wb") as stream:
            stream.write(content)


def dirs(root: Path) -> str:
    """As many dirs as a text can name."""
    put(root, {"etc/ld.so.conf": "".join(f"/{number:x}\n" for number in range(150_000))})
    return ENTRIES


def much_text(root: Path) -> str:
    """2.4 million dirs."""
    put(root, {"etc/ld.so.conf": "".join(f"/{number:x}\n" for number in range(2_400_000))})
    return "1 MiB of a file"


def includes(root: Path) -> str:
    """20,000 files, and in each an include of them all."""
    put(root, {"etc/ld.so.conf": "include /etc/c/*.conf\n" * 20_000})
    many(root / "etc/c", {f"{number}.conf": b"include /etc/c/*.conf\n" for number in range(20_000)})
    return "200 includes"


def patterns(root: Path) -> str:
    """A line of patterns, as long as it can be."""
    line = " ".join(f"/etc/[a]*{number}*" for number in range(50_000))
    put(root, {"etc/ld.so.conf": f"include {line}", "etc/a": ""})
    return "200 includes"


def files(root: Path) -> str:
    """Just too many libraries."""
    put(root, {"etc/ld.so.conf": "/opt\n"})
    many(
        root / "opt",
        {f"lib{number}.so.1": library(f"lib{number}.so.1") for number in range(rootfs.MOST_ENTRIES // 3)},
    )
    return ENTRIES


def names(root: Path) -> str:
    """Libraries with one SONAME, whose names are dear to compare."""
    put(root, {"etc/ld.so.conf": "/opt\n"})
    many(root / "opt", {f"lib{number}{'1a' * 120}.so": library("libx.so") for number in range(17_000)})
    return f"{rootfs.MOST_BYTES >> 20} MiB"


def tables(root: Path) -> str:
    """Libraries with large tables."""
    entries = [(1, 0, 0, 0, 0, 0, 0, 0)] * 2047 + [(2, 1024 + 65536, 0, 0, 65536, 0, 0, 0)]
    header = struct.pack("<HHIIIIIHHHHHH", 3, 3, 1, 0, 1024, 0, 0, 52, 32, len(entries), 40, 0, 0)
    content = (b"\x7fELF\1\1\1".ljust(16, b"\0") + header).ljust(1024, b"\0")
    content += b"".join(struct.pack("<8I", *entry) for entry in entries)
    content += b"".join(struct.pack("<iI", number, 0) for number in range(8192))
    put(root, {"etc/ld.so.conf": "/opt\n"})
    many(root / "opt", {f"lib{number}.so.1": content for number in range(100)})
    return f"{rootfs.MOST_BYTES >> 20} MiB"


def large_cache(root: Path) -> str:
    """A cache of 64 MiB."""
    put(root, {"etc/ld.so.cache": ""})
    os.truncate(root / "etc/ld.so.cache", 64 << 20)
    return f"{rootfs.MOST_BYTES >> 20} MiB of a file"


def shared_strings(root: Path) -> str:
    """A cache whose entries share a long string."""
    (start, string) = ldcache.build([ldcache.Entry("a", "/" + "a" * 4000, 0x0303)]).split(b"/", 1)
    count = (rootfs.MOST_BYTES >> 1) // 24
    begin = len(start) - 24
    entry = struct.pack("<iIIIQ", 0x0303, begin + 24 * count, begin + 24 * count, 0, 0)
    header = start[:20] + struct.pack("<I", count) + start[24:begin]
    put(root, {"etc/ld.so.cache": header + entry * count + b"/" + string})
    return f"{rootfs.MOST_BYTES >> 20} MiB"


@is_root
@pytest.mark.parametrize(
    "make", [dirs, much_text, includes, patterns, files, names, tables, large_cache, shared_strings],
    ids=lambda make: make.__name__,
)  # fmt: skip
def test_an_image_that_is_dear(tmp_path: Path, make: Callable[[Path], str]) -> None:
    """A container with too much to look at fails with a word of it, after little CPU and memory."""
    much = make(tmp_path / "root")
    status, message, cpu, memory = prepare(tmp_path)
    assert message.startswith(f"{SAYS} {much}, ")
    assert (status, cpu < MOST_CPU_S, memory < MOST_MIB) == (7, True, True), (cpu, memory)


@pytest.mark.parametrize("bound", ["MOST_ENTRIES", "MOST_BYTES"])
def test_nothing_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    """Wherever the search comes to a bound, it fails: nowhere is that taken for a file that isn't there."""
    put(tmp_path, {
        "etc/ld.so.conf": "include /etc/ld.so.conf.d/*.conf\n/opt\n/gone\n", "etc/alpine-release": "3",
        "opt/libx.so.1.2": library("libx.so.1"), "opt/liby.so": "->/gone", "opt/libz.so": "->libx.so.1.2",
        "opt/glibc-hwcaps/x86-64-v3/libx.so.1": library("libx.so.1"), f"{DRIVER[1:]}/libd.so.1": library("libd.so.1"),
        "etc/ld.so.cache": ldcache.build([ldcache.Entry("libv.so.1", "/vol/libv.so.1", 0x0303)]),
    })  # fmt: skip
    descriptor = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)

    def spent() -> int:
        root = rootfs.Rootfs(descriptor, owns=True)
        ldconfig.update(root, [DRIVER], ["/compat"], ldconfig.Mounted(root))
        return root._entries if bound == "MOST_ENTRIES" else root._bytes

    spent()
    most = spent()  # what is made is there from the second time on
    assert most > 40
    monkeypatch.setattr(rootfs, bound, most)
    assert spent() == most
    for number in range(0, most, max(1, most // 100)):
        monkeypatch.setattr(rootfs, bound, number)
        with pytest.raises(rootfs.TooMuch):
            spent()
    os.close(descriptor)


@is_root
def test_a_file_system_that_does_not_answer(tmp_path: Path) -> None:
    """The hook ends with a word after a time, where neither the host's libraries nor LOG answer."""
    put(tmp_path, {f"root{LIB}/libx.so.1": "", "conf": f"LOG={tmp_path}/host/log\n"})
    command = [sys.executable, "-c", LOWERED, "MOST_S", "1", str(tmp_path / "conf")]
    words = ["--ldcache", LIB, "--library", f"{LIB}/libx.so.1", "--driver-root", str(tmp_path / "host")]
    # This shell holds the descriptor of a FUSE mount that nobody reads.
    fuse = (
        "exec 9<>/dev/fuse; mount -i -t fuse -o fd=9,rootmode=40000,user_id=0,group_id=0 x host; exec 8<&9; "
    )
    status, message, _, _ = call(tmp_path, [*command, *words], before=fuse)
    assert (status, message) == (
        7,
        "CDI device injection failed: cdi-hook createContainer isn't done after 1.0 s: a file system doesn't answer, "
        "or this host is overloaded\n",
    )


@is_root
def test_links_that_are_long_to_follow(tmp_path: Path) -> None:
    """The kernel's work counts too: an image's chains of links end with a word after so much CPU."""
    put(tmp_path, {"root/etc/ld.so.conf": "/opt\n", "root/c38/x": "", "conf": ""})
    put(tmp_path / "root", {f"c{number}": f"->{'./' * 2000}c{number + 1}" for number in range(38)})
    put(tmp_path / "root", {f"opt/lib{number}.so.1": "->/c0/y" for number in range(8000)})
    command = [sys.executable, "-c", LOWERED, "MOST_CPU_S", "0.5", str(tmp_path / "conf"), "--ldcache", LIB]
    status, message, cpu, _ = call(tmp_path, command)
    assert (status, message) == (
        7,
        "CDI device injection failed: cdi-hook createContainer takes more than 0.5 s of CPU: name fewer dirs in the "
        "image's /etc/ld.so.conf\n",
    )
    assert cpu < MOST_CPU_S
