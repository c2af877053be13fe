# SPDX-License-Identifier: Apache-2.0
"""The pages: README.md is short, their commands, links and names are right, and they say nothing twice."""

from __future__ import annotations

import re
import shlex
from collections import Counter
from pathlib import Path

import pytest
import yaml

import cdi_hook
from cdi_hook.cli import commands
from cdi_hook.config import settings
from cdi_hook.generate import classes
from cdi_hook.specs.model import Spec

from .tree import PACKAGE, ROOT, files

RENDERED = Path("packaging/manual")
README = (ROOT / "README.md").read_text("utf-8")
MARKDOWN = {
    str(path): (ROOT / path).read_text("utf-8")
    for path in files()
    if path.suffix == ".md"
    and path.parent != RENDERED  # which are MANUALS a second time
    and path.name not in ("bench.md", "notes.md")  # which are no pages, but results and notes
}
MANUALS = {
    path.name: re.sub(r"\\f[A-Z]|\\&", "", path.read_text("utf-8").replace("\\-", "-"))
    for path in sorted((ROOT / "packaging/man").iterdir())
}
PICTURES = [ROOT / path for path in files() if path.suffix == ".svg"]
PAGES = {**MARKDOWN, **MANUALS}
# Where the account that publishes is named, until there is one.
PLACES = ("CONTRIBUTING.md", "pyproject.toml", "packaging/deb/control", "packaging/rpm/cdi-hook.spec")


def shown() -> set[str]:
    """Return the commands of cdi-hook that the pages show."""
    found = set()
    for page, text in PAGES.items():
        inline = "|`[^`\n]+`" if page == "README.md" else ""  # prose may name a part of a command
        for line in re.findall(rf"^    .*$|^\$ .*$|^> .*${inline}", text, re.MULTILINE):
            command = line.strip("` ").removeprefix("$ ").removeprefix("sudo ")
            if re.match(r"cdi-hook [a-z]", command):
                found.add(re.split(r" [|>&]", re.sub(r"\s+#.*$", "", command))[0])
    return found


@pytest.mark.parametrize("command", sorted(shown()))
def test_commands(command: str) -> None:
    """cdi-hook takes each command that a page shows."""
    words = shlex.split(
        command.replace("ENGINE", "docker").replace("SHELL", "bash").replace("COMMAND", "list")
    )[1:]
    assert words[0] in commands.COMMANDS
    if words[1:] and "--help" not in words:
        commands.parser(commands.COMMANDS).parse_args(words)


def test_configurations() -> None:
    """What the pages show of cdi-hook.conf can be used."""
    blocks = re.findall(r"(?:^    [A-Z_a-z]+=.*\n)+", README, re.MULTILINE)
    blocks += re.findall(r"^\.EX\n([A-Z].*?)^\.EE$", MANUALS["cdi-hook.conf.5"], re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        config = settings.Config("cdi-hook.conf")
        settings.parse(re.sub("^ +", "", block, flags=re.MULTILINE), config)
        assert config.problems == []


def test_messages() -> None:
    """The messages that the pages explain are ours, word for word, or engines'."""
    table = README.partition("\n## When a device isn't there\n")[2].partition("\n## ")[0]
    shown = [
        words
        for cell in re.findall(r"^\| (.*?) \|", table, re.MULTILINE)
        for words in re.findall(r"`(.*?)`", cell)
    ]
    section = MANUALS["cdi-hook.8"].partition("\n.SH DIAGNOSTICS\n")[2].partition("\n.SH ")[0]
    shown += [tag for tag in re.findall(r"^\.TP\n(.*)$", section, re.MULTILINE) if "..." in tag]
    parts = {part.strip(" ,:") for message in shown for part in re.split(r"\.\.\.|…", message)} - {""}
    assert len(parts) > 10
    code = "".join(path.read_text("utf-8") for path in PACKAGE.rglob("*.py"))
    theirs = "unknown or invalid runtime name: cdi"
    assert [part for part in parts if part not in code and part != theirs] == []


def test_the_readme_is_short() -> None:
    """The README has at most 200 lines and 1,700 words, and the two commands in its first 40 lines."""
    assert len(README.splitlines()) <= 200
    assert len(README.split()) <= 1700
    assert {"demo", "test"} <= {
        *re.findall(r"^    make (\w+)", "\n".join(README.splitlines()[:40]), re.MULTILINE)
    }


def test_the_readme_says_which_version() -> None:
    """The README's status is about this version."""
    assert f"\nThis is version {cdi_hook.__version__}" in README


def test_the_readme_counts_the_classes() -> None:
    """The README says how many classes of devices there are."""
    assert f"[{len(classes.CLASSES)} classes](" in README


def brightness(colour: str) -> float:
    """Return a colour's relative luminance, as WCAG defines it."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: str(path.name))
def test_pictures_can_be_read(picture: Path) -> None:
    """A picture has a white ground of its own, and its words a contrast of 4.5 with that or with a box."""
    text = re.sub(r"<defs>.*?</defs>", "", picture.read_text("utf-8"), flags=re.DOTALL)
    grounds = re.findall(r"<(?:rect|path) [^>]*?(?:fill=\"|fill: )(#[0-9a-f]{6})", text)
    words = re.findall(r"<g fill=\"(#[0-9a-f]{6})\"|<text [^>]*?fill: (#[0-9a-f]{6})", text)
    colours = {one or other for one, other in words}
    assert grounds[0] == "#ffffff"
    assert colours
    for colour in colours:
        for ground in grounds[1:] if colour == "#ffffff" else grounds[:1]:
            darker, lighter = sorted((brightness(colour), brightness(ground)))
            assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (colour, ground)


def test_the_example_is_a_spec() -> None:
    """The CDI spec that the README names as an example is valid."""
    path = "packaging/demo/example.yaml"
    assert f"]({path})" in README
    assert Spec(yaml.safe_load((ROOT / path).read_text("utf-8"))).devices


@pytest.mark.parametrize("page", MANUALS)
def test_a_manual_has_examples_and_bugs(page: str) -> None:
    """Every manual page has examples, and says what doesn't work."""
    headings = re.findall(r"^\.SH (.*)$", MANUALS[page], re.MULTILINE)
    assert headings[-3:] == ["EXAMPLES", "BUGS", "SEE ALSO"]


def test_manuals_name_each_other() -> None:
    """Every manual page has all others under SEE ALSO."""
    names = {f"{page.rpartition('.')[0]}({page[-1]})" for page in MANUALS}
    for page, text in MANUALS.items():
        also = re.sub(r" \((\d)\)", r"(\1)", text.rpartition("\n.SH SEE ALSO\n")[2])
        own = f"{page.rpartition('.')[0]}({page[-1]})"
        assert {name for name in names if name in also} == names - {own}


def anchors(path: Path) -> set[str]:
    """Return what links within a page can name."""
    headings = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*MARKDOWN, *(str(path) for path in files() if path.parent == RENDERED)])
