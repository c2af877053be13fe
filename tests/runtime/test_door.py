# SPDX-License-Identifier: Apache-2.0
"""The door under each shell that /bin/sh may be: the same for any environment, and never by a stale configuration."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from .lab import BUSYBOX, CDI_RUNTIME, STANDARD_PATH

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from .spy import Spy

SHELLS = ("dash", "bash", "busybox")
DEVICE = "vendor.com/device=one"
# Names that aren't shell names, and what bash makes of an exported function.
ODD = {b"a.b": b"1", b"BASH_FUNC_grep%%": b"() { echo hijacked; }", b"1X": b"2", b"\xff": b"3"}
# Where a user has lines kept; conftest.py gives the dir.
OF_USER = {} if os.geteuid() == 0 else {"XDG_RUNTIME_DIR": os.environ["XDG_RUNTIME_DIR"]}
STATE = "/run/cdi-hook" if os.geteuid() == 0 else f"{os.environ.get('XDG_RUNTIME_DIR', '')}/cdi-hook"


class Door:
    """cdi-runtime, run by a shell, with a spy for its runtime and a bundle."""

    def __init__(self, shell: list[str], spy: Spy) -> None:
        self.shell = shell
        self.spy = spy
        spy.configuration = spy.directory / "etc/cdi-hook.conf"  # a dir in which nothing else changes
        spy.configuration.parent.mkdir()
        self.bundle = spy.directory / "bundle"
        self.bundle.mkdir()
        specs = spy.directory / "cdi"
        specs.mkdir()
        device = {"name": "one", "containerEdits": {"env": ["ONE=1"]}}
        spec = {"cdiVersion": "0.6.0", "kind": "vendor.com/device", "devices": [device]}
        (specs / "one.json").write_text(json.dumps(spec), "utf-8")
        self.configure()

    def configure(self, **more: str | Path) -> None:
        """Write the configuration, with more keys."""
        self.spy.configure(**{"RUNTIMES": self.spy.program, "SPEC_DIRS": self.spy.directory / "cdi", **more})

    def ask(self, key: str = "cdi.k8s.io/test", value: str = DEVICE) -> None:
        """Have the bundle ask for a device."""
        (self.bundle / "config.json").write_text(json.dumps({"annotations": {key: value}}), "utf-8")

    def call(
        self, *arguments: str | Path, environ: dict[bytes, bytes] | None = None, closed: tuple[int, ...] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Call the runtime with these arguments and more variables, and with some descriptors closed."""
        conf = os.fsencode(self.spy.configuration)
        return subprocess.run(
            [*self.shell, CDI_RUNTIME, *arguments],
            env={
                b"PATH": STANDARD_PATH.encode(), b"CDI_HOOK_CONFIG": conf,
                **{name.encode(): value.encode() for name, value in OF_USER.items()}, **(environ or {}),
            },
            preexec_fn=lambda: [os.close(one) for one in closed],  # type: ignore[func-returns-value] # for its effect
            cwd=self.spy.directory, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip

    @property
    def create(self) -> tuple[str | Path, ...]:
        """The arguments that create the container."""
        return ("create", "--bundle", self.bundle, "id")

    def is_injected(self) -> bool:
        """Say whether the bundle has the device."""
        return "ONE=1" in (self.bundle / "config.json").read_text("utf-8")

    def calls_python(
        self, *arguments: str | Path, program: str = "execve", path: str = STANDARD_PATH
    ) -> bool:
        """Say whether a call starts Python."""
        trace = self.spy.directory / "trace"
        done = subprocess.run(
            ["strace", "-f", "-qq", "-e", f"trace={program}", "-o", trace, *self.shell, CDI_RUNTIME, *arguments],
            env={"PATH": path, "CDI_HOOK_CONFIG": str(self.spy.configuration), **OF_USER},
            cwd=self.spy.directory, capture_output=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return "python3" in trace.read_text("utf-8", "replace")

    def settle(self) -> None:
        """Have the configuration be old enough for its lines to be kept, and have them made."""
        old = time.time() - 10
        for path in (self.spy.configuration, self.spy.configuration.parent):
            os.utime(path, (old, old))
        time.sleep(2.1)  # by ctime, which nobody can set
        assert self.call("state", "id").returncode == 0
        self.spy.record(self.spy.program)


@pytest.fixture(params=SHELLS)
def door(request: pytest.FixtureRequest, spy: Spy) -> Generator[Door]:
    """The door by each shell; what it keeps of the configuration is gone at the end."""
    program = shutil.which(request.param) if request.param != "busybox" else str(BUSYBOX)
    if not program or not os.path.exists(program):
        pytest.skip(f"{request.param} isn't installed")
    link = spy.directory / "sh"
    link.symlink_to(program)
    yield Door([str(link)], spy)
    shutil.rmtree(f"{STATE}/conf{spy.directory}", ignore_errors=True)


def environment(size: int) -> dict[bytes, bytes]:
    """Return variables of that many bytes in all, of ordinary length, and the odd ones."""
    many = {b"VARIABLE_%d" % number: b"x" * 1000 for number in range(size // 1000)}
    return {**many, **ODD, b"PWD": b"/usr", b"OLDPWD": b"/etc"} if size else {}


@pytest.mark.parametrize("size", [0, 4_000, 64_000, 1_000_000])
@pytest.mark.parametrize("closed", [(), (0, 1, 2)], ids=["", "closed"])
def test_any_environment(door: Door, size: int, closed: tuple[int, ...]) -> None:
    """A command is passed on, and a device injected, in silence, whatever the environment and the descriptors."""
    door.ask()
    for arguments in (("state", "id"), door.create):
        done = door.call(*arguments, environ=environment(size), closed=closed)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert door.spy.record(door.spy.program)
    assert door.is_injected()


def test_the_environment_is_not_read(door: Door) -> None:
    """A call makes as many system calls with a large environment as with a small one."""
    door.settle()
    counts = []
    for size in (0, 64_000):
        trace = door.spy.directory / f"trace{size}"
        environ = {b"PATH": STANDARD_PATH.encode(), b"CDI_HOOK_CONFIG": os.fsencode(door.spy.configuration)}
        subprocess.run(
            ["strace", "-f", "-qq", "-e", "trace=read,fork,clone,vfork,execve", "-o", trace, *door.shell, CDI_RUNTIME,
             "state", "id"],
            env={**environ, **environment(size)}, check=True, capture_output=True, cwd=door.spy.directory,
        )  # fmt: skip
        calls = trace.read_text("utf-8", "replace").splitlines()
        counts.append(
            sum(" resumed>" not in call for call in calls)
        )  # of a call that waited: its second line
    assert counts[0] == counts[1]


def test_a_grep_that_fails_hides_nothing(door: Door) -> None:
    """When grep can't read config.json, for whatever reason, Python looks: the device is there."""
    if not shutil.which("strace"):
        pytest.skip("strace isn't installed")
    door.settle()
    config = str(door.bundle / "config.json")
    for call, errno in itertools.product(["read", "openat"], ["EIO", "ENFILE", "ESTALE", "ENOMEM", "EMFILE"]):
        door.ask()
        inject = f"inject={call}:error={errno}:when=1"
        done = subprocess.run(
            ["strace", "-f", "-qq", "-o", "/dev/null", "-P", config, "-e", inject, *door.shell, CDI_RUNTIME, "create",
             "--bundle", door.bundle, "id"],
            env={"PATH": STANDARD_PATH, "CDI_HOOK_CONFIG": str(door.spy.configuration)},
            cwd=door.spy.directory, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert (done.returncode == 0) == door.is_injected(), done.stderr
        assert (
            door.is_injected() or "CDI device injection failed" in done.stderr or "can't read" in done.stderr
        ), inject


@pytest.mark.parametrize("what", ["its lines", "its file", "Python"])
def test_no_other_runtime_is_called(door: Door, what: str) -> None:
    """If the configuration can't be read this time, the default runtime isn't called instead of the configured one."""
    if not shutil.which("strace"):
        pytest.skip("strace isn't installed")
    runc = door.spy.install(door.spy.directory / "bin/runc")
    conf = door.spy.configuration
    if what == "its lines":  # which are kept where nothing has changed
        door.settle()
    call, path = {
        "its lines": ("read", f"{STATE}/conf{conf}"),
        "its file": ("read", str(conf)),
        "Python": ("execve", "/usr/bin/python3"),
    }[what]
    done = subprocess.run(
        ["strace", "-f", "-qq", "-o", "/dev/null", "-P", path, "-e", f"inject={call}:error=EIO:when=1",
         *door.shell, CDI_RUNTIME, "delete", "id"],
        env={"PATH": f"{runc.parent}:{STANDARD_PATH}", "CDI_HOOK_CONFIG": str(conf), **OF_USER},
        cwd=door.spy.directory, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert not door.spy.record(runc)
    if what == "its lines":  # the file is read again
        assert (done.returncode, bool(door.spy.record(door.spy.program))) == (0, True)
    else:
        assert (done.returncode, door.spy.record(door.spy.program)) == (1, {})
        assert done.stderr.endswith(
            f"/usr/bin/python3 can't read {conf}, which names the runtime to call; it takes Python 3.9 or newer\n"
        )
        assert "Traceback" not in done.stderr


def test_help_needs_no_python(door: Door) -> None:
    """Help of a command that reads a bundle is the runtime's own, and Python isn't started."""
    door.settle()
    for words in (("create", "--help"), ("run", "-h"), ("--root", "/r", "restore", "--help")):
        assert not door.calls_python(*words)
        assert door.spy.record(door.spy.program)["argument"][1:] == [word.encode() for word in words]


@pytest.mark.parametrize(
    "words", [("create", "--pid-file", "-h"), ("restore", "--bundle", "{}", "create", "-h")]
)
def test_what_looks_like_help_is_looked_at(door: Door, words: tuple[str, ...]) -> None:
    """A value that reads -h, or a -h after a container called create, hides no request."""
    door.ask()
    arguments = [str(door.bundle) if word == "{}" else word for word in words]
    more = () if "--bundle" in words else ("--bundle", str(door.bundle), "id")
    assert door.call(*arguments, *more).returncode == 0
    assert door.is_injected()


def test_lines_are_kept_and_taken(door: Door) -> None:
    """Once the configuration has settled, a command is passed on without Python, by the runtime that it names."""
    door.settle()
    assert not door.calls_python("state", "id")
    assert door.spy.record(door.spy.program)


def other(door: Door) -> Path:
    """Install a second spy."""
    return door.spy.install(door.spy.directory / "other")


def edited(door: Door, new: str) -> None:
    """Write into the file."""
    door.spy.configuration.write_text(new, "utf-8")


def edited_and_set_back(door: Door, new: str) -> None:
    """Write into the file, and give it an old time."""
    edited(door, new)
    os.utime(door.spy.configuration, (1, 1))


def replaced(door: Door, new: str, mtime_ns: int = 1) -> Path:
    """Put another file, of that time, beside it and in its place."""
    path = door.spy.configuration.parent / "new"
    path.write_text(new, "utf-8")
    os.utime(path, ns=(0, mtime_ns))
    return path.rename(door.spy.configuration)


def replaced_by_one_of_the_same_time(door: Door, new: str) -> None:
    """Put another file in its place, which has the same time."""
    replaced(door, new, door.spy.configuration.stat().st_mtime_ns)


def replaced_by_a_link(door: Door, new: str) -> None:
    """Put a link in its place, to a file of the same time."""
    mtime_ns = door.spy.configuration.stat().st_mtime_ns
    target = replaced(door, new, mtime_ns).rename(door.spy.directory / "target")
    door.spy.configuration.symlink_to(target)


CHANGES = (edited, edited_and_set_back, replaced, replaced_by_one_of_the_same_time, replaced_by_a_link)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: str(change.__name__))
def test_a_changed_configuration_counts_at_once(door: Door, change: Callable[[Door, str], object]) -> None:
    """However the configuration is changed, the very next call goes by what it says now, and so does the one after."""
    door.settle()
    program = other(door)
    change(door, f"RUNTIMES={program}\n")
    for _ in range(2):
        assert door.call("state", "id").returncode == 0
        assert door.spy.record(program)
        assert not door.spy.record(door.spy.program)


_WITHOUT_CMP = 'mount --bind /dev/null "$(readlink -f /usr/bin/cmp)"; exec "$@"'


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount")
def test_without_cmp(door: Door) -> None:
    """Where the configuration's text can't be compared, as its time was set, Python looks, and nobody is told of it."""
    door.settle()
    door.shell = ["unshare", "--mount", "sh", "-ec", _WITHOUT_CMP, "sh", *door.shell]
    for key in ("none", "cdi.k8s.io/test"):
        door.ask(key)
        done = door.call(*door.create)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert door.is_injected() == (key != "none")


def test_edited_in_the_same_second(door: Door) -> None:
    """Of a configuration that is edited again and again, each call sees the last."""
    program = other(door)
    for number in range(6):
        wanted = (program, door.spy.program)[number % 2]
        door.spy.configuration.write_text(f"RUNTIMES={wanted}\n", "utf-8")
        assert door.call("state", "id").returncode == 0
        assert door.spy.record(wanted)


def test_a_removed_configuration_means_the_defaults(door: Door) -> None:
    """Without the file, what was made from it doesn't count."""
    door.settle()
    door.spy.configuration.unlink()
    runc = door.spy.install(door.spy.directory / "bin/runc")
    environ = {b"PATH": os.fsencode(runc.parent)}
    assert door.call("state", "id", environ=environ).returncode == 0
    assert door.spy.record(runc)


def test_lines_are_kept_for_a_file_that_is_missing(door: Door) -> None:
    """Where a dir has no configuration, Python isn't started either, until there is one."""
    conf = door.spy.configuration
    text = conf.read_text("utf-8")
    conf.unlink()
    runc = door.spy.install(door.spy.directory / "bin/runc")
    environ = {b"PATH": os.fsencode(runc.parent)}
    os.utime(conf.parent, (1, 1))
    time.sleep(2.1)
    assert door.call("state", "id", environ=environ).returncode == 0
    assert door.spy.record(runc)
    assert not door.calls_python("state", "id", path=f"{runc.parent}:{STANDARD_PATH}")
    conf.write_text(text, "utf-8")
    os.utime(conf.parent, (1, 1))
    door.spy.record(runc)
    assert door.call("state", "id", environ=environ).returncode == 0
    assert (door.spy.record(runc), bool(door.spy.record(door.spy.program))) == ({}, True)


def test_another_configuration_has_lines_of_its_own(door: Door) -> None:
    """What was made from one file never counts for another."""
    door.settle()
    program = other(door)
    second = door.spy.directory / "second.conf"
    second.write_text(f"RUNTIMES={program}\n", "utf-8")
    for conf in (
        second,
        os.path.relpath(second, door.spy.directory),
        f"{second.parent}/../{second.parent.name}/{second.name}",
    ):
        assert door.call("state", "id", environ={b"CDI_HOOK_CONFIG": os.fsencode(conf)}).returncode == 0
        assert door.spy.record(program)


def test_lines_that_others_wrote_are_not_taken(door: Door) -> None:
    """Lines of another owner, or behind a link, aren't read: nobody but us decides what root runs."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it gives a file to another user")
    door.settle()
    lines = f"{STATE}/conf{door.spy.configuration}"
    marker = door.spy.directory / "marker"
    times = os.stat(lines)
    evil = f"touch {marker}\n"
    for how in ("owner", "link"):
        os.unlink(lines)
        target = lines if how == "owner" else str(door.spy.directory / "evil")
        with open(target, "w", encoding="utf-8") as file:
            file.write(evil)
        os.utime(target, ns=(times.st_atime_ns, times.st_mtime_ns))
        if how == "owner":
            os.chown(lines, 12345, 12345)
        else:
            os.symlink(target, lines)
            os.utime(lines, ns=(times.st_atime_ns, times.st_mtime_ns), follow_symlinks=False)
        assert door.call("state", "id").returncode == 0
        assert not marker.exists()
        assert door.spy.record(door.spy.program)
    assert os.stat(f"{STATE}/conf").st_mode & 0o777 == 0o700


@pytest.mark.parametrize("kind", ["fifo", "dir", "unreadable", "in a closed dir", "dangling"])
def test_a_configuration_that_is_no_file(door: Door, kind: str) -> None:
    """It hangs nothing: commands are passed on, and whoever asks for a device is told."""
    conf = door.spy.configuration
    conf.unlink()
    if kind == "fifo":
        os.mkfifo(conf)
    elif kind == "dir":
        conf.mkdir()
    elif kind == "dangling":
        conf.symlink_to("nowhere")
    else:
        conf.write_text(f"RUNTIMES={door.spy.program}\n")
        (conf if kind == "unreadable" else conf.parent).chmod(0)
        if os.geteuid() == 0:  # who can read every file
            no_more = "-dac_override,-dac_read_search"
            setpriv = shutil.which("setpriv")
            assert setpriv  # of util-linux, as unshare
            door.shell[:0] = [setpriv, f"--bounding-set={no_more}", f"--inh-caps={no_more}"]
    runc = door.spy.install(door.spy.directory / "bin/runc")
    environ = {b"PATH": os.fsencode(runc.parent)}
    assert door.call("state", "id", environ=environ).returncode == 0
    assert door.spy.record(runc)
    if kind != "dangling":  # which is as good as none
        door.ask()
        done = door.call(*door.create, environ=environ)
        assert (done.returncode, str(conf) in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("options", "log_format"),
    [
        (("--log", "LOG"), "text"),
        (("--log=LOG", "--log-format", "json"), "json"),
        (("--log", "file:LOG", "--log-format=json"), "json"),
        ((), ""),
    ],
)
def test_without_python(door: Door, options: tuple[str, ...], log_format: str) -> None:
    """Where Python is missing, a container that may ask is refused, in --log and on stderr, and others are passed on."""
    place = door.spy.directory / "without"
    place.mkdir()
    program, runc, log = place / "cdi-runtime", place / "runc", place / "log"
    program.write_text(CDI_RUNTIME.read_text("utf-8").replace("=/usr/bin/python3", "=/none/python3"), "utf-8")
    runc.write_text("#!/bin/sh\necho runc $1\n", "utf-8")
    runc.chmod(0o755)

    def call(*arguments: str | Path) -> tuple[int, str, str]:
        done = subprocess.run(
            [*door.shell, program, *(one.replace("LOG", str(log)) for one in options), *arguments],
            env={"PATH": f"{place}:{STANDARD_PATH}", "CDI_HOOK_CONFIG": "/none/none.conf"},
            cwd=place, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    first = (*(one.replace("LOG", str(log)) for one in options), "state")[0]
    door.ask()
    assert call("state", "id") == (0, f"runc {first}\n", "")
    message = (
        "CDI device injection failed: the container may ask for a CDI device, and there is no /none/python3 to read "
        "its config.json; install python3 (3.9 or newer) and python3-yaml"
    )
    assert call(*door.create) == (1, "", f"{message}\n")
    if log_format == "json":
        line = json.loads(log.read_text("utf-8"))
        assert (sorted(line), line["level"], line["msg"]) == (["level", "msg", "time"], "error", message)
    elif log_format:
        assert log.read_text("utf-8").endswith(f' level=error msg="{message}"\n')
    door.ask("other/key")
    assert call(*door.create)[0] == 0
