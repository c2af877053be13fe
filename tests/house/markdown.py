# SPDX-License-Identifier: Apache-2.0
"""A manual page as Markdown, for whoever reads it where it isn't installed: what our pages use of man(7), and no more."""

from __future__ import annotations

import re
import textwrap
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

# What roff's escapes stand for; a space that is none of words' stays one until the end.
_ESCAPES = {"-": "-", "e": "\\", "&": "", "|": "", "(ti": "~", "(rs": "\\", "(aq": "'", "(bu": "*"}
_ESCAPE = re.compile(r"\\(\([a-z]{2}|[-e&|])")
_WORD = re.compile(r'"((?:[^"]|"")*)"?|([^ ]+)')
_CODE = {"EX": "EE", "nf": "fi"}  # what begins and what ends lines that stay as they are


def render(name: str, text: str, pages: Collection[str]) -> str:
    """Return the page with this file name; what it says of another of the pages is a link to it."""
    page = _Page(name, pages)
    for line in text.splitlines():
        page.line(line.replace("\\ ", "\N{NO-BREAK SPACE}"))
    page.flush()
    body = "\n".join(page.lines).replace("\N{NO-BREAK SPACE}", " ")
    return re.sub(r"[ \t]+$", "", re.sub(r"\n{3,}", "\n\n", body), flags=re.MULTILINE) + "\n"


def _plain(text: str) -> str:
    return _ESCAPE.sub(lambda found: _ESCAPES[found[1]], text)


def _marked(font: str, text: str) -> str:
    """Return text in a font: what is typed as it stands is code, what stands for something else is emphasized."""
    core = text.strip(" \N{NO-BREAK SPACE}")
    if not core:
        return text
    if font == "B":
        return text.replace(core, f"`{core}`")
    escaped = re.sub(r"([\\`*_<>\[\]|~])", r"\\\1", core)
    return text.replace(core, f"*{escaped}*" if font == "I" else escaped)


def _text(runs: list[tuple[str, str]]) -> str:
    """Return texts in their fonts, which an escape can change within one."""
    found: list[tuple[str, str]] = []
    for font, text in runs:
        own, *rest = re.split(r"\\f([BIR])", text)
        for now, part in [(font, own), *zip(rest[::2], rest[1::2], strict=True)]:
            if found and found[-1][0] == now:
                found[-1] = (now, found[-1][1] + _plain(part))
            elif part:
                found.append((now, _plain(part)))
    return "".join(_marked(font, text) for font, text in found)


class _Page:
    def __init__(self, name: str, pages: Collection[str]) -> None:
        self.name = name
        self.pages = pages
        self.lines: list[str] = []
        self.paragraph: list[str] = []
        self.bullet = ""  # what the next paragraph begins with
        self.depth = 0  # of lists
        self.in_item = False
        self.wants_tag = False
        self.end_of_code = ""

    def line(self, line: str) -> None:
        """Take a line of the page."""
        macro = re.match(r"\.([A-Za-z]+) ?(.*)", line)
        if self.end_of_code:
            if macro and macro[1] == self.end_of_code:
                self.end_of_code = ""
                self.lines += [f"{self.indent}```", ""]
            else:
                self.lines.append(self.indent + _plain(line))
        elif line.startswith('.\\"'):
            pass
        elif not macro:
            self.prose(_text([("R", line)]))
        elif re.fullmatch("[BI][BIR]?|R[BI]", macro[1]):
            self.prose(self.fonts(macro[1], macro[2]))
        else:
            self.structure(*macro.groups())

    @property
    def indent(self) -> str:
        return "  " * (self.depth + self.in_item)

    def structure(self, macro: str, rest: str) -> None:
        """Take a macro that begins something."""
        self.flush()
        if macro in {"TH", "SH", "SS"}:
            self.depth, self.in_item = 0, False
            title = re.sub(r"\\f[BIR]", "", _plain(rest))
            if macro == "TH":
                where = f"packaging/man/{self.name} by `python -m tests.house.generated`"
                title = "{}({})".format(*self.name.rsplit(".", 1))
                self.lines += [f"<!-- This is made of {where}. -->"]
            escaped = re.sub(r"([*_<>\[\]|])", r"\\\1", title)
            self.lines += ["", f"{'#' * (1 + (macro != 'TH') + (macro == 'SS'))} {escaped}", ""]
        elif macro in {"TP", "TQ"}:
            self.bullet = "- " if macro == "TP" else ""
            self.lines += [""] * (not self.in_item)
            self.in_item = self.wants_tag = True
        elif macro == "IP" and rest:
            self.lines += [""] * (not self.in_item)
            self.bullet, self.in_item = "- ", True
        elif macro in {"PP", "IP"}:
            self.in_item = self.in_item and macro == "IP"
            self.lines.append("")
        elif macro in {"RS", "RE"}:
            self.depth += 1 if macro == "RS" else -1
            self.lines.append("")
        elif macro in _CODE:
            self.end_of_code = _CODE[macro]
            self.lines += ["", f"{self.indent}```"]
        elif macro != "in":
            raise ValueError(f"{self.name}: .{macro} isn't known here")

    def fonts(self, macro: str, rest: str) -> str:
        """Return the words of a macro, alternately in its fonts."""
        words = [found[2] or found[1].replace('""', '"') for found in _WORD.finditer(rest)]
        page = _plain(f"{words[0]}.{words[1][1:2]}") if len(words) > 1 else ""
        if page in self.pages and page != self.name:
            end = _plain("".join(words[1:]))
            return f"[{_plain(words[0])}{end[:3]}]({page}.md){end[3:]}"
        if len(macro) == 1:
            words = [" ".join(words)]
        return _text([(macro[number % len(macro)], word) for number, word in enumerate(words)])

    def prose(self, text: str) -> None:
        """Take a line of prose, or the tag of an item, which has a line of its own."""
        self.paragraph.append(text)
        if self.wants_tag:
            self.wants_tag = False
            self.flush("\\")

    def flush(self, end: str = "") -> None:
        """Write the paragraph."""
        if self.paragraph:
            text = self.bullet + re.sub(r"^([-+#]|\d+(?=[.)]))", r"\\\1", " ".join(self.paragraph))
            first = "  " * self.depth if self.bullet else self.indent
            self.lines += textwrap.wrap(
                text + end, 120, initial_indent=first, subsequent_indent=self.indent,
                break_long_words=False, break_on_hyphens=False,
            )  # fmt: skip
        self.paragraph, self.bullet = [], self.bullet if not self.paragraph else ""
