# SPDX-License-Identifier: Apache-2.0
"""What the classes of devices are listed in, made from the classes: the manual's list, and udev's rules.

``python -m tests.house.class_lists`` writes both. test_classes.py holds them to it.
"""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

from cdi_hook.generate import classes

from .tree import ROOT

if TYPE_CHECKING:
    from pathlib import Path

RULES = ROOT / "packaging/udev/90-cdi-hook.rules"
MANUAL = ROOT / "packaging/man/cdi-hook.8"
WIDTH = 88


def between(path: Path, first: str, last: str, text: str) -> str:
    """Return a file's text with other lines between the one that begins so and the one that does so."""
    before, found, rest = re.split(
        rf"(^{re.escape(first)}.*\n)", path.read_text("utf-8"), maxsplit=1, flags=re.MULTILINE
    )
    _, end, after = re.split(rf"(^{re.escape(last)}.*\n)", rest, maxsplit=1, flags=re.MULTILINE)
    return f"{before}{found}{text}{end}{after}"


def rules() -> str:
    """Return udev's rules: a line for each event at which a class's specs are made again."""
    events = {event for name in classes.CLASSES for event in classes.get(name).events}
    lines = "".join(f'{event}, GOTO="cdi_hook_generate"\n' for event in sorted(events))
    return between(RULES, 'ACTION!="', 'GOTO="cdi_hook_end"', lines)


def manual() -> str:
    """Return the manual: an entry for each class, with its kinds, what it is and what its devices are called."""
    return between(MANUAL, '.\\" The classes', '.\\" Here they end', "".join(map(entry, classes.CLASSES)))


def entry(name: str) -> str:
    """Return a class's entry in the manual, each sentence on a line of its own."""
    one = classes.get(name)
    text = f"{one.about[0].upper()}{one.about[1:]}: {one.called}"
    sentences = [f"{', '.join(one.kinds)}.", *re.split(r"(?<=\.) (?=[A-Z/])", text)]
    lines = [
        line for sentence in sentences for line in textwrap.wrap(sentence, WIDTH, break_on_hyphens=False)
    ]
    return "".join(f"{line}\n" for line in (".TP", f".B {name}", *lines)).replace("-", "\\-")


if __name__ == "__main__":
    RULES.write_text(rules(), "utf-8")
    MANUAL.write_text(manual(), "utf-8")
