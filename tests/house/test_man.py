# SPDX-License-Identifier: Apache-2.0
"""The manual pages: they have the commands of the table and the keys of the configuration, and are well formed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import defaultdict

import pytest

from cdi_hook.cli import commands
from cdi_hook.cli.command import completion, stages
from cdi_hook.config import settings

from . import generated
from .tree import ROOT

PAGES = sorted((ROOT / "packaging/man").iterdir())
EVERYWHERE = {"-h", "--help", "--config", "--debug"}


def page(name: str) -> str:
    """Return a page's text, its hyphens plain."""
    return (ROOT / "packaging/man" / name).read_text("utf-8").replace("\\-", "-")


def flags(section: str) -> set[str]:
    """Return the options that a section explains: tags that begin with a hyphen."""
    tags = re.findall(r"^\.TP\n\.B[IR]? (-.*)$", section, re.MULTILINE)
    return {flag for tag in tags for flag in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", tag)}


def test_what_is_made_of_the_code() -> None:
    """cdi-hook(8) has what generated.py makes of the classes of devices, the engines and the commands' help."""
    assert generated.MANUAL.read_text("utf-8") == generated.manual(), generated.AGAIN


def test_the_manual_in_markdown() -> None:
    """packaging/manual has every page as Markdown, and nothing else."""
    found = {path: path.read_text("utf-8") for path in (ROOT / "packaging/manual").iterdir()}
    assert found == generated.pages(), generated.AGAIN


def test_commands_and_their_options() -> None:
    """cdi-hook(8) has exactly the commands of the table, in its order, each with exactly its options."""
    text = page("cdi-hook.8").partition("\n.SH COMMANDS\n")[2].partition("\n.SH ")[0]
    sections = dict(re.findall(r"^\.SS (\w+)(.*(?:\n(?!\.SS ).*)*)", text, re.MULTILINE))
    assert list(sections) == list(commands.COMMANDS)
    known: dict[str, set[str]] = defaultdict(set)
    for command in completion.commands(commands.parser(commands.COMMANDS)):
        if command.words:
            known[command.words[0]] |= {
                flag for option in command.options for flag in option.flags
            } - EVERYWHERE
    assert {name: flags(section) for name, section in sections.items()} == known


def test_options_of_all_commands() -> None:
    """cdi-hook(8) has the options that stand before every command."""
    text = page("cdi-hook.8").partition("\n.SH OPTIONS\n")[2].partition("\n.SH ")[0]
    first = next(iter(completion.commands(commands.parser(()))))
    assert flags(text) == {flag for option in first.options for flag in option.flags}


def test_exit_statuses_of_hooks() -> None:
    """cdi-hook(8) has every exit status of a hook."""
    text = page("cdi-hook.8").partition("\n.SH EXIT STATUS\n")[2].partition("\n.SH ")[0]
    statuses = re.findall(r"^\.TP\n\.B (\d+)$", text, re.MULTILINE)
    assert statuses == re.findall(r"^  (\d+) ", stages.HELP, re.MULTILINE)


def test_keys_and_their_defaults() -> None:
    """cdi-hook.conf(5) has every key with its default, in config.KEYS' order."""
    shown = re.findall(r"^\.(?:TP|TQ)\n\.B ([A-Z_]+)\\fR=(.*)$", page("cdi-hook.conf.5"), re.MULTILINE)
    assert [(key, settings.unquote(value)) for key, value in shown] == [
        (key, default) for key, default, _ in settings.KEYS
    ]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.name))
def test_pages_are_well_formed(path: object) -> None:
    """groff, with all warnings on, has none for a page."""
    if not shutil.which("groff"):
        pytest.skip("groff (groff-base) isn't installed")
    command = ["groff", "-man", "-Tutf8", "-ww", "-z", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
