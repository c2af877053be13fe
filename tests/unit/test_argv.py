# SPDX-License-Identifier: Apache-2.0
"""cdi_hook.argv: what runtimes' arguments mean.

Three kinds of test: tables of arguments and their meaning, the option tables
against the help of the installed runtimes, and readings against what the
installed runtimes do. The last two need runc, crun and runsc, and start no
container: they ask for help, or for a bundle that isn't there.
"""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cdi_hook import argv

ROOT = Path(__file__).resolve().parents[2]

# Options without a value that the runtimes have before the command, or after
# create, run and restore; --rootless, which is both, is left out.
BOOLEANS = {
    "runc": """debug systemd-cgroup help version no-pivot no-new-keyring detach keep
        no-subreaper tcp-established ext-unix-sk shell-job file-locks auto-dedup
        lazy-pages""",
    "crun": """debug systemd-cgroup version help usage no-pivot no-subreaper
        no-new-keyring detach keep tcp-established tcp-close ext-unix-sk shell-job
        file-locks""",
    "youki": """systemd-log debug systemd-cgroup version help no-pivot no-new-keyring
        no-subreaper keep detach""",
    "runsc": """EXPERIMENTAL-xdp-need-wakeup TESTONLY-afs-syscall-panic
        allow-flag-override alsologtostderr app-huge-pages background buffer-pooling
        cgroupfs cpu-num-from-quota debug debug-to-user-log detach direct directfs
        enable-core-tags fs-restore-direct fsgofer-host-uds fuse gso gvisor-gro
        ignore-cgroups iouring lisafs log-packets net-disconnect-ok net-raw
        no-subreaper nvproxy nvproxy-docker oci-seccomp overlay overlayfs-stale-read
        pause-external-networking profile rdmaproxy reproduce-nat reproduce-nftables
        rx-checksum-offload save-restore-netstack software-gso split-fsrestore strace
        strace-event systemd-cgroup systrap-disable-fast-path tpuproxy
        tx-checksum-offload verity version vfs2""",
}
ALL_BOOLEANS = sorted({name for names in BOOLEANS.values() for name in names.split()})
VALUE_OPTIONS = sorted(argv.VALUE_OPTIONS)
VALUE_LETTERS = sorted(argv.VALUE_LETTERS)

FIELDS = ("command", "bundle", "config", "container_id", "log", "log_format")
DEFAULTS = dict.fromkeys(FIELDS, "") | {"config": "config.json"}


def meaning(arguments: list[str]) -> dict[str, str]:
    """The fields that differ from the defaults."""
    invocation = argv.parse(arguments)
    fields = {name: getattr(invocation, name) for name in FIELDS}
    return {name: value for name, value in fields.items() if value != DEFAULTS[name]}


# -- what engines call (FACTS.md)

