# SPDX-License-Identifier: Apache-2.0
"""The runtime gets everything as it came: a spy is started directly and through cdi-runtime, and its records are compared.

Arguments, environment, cwd, open descriptors, signals, umask, limits, and the
process itself. A shell as the door has limits, which aren't tested: it drops
variables whose names aren't shell names; PWD, IFS, OPTIND and PPID are its own;
SIGCHLD ignored becomes default; and where all of 3 to 9 are open, dash leaves its
script open too.
"""

from __future__ import annotations

import json
import os
import resource
import signal
from typing import TYPE_CHECKING

import pytest

from .lab import CDI_RUNTIME
from .spy import Situation

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .spy import Spy

DEVICE = "vendor.com/device=one"

# The ways through cdi-runtime: directly, after a look into the bundle, through
# Python without an injection, and with one.
WAYS = {
    "passed on": None,
    "idle create": {"annotations": {"org.example": "nothing"}},
    "looked at": {"annotations": {"org.example": "cdi.k8s.io/"}},
    "injecting create": {"annotations": {"cdi.k8s.io/test": DEVICE}},
}


def ignoring(*numbers: signal.Signals) -> Callable[[], object]:
    """Return a set-up that ignores signals."""
    return lambda: [signal.signal(number, signal.SIG_IGN) for number in numbers]


def blocking(*numbers: signal.Signals) -> Callable[[], object]:
    """Return a set-up that blocks signals."""
    return lambda: signal.pthread_sigmask(signal.SIG_BLOCK, numbers)


def closing(*descriptors: int) -> Callable[[], object]:
    """Return a set-up that closes descriptors."""

    def setup() -> None:
        for descriptor in descriptors:
            os.close(descriptor)

    return setup


def opening(*descriptors: int, flags: int = os.O_RDONLY) -> Callable[[], object]:
    """Return a set-up that opens a half-read file at descriptors."""

    def setup() -> None:
        file = os.open("file", flags)
        os.lseek(file, 7, os.SEEK_SET)
        for descriptor in descriptors:
            os.dup2(file, descriptor)
            os.set_inheritable(descriptor, True)  # dup2 doesn't do it for the file itself
        if file not in descriptors:
            os.close(file)

    return setup


def limiting(what: int, soft: int) -> Callable[[], object]:
    """Return a set-up that lowers a limit."""
    return lambda: resource.setrlimit(what, (soft, resource.getrlimit(what)[1]))


STANDARD_SIGNALS = [
    number for number in signal.valid_signals()
    if number < signal.SIGRTMIN and number not in (signal.SIGKILL, signal.SIGSTOP, signal.SIGCHLD)
]  # fmt: skip

