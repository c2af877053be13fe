# SPDX-License-Identifier: Apache-2.0
"""Rules for every file and every test in the tree."""

from __future__ import annotations

import ast
import re
import subprocess
from pathlib import Path

import pytest

from cdi_hook.config import settings

from .tree import MADE, ROOT, files

TOP = {
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "cdi_hook",
    "packaging",
    "pyproject.toml",
    "tests",
}
SPDX = "SPDX-License-Identifier: Apache-2.0"
# Texts and data: prose, files that a program reads at each start, formats without comments.
WITHOUT_SPDX = {".conf", ".gz", ".json", ".md", ".txt", ".typed"}
DATA = Path("tests/cases/data")
# dpkg's formats, which allow no comment
DPKG = {Path("packaging/deb") / name for name in ("copyright", "source/format")}

SOURCES = [
    path
    for path in files()
    if path.suffix not in WITHOUT_SPDX
    and path.name[0] != "."
    and path.name != "LICENSE"
    and DATA not in path.parents
    and path not in DPKG
]
TESTS = [path for path in SOURCES if path.parts[0] == "tests" and path.name.startswith("test_")]


def test_top_level_is_a_map() -> None:
    """The top level has exactly the names in TOP, and dot-files."""
    found = {path.name for path in ROOT.iterdir() if path.name[0] != "." and path.name not in MADE}
    assert found == TOP


def test_sources_say_their_licence() -> None:
    """Every source file's first line, or the second one after a #! line, is the SPDX line."""
    without = []
    for path in SOURCES:
        lines = (ROOT / path).read_text("utf-8").splitlines()
        if not lines:
            continue
        first = lines[1] if lines[0].startswith("#!") else lines[0]
        if not re.fullmatch(rf'(#|//|/\*|<!--|\.\\") {SPDX}( \*/| -->)?', first):
            without.append(str(path))
    assert without == []


@pytest.mark.parametrize("path", TESTS, ids=str)
def test_tests_say_what_holds(path: Path) -> None:
    """Every test has a docstring, and its first paragraph is one sentence."""
    wrong = []
    for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            sentence = " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())
            if not sentence.endswith(".") or ". " in sentence:
                wrong.append(node.name)
    assert wrong == []


def sample() -> str:
    """Return the shipped configuration, with everything that is commented out in force."""
    return re.sub(
        r"^#(?=[A-Z_]+=)", "", (ROOT / "packaging/cdi-hook.conf").read_text("utf-8"), flags=re.MULTILINE
    )


def test_shipped_configuration_changes_nothing() -> None:
    """The shipped configuration has no line in force."""
    lines = (ROOT / "packaging/cdi-hook.conf").read_text("utf-8").splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []


def test_shipped_configuration_shows_every_default() -> None:
    """The configuration shows every key with its default, in config.KEYS' order."""
    config = settings.Config("cdi-hook.conf")
    settings.parse(sample(), config)
    assert config.problems == []
    assert config.values == {key: default for key, default, _ in settings.KEYS}
    shown = [line.partition("=")[0] for line in sample().splitlines() if line[:1].isupper()]
    assert shown == [key for key, _, _ in settings.KEYS]


def test_shipped_configuration_says_the_same_to_a_shell() -> None:
    """A shell that sources the configuration gets the same values."""
    keys = [key for key, _, _ in settings.KEYS]
    script = sample() + "".join(f'\nprintf "%s\\n" "${key}"' for key in keys)
    done = subprocess.run(["sh", "-euc", script], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [default for _, default, _ in settings.KEYS]


def test_shipped_configuration_is_short() -> None:
    """The configuration, read when a container starts, is under 3 KB."""
    assert (ROOT / "packaging/cdi-hook.conf").stat().st_size < 3000


def test_help_lists_every_target() -> None:
    """`make` alone prints help, with every phony target and its purpose."""
    done = subprocess.run(["make", "-s", "-C", ROOT], capture_output=True, text=True, check=True)
    listed = re.findall(r"^  make ([a-z]+) +\S", done.stdout, re.MULTILINE)
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert phony is not None
    assert listed == phony[1].split()


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "tests/README.md"])
def test_a_page_names_what_there_is(page: str) -> None:
    """Each path and each test that a page for developers names is there."""
    text = (ROOT / page).read_text("utf-8")
    places = [word.rstrip(".") for word in re.findall(r"\b(?:cdi_hook|packaging|tests)/[\w./*-]*", text)]
    assert [word for word in places if "NAME" not in word and not [*ROOT.glob(word)]] == []
    functions = "".join((ROOT / path).read_text("utf-8") for path in TESTS)
    tests = re.findall(r"`(test_\w+)`", text)
    assert [word for word in tests if f"def {word}(" not in functions] == []
    assert places
    assert tests


@pytest.mark.xdist_group("a group")
def test_a_group_has_one_worker(request: pytest.FixtureRequest) -> None:
    """Where tests run in several processes, the name of a test's group is known to what shares them out."""
    if hasattr(request.config, "workerinput"):
        assert request.node.nodeid.endswith("@a group")
