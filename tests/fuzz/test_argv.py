# SPDX-License-Identifier: Apache-2.0
"""argv: arguments made of options whose meaning is known, and any arguments at all."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from cdi_hook.runtime import argv

from .strategies import ARGUMENTS

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

FIELDS = {"bundle": "bundle", "config": "config", "log": "log", "log-format": "log_format", "root": "root"}
LETTERS = {long: letter for letter, long in argv.VALUE_LETTERS.items()}
# Values of options: also such as look like options or commands, but that aren't empty.
VALUES = st.sampled_from(["v", "/b/\udcff", "create", "--bundle", "-b", "--", "-", "a=b", "=", "x y"])
# Options without a value, of which no runtime has one with.
FLAGS = st.sampled_from(["--debug", "-d", "--detach", "-no-pivot", "--systemd-cgroup", "--x=--bundle"])


def option(name: str, value: str) -> SearchStrategy[list[str]]:
    """Return ways to write an option."""
    ways = [[f"--{name}", value], [f"--{name}={value}"], [f"-{name}", value], [f"-{name}={value}"]]
    letter = LETTERS.get(name)
    if letter:
        ways += [[f"-{letter}", value], [f"-d{letter}", value]]
        if value[0] != "=" and f"{letter}{value}".partition("=")[0] not in argv.VALUE_OPTIONS:
            ways.append([f"-{letter}{value}"])
    return st.sampled_from(ways)


@st.composite
def invocations(draw: st.DrawFn) -> tuple[list[str], dict[str, str]]:
    """Draw arguments, and what they mean."""
    meaning = {"bundle": "", "config": argv.DEFAULT_CONFIG, "log": "", "log_format": "", "root": ""}

    def options() -> list[str]:
        arguments: list[str] = []
        for _ in range(draw(st.integers(0, 3))):
            if draw(st.booleans()):
                arguments.append(draw(FLAGS))
                continue
            name, value = draw(st.sampled_from([*FIELDS, *sorted(argv.VALUE_OPTIONS)])), draw(VALUES)
            arguments += draw(option(name, value))
            if name in FIELDS:
                meaning[FIELDS[name]] = value
        return arguments

    before = options()
    meaning["command"] = draw(st.sampled_from(sorted(argv.BUNDLE_COMMANDS)))
    meaning["container_id"] = draw(st.sampled_from(["id", "create", "-", "a b", "\udcff"]))
    after = options()
    return [*before, meaning["command"], *after, meaning["container_id"], *options()], meaning


@given(invocations())
def test_options_mean_what_they_say(case: tuple[list[str], dict[str, str]]) -> None:
    """However options are written, and wherever they stand, the command, the id and the last values are found."""
    arguments, meaning = case
    invocation = argv.parse(arguments)
    assert {name: getattr(invocation, name) for name in meaning} == meaning


@given(ARGUMENTS)
def test_any_arguments_are_read(arguments: list[str]) -> None:
    """Any arguments are read, always in the same way, and stay as they are; each value is part of an argument."""
    before = list(arguments)
    read: list[dict[str, Any]] = []
    for _ in range(2):
        invocation = argv.parse(arguments)
        read.append({name: getattr(invocation, name) for name in vars(argv.Invocation())})
    assert arguments == before
    assert read[0] == read[1]
    assert read[0]["command"] in ("", *arguments)
    assert read[0]["container_id"] in ("", *arguments)
    for name in FIELDS.values():
        assert read[0][name] in ("", argv.DEFAULT_CONFIG) or any(read[0][name] in one for one in arguments)


@given(ARGUMENTS, st.lists(st.text(max_size=5), max_size=3))
def test_after_another_command_nothing_is_read(arguments: list[str], more: list[str]) -> None:
    """What follows a command that reads no bundle changes nothing."""
    invocation = argv.parse(["--root", "/r", "state", *more])
    assert (invocation.command, invocation.root, invocation.bundle) == ("state", "/r", "")
    invocation = argv.parse(["delete", *arguments])
    assert (invocation.command, invocation.bundle, invocation.log) == ("delete", "", "")