CONTAINERD = "/run/containerd/io.containerd.runtime.v2.task/default/c1"
MOBY = "/run/containerd/io.containerd.runtime.v2.task/moby/9f3a"
CRI = "/run/containerd/io.containerd.runtime.v2.task/k8s.io/77aa"
PODMAN = "/var/lib/containers/storage/overlay-containers/5bd1/userdata"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(
            f"--root /run/containerd/runc/default --log {CONTAINERD}/log.json"
            f" --log-format json create --bundle {CONTAINERD}"
            f" --pid-file {CONTAINERD}/init.pid c1",
            {
                "command": "create",
                "bundle": CONTAINERD,
                "container_id": "c1",
                "log": f"{CONTAINERD}/log.json",
                "log_format": "json",
            },
            id="containerd",
        ),
        pytest.param(
            f"--root /var/run/docker/runtime-runc/moby --log {MOBY}/log.json"
            f" --log-format json --systemd-cgroup create --bundle {MOBY}"
            f" --pid-file {MOBY}/init.pid --console-socket /tmp/pty1/pty.sock 9f3a",
            {
                "command": "create",
                "bundle": MOBY,
                "container_id": "9f3a",
                "log": f"{MOBY}/log.json",
                "log_format": "json",
            },
            id="docker",
        ),
        pytest.param(
            f"--root /run/containerd/runc/k8s.io --log {CRI}/log.json --log-format"
            f" json --systemd-cgroup create --bundle {CRI} --pid-file {CRI}/init.pid"
            " --no-pivot --no-new-keyring 77aa",
            {
                "command": "create",
                "bundle": CRI,
                "container_id": "77aa",
                "log": f"{CRI}/log.json",
                "log_format": "json",
            },
            id="CRI",
        ),
        pytest.param(
            f"create --bundle {PODMAN} --pid-file {PODMAN}/pidfile"
            " --console-socket /tmp/conmon-term.X --preserve-fds 1 5bd1",
            {"command": "create", "bundle": PODMAN, "container_id": "5bd1"},
            id="conmon",
        ),
        pytest.param(
            f"--systemd-cgroup --root=/run/crun --log-level debug restore --bundle"
            f" {PODMAN} --pid-file {PODMAN}/pidfile --image-path {PODMAN}/checkpoint"
            " --work-path /w --tcp-established --detach --lsm-profile selinux:x 5bd1",
            {"command": "restore", "bundle": PODMAN, "container_id": "5bd1"},
            id="conmon-restore",
        ),
        pytest.param(
            f"--root /r --log {CRI}/log.json --log-format json restore --image-path"
            f" /i --work-path /w --empty-ns network --manage-cgroups-mode soft"
            f" --bundle {CRI} --pid-file {CRI}/init.pid --detach 77aa",
            {
                "command": "restore",
                "bundle": CRI,
                "container_id": "77aa",
                "log": f"{CRI}/log.json",
                "log_format": "json",
            },
            id="containerd-restore",
        ),
        pytest.param(
            "--root=/run/containerd/runsc/k8s.io --log=/b/log.json --log-format=json"
            " --network=none --platform systrap --rootless create --bundle /b"
            " --pid-file /b/init.pid --user-log /u c1",
            {
                "command": "create",
                "bundle": "/b",
                "container_id": "c1",
                "log": "/b/log.json",
                "log_format": "json",
            },
            id="containerd-runsc",
        ),
        pytest.param(
            "--root /run/runc --log /tmp/l run --no-new-keyring --bundle /tmp/b --pid-file /tmp/p buildkit1",
            {
                "command": "run",
                "bundle": "/tmp/b",
                "container_id": "buildkit1",
                "log": "/tmp/l",
            },
            id="buildkit",
        ),
        pytest.param(
            "--log /l --log-format json delete --force create",
            {"command": "delete", "log": "/l", "log_format": "json"},
            id="delete",
        ),
        pytest.param(
            "--root /r exec --process /p --detach --pid-file /f c1",
            {"command": "exec"},
            id="exec",
        ),
        pytest.param(
            "update --resources=- --bundle /x create",
            {"command": "update"},
            id="update",
        ),
        pytest.param("features", {"command": "features"}, id="docker-start"),
        pytest.param("--version", {}, id="docker-version"),
    ],
)
def test_engines(arguments: str, expected: dict[str, str]) -> None:
    """The command lines that engines write are read as they mean them."""
    assert expected == meaning(arguments.split())


# -- where the command is


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ([], ""),
        ([""], ""),
        (["", "create", "x"], ""),
        (["--"], ""),
        (["--log"], ""),
        (["--log", "create"], ""),
        (["-"], "-"),
        (["-", "create"], "-"),
        (["--help"], ""),
        (["delete", "create"], "delete"),
        (["delete", "--force", "create"], "delete"),
        (["state", "run"], "state"),
        (["help", "create"], "help"),
        (["start", "--", "create"], "start"),
        (["--log", "create", "state", "x"], "state"),
        (["--log=create", "state", "x"], "state"),
        (["-log", "create", "state", "x"], "state"),
        (["-log=create", "state", "x"], "state"),
        (["-l", "create", "state", "x"], "state"),
        (["-lcreate", "state", "x"], "state"),
        (["-r", "run", "state", "x"], "state"),
        (["-sl", "run", "state", "x"], "state"),
        (["--root", "--log", "create", "x"], "create"),
        (["--log", "--", "state", "create"], "state"),
        (["--", "create", "x"], "create"),
        (["--", "--create", "x"], "--create"),
        (["--debug", "create", "x"], "create"),
        (["--debug=false", "create", "x"], "create"),
        (["--unknown", "create", "x"], "create"),
        (["--unknown=state", "create", "x"], "create"),
        (["-unknown", "create", "x"], "create"),
        (["-u", "create", "x"], "create"),
        (["---", "create", "x"], "create"),
        (["--=", "create", "x"], "create"),
        (["-=", "create", "x"], "create"),
        (["-v", "-V", "-h", "-?", "create"], "create"),
        (["creates", "x"], "creates"),
        (["Create", "x"], "Create"),
        (["/create", "x"], "/create"),
    ],
)
def test_command(arguments: list[str], command: str) -> None:
    """The command is the first argument that is no option and no option's value."""
    assert command == argv.parse(arguments).command


