# SPDX-License-Identifier: Apache-2.0
"""fill.py FILE: FILE with what we have of engines and commands in the places of @MARKS@, on stdout."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cdi_hook.cli import commands
from cdi_hook.cli.command import completion
from cdi_hook.engines import ENGINES

ALL = list(ENGINES.values())


def entries() -> str:
    """Return the entries of the manual: each engine with its files."""
    text = ""
    for engine in ALL:
        own = f" ,\nfor a user\n.IR ~/.config/{engine.user_file}" if engine.user_file else ""
        more = engine.help.about.removeprefix(", ")
        end = f" ,\n{more}." if more else " ."
        text += f".TP\n.B {engine.name}\n.I FILE\nis\n.IR {engine.file}{own}{end}\n".replace("-", "\\-")
    return text.rstrip()


def dirs() -> list[str]:
    """Return the dirs of engines' files: those of /etc whole, and others of hooks."""
    files = [engine.file.split("/") for engine in ALL]
    own = ["/".join(one[:3] if one[1] == "etc" else one[:-1]) for one in files]
    hooks = [one for engine in ALL for one in engine.hooks_dirs if not one.startswith("/etc/")]
    return [*own, *hooks]


def sections(page: str) -> str:
    """Return the manual's sections of the commands that the page has none of, from their help."""
    there = re.findall(r"^\.SS (\w+)", page, re.MULTILINE)
    return "\n".join(section(name) for name in commands.COMMANDS if name not in there)


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
    return f".SS {name}\n" + "\n.PP\n".join(paragraphs) + "".join(options)


def roff(text: str) -> str:
    """Return a text as groff takes it, without the spaces before lines."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("~", "\\(ti")
    text = re.sub("^ +", "", text, flags=re.MULTILINE)
    return re.sub("^(?=[.'])", r"\\&", text, flags=re.MULTILINE)


STATES = (state for engine in ALL for state in engine.prober.states)
MARKS = {
    "@CONFIGURE@": f'"cdi-hook configure {ALL[0].name}" (or {", ".join(one.name for one in ALL[1:])})',
    "@UNITS@": " ".join(f"{unit}.service" for engine in ALL for unit in engine.units),
    "@DAEMONS@": "|".join(dict.fromkeys(engine.daemon for engine in ALL if engine.daemon)),
    "@DIRS@": " ".join(dict.fromkeys(dirs())),
    "@OPTIONS@": " ".join(
        f"{one}/io.containerd.runtime.v2.task/*/*/options.json" for one in dict.fromkeys(STATES)
    ),
    "@ENTRIES@": entries(),
}

text = Path(sys.argv[1]).read_text("utf-8")
if "@SECTIONS@" in text:
    MARKS["@SECTIONS@"] = sections(text)
for mark, filling in MARKS.items():
    text = text.replace(mark, filling)
sys.stdout.write(text)