SITUATIONS = {
    "plain": Situation(),
    # arguments
    "empty arguments": Situation(arguments=(b"", b"", b"x", b"")),
    "spaces and newlines": Situation(arguments=(b" ", b"a  b", b"\n", b"a\n", b"\nb\n\n", b"\t")),
    "not UTF-8": Situation(arguments=(b"\xff", b"caf\xe9", b"\xed\xb2\x80", "☃é".encode())),
    "shell's characters": Situation(arguments=(b"*", b"$HOME", b"`id`", b"\\", b"'", b'"', b"~", b"#", b"-n", b"a=b")),
    "many arguments": Situation(arguments=tuple(b"%d" % number for number in range(2000))),
    # environment
    "no PATH": Situation(unset=(b"PATH",)),
    "no HOME": Situation(unset=(b"HOME",)),
    "LC_CTYPE": Situation({b"LC_CTYPE": b"C.UTF-8"}),
    "empty LC_CTYPE": Situation({b"LC_CTYPE": b""}),
    "LC_CTYPE=POSIX": Situation({b"LC_CTYPE": b"POSIX"}),
    "LC_ALL=C": Situation({b"LC_ALL": b"C"}),
    "LANG of no locale": Situation({b"LANG": b"xx_YY"}),
    "LANG and LC_CTYPE": Situation({b"LANG": b"C", b"LC_CTYPE": b"de_DE"}),
    "another PWD and OLDPWD": Situation({b"PWD": b"/etc", b"OLDPWD": b"/usr"}),
    "PWD isn't UTF-8": Situation({b"PWD": b"/\xff\xe9"}),
    "PWD= in values": Situation({b"OTHER": b"PWD=/etc", b"AAA": b"one\nPWD=/etc\ntwo"}),
    "newlines": Situation({b"AAA": b"\n", b"ZZZ": b"a\nb\n"}),
    "values that aren't UTF-8": Situation({b"LATIN": b"caf\xe9 \xff"}),
    "values that aren't UTF-8, LC_ALL=C": Situation({b"LATIN": b"caf\xe9 \xff", b"LC_ALL": b"C"}),
    "empty values": Situation({b"EMPTY": b"", b"_": b""}),
    "the configuration's keys": Situation(
        dict.fromkeys((b"RUNTIMES", b"SPEC_DIRS", b"ANNOTATION_PREFIXES", b"DEFAULT_KIND", b"DEVICE_ENV", b"DEVICE_MOUNTS", b"ALLOW", b"DENY", b"SANDBOXES", b"SPEC_TRUST", b"HOOK_UNSUPPORTED", b"LOG", b"LOG_LEVEL"), b"of the caller")
    ),
    "Python's variables": Situation(
        {
            b"PYTHONHOME": b"/nonexistent", b"PYTHONPATH": b"/nonexistent", b"PYTHONUTF8": b"0",
            b"PYTHONCOERCECLOCALE": b"0", b"PYTHONWARNINGS": b"error", b"PYTHONMALLOC": b"debug",
        }
    ),
    "grep's and the shell's variables": Situation(
        {b"GREP_OPTIONS": b"-v", b"GREP_COLORS": b"x", b"ENV": b"/nonexistent", b"CDPATH": b"/", b"PS4": b"x"}
    ),
    "a large variable": Situation({b"LARGE": b"x" * 120_000}),
    # signals
    "SIGPIPE ignored": Situation(setup=ignoring(signal.SIGPIPE)),
    "SIGXFSZ ignored": Situation(setup=ignoring(signal.SIGXFSZ)),
    "SIGPIPE and SIGXFSZ ignored": Situation(setup=ignoring(signal.SIGPIPE, signal.SIGXFSZ)),
    "SIGINT and SIGQUIT ignored": Situation(setup=ignoring(signal.SIGINT, signal.SIGQUIT)),
    "SIGHUP and SIGTERM ignored": Situation(setup=ignoring(signal.SIGHUP, signal.SIGTERM)),
    "all but SIGCHLD ignored": Situation(setup=ignoring(*STANDARD_SIGNALS)),
    "SIGUSR1 and SIGTERM blocked": Situation(setup=blocking(signal.SIGUSR1, signal.SIGTERM)),
    "all but SIGCHLD blocked": Situation(setup=blocking(*set(signal.valid_signals()) - {signal.SIGCHLD})),
    # descriptors
    "descriptors 3 and 10": Situation(setup=opening(3, 10)),
    "descriptors 3 to 8 and 10 to 20": Situation(setup=opening(*range(3, 9), *range(10, 21))),
    "descriptor to append to": Situation(setup=opening(5, 200, flags=os.O_WRONLY | os.O_APPEND)),
    "stdin half read": Situation(setup=opening(0)),
    "stdin closed": Situation(setup=closing(0)),
    "stdout closed": Situation(setup=closing(1)),
    "stderr closed": Situation(setup=closing(2)),
    "stdin and stdout closed": Situation(setup=closing(0, 1)),
    "stdin and stderr closed": Situation(setup=closing(0, 2)),
    "stdout and stderr closed": Situation(setup=closing(1, 2)),
    "all three closed": Situation(setup=closing(0, 1, 2)),
    "all three closed, PWD stale": Situation({b"PWD": b"/etc"}, setup=closing(0, 1, 2)),
    "all three read-only": Situation(setup=opening(0, 1, 2)),
    # the rest
    "umask 077": Situation(setup=lambda: os.umask(0o077)),
    "umask 377": Situation(setup=lambda: os.umask(0o377)),
    "RLIMIT_NOFILE 64": Situation(setup=limiting(resource.RLIMIT_NOFILE, 64)),
    "RLIMIT_NOFILE 16": Situation(setup=limiting(resource.RLIMIT_NOFILE, 16)),
    "RLIMIT_STACK and RLIMIT_CORE": Situation(setup=limiting(resource.RLIMIT_STACK, 1 << 20)),
    "a session of its own": Situation(setup=os.setsid),
    "nice": Situation(setup=lambda: os.nice(5)),
    "in /": Situation(setup=lambda: os.chdir("/")),
}  # fmt: skip