@pytest.mark.parametrize("command", sorted(argv.BUNDLE_COMMANDS))
@pytest.mark.parametrize("container_id", sorted(argv.BUNDLE_COMMANDS))
def test_ids_named_like_commands(command: str, container_id: str) -> None:
    """A container may be called as a command is."""
    expected = {"command": command, "bundle": "run", "container_id": container_id}
    assert expected == meaning([command, "--bundle", "run", container_id])


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["--rootless", "auto", "create", "x"], "create"),
        (["--rootless", "true", "state", "create"], "state"),
        (["--rootless", "", "create", "x"], "create"),
        (["-rootless", "0", "create", "x"], "create"),
        (["--rootless=true", "create", "x"], "create"),
        (["--rootless", "create", "x"], "create"),
        (["--rootless", "state", "create"], "state"),
        (["--rootless", "--network", "create", "run", "x"], "run"),
        (["--rootless"], ""),
        (["--rootl", "auto", "create", "x"], "create"),
    ],
)
def test_rootless(arguments: list[str], command: str) -> None:
    """--rootless takes runc's values, and as runsc's it takes none."""
    assert command == argv.parse(arguments).command


@pytest.mark.parametrize("name", ["delete", "state", "kill", "start", "exec", "spec"])
def test_other_commands_are_not_read(name: str) -> None:
    """After a command that reads no bundle, options mean something else."""
    rest = ["--bundle", "/b", "-f", "x", "--log", "/other", "create"]
    assert {"command": name, "log": "/l"} == meaning(["--log", "/l", name, *rest])


