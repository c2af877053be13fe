# SPDX-License-Identifier: Apache-2.0
"""A box: namespaces of one process, which an engine takes for a machine of its own.

cdi-runtime is installed in it where a package installs it, over the machine's /usr
and /etc. /run, /var/lib, /var/log, /root, /home and /dev/shm are empty; network, processes and cgroups
are the box's own. So an engine runs with its default places, and changes nothing
outside. With CDI_HOOK_ENGINES=DIR, the programs in DIR/bin are found first, in the box
at LOCAL. When the box's first process ends, all others end too, and the mounts
disappear. That process reads a pipe that the tests hold, so it ends when the tests
end, in any way. close() removes the cgroups, which are all that is left.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import shutil
import subprocess
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).resolve().parents[2]
LOCAL = "/usr/local/sbin"  # the first place of STANDARD_PATH
STANDARD_PATH = f"{LOCAL}:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# A directory whose bin has engines to test in place of the machine's.
ENGINES = os.environ.get("CDI_HOOK_ENGINES", "")
ENGINES_PATH = f"{ENGINES}/bin:{STANDARD_PATH}" if ENGINES else STANDARD_PATH
TIMEOUT_S = 60
LAYOUTS = ("v1", "v2")
CGROUPS = Path("/sys/fs/cgroup")
LAYOUT = "v1" if (CGROUPS / "devices").is_dir() else "v2"  # the machine's own layout
# In a box; on tmpfs, like everything that is written there.
BOARD = Path("/run/board")
USER = 4711  # a user that no machine has

Completed = subprocess.CompletedProcess[str]

# Enters the cgroups first, because the new namespaces start at those.
_START = """
for group in $GROUPS; do echo $$ >$group/cgroup.procs; done
exec unshare -m -p -f -n -u -i -C --propagation private sh -ec "$INIT"
"""
# Runs in every box: sets up its cgroups, and waits for its end.
SETTLE = """
umount -R /sys/fs/cgroup
if [ "$LAYOUT" = v2 ]; then
    mount -t cgroup2 none /sys/fs/cgroup
    mkdir /sys/fs/cgroup/init
    echo 0 >/sys/fs/cgroup/init/cgroup.procs
else
    mount -t tmpfs -o mode=755 tmpfs /sys/fs/cgroup
    while IFS=: read -r number names path; do
        [ "$names" ] || continue
        mkdir "/sys/fs/cgroup/${names#name=}"
        mount -t cgroup -o "$names" none "/sys/fs/cgroup/${names#name=}"
    done </proc/self/cgroup
