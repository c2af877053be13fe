# SPDX-License-Identifier: Apache-2.0
"""engines.engine and edit.editor: what holds for every engine, whatever its configuration looks like."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from cdi_hook.engines import ENGINES
from cdi_hook.engines.edit.config_editor import Editor, Request
from cdi_hook.engines.edit.document import UnusableConfiguration
from cdi_hook.engines.edit.json_document import JSONText

if TYPE_CHECKING:
    from cdi_hook.engines.engine import Engine

PATH = "/usr/bin/cdi-runtime"
EVERY = pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)


def added(engine: Engine, request: Request, text: str | None = None) -> str:
    """Return the text of a new file, or this text, with an entry in it; adding it again changes nothing."""
    after = engine.edit(text, engine.file).add(request).text
    assert engine.edit(after).add(request).text == after
    return after


@EVERY
def test_added_to_a_new_file_and_removed(engine: Engine) -> None:
    """A new file has our entry as the default, and after its removal the file is blank."""
    text = added(engine, Request(PATH, set_default=True))
    assert added(engine, Request(PATH), text) == text
    editor = engine.edit(text)
    assert (editor.ours, editor.default, editor.document.is_blank) == (["cdi"], "cdi", False)
    editor.remove(None)
    assert (editor.ours, editor.default, editor.document.is_blank) == ([], None, True)


@EVERY
def test_its_own_cdi(engine: Engine) -> None:
    """If the engine has CDI of its own, that is turned on once, or is always on; a text without it is as it was."""
    before = added(engine, Request(PATH))
    editor = engine.edit(before)
    assert editor.cdi is None
    if engine.own_cdi and editor.cdi_key:
        assert editor.add(Request(PATH, enable_cdi=True)).text != before
        assert editor.cdi is True
    elif engine.own_cdi:
        notes = editor.add(Request(PATH, enable_cdi=True)).notes
        assert f"the CDI of {engine.name} itself is always on" in notes
    editor.remove_cdi()
    assert editor.document.text == before


@EVERY
def test_a_file_that_has_more_in_it_is_not_blank(engine: Engine) -> None:
    """A line that somebody else added is not part of a new file."""
    document = engine.edit(None, engine.file).document
    assert document.is_blank
    document.set(("debug", "x"), True)
    assert not document.is_blank


@EVERY
def test_a_moved_program_is_followed_and_two_are_removed(engine: Engine) -> None:
    """The path of an entry of ours is changed in its place, and a removal removes all our entries."""
    text = added(engine, Request("/opt/cdi-runtime"))
    text = added(engine, Request(PATH), text)
    assert text == added(engine, Request(PATH))
    text = added(engine, Request("/usr/bin/cdi-crun", "crun"), text)
    assert engine.edit(text).ours == ["cdi", "cdi-crun"]
    editor = engine.edit(text)
    editor.remove(None)
    assert editor.document.is_blank


@EVERY
def test_a_taken_name_is_refused(engine: Engine) -> None:
    """An entry with our name that isn't ours is neither replaced nor removed."""
    text = added(engine, Request("/x/cdi-runtime")).replace("/x/cdi-runtime", "/x/other")
    with pytest.raises(UnusableConfiguration) as caught:
        engine.edit(text).add(Request(PATH))
    assert str(caught.value) == "it already has a runtime cdi that is not ours: it runs '/x/other'"
    assert engine.edit(text).ours == []


class SecondJSON(Editor):
    """An engine's whose runtimes are in a table within another, which it needn't make or remove itself."""

    form = JSONText
    table = ("a", "b")
    default_key = "default"


@pytest.mark.parametrize("before", ["{}", '{"a": {}}', '{"a": {"b": {"runtimes": {}}, "c": 1}}'])
def test_json_needs_no_more_than_its_keys(before: str) -> None:
    """In JSON, tables that are made for an entry go with it, and those that were there before stay."""
    editor = SecondJSON("second", before)
    text = editor.add(Request(PATH, set_default=True)).text
    assert json.loads(text)["a"]["b"] == {"runtimes": {"cdi": PATH}, "default": "cdi"}
    assert SecondJSON("second", text).remove(SecondJSON("second", before)).text == before
    new = SecondJSON("second", None)
    assert new.document.is_blank
    new.add(Request(PATH, set_default=True))
    new.remove(None)
    assert new.document.is_blank


@EVERY
def test_an_edit_goes_into_a_file_that_is_read(engine: Engine, tmp_path: object) -> None:
    """The edited file is one that the engine reads, and one that our entries are removed from."""
    files = engine.editor.files(f"{tmp_path}{engine.file}")
    assert files.place in files.read
    assert files.place in files.ours


@EVERY
def test_only_a_daemon_is_reloaded(engine: Engine) -> None:
    """A daemon reads its files again by systemctl and its unit, and an engine without a daemon reads them at each call."""
    commands = [engine.reload_command(engine.file, restart=restart) for restart in (False, True)]
    if engine.daemon:
        assert commands == [["systemctl", verb, engine.units[0]] for verb in (engine.reload, "restart")]
    else:
        assert commands == [[], []]


@EVERY
def test_doctor_knows_what_to_ask(engine: Engine) -> None:
    """An engine says by which programs it is known, and what its own CDI injects if it has one; here none need be."""
    probe = engine.probe()
    assert probe.programs
    assert engine.own_cdi is None or engine.own_cdi.injects.startswith("what ")
    assert probe.found() == "" or probe.version()[:1].isdecimal()


def test_a_user_has_a_file_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who isn't root edits the file below their own configuration dir, if the engine reads one there."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/u")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    docker, crio = ENGINES["docker"], ENGINES["crio"]
    own = "/home/u/.config/docker/daemon.json"
    assert (docker.default_path(), crio.default_path()) == (own, crio.file)
    assert docker.reload_command(own) == ["systemctl", "--user", "reload", "docker"]
    assert docker.reload_command("/else") == ["systemctl", "reload", "docker"]
    monkeypatch.setenv("XDG_CONFIG_HOME", "/x")
    assert docker.default_path() == "/x/docker/daemon.json"
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert docker.default_path() == docker.file
