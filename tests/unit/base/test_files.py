# SPDX-License-Identifier: Apache-2.0
"""files: cleaning a path, identity, reading, replacing."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cdi_hook.base import files

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", "."), (".", "."), ("/", "/"), ("//a//b/", "/a/b"), ("a/../..", ".."), ("/..", "/"), ("../a", "../a"),
        ("a/./b/..", "a"), ("../../x/..", "../.."), ("/a/../../b", "/b"), ("./a", "a"), ("/.", "/"), ("a/..", "."),
    ],
)  # fmt: skip
def test_clean(path: str, expected: str) -> None:
    """Paths are cleaned as Go's filepath.Clean does."""
    assert files.clean(path) == expected


def test_identity_changes_with_the_file(tmp_path: Path) -> None:
    """Changing the content or the mode, or replacing the file, changes the identity; a link has its target's."""
    file = tmp_path / "f"
    seen = [files.identify(str(file))]
    assert seen == [None]
    file.write_text("a")
    seen.append(files.identify(str(file)))
    file.chmod(0o600)
    seen.append(files.identify(str(file)))
    (tmp_path / "g").write_text("b")
    (tmp_path / "g").rename(file)
    seen.append(files.identify(str(file)))
    assert len(set(seen)) == len(seen)
    (tmp_path / "link").symlink_to("f")
    assert files.identify(str(tmp_path / "link")) == files.identify(str(file))


def test_a_regular_file_is_read_whole(tmp_path: Path) -> None:
    """All bytes of a file are read, also of a file in /proc, whose size is 0."""
    (tmp_path / "f").write_bytes(b"a\0\xff" * 100_000)
    assert files.read(str(tmp_path / "f")) == b"a\0\xff" * 100_000
    assert files.read("/proc/self/cmdline").count(b"\0") > 0


def test_a_file_whose_size_is_not_told() -> None:
    """A file of procfs, which has the size 0, is read whole, and in large pieces."""
    variables = {f"X{number}": "x" * 100_000 for number in range(4)}
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=variables) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()  # it runs, so its variables are there
        found = files.read(f"/proc/{process.pid}/environ")
        process.communicate()
    assert found == "".join(f"{name}={value}\0" for name, value in variables.items()).encode()


def test_nothing_but_a_regular_file_is_read(tmp_path: Path) -> None:
    """A FIFO without a writer, a device and a dir are each an error at once, and the error for a dir is IsADirectoryError."""
    os.mkfifo(tmp_path / "fifo")
    for path in (str(tmp_path / "fifo"), "/dev/zero", str(tmp_path)):
        with pytest.raises(OSError, match="not a regular file") as caught:
            files.read(path)
        assert caught.value.filename == path
        assert isinstance(caught.value, IsADirectoryError) == os.path.isdir(path)


def test_what_is_durable_is_on_the_disk_before_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A durable file is synced before it is renamed, and others, which are on tmpfs, aren't."""
    file, synced = tmp_path / "file", []
    monkeypatch.setattr("posix.fsync", lambda _: synced.append(file.read_text()))
    file.write_text("old")
    files.replace(str(file), b"new", 0o644, durable=True)
    assert (file.read_text(), synced) == ("new", ["old"])
    files.replace(str(file), b"newer", 0o644)
    assert (file.read_text(), synced) == ("newer", ["old"])


REPLACE = """
import os, sys
from cdi_hook.base import files
os.getppid()  # what is traced comes after it
files.replace(sys.argv[1], b"new" * 1000, 0o644, (12, 34) if os.geteuid() == 0 else None, durable=True)
"""