def arguments_of(way: str, directory: Path) -> list[str | Path]:
    """Return a runtime's arguments for a way, and the bundle that it needs."""
    config = WAYS[way]
    if config is None:
        return ["--root", directory / "state", "state", "container"]
    bundle = directory / "bundle"
    bundle.mkdir()
    (bundle / "config.json").write_text(json.dumps(config), "utf-8")
    return ["--root", directory / "state", "create", "--bundle", bundle, "container"]


@pytest.fixture
def arguments(way: str, spy: Spy) -> list[str | Path]:
    """A runtime's arguments for a way, with the spy as runtime, a spec and a file there."""
    specs = spy.directory / "cdi"
    specs.mkdir()
    device = {"name": "one", "containerEdits": {"env": ["ONE=1"]}}
    spec = {"cdiVersion": "0.6.0", "kind": "vendor.com/device", "devices": [device]}
    (specs / "one.json").write_text(json.dumps(spec), "utf-8")
    (spy.directory / "file").write_text("some text\n", "utf-8")
    spy.configure(RUNTIMES=spy.program, SPEC_DIRS=specs)
    return arguments_of(way, spy.directory)


def differences(spy: Spy, arguments: list[str | Path], situation: Situation) -> dict[str, object]:
    """Start the spy directly and through cdi-runtime; return what only one of the two records has."""
    directly = spy.seen([spy.program, *arguments], situation)
    through = spy.seen([CDI_RUNTIME, *arguments], situation)
    for record in (directly, through):
        record["environment"] = [one for one in record.get("environment", []) if not one.startswith(b"PWD=")]
    found: dict[str, object] = {}
    for name in directly | through:
        before, after = directly.get(name, []), through.get(name, [])
        if before != after:
            lost = [value for value in before if value not in after]
            found[name] = (lost, [value for value in after if value not in before])
    return found


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=list(SITUATIONS))
def test_runtime_sees_what_came(
    spy: Spy, arguments: list[str | Path], way: str, situation: Situation
) -> None:
    """The runtime gets what it would have got without cdi-runtime."""
    assert differences(spy, arguments, situation) == {}
    if way != "passed on":
        injected = "process" in json.loads((spy.directory / "bundle/config.json").read_text("utf-8"))
        assert injected == (way == "injecting create")


@pytest.mark.parametrize("way", WAYS)
def test_empty_environment(spy: Spy, arguments: list[str | Path]) -> None:
    """Without any environment, the default configuration is used, and the runtime gets no environment."""
    if os.geteuid() != 0:
        pytest.skip("needs root: it gives /etc another cdi-hook.conf, in a mount namespace")
    spy.configuration.rename(spy.directory / "etc-cdi-hook.conf")
    (spy.directory / "etc/cdi-hook").mkdir(parents=True)
    (spy.directory / "etc-cdi-hook.conf").rename(spy.directory / "etc/cdi-hook/cdi-hook.conf")
    script = f'mount -t overlay overlay -o lowerdir={spy.directory}/etc:/etc /etc && exec env -i "$@"'
    in_overlay = Situation(prefix=("unshare", "-m", "--propagation", "private", "sh", "-c", script, "sh"))
    assert differences(spy, arguments, in_overlay) == {}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["", ".", "link", "nonexistent"])
def test_pwd(spy: Spy, arguments: list[str | Path], name: str) -> None:
    """PWD names the cwd, as a shell has it: as it came where that is right, else by the cwd's own path."""
    (spy.directory / "link").symlink_to(".")
    environ = {b"PWD": os.fsencode(spy.directory / name)} if name else {}
    seen = spy.seen([CDI_RUNTIME, *arguments], Situation(environ))["environment"]
    right = spy.directory / "link" if name == "link" else spy.directory
    assert [one for one in seen if one.startswith(b"PWD=")] == [b"PWD=" + os.fsencode(right)]
