# SPDX-License-Identifier: Apache-2.0
"""A command is one module: cli/commands.py has the list of them, and what has to name each names it.

Of the manual, that is test_man.py's; of --help and completion, tests/unit/cli's.
"""

from __future__ import annotations

import re

import pytest

from cdi_hook.cli.commands import COMMANDS

from .tree import PACKAGE, ROOT

# Modules of cdi_hook/cli that are no command.
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


def test_the_readme_has_every_command() -> None:
    """The README's section on the command line has each command, and no others."""
    text = (
        (ROOT / "README.md").read_text("utf-8").partition("\n## The command line\n")[2].partition("\n## ")[0]
    )
    lines = re.findall(r"^    cdi-hook (\w+)[^#]*# (.*)$", text, re.MULTILINE)
    also = [name for _, said in lines for name in re.findall(r"\w+", said) if name in HOOKS]
    assert {*(name for name, _ in lines), *also} == COMMANDS.keys()
    assert COMMANDS.keys() >= HOOKS
