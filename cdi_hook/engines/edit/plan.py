# SPDX-License-Identifier: Apache-2.0
"""Plan the changes that add cdi-runtime to an engine's configuration, or remove it; nothing is written.

The backup that file_change.py makes is the file as it was before our entries, or
before its default runtime changed. A removal restores the default runtime from it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from cdi_hook.engines.edit.document import named
from cdi_hook.engines.edit.file_change import FileChange, backup_of, read
from cdi_hook.engines.engine import is_ours
from cdi_hook.errors import CDIError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdi_hook.engines.engine import Engine, Files, Request


class Plan(NamedTuple):
    """The changes to make, and notes for the user."""

    path: str  # the file, even if nothing changes
    changes: list[FileChange]
    notes: list[str]
    restart: str = ""  # why one reload of the engine isn't enough
    first: Sequence[FileChange] = ()  # what it has to read before; then a reload after each is enough


def add(engine: Engine, path: str, request: Request) -> Plan:
    """Plan to add an entry to the configuration that this path is the file of."""
    files = engine.files(path)
    place, existing = files.place, _existing(files)
    before = read(place)
    others = [(other, read(other) or "") for other in existing if other != place]
    notes = [
        f"{engine.name} doesn't read {one}, and still won't: {place} imports no file" for one in files.unread
    ]
    later = existing[existing.index(place) + 1 :]
    for other, text in others:
        with named(other):
            default = engine.default(text)
        if request.set_default and other in later and default not in (None, request.name):
            raise CDIError(
                f"{other}, which {engine.name} reads after {place}, makes {default} the default runtime: "
                "remove that, or leave out --set-default"
            )
    with named(place):
        start = engine.start(place, others) if before is None else before
        edited = engine.add(start, request, others)
        if edited.text == before:
            return Plan(place, [], [*edited.notes, *notes])
        change = FileChange(place, before, edited.text)
        if before is not None and _is_backup_due(engine, place, before, edited.text):
            change.backup = backup_of(place)
    return Plan(place, [change], [*edited.notes, *notes], edited.restart)


def remove(engine: Engine, path: str) -> Plan:
    """Plan to remove all our entries."""
    changes: list[FileChange] = []
    notes: list[str] = []
    removed: set[str] = set()
    defaults: set[str | None] = set()
    restart = ""
    first: list[FileChange] = []
    files = engine.files(path)
    for one in dict.fromkeys(files.ours):
        text = read(one)
        with named(one):
            if text is None or not (names := engine.names(text)):
                continue
        removed.update(names)
        defaults.add(engine.default(text))
        backup = backup_of(one)
        before = read(backup)
        with named(backup):
            if before is not None:
                engine.names(before)
        with named(one):
            edited = engine.remove(text, before)
            after = _as_it_was(engine, edited.text, before)
        notes += edited.notes
        restart = edited.restart or restart
        if edited.first:
            first.append(FileChange(one, text, edited.first))
        if after and engine.has_cdi(after) and not (before and engine.has_cdi(before)):
            notes.append(f"the CDI of {engine.name} itself is still on, by {one}")
        changes.append(FileChange(one, text, after, obsolete=[] if before is None else [backup]))
    for other in set(_existing(files)).difference(change.path for change in changes) if removed else ():
        text = read(other) or ""
        is_made = other == files.made
        with named(other):
            excepted = defaults if is_made else engine.names(text)
            if (default := engine.default(text)) in removed.difference(excepted):
                where = f"for {engine.name} first, and restart it" if is_made else "there first"
                raise CDIError(f"{other} makes {default} the default runtime: set another one {where}")
    if removed and engine.still:
        notes.append(engine.still)
    return Plan(path, changes, notes, restart, first)


def programs(engine: Engine, path: str) -> list[str]:
    """Return the programs of the runtimes that the configuration names, without ours."""
    found = []
    for one in _existing(engine.files(path)):
        with named(one):
            entries = engine.runtimes(read(one) or "").items()
        found += [program for name, program in entries if not is_ours(name, program)]
    return found


def _as_it_was(engine: Engine, text: str, before: str | None) -> str | None:
    """Return the text that a file is to have; that is what it had before us, if nothing else was edited.

    The engine's own CDI may have been turned on by others, so it is turned off only then.
    """
    for one in (text, engine.without_cdi(text)):
        if before is None:
            if engine.is_blank(one):
                return None
        elif one.rstrip() == before.rstrip() or (engine.is_blank(one) and not before.strip()):
            return before
    return text


def _existing(files: Files) -> list[str]:
    """Return the files that exist, and the one that the edit goes to."""
    return [one for one in dict.fromkeys(files.read) if one == files.place or os.path.isfile(one)]


def _is_backup_due(engine: Engine, path: str, before: str, after: str) -> bool:
    """Say whether a removal will need a backup of the text before, and there is none like it."""
    names, default, backup = engine.names(before), engine.default(before), backup_of(path)
    if not names:
        return True
    if default in names or default == engine.default(after):
        return False
    with named(backup):
        return default != engine.default(read(backup) or "")
