# SPDX-License-Identifier: Apache-2.0
"""What is written from the code, and can be read without it: parts of cdi-hook(8), udev's rules, the manual in Markdown.

``python -m tests.house.generated`` writes all of it. test_man.py and test_classes.py hold the files to it.
"""

from __future__ import annotations

import importlib
import re
import textwrap
from typing import TYPE_CHECKING

from cdi_hook.cli import commands
from cdi_hook.cli.command import completion
from cdi_hook.engines import ENGINES
from cdi_hook.generate import classes

from . import markdown
from .tree import ROOT

if TYPE_CHECKING:
    from pathlib import Path

RULES = ROOT / "packaging/udev/90-cdi-hook.rules"
MAN = ROOT / "packaging/man"
MANUAL = MAN / "cdi-hook.8"
WIDTH = 88
AGAIN = "write it again: python -m tests.house.generated"


def between(text: str, first: str, last: str, new: str) -> str:
    """Return a text with other lines between the one that begins so and the next one that does so."""
    before, start, rest = re.split(rf"(^{re.escape(first)}.*\n)", text, maxsplit=1, flags=re.MULTILINE)
    _, end, after = re.split(rf"(^{re.escape(last)}.*\n)", rest, maxsplit=1, flags=re.MULTILINE)
    return f"{before}{start}{new}{end}{after}"


def rules() -> str:
    """Return udev's rules: a line for each event at which a class's specs are made again."""
    events = {event for name in classes.CLASSES for event in classes.get(name).events}
    lines = "".join(f'{event}, GOTO="cdi_hook_generate"\n' for event in sorted(events))
    return between(RULES.read_text("utf-8"), 'ACTION!="', 'GOTO="cdi_hook_end"', lines)


def manual() -> str:
    """Return cdi-hook(8) with an entry for each class and each engine, and sections of the commands that it has none of."""
    text = MANUAL.read_text("utf-8")
    text = between(text, '.\\" The classes', '.\\" Here they end', "".join(map(class_entry, classes.CLASSES)))
    text = between(text, '.\\" The engines', '.\\" Here they end', engine_entries())
    by_hand = between(text, '.\\" The sections', '.\\" Here they end', "")
    there = re.findall(r"^\.SS (\w+)", by_hand, re.MULTILINE)
    own = "".join(section(name) for name in commands.COMMANDS if name not in there)
    return between(text, '.\\" The sections', '.\\" Here they end', own)


def class_entry(name: str) -> str:
    """Return a class's entry, with its kinds, what it is and what its devices are called: a sentence on each line."""
    one = classes.get(name)
    text = f"{one.about[0].upper()}{one.about[1:]}: {one.called}"
    sentences = [f"{', '.join(one.kinds)}.", *re.split(r"(?<=\.) (?=[A-Z/])", text)]
    lines = [
        line for sentence in sentences for line in textwrap.wrap(sentence, WIDTH, break_on_hyphens=False)
    ]
    return "".join(f"{line}\n" for line in (".TP", f".B {name}", *lines)).replace("-", "\\-")


def engine_entries() -> str:
    """Return an entry for each engine, with its files."""
    text = ""
    for engine in ENGINES.values():
        own = f" ,\nfor a user\n.IR ~/.config/{engine.user_file}" if engine.user_file else ""
        more = engine.help.about.removeprefix(", ")
        end = f" ,\n{more}." if more else " ."
        text += f".TP\n.B {engine.name}\n.I FILE\nis\n.IR {engine.file}{own}{end}\n".replace("-", "\\-")
    return text


def section(name: str) -> str:
    """Return the manual's section of a command."""
    top, *several = completion.commands(commands.parser([name]))
    everywhere = {flag for option in top.options for flag in option.flags}
    (own,) = [one for one in several if one.words == (name,)]
    paragraphs = []
    for paragraph in importlib.import_module(commands.COMMANDS[name][0]).HELP.split("\n\n"):
        text = roff(paragraph[0].upper() + paragraph[1:])
        paragraphs.append(f".in +4n\n.EX\n{text}\n.EE\n.in" if paragraph.startswith(" ") else text)
    options = [
        f"\n.TP\n.B {roff(', '.join(option.flags))}\n{roff(option.help)}"
        for option in own.options
        if not everywhere.issuperset(option.flags)
    ]
    return f".SS {name}\n" + "\n.PP\n".join(paragraphs) + "".join(options) + "\n"


def roff(text: str) -> str:
    """Return a text as groff takes it, without the spaces before lines."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti")
    text = re.sub("^ +", "", text, flags=re.MULTILINE)
    return re.sub("^(?=[.'])", r"\\&", text, flags=re.MULTILINE)


def pages() -> dict[Path, str]:
    """Return the manual in Markdown: what each file has."""
    found = {path.name: path.read_text("utf-8") for path in sorted(MAN.iterdir())}
    return {
        ROOT / f"packaging/manual/{name}.md": markdown.render(name, text, found)
        for name, text in found.items()
    }


if __name__ == "__main__":
    RULES.write_text(rules(), "utf-8")
    MANUAL.write_text(manual(), "utf-8")
    for place, text in pages().items():
        place.write_text(text, "utf-8")
