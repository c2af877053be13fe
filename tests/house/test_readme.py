# SPDX-License-Identifier: Apache-2.0
"""README.md: its commands, specs, keys and links are right, and it says nothing twice."""

from __future__ import annotations

import re
import shlex
from collections import Counter

import pytest
import yaml

from cdi_hook.cli import commands
from cdi_hook.config import settings
from cdi_hook.specs.model import Spec

from .tree import ROOT

TEXT = (ROOT / "README.md").read_text("utf-8")
COMMANDS = sorted({
    line.strip().removeprefix("$ ").removeprefix("sudo ")
    for line in re.findall(r"^    .*$|`[^`\n]+`", TEXT, re.MULTILINE)
    for line in [line.strip("`")]
    if re.match(r"(\$ |sudo )?cdi-hook [a-z]", line.strip())
})  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS)
def test_commands(command: str) -> None:
    """cdi-hook takes each command that the README shows."""
    command = re.sub(r"\s+#.*$", "", re.sub(r"\[[^\]]*\]|…", "", command))
    words = shlex.split(
        command.replace("ENGINE", "docker").replace("SHELL", "bash").replace("COMMAND", "list")
    )[1:]
    assert words[0] in commands.COMMANDS
    if words[1:] and "--help" not in words:
        commands.parser(commands.COMMANDS).parse_args(words)


def test_specs() -> None:
    """A CDI spec in the README is one."""
    blocks = [
        yaml.safe_load(block) for block in re.findall(r"^```yaml\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    ]
    specs = [Spec(block) for block in blocks if "cdiVersion" in block]
    assert [spec.kind for spec in specs] == ["example.com/camera"]


def test_keys() -> None:
    """The table of the configuration has each key, and no others."""
    section = TEXT.partition("\n## Configure cdi-runtime\n")[2].partition("\n### ")[0]
    rows = re.findall(r"^\| (`.*?`) \|", section, re.MULTILINE)
    assert re.findall(r"[A-Z_]+", " ".join(rows)) == [key for key, _, _ in settings.KEYS]


def test_links_within_the_readme() -> None:
    """A link to a heading leads to one."""
    headings = re.findall(r"^#+ (.*)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", TEXT)) <= anchors


def test_nothing_is_said_twice() -> None:
    """No sentence of prose stands in the README twice."""
    prose = re.sub(r"^```.*?^```|^    .*$|^\|.*$", "", TEXT, flags=re.MULTILINE | re.DOTALL)
    sentences = Counter(" ".join(one.split()) for one in re.split(r"(?<=[.:])\s", prose))
    assert [one for one, count in sentences.items() if count > 1 and len(one) > 20] == []


def test_it_says_where_releases_are() -> None:
    """The lines to install name one place, and as long as that isn't known, the README says that nothing is published."""
    section = TEXT.partition("\n## Install\n")[2]
    places = re.findall(r"^    sudo curl .* (https://\S*)/cdi-hook\.(?:sources|repo)$", section, re.MULTILINE)
    assert len(places) == 2
    assert len(set(places)) == 1
    assert ("OWNER" in places[0]) == section.startswith("\n**Nothing is published yet")


def test_security_names_tests_that_exist() -> None:
    """Each test that SECURITY.md shows is there."""
    text = (ROOT / "SECURITY.md").read_text("utf-8")
    found = re.findall(r"`(?:tests/)?([\w/]+/test_\w+\.py)((?:::\w+)?)`((?:, `::\w+`)*)", text)
    assert len(found) > 20
    for path, name, more in found:
        source = (ROOT / "tests" / path).read_text("utf-8")
        for one in [name, *re.findall(r"::\w+", more)]:
            assert not one or f"def {one[2:]}(" in source, f"{path}{one}"