# -- how options are spelt


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--bundle", "v"], {"bundle": "v"}),
        (["--bundle=v"], {"bundle": "v"}),
        (["-bundle", "v"], {"bundle": "v"}),
        (["-bundle=v"], {"bundle": "v"}),
        (["-b", "v"], {"bundle": "v"}),
        (["-bv"], {"bundle": "v"}),
        (["-b=v"], {"bundle": "v"}),
        (["--b", "v"], {"bundle": "v"}),
        (["--b=v"], {"bundle": "v"}),
        (["-b/run/b=c"], {"bundle": "/run/b=c"}),
        (["-b", "=v"], {"bundle": "=v"}),
        (["-b", "a", "-b="], {}),
        (["--bundle==v"], {"bundle": "=v"}),
        (["--bundle=a=b"], {"bundle": "a=b"}),
        (["--bundle", "-v"], {"bundle": "-v"}),
        (["--bundle", "--config"], {"bundle": "--config"}),
        (["--bundle", "--"], {"bundle": "--"}),
        (["--bundle", ""], {}),
        (["--bundle="], {}),
        (["--bundle", "a", "--bundle="], {}),
        (["--bundle", "a", "-b", "b"], {"bundle": "b"}),
        (["-bb", "--bundle=a"], {"bundle": "a"}),
        (["-db", "v"], {"bundle": "v"}),
        (["-dbv"], {"bundle": "v"}),
        (["-db=v"], {"bundle": "v"}),
        (["-d", "-b", "v"], {"bundle": "v"}),
        (["-f", "v"], {"config": "v"}),
        (["-fv"], {"config": "v"}),
        (["-dfv"], {"config": "v"}),
        (["--config", "v"], {"config": "v"}),
        (["--config=v"], {"config": "v"}),
        (["-fa", "--config", "b"], {"config": "b"}),
        (["-f", "config.json"], {}),
        (["-f", ""], {"config": ""}),
        (["--bund", "v"], {"bundle": "v"}),
        (["--bund=v"], {"bundle": "v"}),
        (["--conf", "v"], {"config": "v"}),
        (["--co", "v"], {}),
        (["--pid", "v"], {}),
        (["-bund", "v"], {"bundle": "und", "container_id": "v"}),
        (["-c", "v", "-p", "w"], {}),
        (["-cv", "-pw"], {}),
        (["-detach", "-keep", "-no-pivot"], {}),
        (["-file-locks", "-lazy-pages", "-background"], {}),
        (["-file-locks=true", "-fs-restore-direct=0"], {}),
        (["--debug=b", "--detach=true"], {}),
        (["--unknown=v"], {}),
        (["--unknown", "v"], {"container_id": "v"}),
        (["-unknown", "v"], {"container_id": "v"}),
        (["--bundles", "v"], {"container_id": "v"}),
        (["--Bundle", "v"], {"container_id": "v"}),
        (["---bundle", "v"], {"container_id": "v"}),
        (["-d", "v"], {"container_id": "v"}),
        (["--=v"], {}),
        (["--", "-b", "v"], {"container_id": "-b"}),
        (["-bv", "--", "-ba", "--bundle=b"], {"bundle": "v", "container_id": "-ba"}),
        (["-"], {"container_id": "-"}),
        (["--network-lock", "--bundle", "-b", "v"], {"bundle": "v"}),
    ],
)
def test_options(options: list[str], expected: dict[str, str]) -> None:
    """Each runtime's way to write an option is understood, and nothing else."""
    expected = {"command": "run", "container_id": "id"} | expected
    assert expected == meaning(["run", *options, "id"])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["id", "--bundle", "v"], {"bundle": "v"}),
        (["id", "--bundle=v", "-f", "c"], {"bundle": "v", "config": "c"}),
        (["-b", "a", "id", "-b", "v"], {"bundle": "v"}),
        (["id", "--detach", "-bv"], {"bundle": "v"}),
        (["id", "--", "-b", "v"], {}),
        (["--", "id", "-b", "v"], {}),
        (["id", "another", "-b", "v"], {"bundle": "v"}),
        (["id", "--bundle"], {}),
        (["-b", "v", "id", "-b"], {"bundle": "v"}),
    ],
)
def test_after_the_id(arguments: list[str], expected: dict[str, str]) -> None:
    """Options count after the container's id too, up to a "--"."""
    expected = {"command": "create", "container_id": "id"} | expected
    assert expected == meaning(["create", *arguments])


def test_end_of_global_options() -> None:
    """A "--" before the command doesn't end the command's own options."""
    expected = {"command": "create", "bundle": "v", "container_id": "id"}
    assert expected == meaning(["--debug", "--", "create", "-b", "v", "id"])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--log", "a", "--log=b"], {"log": "b"}),
        (["-l", "a"], {"log": "a"}),
        (["-la"], {"log": "a"}),
        (["-l=a"], {"log": "a"}),
        (["-log", "a"], {"log": "a"}),
        (["-sla"], {"log": "a"}),
        (["--log", "a", "--log="], {}),
        (["--log=journald:x"], {"log": "journald:x"}),
        (["--log-format", "json"], {"log_format": "json"}),
        (["-log-format=json"], {"log_format": "json"}),
        (["--log-f", "json"], {"log_format": "json"}),
        (["--log-level", "debug"], {}),
        (["-log-packets", "-lisafs"], {}),
        (["--debug-log", "/d", "--debug-log-format", "text"], {}),
    ],
)
def test_log(arguments: list[str], expected: dict[str, str]) -> None:
    """The log and its format are read, whatever the command."""
    assert {"command": "state"} | expected == meaning([*arguments, "state", "x"])


@pytest.mark.parametrize("text", ["/b/\udcff\udcfe", "/b/é b", "/b/\n", "\udc80"])
def test_any_bytes(text: str) -> None:
    """Values that aren't UTF-8, or hold spaces and newlines, come out as given."""
    expected = {"command": "create", "bundle": text, "container_id": text, "log": text}
    for options in (["--bundle", text], [f"--bundle={text}"], [f"-b{text}"]):
        assert expected == meaning(["--log", text, "create", *options, text])


