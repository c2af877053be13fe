# SPDX-License-Identifier: Apache-2.0
"""A hostile rootfs with a volume, prepared again and again while its links and mounts change.

Run in a mount namespace of its own, with a dir and a number of rounds. fanotify(7) tells what was opened,
read, listed or changed on the volume, and by which process. Prints JSON: `by us`, the paths on the volume
that the hook opened; `watched`, how many events fanotify had of this program itself, which opens a file there
so that a watch that sees nothing is noticed; `changed`, whether the volume has changed; `failures`, what the
hook said; `words`, the files of the rootfs with what only the volume has.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import struct
import sys
from pathlib import Path

from cdi_hook.container import syscalls
from cdi_hook.errors import CDIError
from cdi_hook.libraries import preparing
from cdi_hook.libraries.needs import parse
from tests.elffile import library

FAN_CLOEXEC, FAN_NONBLOCK, FAN_UNLIMITED_QUEUE = 0x1, 0x2, 0x10
FAN_MARK_ADD, FAN_MARK_FILESYSTEM = 0x1, 0x100
FAN_ACCESS, FAN_MODIFY, FAN_OPEN, FAN_ONDIR = 0x1, 0x2, 0x20, 0x40000000
EVENT = struct.Struct("=IBBHQii")
RENAME_EXCHANGE = 2
SECRET = "kept from the container"
VERSION = "580.1"
LIB = "usr/lib/driver"
LIBRARY = f"{LIB}/libx.so.{VERSION}"
_libc = ctypes.CDLL(None, use_errno=True)


def checked(result: int) -> int:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result


def watch(path: Path) -> int:
    """Return a descriptor that has all that is opened, read, listed or changed on a path's filesystem."""
    descriptor = checked(_libc.fanotify_init(FAN_CLOEXEC | FAN_NONBLOCK | FAN_UNLIMITED_QUEUE, os.O_RDONLY))
    mask = ctypes.c_uint64(FAN_OPEN | FAN_ACCESS | FAN_MODIFY | FAN_ONDIR)
    flags = ctypes.c_uint(FAN_MARK_ADD | FAN_MARK_FILESYSTEM)
    checked(_libc.fanotify_mark(descriptor, flags, mask, syscalls.AT_FDCWD, os.fsencode(path)))
    return descriptor


def events(descriptor: int) -> list[tuple[int, str]]:
    """Return (process, path) of what has happened."""
    found: list[tuple[int, str]] = []
    while True:
        try:
            data = os.read(descriptor, 1 << 16)
        except BlockingIOError:
            return found
        while data:
            length, _, _, _, _, file, process = EVENT.unpack_from(data)
            found.append((process, os.readlink(f"/proc/self/fd/{file}")))
            os.close(file)
            data = data[length:]


def exchange(one: Path, other: Path) -> None:
    """Swap two names in one step."""
    names = ctypes.c_char_p(os.fsencode(one)), ctypes.c_char_p(os.fsencode(other))
    at = syscalls.AT_FDCWD
    checked(_libc.renameat2(at, names[0], at, names[1], ctypes.c_uint(RENAME_EXCHANGE)))


