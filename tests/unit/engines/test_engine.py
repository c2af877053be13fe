# SPDX-License-Identifier: Apache-2.0
"""engines.engine: what holds for every engine, whatever its configuration looks like."""

from __future__ import annotations

import pytest

from cdi_hook.engines import ENGINES
from cdi_hook.engines.edit.document import UnusableConfiguration
from cdi_hook.engines.engine import Engine, Request

PATH = "/usr/bin/cdi-runtime"
EVERY = pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)


def added(engine: Engine, request: Request, text: str | None = None) -> str:
    """Return the text of a new file, or this text, with an entry in it."""
    return engine.add(engine.start(engine.file, []) if text is None else text, request).text


@EVERY
def test_added_to_a_new_file_and_removed(engine: Engine) -> None:
    """A new file has our entry as the default, adding it twice adds it once, and after its removal the file is blank."""
    text = added(engine, Request(PATH, set_default=True))
    assert (engine.names(text), engine.default(text), engine.is_blank(text)) == (["cdi"], "cdi", False)
    assert added(engine, Request(PATH, set_default=True), text) == text
    assert added(engine, Request(PATH), text) == text
    assert engine.is_blank(engine.remove(text, None).text)


@EVERY
def test_its_own_cdi(engine: Engine) -> None:
    """The engine's own CDI is turned on once, or is always on; a text without it is as it was."""
    before = added(engine, Request(PATH))
    edited = engine.add(before, Request(PATH, enable_cdi=True))
    key = engine.cdi_key(engine.document(before))
    if key is None:
        assert edited.text == before
        assert f"the CDI of {engine.name} itself is always on" in edited.notes
    else:
        assert engine.document(edited.text).get(key) is True
        assert engine.without_cdi(edited.text) == before
        assert added(engine, Request(PATH, enable_cdi=True), edited.text) == edited.text
    assert engine.without_cdi(before) == before


@EVERY
def test_a_file_that_has_more_in_it_is_not_blank(engine: Engine) -> None:
    """A line that somebody else added is not part of a new file."""
    line = '{"debug": true}\n' if engine.is_blank("{}") else "x = 1\n"
    assert not engine.is_blank(engine.start(engine.file, []) + line)


@EVERY
def test_a_moved_program_is_followed_and_two_are_removed(engine: Engine) -> None:
    """The path of an entry of ours is changed in its place, and a removal removes all our entries."""
    text = added(engine, Request("/opt/cdi-runtime"))
    text = added(engine, Request(PATH), text)
    assert text == added(engine, Request(PATH))
    text = added(engine, Request("/usr/bin/cdi-crun", "crun"), text)
    assert engine.names(text) == ["cdi", "cdi-crun"]
    assert engine.is_blank(engine.remove(text, None).text)


@EVERY
def test_a_taken_name_is_refused(engine: Engine) -> None:
    """An entry with our name that isn't ours is neither replaced nor removed."""
    text = added(engine, Request("/x/cdi-runtime")).replace("/x/cdi-runtime", "/x/other")
    with pytest.raises(UnusableConfiguration) as caught:
        engine.add(text, Request(PATH))
    assert str(caught.value) == "it already has a runtime cdi that is not ours: it runs '/x/other'"
    assert engine.remove(text, None).text == text


@EVERY
def test_an_edit_goes_into_a_file_that_is_read(engine: Engine, tmp_path: object) -> None:
    """The edited file is one that the engine reads, and one that our entries are removed from."""
    files = engine.files(f"{tmp_path}{engine.file}")
    assert files.place in files.read
    assert files.place in files.ours


@EVERY
def test_only_a_daemon_is_reloaded(engine: Engine) -> None:
    """A daemon reads its files again by systemctl and its unit, and an engine without a daemon reads them at each call."""
    command = engine.reload_command(engine.file, restart=False)
    restart = engine.reload_command(engine.file, restart=True)
    if engine.daemon:
        assert (command, restart) == (
            ["systemctl", engine.reload, engine.unit()],
            ["systemctl", "restart", engine.unit()],
        )
    else:
        assert command is restart is None


@EVERY
def test_doctor_knows_what_to_ask(engine: Engine) -> None:
    """An engine says by which programs it is known, and what its own CDI injects; here none of them need be."""
    assert engine.programs
    assert engine.own_cdi.startswith("what ")
    assert engine.found() == "" or engine.version()[:1].isdecimal()


def test_a_user_has_a_file_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user who isn't root edits the file below their own configuration dir, if the engine reads one there."""
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/u")
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    docker, crio = ENGINES["docker"], ENGINES["crio"]
    own = "/home/u/.config/docker/daemon.json"
    assert (docker.default_path(), crio.default_path()) == (own, crio.file)
    assert docker.reload_command(own, restart=False) == ["systemctl", "--user", "reload", "docker"]
    assert docker.reload_command("/else", restart=False) == ["systemctl", "reload", "docker"]
    monkeypatch.setenv("XDG_CONFIG_HOME", "/x")
    assert docker.default_path() == "/x/docker/daemon.json"
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert docker.default_path() == docker.file