# -- the tables


@pytest.mark.parametrize("dashes", ["-", "--"])
@pytest.mark.parametrize("option", VALUE_OPTIONS)
def test_value_options(option: str, dashes: str) -> None:
    """An option's value is never taken for the command or the id, nor eats one."""
    spelt = dashes + option
    assert argv.parse([spelt, "create", "state", "run"]).command == "state"
    assert argv.parse([spelt + "=create", "state", "run"]).command == "state"
    for option_and_value in ([spelt, "run"], [spelt + "=run"]):
        invocation = argv.parse(["create", *option_and_value, "id"])
        assert (invocation.command, invocation.container_id) == ("create", "id")


@pytest.mark.parametrize("letter", VALUE_LETTERS)
def test_value_letters(letter: str) -> None:
    """The same for letters: -b run, -brun, -b=run."""
    for option_and_value in (
        [f"-{letter}", "run"],
        [f"-{letter}run"],
        [f"-{letter}=run"],
    ):
        assert argv.parse([*option_and_value, "state", "create"]).command == "state"
        invocation = argv.parse(["create", *option_and_value, "id"])
        assert (invocation.command, invocation.container_id) == ("create", "id")


@pytest.mark.parametrize("dashes", ["-", "--"])
@pytest.mark.parametrize("option", ALL_BOOLEANS)
def test_booleans(option: str, dashes: str) -> None:
    """An option without a value never eats the next argument, and sets nothing."""
    expected = {"command": "create", "container_id": "id"}
    for spelt in (dashes + option, f"{dashes}{option}=true"):
        assert expected == meaning([spelt, "create", "id"])
        assert expected == meaning(["create", spelt, "id"])


@pytest.mark.parametrize("option", sorted(argv.DURATIONS))
def test_durations(option: str) -> None:
    """A duration is the value of an option that had one once, and a command isn't."""
    expected = {"command": "create", "bundle": "/b", "container_id": "id"}
    for value in ([], ["0"], ["20000ns"], ["1.5ms"]):
        assert expected == meaning([f"--{option}", *value, "create", "--bundle", "/b", "id"])
    assert expected == meaning([f"-{option}=1ms", "create", "--bundle", "/b", "id"])


def test_tables_fit_together() -> None:
    """No name has two meanings, and letters stand for options of the table."""
    assert set(ALL_BOOLEANS) >= argv.DURATIONS
    assert not argv.VALUE_OPTIONS & set(ALL_BOOLEANS)
    assert not argv.VALUE_OPTIONS & argv.FLAG_OPTIONS
    assert not argv.VALUE_OPTIONS & argv.OPTIONAL_VALUES.keys()
    assert not set(argv.VALUE_LETTERS) & set(argv.FLAG_LETTERS)
    assert set(argv.VALUE_LETTERS.values()) <= argv.VALUE_OPTIONS
    assert {name for name in ALL_BOOLEANS if name[0] in argv.VALUE_LETTERS} == argv.FLAG_OPTIONS
    for values in argv.OPTIONAL_VALUES.values():
        assert not values & argv.BUNDLE_COMMANDS


@pytest.mark.parametrize(
    ("options", "letters"),
    [
        pytest.param(
            """criu log log-format root bundle console-socket empty-ns image-path
            lsm-mount-context lsm-profile manage-cgroups-mode pid-file pidfd-socket
            preserve-fds work-path""",
            "b",
            id="runc-1.3",
        ),
        pytest.param("console", "b", id="runc-1.0.0-rc1"),
        pytest.param(
            """log log-format log-level root bundle console-socket pid-file
            preserve-fds""",
            "lrbcp",
            id="youki-0.7",
        ),
        pytest.param(
            """character-device-policy control-rpc-stop-timeout final-metrics-log
            fs-restore-image-path gofer-network-namespace host-settings
            nvproxy-allowed-driver-capabilities override-procs profile-gc-interval
            qdisc-tbf-burst qdisc-tbf-rate restore-spec-validation shared-root
            sidecar-release-enforcement-policy""",
            "",
            id="runsc-2026",
        ),
    ],
)
def test_options_of_other_versions(options: str, letters: str) -> None:
    """What the sources of versions that aren't installed give a value is there too."""
    assert set(options.split()) <= argv.VALUE_OPTIONS
    assert set(letters) <= set(argv.VALUE_LETTERS)


