# SPDX-License-Identifier: Apache-2.0
"""Edits of a template that makes a TOML text: our own block in it is TOML, every other byte stays as it is.

    {{ template "base" . }}

    # begin: cdi-hook configure, version = 3
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.cdi]  # by cdi-hook configure
    ...
    # end: cdi-hook configure

The version is that of the text that the template makes. A text without ``{{`` is TOML.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from cdi_hook.engines.edit.document import FIRST_LINE, Document
from cdi_hook.engines.edit.toml_document import TOMLText

if TYPE_CHECKING:
    from cdi_hook.engines.edit.document import Key

BASE = '{{ template "base" . }}\n'  # what the engine's own template makes
_BLOCK = "\n# begin: cdi-hook configure, {}# end: cdi-hook configure\n"
_FIND = re.compile(_BLOCK.format(r"(version = \d\n.*?)"), re.DOTALL)


class TemplateText(Document):
    """A template and the tree of our block in it, {} without one; or a TOML text and its tree."""

    blank = re.compile(rf"{FIRST_LINE}.*\n?(version = \d+\n|{re.escape(BASE)})?\s*")

    def __init__(self, text: str) -> None:
        self.text = text
        found = _FIND.search(text)
        self._around = (text[: found.start()], text[found.end() :]) if found else (text, "")
        inside = "" if is_template(text) else text
        self._toml = TOMLText(found[1] if found else inside)
        self._is_block = found is not None
        self.tree = self._toml.tree

    def set(self, path: Key, value: Any) -> None:
        self._toml.set(path, value)
        self._write()

    def remove(self, path: Key) -> None:
        self._toml.remove(path)
        self._write()

    def is_marked(self, path: Key) -> bool:
        return self._toml.is_marked(path)

    def _write(self) -> None:
        text = self._toml.text
        if self._is_block:
            before, after = self._around
            text = f"{before}{_BLOCK.format(text) if len(self.tree) > 1 else ''}{after}"
        self.text = text


def is_template(text: str) -> bool:
    """Say whether a text is a template, rather than TOML."""
    return "{{" in text


def with_block(text: str, version: int) -> str:
    """Return a template with an empty block at its end, unless it has a block."""
    if _FIND.search(text):
        return text
    end = "" if text.endswith("\n") else "\n"
    return text + end + _BLOCK.format(f"version = {version}\n")


def without_block(text: str) -> str:
    """Return a template without our block."""
    return _FIND.sub("", text)