def put(path: Path, content: bytes | str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def listing(top: Path) -> list[tuple[str, int, int]]:
    return sorted(
        (str(path), path.lstat().st_mode, path.lstat().st_mtime_ns) for path in [top, *top.rglob("*")]
    )


class World:
    """The rootfs, its volume, and the driver's library on the host."""

    def __init__(self, top: Path) -> None:
        self.root, self.volume, self.host = top / "root", top / "volume", top / "host"
        for path in (self.root, self.volume, self.host):
            path.mkdir()
        syscalls.mount("tmpfs", str(self.volume), 0, "tmpfs")
        syscalls.mount("tmpfs", str(self.host), 0, "tmpfs")
        syscalls.mount(str(self.root), str(self.root), syscalls.MS_BIND)
        machine = os.uname().machine
        for name in (
            "shadow",
            f"etc/ld-musl-{machine}.path",
            "etc/ld.so.conf",
            "etc/alpine-release",
            "etc/x.conf",
        ):
            put(self.volume / name, f"/{SECRET}\n")
        put(self.volume / "lib/libsecret.so.1", library(SECRET))
        put(self.volume / "glibc-hwcaps/x86-64-v3/libsecret.so.1", library(SECRET))
        put(self.volume / "compat/libcuda.so.999.1", library("libcuda.so.1"))
        self.volume.joinpath("lib").chmod(0o700)
        put(self.host / LIBRARY, library("libx.so.1"))

        put(self.root / "etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n/vol/lib\n/opt/lib\n/vol\n")
        put(self.root / "etc/ld.so.conf.d/a.conf", "include /conf/*.conf\n")
        put(self.root / "etc/alpine-release", "3")
        put(self.root / f"etc/ld-musl-{machine}.path", "/lib\n")
        put(self.root / "opt/lib/libown.so.1", library("libown.so.1"))
        put(self.root / LIBRARY, "")
        for name in ("vol", "opt/point", "usr/local/cuda"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        links = {
            "conf": "/vol/etc",
            "etc/musl": "/vol/shadow",
            "etc/conf": "/vol/etc/ld.so.conf",
            "opt/lib/libsecret.so.1": "/vol/lib/libsecret.so.1",
            "opt/lib.link": "/vol/lib",
            "usr/local/cuda/compat": "/vol/compat",
            "etc.link": "vol/etc",
        }
        for name, target in links.items():
            (self.root / name).symlink_to(target)
        # A file of the volume is mounted among the libraries, where a listing shows its name.
        put(self.root / "opt/lib/libmounted.so.1", "")
        syscalls.mount(
            str(self.volume / "lib/libsecret.so.1"),
            str(self.root / "opt/lib/libmounted.so.1"),
            syscalls.MS_BIND,
        )
        syscalls.mount(str(self.volume), str(self.root / "vol"), syscalls.MS_BIND)
        syscalls.mount(str(self.host / LIBRARY), str(self.root / LIBRARY), syscalls.MS_BIND)

    def disturb(self) -> None:
        """Change links and mounts for ever."""
        etc, machine = self.root / "etc", os.uname().machine
        while True:
            for one, other in (
                (etc / "musl", etc / f"ld-musl-{machine}.path"),
                (etc / "conf", etc / "ld.so.conf"),
                (self.root / "opt/lib.link", self.root / "opt/lib"),
                (etc, self.root / "etc.link"),
            ):
                try:
                    exchange(one, other)
                except OSError:
                    pass  # the hook has just replaced it, or a mount holds it
            point = str(self.root / "etc")
            try:
                syscalls.mount(str(self.volume / "etc"), point, syscalls.MS_BIND)
                syscalls.umount2(point, syscalls.MNT_DETACH)
            except OSError:
                pass  # there is a link now


def prepare(world: World) -> str:
    """Run the hook's work in a process; return its pid and what it said."""
    words = ["--link", f"libx.so.1::/{LIB}/libx.so", "--ldcache", f"/{LIB}", "--library", f"/{LIBRARY}"]
    words += ["--driver-root", str(world.host), "--driver-version", VERSION]
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        said = ""
        try:
            preparing.prepare(parse(words)[0], str(world.root))
        except CDIError as error:
            said = str(error)
        except BaseException as error:  # noqa: BLE001 # shown as a failure of the test
            said = f"{type(error).__name__}: {error}"
        os.write(write, f"{os.getpid()} {said}".encode())
        os._exit(0)
    os.close(write)
    with open(read, encoding="utf-8") as stream:
        answer = stream.read()
    os.waitpid(pid, 0)
    return answer


def main(directory: str, rounds: int) -> None:
    """Prepare a world once in peace, then for some rounds while it changes."""
    world = World(Path(directory))
    before = listing(world.volume)
    descriptor = watch(world.volume)
    answers = [prepare(world)]
    disturber = os.fork()
    if disturber == 0:
        world.disturb()
    answers += [prepare(world) for _ in range(rounds)]
    os.kill(disturber, signal.SIGKILL)
    os.waitpid(disturber, 0)
    ours = {int(answer.partition(" ")[0]) for answer in answers}
    seen = events(descriptor)
    (world.volume / "shadow").read_bytes()
    words = [
        str(path)
        for path in world.root.rglob("*")
        if path.is_file() and path.stat().st_dev == world.root.stat().st_dev
        if SECRET.encode() in path.read_bytes() or b"libsecret" in path.read_bytes()
    ]
    report = {
        "by us": sorted({path for process, path in seen if process in ours}),
        "watched": len(events(descriptor)),
        "changed": listing(world.volume) != before,
        "first": answers[0].partition(" ")[2],
        "said": sorted({answer.partition(" ")[2] for answer in answers[1:]}),
        "words": words,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