@pytest.mark.parametrize(
    ("command", "values", "booleans"),
    [
        (
            "",
            "cgroup-manager log log-format log-level root rootless program-name",
            "debug systemd-cgroup version help usage",
        ),
        (
            "create",
            "bundle config console-socket preserve-fds pid-file program-name",
            "no-pivot no-subreaper no-new-keyring help usage",
        ),
        (
            "restore",
            """bundle image-path work-path pid-file console-socket manage-cgroups-mode
            network-lock lsm-profile lsm-mount-context program-name""",
            "tcp-established tcp-close ext-unix-sk shell-job detach file-locks help",
        ),
    ],
)
def test_abbreviations(command: str, values: str, booleans: str) -> None:
    """Every prefix that crun accepts for one of its options is that option."""
    names = values.split() + booleans.split()
    prefixes = {name[:length] for name in names for length in range(1, len(name) + 1)}
    for prefix in sorted(prefixes):
        meant = [name for name in names if name.startswith(prefix)]
        if prefix not in names and len(meant) > 1:
            continue  # ambiguous: crun refuses it
        name = prefix if prefix in names else meant[0]
        value = "1"  # which --rootless takes too
        for short in ([f"--{prefix}", value], [f"--{prefix}={value}"]):
            full = [f"--{name}", *short[1:]] if short[1:] else [f"--{name}={value}"]
            before = [command] if command else []
            after = ["id"] if command else ["create", "id"]
            assert meaning(before + full + after) == meaning(before + short + after)
            if name in values.split():
                assert argv.parse(before + short + after).container_id == "id"


# -- it never fails


def test_anything_goes() -> None:
    """No list of arguments is an error or is changed, and one reading is repeatable."""
    source = random.Random("argv")
    words = ["", "-", "--", "---", "=", "-=", "--=", "create", "run", "state", "\udcff"]
    words += [f"--{name}" for name in VALUE_OPTIONS] + [f"-{c}" for c in "bcdfhlprsvxé"]
    words += [f"--{name}=v" for name in ("bundle", "config", "log", "x", "b", "co")]
    words += ["--rootless", "auto", "-bv", "-b=", "-d=", "-db", "-ds", "--lo", "--p"]
    for _ in range(5000):
        arguments = source.choices(words, k=source.randrange(8))
        given = list(arguments)
        once, again = meaning(arguments), meaning(arguments)
        assert given == arguments
        assert once == again
        assert set(once.get("command", "")) <= set("".join(arguments))


def test_a_tuple_will_do() -> None:
    """Any sequence of strings is taken, not only a list."""
    assert argv.parse(("create", "-b", "v", "id")).bundle == "v"


def test_an_invocation_holds_what_it_says() -> None:
    """An Invocation has the fields of the contract and no room for others."""
    assert sorted(FIELDS) == sorted(argv.Invocation.__slots__)
    with pytest.raises(AttributeError):
        argv.Invocation().other = ""  # type: ignore[attr-defined]


def test_imports_nothing() -> None:
    """Reading arguments costs no import besides our own package."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); before = set(sys.modules);"
        " import cdi_hook.argv; print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-IS", "-c", code], check=True, capture_output=True, text=True)
    assert {"__future__", "cdi_hook", "cdi_hook.argv"} >= set(done.stdout.split())


# -- the installed runtimes

STANDARD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def program(name: str) -> str:
    """The path of a runtime; the test is skipped where it isn't installed."""
    path = shutil.which(name, path=STANDARD_PATH)
    if path is None:
        pytest.skip(f"{name} isn't installed")
    return path


