# SPDX-License-Identifier: Apache-2.0
"""A command is one module: cli/commands.py has the list of them, and what has to name each names it.

Of the manual, that is test_man.py's; of --help and completion, tests/unit/cli's.
"""

from __future__ import annotations

import pytest

from cdi_hook.cli.commands import COMMANDS

from .tree import PACKAGE, ROOT

# Commands that are one thing, and tested as one.
HOOKS = {"precreate", "createRuntime", "prestart"}


def test_every_module_is_in_the_list() -> None:
    """A module of cdi_hook/cli/command is a command's."""
    found = {path.stem for path in (PACKAGE / "cli/command").glob("*.py")} - {"__init__"}
    assert found == {path.removeprefix("cdi_hook.cli.command.") for path, _ in COMMANDS.values()}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_has_tests(name: str) -> None:
    """A command has a file of unit tests of its name; the hooks have one."""
    assert (ROOT / f"tests/unit/cli/test_{'hook' if name in HOOKS else name}.py").exists()


def test_hooks_are_commands() -> None:
    """The hooks are among the commands."""
    assert COMMANDS.keys() >= HOOKS
