# SPDX-License-Identifier: Apache-2.0
"""cdi_hook.runtime.argv: where the command is among the arguments."""

from __future__ import annotations

import pytest

from cdi_hook.runtime import argv

from .reading import meaning


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


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["--future", "v", "create", "x"], "create"),
        (["--future", "v", "--other", "w", "run", "x"], "run"),
        (["--future", "v", "state", "create"], "state"),
        (["--future", "v", "state", "x"], "v"),
        (["--future", "state", "create"], "state"),
        (["--future=u", "v", "create"], "v"),
        (["--future", "--", "v", "create"], "v"),
        (["--log", "v", "w", "create"], "w"),
        (["v", "create"], "v"),
        (["--future", "v", "w", "create"], "w"),
    ],
)
def test_options_that_nobody_knows(arguments: list[str], command: str) -> None:
    """What follows an option that isn't in the tables is its value if no runtime has such a command, and create follows."""
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