def output(*command: str, cwd: Path | None = None) -> str:
    """What a command writes, to stdout and stderr."""
    done = subprocess.run(
        command,
        check=False,
        cwd=cwd,
        env={"PATH": STANDARD_PATH, "LC_ALL": "C"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    return done.stdout


class Help:
    """The options that a program's help names: with a value, without, and letters."""

    def __init__(self) -> None:
        self.values: set[str] = set()
        self.booleans: set[str] = set()
        self.letters: set[str] = set()

    def add(self, name: str, letter: str | None, has_value: bool) -> None:
        """File one option."""
        (self.values if has_value else self.booleans).add(name)
        if has_value and letter:
            self.letters.add(letter)


def runc_help(text: str) -> Help:
    """The options of `  --bundle value, -b value  text`, as urfave/cli prints them."""
    found = Help()
    line = re.compile(r"^ +--([\w-]+)(?: (\w+))?(?:, -(\w)(?: \w+)?)?(?:  |$)", re.MULTILINE)
    for name, value, letter in line.findall(text):
        found.add(name, letter, bool(value))
    return found


def crun_help(text: str) -> Help:
    """The options of `  -b, --bundle=DIR  text`, as argp prints them."""
    found = Help()
    line = re.compile(r"^ +(?:-(\S), )*--([\w-]+)(=\S+)?(?: |$)", re.MULTILINE)
    for letter, name, value in line.findall(text):
        found.add(name, letter, bool(value))
    return found


def runsc_help(text: str) -> Help:
    """The options of `  -bundle string`, as Go's flag package prints them.

    A word that the description puts in backquotes stands for the type, even of a
    boolean, so with a type that isn't Go's nothing is known.
    """
    found = Help()
    for name, kind in re.findall(r"^  -([\w-]+)(?: (.+))?$", text, re.MULTILINE):
        if kind in ("", "string", "int", "uint", "value", "float", "duration"):
            found.add(name, None, bool(kind))
    return found


def restores(name: str) -> bool:
    """Whether an installed runtime has the command restore; a crun that is built without CRIU doesn't."""
    return "unknown command restore" not in output(program(name), "restore", "--help")


def of_restore(name: str) -> set[str]:
    """The options of restore alone that an installed runtime can't be asked about, for it has no restore."""
    return set() if restores(name) else {"lsm-profile", "network-lock"}


def installed_help(name: str) -> Help:
    """The options of an installed runtime, global and of the bundle commands that it knows."""
    path = program(name)
    commands = sorted(argv.BUNDLE_COMMANDS if restores(name) else argv.BUNDLE_COMMANDS - {"restore"})
    if name == "runsc":
        texts = [output(path, "flags"), *(output(path, "help", c) for c in commands)]
        found = [runsc_help(text) for text in texts]
    else:
        reader = {"runc": runc_help, "crun": crun_help}[name]
        texts = [output(path, "--help"), *(output(path, c, "--help") for c in commands)]
        found = [reader(text) for text in texts]
    together = Help()
    for one in found:
        assert one.values | one.booleans, f"unreadable help of {name}: {texts}"
        together.values |= one.values
        together.booleans |= one.booleans
        together.letters |= one.letters
    return together


@pytest.mark.parametrize(
    ("name", "some"),
    [
        ("runc", {"root", "log", "log-format", "bundle", "pid-file", "image-path"}),
        ("crun", {"root", "log", "log-format", "bundle", "config", "lsm-profile"}),
        ("runsc", {"root", "log", "log-format", "bundle", "network", "image-path"}),
    ],
)
def test_help_values(name: str, some: set[str]) -> None:
    """Every option that an installed runtime gives a value is in the tables."""
    found = installed_help(name)
    assert some - of_restore(name) <= found.values
    assert found.values <= argv.VALUE_OPTIONS | argv.OPTIONAL_VALUES.keys() | argv.DURATIONS
    assert found.letters <= set(argv.VALUE_LETTERS)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("runc", set()),
        ("crun", {"network-lock"}),  # shown without a value, and takes one
        ("runsc", {"rootless"}),
    ],
)
def test_help_booleans(name: str, wrong: set[str]) -> None:
    """No option that an installed runtime has without a value takes one here."""
    booleans = installed_help(name).booleans
    assert len(booleans) > 5
    assert wrong - of_restore(name) == booleans & (argv.VALUE_OPTIONS | argv.OPTIONAL_VALUES.keys())
    for option in booleans - wrong:
        for dashes in ("-", "--"):
            arguments = [dashes + option, "create", dashes + option, "id"]
            assert meaning(arguments) == {"command": "create", "container_id": "id"}