def test_links(page: str) -> None:
    """A link of a page leads to a file of the tree, and to a heading if it names one."""
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", (ROOT / page).read_text("utf-8")):
        name, _, anchor = link.partition("#")
        path = (ROOT / page).parent / name if name else ROOT / page
        assert path.exists(), link
        assert not anchor or anchor in anchors(path), link


def sentences(text: str) -> list[str]:
    """Return the sentences of a page's prose."""
    text = re.sub(r"^\.EX\n.*?^\.EE$|^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(
        r"^    .*$|^\|.*$|^(\.(SH|SS|TP|TQ|PP|IP|TH|in|RS|RE)\b|#).*$", "\n\n", text, flags=re.MULTILINE
    )
    text = re.sub(r"^\.[A-Z]+ ", "", text, flags=re.MULTILINE)
    return [" ".join(one.split()) for one in re.split(r"(?<=[.:])\s|\n\n", text)]


def test_nothing_is_said_twice() -> None:
    """No sentence of prose is in the pages twice."""
    counted = Counter(one for text in PAGES.values() for one in sentences(text))
    assert [one for one, count in counted.items() if count > 1 and len(one.split()) > 6] == []


@pytest.mark.parametrize("page", sorted(MARKDOWN.keys() - {"CONTRIBUTING.md", "tests/README.md"}))
def test_cells_are_short(page: str) -> None:
    """On a page for users, a cell of a table has at most 40 words; what has more to say is a list."""
    rows = re.findall(r"^\|(.*)\|$", MARKDOWN[page], re.MULTILINE)
    cells = [cell.strip() for row in rows for cell in re.split(r"(?<!\\)\|", row)]
    assert [cell for cell in cells if len(cell.split()) > 40] == []


def test_the_first_session_stands_once() -> None:
    """The session that gives a container /dev/fuse with docker is in the README alone."""
    command = "docker run --rm --runtime cdi --annotation cdi.k8s.io/device=host.local/fuse=fuse"
    assert [page for page, text in PAGES.items() if command in text] == ["README.md"]


def test_one_key() -> None:
    """All examples have the annotation key that `cdi-hook show` writes, but for Python's own."""
    keys = {key for text in PAGES.values() for key in re.findall(r"cdi\.k8s\.io/([\w.-]+)", text)}
    assert keys == {"device", "my-plugin_cam0"}


@pytest.mark.parametrize(
    "word", ["mend", "mends", "mended", "the door", "known are", "held against", "handed on"]
)
def test_plain_words(word: str) -> None:
    """The pages have none of the words that readers stumbled over."""
    found = [page for page, text in PAGES.items() if re.search(rf"\b{word}\b", " ".join(text.split()))]
    assert found == []


def test_it_says_where_releases_are() -> None:
    """The lines to install name one place, and as long as that isn't known, the README says that nothing is published."""
    section = MARKDOWN["CONTRIBUTING.md"].partition("\n## A release\n")[2]
    places = re.findall(r"^    sudo curl .* (https://\S*)/cdi-hook\.(?:sources|repo)$", section, re.MULTILINE)
    assert len(places) == 2
    assert len(set(places)) == 1
    assert ("OWNER" in places[0]) == ("\n## Install\n\n**Nothing is published yet" in README)


def test_one_homepage() -> None:
    """pyproject.toml and the packages name the same homepage, of the account that publishes."""
    found = [
        re.search(r"https://github\.com/(\w+)/cdi-hook\b", (ROOT / place).read_text("utf-8"))
        for place in PLACES[1:]
    ]
    accounts = [one and one[1] for one in found]
    assert accounts == [accounts[0]] * 3
    assert f"https://{accounts[0]}.github.io/cdi-hook/" in MARKDOWN["CONTRIBUTING.md"]


def test_security_names_tests_that_exist() -> None:
    """Each test that SECURITY.md shows is there."""
    found = re.findall(
        r"`(?:tests/)?([\w/]+/test_\w+\.py)((?:::\w+)?)`((?:, `::\w+`)*)", PAGES["SECURITY.md"]
    )
    assert len(found) > 20
    for path, name, more in found:
        source = (ROOT / "tests" / path).read_text("utf-8")
        for one in [name, *re.findall(r"::\w+", more)]:
            assert not one or f"def {one[2:]}(" in source, f"{path}{one}"
