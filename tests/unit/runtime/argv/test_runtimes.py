# SPDX-License-Identifier: Apache-2.0
"""cdi_hook.runtime.argv against the installed runtimes: their help, and what they do with the same arguments.

It needs runc, crun and runsc, and starts no container: they are asked for help,
or for a bundle that isn't there.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from cdi_hook.runtime import argv

from .reading import meaning

if TYPE_CHECKING:
    from pathlib import Path

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


@pytest.mark.parametrize("name", ["runc", "crun", "runsc"])
def test_commands_of_installed_runtimes(name: str) -> None:
    """Every command that a runtime's help names is in the table."""
    text = output(program(name), "help" if name == "runsc" else "--help")
    text = text.partition("ommands:\n" if name == "runsc" else "COMMANDS:\n")[2].partition(
        "\nAdditional help"
    )[0]
    text = text if name == "runsc" else text.partition("\n\n")[0]
    named = set(re.findall(r"^(?:\t|   )([a-z][a-z-]*)(?:, h)? ", text, re.MULTILINE))
    assert {"create", "state"} <= named <= set(argv.COMMANDS)


def restores(name: str) -> bool:
    """Whether an installed runtime has the command restore; a crun that is built without CRIU doesn't."""
    return "unknown command restore" not in output(program(name), "restore", "--help")


def of_restore(name: str) -> set[str]:
    """The options of restore alone that an installed runtime can't be asked about, for it has no restore."""
    return set() if restores(name) else {"lsm-profile", "network-lock"}


def installed_help(name: str) -> Help:
    """The options of an installed runtime, global and of the bundle commands that it knows."""
    path = program(name)
    commands = sorted(argv.BUNDLE_COMMANDS if restores(name) else {*argv.BUNDLE_COMMANDS} - {"restore"})
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
    ],
)
def test_help_values(name: str, some: set[str]) -> None:
    """Every option that an installed runtime gives a value is in the tables."""
    found = installed_help(name)
    assert some - of_restore(name) <= found.values
    assert found.values <= {*argv.VALUE_OPTIONS, *argv.OPTIONAL_VALUES}
    assert found.letters <= set(argv.VALUE_LETTERS)


@pytest.mark.parametrize("form", ["--{}|v", "--{}=v", "-{}|v", "-{}=v"])
def test_values_of_runsc_before_the_command(form: str) -> None:
    """The bundle of the installed runsc is read, or one of several, after any option that it gives a value."""
    values = installed_help("runsc").values
    assert {"root", "log", "log-format", "network", "platform"} <= values
    for option in values - {"bundle"}:
        invocation = argv.parse([*form.format(option).split("|"), "create", "--bundle", "/b", "x"])
        assert invocation.command == "create"
        assert "/b/config.json" in invocation.configs
        if form[1] == "-":
            assert (invocation.bundle, len(invocation.configs)) == ("/b", 1)


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
    assert wrong - of_restore(name) == booleans & {*argv.VALUE_OPTIONS, *argv.OPTIONAL_VALUES}
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