def test_criu_network_lock() -> None:
    """crun's --network-lock, declared without a value, does take the next argument."""
    path = program("crun")
    if "--network-lock" not in output(path, "restore", "--help"):
        pytest.skip("this crun has no --network-lock")
    said = output(path, "restore", "--network-lock", "-b", "-b", "/nonexistent", "x")
    assert "unknown network lock method" in said


READINGS = """
runc   create -b @ x
runc   create -b=@ x
runc   create --b @ x
runc   create --bundle @ x
runc   create --bundle=@ x
runc   create -bundle @ x
runc   create -bundle=@ x
runc   create x -b @
runc   create x --bundle=@
runc   create --no-pivot -b @ x
runc   create -b /nonexistent/other -b @ x
runc   create -bundle=/nonexistent/other --bundle @ x
runc   -- create -b @ x
runc   --rootless auto create -b @ x
runc   --rootless=auto create -b @ x
runc   -log-format json create -b @ x
runc   run -b @ -- x
runc   run --detach=false -b @ x
runc   run x --detach -b @
crun   create -b @ x
crun   create -b@ x
crun   create --bundle=@ x
crun   create --bund @ x
crun   create --b=@ x
crun   create -b /nonexistent/other -b @ x
crun   -- create -b @ x
crun   --rootless auto create -b @ x
crun   --log-f json create -b @ x
crun   run -db @ x
crun   run -db@ x
crun   run -f config.json -b @ x
crun   run --conf config.json -b @ x
crun   restore --co /nonexistent/socket -b @ x
crun   restore --n nftables -b @ x
runsc  create -bundle @ x
runsc  create --bundle=@ x
runsc  create -bundle /nonexistent/other --bundle=@ x
runsc  -- create -bundle @ x
runsc  -network none -net-raw create -bundle @ x
runsc  -log-packets create -bundle @ x
"""


@pytest.mark.parametrize("line", READINGS.strip().splitlines())
def test_runtimes_read_the_same(line: str, tmp_path: Path) -> None:
    """The bundle that is read here is the one that the runtime looks for."""
    name, *arguments = line.split()
    if "restore" in arguments and not restores(name):
        pytest.skip(f"this {name} has no restore")
    assert_same(name, arguments, tmp_path)


def test_gvisor_gro(tmp_path: Path) -> None:
    """runsc's --gvisor-gro is read with a value or without, as the installed runsc has it."""
    value = [] if "gvisor-gro" in installed_help("runsc").booleans else ["1ms"]
    assert_same("runsc", ["-gvisor-gro", *value, "create", "-bundle", "@", "x"], tmp_path)


def assert_same(name: str, arguments: list[str], tmp_path: Path) -> None:
    """Compare what is read here with what an installed runtime reads; @ is a bundle that isn't there."""
    arguments = [argument.replace("@", f"{tmp_path}/no-such-bundle") for argument in arguments]
    said = output(program(name), "--root", f"{tmp_path}/root", *arguments, cwd=tmp_path)
    invocation = argv.parse(arguments)
    assert (invocation.command, invocation.container_id) in {
        (command, "x") for command in argv.BUNDLE_COMMANDS
    }
    assert invocation.bundle == f"{tmp_path}/no-such-bundle"
    assert re.search(rf"{re.escape(invocation.bundle)}\b[^,]*: ", said), said
    assert "no such file or directory" in said.lower()


def test_crun_config_is_of_the_cwd(tmp_path: Path) -> None:
    """crun looks for --config from the cwd, not from the bundle, as argv.py says."""
    path = program("crun")
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "own.json").write_text("{}")
    command = [path, "--root", f"{tmp_path}/root", "create", "-b", "bundle", "x"]
    said = output(*command[:-1], "-f", "own.json", "x", cwd=tmp_path)
    assert "realpath `own.json` failed: No such file or directory" in said
    assert argv.parse([*command[1:-1], "-f", "own.json", "x"]).config == "own.json"
