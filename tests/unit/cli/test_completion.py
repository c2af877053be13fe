# SPDX-License-Identifier: Apache-2.0
"""cdi-hook completion: the shells themselves complete lines, and the results are compared."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from cdi_hook.cli import commands
from cdi_hook.cli.command import completion
from cdi_hook.engines import ENGINES

if TYPE_CHECKING:
    from pathlib import Path

    from tests.unit.cli.conftest import World

KNOWN = list(completion.commands(commands.parser(commands.COMMANDS)))
BASH = """
source "$1"
read -ra COMP_WORDS <<<"$2"
[[ $2 == *" " ]] && COMP_WORDS+=("")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
_cdi_hook
printf '%s\\n' "${COMPREPLY[@]}"
"""
FISH = 'source $argv[1]; complete -C "$argv[2]"'
PROMPT = "<prompt>"
ZSH = """\
unset zle_bracketed_paste; unsetopt prompt_sp; stty cols 250 rows 200; fpath=({} $fpath)
autoload -U compinit; compinit -u -D; bindkey '^I' list-choices; PS1='<pro''mpt>'
"""
# A line, and the words that can follow.
CASES = [
    ("cdi-hook ", list(commands.COMMANDS)),
    ("cdi-hook configure ", [*ENGINES, "all"]),
    ("cdi-hook completion ", ["bash", "zsh", "fish"]),
    *[
        (
            f"{' '.join(('cdi-hook', *command.words))} --",
            [flag for option in command.options for flag in option.flags if flag[:2] == "--"],
        )
        for command in KNOWN
        if command.words
    ],
]


def script(cdi_hook: World, shell: str, name: str = "script") -> Path:
    """Write a shell's script, and return its path."""
    if not shutil.which(shell):
        pytest.skip(f"{shell} isn't installed")
    status, out, err = cdi_hook("completion", shell)
    assert (status, err) == (0, "")
    path = cdi_hook.root / name
    path.write_text(out)
    return path


def output(*command: str | Path) -> str:
    """Run a shell, which must succeed without a message, and return its output."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_bash(cdi_hook: World) -> None:
    """bash completes commands and options; for an option's value it completes file names."""
    path = script(cdi_hook, "bash")
    for line, expected in CASES:
        found = set(output("bash", "-c", BASH, "bash", path, line).split())
        if line.endswith(" "):
            found = {word for word in found if word[0] != "-"}
        assert found == set(expected), line
    assert output("bash", "-c", BASH, "bash", path, "cdi-hook list --spec-dir ") == "\n"


def test_fish(cdi_hook: World) -> None:
    """fish completes commands and options, each with its description."""
    path = script(cdi_hook, "fish")
    for line, expected in CASES:
        found = dict(
            one.split("\t") for one in output("fish", "-N", "-c", FISH, path, line).splitlines() if one
        )
        assert set(found) == set(expected), line
        assert all(found.values())


def test_zsh(cdi_hook: World) -> None:
    """Zsh, with a terminal, lists commands and options."""
    path = script(cdi_hook, "zsh", "_cdi-hook")
    pid, terminal = pty.fork()
    if pid == 0:
        environ = {"PATH": os.environ["PATH"], "TERM": "dumb", "HOME": str(cdi_hook.root)}
        os.execvpe("zsh", ["zsh", "-f", "-i"], environ)
    try:
        os.write(terminal, ZSH.format(path.parent).encode())
        _read(terminal, "")
        for line, expected in CASES:
            os.write(terminal, line.encode() + b"\t\x15echo do''ne\n")
            shown = _read(terminal, "\ndone\n")
            found = {word for one in shown.splitlines() for word in one.split("  -- ")[0].split()}
            assert set(expected) <= found, (line, shown)
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(terminal)


def _read(terminal: int, last: str) -> str:
    """Read until a prompt follows last: before that the terminal, and not the shell, would get the keys."""
    text = ""
    deadline = time.monotonic() + 30
    while not text.endswith(f"{last}{PROMPT}"):
        assert time.monotonic() < deadline, text
        if select.select([terminal], [], [], 1)[0]:
            text += os.read(terminal, 1 << 16).decode().replace("\r", "")
    return text


def test_shells_are_named(cdi_hook: World) -> None:
    """Another shell is refused, and the message names the shells that have scripts."""
    status, out, err = cdi_hook("completion", "csh")
    assert (status, out) == (2, "")
    assert err.startswith("cdi-hook: argument shell: invalid choice: 'csh' (choose from ")