fi
echo "$pid"
# What is orphaned becomes this process's, and is to be no zombie. (A shell's `trap '' CHLD` doesn't do it.)
exec env --ignore-signal=CHLD cat >/dev/null
"""
_INIT = """
read -r pid rest </proc/self/stat
mount -t proc proc /proc
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/upper /mnt/work
mount -t overlay -o "lowerdir=$INSTALLED/usr:/usr" overlay /usr
[ -z "$ENGINES" ] || mount --bind "$ENGINES/bin" $LOCAL
mount -t overlay -o "lowerdir=$INSTALLED/etc:/etc,upperdir=/mnt/upper,workdir=/mnt/work" overlay /etc
rm -rf /etc/cdi # the box's own, which is the overlay's: the machine's specs are none of the tests'
for place in /run /var/lib /var/log /root /home; do mount -t tmpfs -o mode=755 tmpfs $place; done
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mkdir -m 755 /run/board /run/lock
[ -e /var/run ] && [ /var/run -ef /run ] || { echo "/var/run isn't /run" >&2; exit 1; }
busybox ifconfig lo up
"""
# Enters the box's cgroups, which nsenter doesn't do, and then runs the command.
_ENTER = """
case $LAYOUT in
v1) set -- /sys/fs/cgroup/*/cgroup.procs -- "$@" ;;
v2) set -- /sys/fs/cgroup/init/cgroup.procs -- "$@" ;;
esac
while [ "$1" != -- ]; do
    echo 0 >"$1"
    shift
done
shift
cd /
exec "$@"
"""


def own_cgroups() -> dict[str, Path]:
    """Return this process's place in each mounted hierarchy, by the hierarchy's names."""
    found = {}
    for line in Path("/proc/self/cgroup").read_text("ascii").splitlines():
        _, names, path = line.split(":", 2)
        for place in (CGROUPS / (names.removeprefix("name=") or "unified"), CGROUPS):
            if (place / "cgroup.procs").exists():
                found[names] = place / path.lstrip("/")
                break
    return found


class Host:
    """What runs commands, and has a filesystem of its own."""

    directory: Path
    timeout: float = TIMEOUT_S  # of a command, and of what is waited for

    def call(
        self, *arguments: str, environ: dict[str, str] | None = None, stdin: bytes = b"", timeout: float = 0
    ) -> Completed:
        """Run a command on it to its end."""
        raise NotImplementedError

    def do(self, *arguments: str, **options: Any) -> str:
        """Run a command that must succeed; return its stdout without trailing white space."""
        completed = self.call(*arguments, **options)
        assert completed.returncode == 0, f"{arguments}: {completed.stderr or completed.stdout}"
        return completed.stdout.rstrip()

    def write(self, path: str, content: str | bytes, mode: str = "644") -> None:
        """Write a file on it, and make the directories above it."""
        data = content.encode() if isinstance(content, str) else content
        script = 'umask 022; mkdir -p "${1%/*}" && cat >"$1" && chmod "$2" "$1"'
        self.do("sh", "-c", script, "sh", path, mode, stdin=data)

    def read(self, path: str) -> str:
        """Return the text of a file on it, or ""."""
        completed = self.call("cat", path)
        return completed.stdout if completed.returncode == 0 else ""

    def wait(
        self,
        condition: Callable[[], object],
        process: subprocess.Popen[str] | None = None,
        log: Path | None = None,
    ) -> None:
        """Wait until a condition holds."""
        end = time.monotonic() + self.timeout
        while not condition():
            text = log.read_text("utf-8", "replace")[-3000:] if log else ""
            assert process is None or process.poll() is None, f"it ended: {text}"
            assert time.monotonic() < end, f"it takes too long: {text}"
            time.sleep(0.03)


class Box(Host):
    """A running box, with a cgroup layout."""

    init = _INIT + SETTLE  # what its first process runs

    def __init__(self, directory: Path, layout: str, installed: Path) -> None:
        self.directory = directory
        self.layout = layout
        self.name = f"cdi-hook-box-{uuid.uuid4().hex[:12]}"
        self._daemons: list[subprocess.Popen[str]] = []
        self._groups: list[Path] = []
        self._process: subprocess.Popen[str] | None = None
        try:
            self._make_cgroups()
            self._start(installed)
        except BaseException:
            self.close()
            raise

    def _make_cgroups(self) -> None:
        for names, own in own_cgroups().items():
            group = own / self.name
            group.mkdir()
            self._groups.append(group)
            if "cpuset" in names.split(","):
                for file in ("cpuset.cpus", "cpuset.mems"):
                    (group / file).write_text((own / file).read_text("ascii"), "ascii")
                (group / "cgroup.clone_children").write_text("1", "ascii")

    def _start(self, installed: Path) -> None:
        environ = {
            "PATH": STANDARD_PATH,
            "ENGINES": ENGINES,
            "LOCAL": LOCAL,
            "GROUPS": " ".join(map(str, self._groups)),
            "INIT": self.init,
            "INSTALLED": str(installed),
            "LAYOUT": self.layout,
        }
        self._process = subprocess.Popen(
            ["sh", "-ec", _START], env=environ, cwd="/", text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self.pid = self._process.stdout.readline().strip()
        assert self.pid, f"there is no box: {self._process.stderr.read()}"
        for group in self._groups:
            # The process that made the namespaces is outside of them; it must leave a group that is to have subgroups.
            if (group / "init").exists():
                (group / "init/cgroup.procs").write_text(str(self._process.pid), "ascii")

    def command(self, *arguments: str, user: int = 0, environ: dict[str, str] | None = None) -> list[str]:
        """Return the command line that runs a command in the box."""
        base = {"PATH": STANDARD_PATH, "HOME": "/root"}
        if user:
            base |= {"HOME": "/home/user", "XDG_RUNTIME_DIR": "/run/user/user"}
        settings = [f"{key}={value}" for key, value in {**base, **(environ or {})}.items()]
        change = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
        return [
            # -r: in a chroot, the mount namespace's root is the host's
            "nsenter", "-t", self.pid, "-r", "-m", "-p", "-n", "-u", "-i", "-C", "--",
            "sh", "-c", _ENTER, "sh", *change, "env", "-i", *settings, *arguments,
        ]  # fmt: skip

    def call(
        self,
        *arguments: str,
        user: int = 0,
        environ: dict[str, str] | None = None,
        stdin: bytes = b"",
        timeout: float = TIMEOUT_S,
    ) -> Completed:
        """Run a command in the box to its end.

        Its output goes to files, because processes that it leaves running could hold a pipe open.
        """
        names = [self.directory / f"{uuid.uuid4().hex}.{name}" for name in ("in", "out", "err")]
        names[0].write_bytes(stdin)
        with (
            names[0].open("rb") as source,
            names[1].open("wb+", buffering=0) as out,
            names[2].open("wb+", buffering=0) as err,
        ):
            try:
                completed = subprocess.run(
                    self.command(*arguments, user=user, environ=environ),
                    env={"PATH": STANDARD_PATH, "LAYOUT": self.layout}, cwd="/", timeout=timeout, check=False,
                    stdin=source, stdout=out, stderr=err,
                )  # fmt: skip
            except subprocess.TimeoutExpired as error:
                said = names[2].read_text("utf-8", "replace")
                raise AssertionError(f"{arguments} hangs; {said}\n{self._report()}") from error
        output, errors = (name.read_text("utf-8", "replace") for name in names[1:])
        for name in names:
            name.unlink()
        return Completed(list(arguments), completed.returncode, output, errors)

    def _report(self) -> str:
        """Return what the box's processes wait for, and what its daemons said last."""
        lines = []
        for path in Path(f"/proc/{self.pid}/root/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command = (path / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
                lines.append(f"{path.name} {(path / 'wchan').read_text('ascii')} {command[:300]}")
        logs = [path.read_text("utf-8", "replace")[-3000:] for path in self.directory.glob("*.log")]
        return "\n".join([*lines, *logs])

    def daemon(self, *arguments: str, ready: Sequence[str]) -> Path:
        """Start a daemon, wait until the command ``ready`` succeeds, and return the path of its log."""
        log = self.directory / f"{Path(arguments[0]).name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                self.command(*arguments), env={"PATH": STANDARD_PATH, "LAYOUT": self.layout}, cwd="/",
                stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, text=True,
            )  # fmt: skip
        self._daemons.append(process)
        self.wait(lambda: self.call(*ready).returncode == 0, process=process, log=log)
        return log

    def controllers(self) -> list[str]:
        """Return the box's controllers of cgroup v2."""
        return self.read("/sys/fs/cgroup/cgroup.controllers").split()

    def close(self) -> None:
        """End all processes in the box, and remove its cgroups."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(TIMEOUT_S)
            for stream in (self._process.stdout, self._process.stderr):
                assert stream is not None
                stream.close()
        for daemon in self._daemons:
            daemon.wait(TIMEOUT_S)
        end = time.monotonic() + TIMEOUT_S
        for group in self._groups:
            while not _remove_cgroups(group):
                assert time.monotonic() < end, f"{group} isn't empty"
                time.sleep(0.01)


def _remove_cgroups(top: Path) -> bool:
    for directory, _, _ in os.walk(top, topdown=False):
        try:
            os.rmdir(directory)
        except OSError:
            return False
    return True


def why_not(layout: str) -> str:
    """Return why a box with a cgroup layout can't be made, or ""."""
    if os.geteuid() != 0:
        return "engines need root"
    if layout == "v1" and LAYOUT != "v1":
        return "this machine has no devices controller of cgroup v1"
    return ""


@functools.cache
def version(program: str) -> tuple[int, ...]:
    """Return the first two numbers of the version of an engine's program; skip the test if there is none."""
    path = shutil.which(program, path=ENGINES_PATH)
    if path is None:
        pytest.skip(f"{program} isn't installed")
    said = subprocess.run([path, "--version"], check=True, capture_output=True, text=True).stdout
    found = re.search(r"(\d+)\.(\d+)", said)
    assert found is not None, said
    return int(found[1]), int(found[2])


def need(program: str, since: tuple[int, int], what: str) -> None:
    """Skip a test if an engine is older than what the test is about."""
    if version(program) < since:
        pytest.skip(f"this {program} has no {what}, which {'.'.join(map(str, since))} brought")
