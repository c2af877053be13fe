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
from cdi_hook.errors import CDIError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdi_hook.engines.edit.config_editor import Edited, Editor, Files, Request
    from cdi_hook.engines.engine import Engine


class Plan(NamedTuple):
    """The changes to make, and notes for the user."""

    path: str  # the file, even if nothing changes
    changes: list[FileChange]
    notes: list[str]
    restart: str = ""  # why one reload of the engine isn't enough
    first: Sequence[FileChange] = ()  # what it has to read before; then a reload after each is enough


def add(engine: Engine, path: str, request: Request) -> Plan:
    """Plan to add an entry to the configuration that this path is the file of."""
    files = engine.editor.files(path)
    place, existing = files.place, _existing(files)
    before = read(place)
    others = [(other, read(other) or "") for other in existing if other != place]
    later = existing[existing.index(place) + 1 :]
    for other, text in others:
        with named(other):
            default = engine.edit(text).default
        if request.set_default and other in later and default not in (None, request.name):
            raise CDIError(
                f"{other}, which {engine.name} reads after {place}, makes {default} the default runtime: "
                "remove that, or leave out --set-default"
            )
    with named(place):
        editor = engine.edit(before, place, others)
        edited = editor.add(request)
        changes = [] if edited.text == before else [FileChange(place, before, edited.text)]
        if changes and before is not None and _is_backup_due(engine, place, before, editor.default):
            changes[0].backup = backup_of(place)
    unread = [
        f"{engine.name} doesn't read {one}, and still won't: {place} imports no file" for one in files.unread
    ]
    return Plan(place, changes, [*edited.notes, *unread], edited.restart)


def remove(engine: Engine, path: str) -> Plan:
    """Plan to remove all our entries."""
    files = engine.editor.files(path)
    found = [_removal(engine, one) for one in dict.fromkeys(files.ours)]
    removals = [one for one in found if one]
    if not removals:
        return Plan(path, [], [])
    changes = [change for change, _ in removals]
    _refuse_if_default(engine, files, changes)
    notes = [note for _, edited in removals for note in edited.notes]
    return Plan(
        path,
        changes,
        [*notes, engine.help.still] if engine.help.still else notes,
        "".join(edited.restart for _, edited in removals),  # it is one file's
        [FileChange(one.path, one.before, edited.first) for one, edited in removals if edited.first],
    )


def _removal(engine: Engine, path: str) -> tuple[FileChange, Edited] | None:
    """Return what to do to a file; None if nothing in it is ours."""
    text = read(path)
    with named(path):
        editor = engine.edit(text or "")
        if not editor.ours:
            return None
    backup = backup_of(path)
    before = read(backup)
    with named(backup):
        former = None if before is None else engine.edit(before)
    with named(path):
        edited = editor.remove(former)
        after = _as_it_was(editor, engine.edit(edited.text), before)
    if after == edited.text and editor.cdi is True and not (former and former.cdi is True):
        note = f"the CDI of {engine.name} itself is still on, by {path}"
        edited = edited._replace(notes=(*edited.notes, note))
    return FileChange(path, text, after, obsolete=[] if before is None else [backup]), edited


def _as_it_was(editor: Editor, without_cdi: Editor, before: str | None) -> str | None:
    """Return the text that a file is to have; that is what it had before us, if nothing else was edited.

    The engine's own CDI may have been turned on by others, so it is turned off only then.
    """
    without_cdi.remove_cdi()
    for document in (editor.document, without_cdi.document):
        if before is None and document.is_blank:
            return None
        if before is not None and document.text.rstrip() == before.rstrip():
            return before
        if before is not None and document.is_blank and not before.strip():
            return before
    return editor.document.text


def _refuse_if_default(engine: Engine, files: Files, changes: Sequence[FileChange]) -> None:
    """Refuse to remove an entry that a file which stays as it is makes the default."""
    editors = [engine.edit(change.before) for change in changes]
    changed = {change.path for change in changes}
    removed = {name for one in editors for name in one.ours}
    defaults = {one.default for one in editors}  # the engine makes its own file anew without them
    for other in [one for one in _existing(files) if one not in changed]:
        with named(other):
            editor = engine.edit(read(other) or "")
            excepted = defaults if other == files.made else editor.ours
        if editor.default in removed.difference(excepted):
            where = f"for {engine.name} first, and restart it" if other == files.made else "there first"
            raise CDIError(f"{other} makes {editor.default} the default runtime: set another one {where}")


def _existing(files: Files) -> list[str]:
    """Return the files that exist, and the one that the edit goes to."""
    return [one for one in dict.fromkeys(files.read) if one == files.place or os.path.isfile(one)]


def _is_backup_due(engine: Engine, path: str, before: str, default: str | None) -> bool:
    """Say whether a removal will need a backup of the text before, and there is none like it."""
    former, backup = engine.edit(before), backup_of(path)
    if not former.ours:
        return True
    if former.default in former.ours or former.default == default:
        return False
    with named(backup):
        return former.default != engine.edit(read(backup) or "").default