def test_a_killed_process_leaves_nothing_for_ever(tmp_path: Path) -> None:
    """Wherever a process is killed, the file is the old or the new one, and the next process leaves nothing beside it."""
    if not shutil.which("strace"):
        pytest.skip("strace isn't installed")
    (tmp_path / "dir").mkdir()
    file, trace = tmp_path / "dir/file", tmp_path / "trace"
    command = [sys.executable, "-c", REPLACE, str(file)]
    old, new = b"old", b"new" * 1000

    def run(*strace: str) -> int:
        return subprocess.run(
            [*strace, *command], cwd=ROOT, check=False, stderr=subprocess.DEVNULL
        ).returncode

    file.write_bytes(old)
    run("strace", "-o", str(trace))
    calls = [line.partition("(")[0] for line in trace.read_text().splitlines() if "(" in line]
    start = calls.index("getppid") + 1
    end = len(calls) - calls[::-1].index("close")
    # glibc before 2.39 calls newfstatat for fstat
    traced = {name.replace("newfstatat", "fstat") for name in calls[start:end]}
    assert {"openat", "fcntl", "fstat", "fchmod", "write", "fsync"} <= traced
    left = 0
    for at in range(start, end):
        number = calls[: at + 1].count(calls[at])
        file.write_bytes(old)
        kill = f"inject={calls[at]}:signal=KILL:when={number}"
        assert run("strace", "-o", os.devnull, "-e", kill) == -9
        assert file.read_bytes() in (old, new)
        left += len(os.listdir(file.parent)) - 1
        assert run() == 0
        assert (os.listdir(file.parent), file.read_bytes()) == (["file"], new)
    assert left >= 5  # it was killed where there was something to leave


def test_a_new_file_that_cannot_be_looked_at_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the very first thing after its creation fails, nothing is left beside the old file."""
    file = tmp_path / "file"
    file.write_text("old")

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "I/O error")

    with monkeypatch.context() as patch:
        patch.setattr("posix.fstat", fail)
        with pytest.raises(OSError, match="I/O error"):
            files.replace(str(file), b"new", 0o644)
    assert (os.listdir(tmp_path), file.read_text()) == (["file"], "old")


def test_two_processes_replace_a_file(tmp_path: Path) -> None:
    """A process waits while another one writes, and gives up after some time without having touched its file."""
    file, temporary = tmp_path / "file", tmp_path / f"file{files.TEMPORARY}"
    program = "import os, sys; os.lockf(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT), os.F_LOCK, 0); print(flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program, str(temporary)], stdin=-1, stdout=-1) as other:
        assert other.stdin
        assert other.stdout
        other.stdout.readline()
        with pytest.raises(OSError, match="another process is writing it"):
            files.replace(str(file), b"new", 0o644)
        assert temporary.exists()
        threading.Timer(0.1, other.stdin.close).start()
        files.replace(str(file), b"new", 0o644)
    assert os.listdir(tmp_path) == ["file"]


def test_threads_replace_a_file(tmp_path: Path) -> None:
    """Threads that replace a file at the same time each put a whole one there."""
    file = tmp_path / "file"
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: files.replace(str(file), b"x" * 100_000, 0o644), range(100)))
    assert (os.listdir(tmp_path), file.stat().st_size) == (["file"], 100_000)


@pytest.mark.parametrize("kind", ["link", "fifo", "dir", "hard link"])
def test_what_lies_where_the_new_file_is_written(tmp_path: Path, kind: str) -> None:
    """Whatever somebody puts where the new file is written, no other file changes, and nothing hangs."""
    file, temporary, victim = tmp_path / "file", tmp_path / f"file{files.TEMPORARY}", tmp_path / "victim"
    victim.write_text("theirs")
    make: dict[str, Callable[[], object]] = {
        "link": lambda: temporary.symlink_to(victim),
        "fifo": lambda: os.mkfifo(temporary),
        "dir": temporary.mkdir,
        "hard link": lambda: os.link(victim, temporary),
    }
    make[kind]()
    if kind == "hard link":
        files.replace(str(file), b"new", 0o644)
    else:
        with pytest.raises(OSError, match=r"symbolic links|device or address|directory"):
            files.replace(str(file), b"new", 0o644)
    assert victim.read_text() == "theirs"
