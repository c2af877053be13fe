# SPDX-License-Identifier: Apache-2.0
"""changelog.py deb|rpm: CHANGELOG.md as a package has it, on stdout.

What is unreleased has the date of $SOURCE_DATE_EPOCH.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]


def sections() -> Iterator[tuple[str, time.struct_time, list[str]]]:
    """Yield each version, newest first, with its day and its entries."""
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        heading, _, body = section.partition("\n")
        found = re.fullmatch(r"\[(\S+)\] - (\S+)", heading)
        if found is None:
            raise SystemExit(f'CHANGELOG.md: "## {heading}" is not of the form "## [VERSION] - DATE"')
        version, day = found.groups()
        if day == "unreleased":
            when = time.gmtime(int(os.environ["SOURCE_DATE_EPOCH"]))
        else:
            when = time.strptime(day, "%Y-%m-%d")
        entries = re.findall(r"^- (.*(?:\n  .*)*)", body, re.MULTILINE)
        yield version, when, [" ".join(entry.split()) for entry in entries]


def main(kind: str) -> None:
    """Print all of it."""
    control = (ROOT / "packaging/deb/control").read_text("utf-8")
    maintainer = control.partition("\nMaintainer: ")[2].partition("\n")[0]
    for version, when, entries in sections():
        if kind == "deb":
            print(f"cdi-hook ({version}) unstable; urgency=medium\n")
            for entry in entries:
                print(textwrap.fill(entry, 76, initial_indent="  * ", subsequent_indent="    "))
            print(f"\n -- {maintainer}  {time.strftime('%a, %d %b %Y %H:%M:%S +0000', when)}\n")
        else:
            print(f"* {time.strftime('%a %b %d %Y', when)} {maintainer} - {version}-1")
            for entry in entries:
                print(
                    textwrap.fill(entry.replace("%", "%%"), 76, initial_indent="- ", subsequent_indent="  ")
                )
            print()


main(sys.argv[1])
