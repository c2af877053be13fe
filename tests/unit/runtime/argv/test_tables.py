# SPDX-License-Identifier: Apache-2.0
"""cdi_hook.runtime.argv: the tables of options, those of runtimes that aren't installed too."""

from __future__ import annotations

import pytest

from cdi_hook.runtime import argv

from .reading import ALL_BOOLEANS, VALUE_LETTERS, VALUE_OPTIONS, meaning


@pytest.mark.parametrize("dashes", ["-", "--"])
@pytest.mark.parametrize("option", VALUE_OPTIONS)
def test_value_options(option: str, dashes: str) -> None:
    """An option's value is never taken for the command or the id, nor eats one."""
    spelt = dashes + option
    assert argv.parse([spelt, "create", "state", "run"]).command == "state"
    assert argv.parse([spelt + "=create", "state", "run"]).command == "state"
    for option_and_value in ([spelt, "run"], [spelt + "=run"]):
        invocation = argv.parse(["create", *option_and_value, "id"])
        assert (invocation.command, invocation.container_id) == ("create", "id")


@pytest.mark.parametrize("letter", VALUE_LETTERS)
def test_value_letters(letter: str) -> None:
    """The same for letters: -b run, -brun, -b=run."""
    for option_and_value in (
        [f"-{letter}", "run"],
        [f"-{letter}run"],
        [f"-{letter}=run"],
    ):
        assert argv.parse([*option_and_value, "state", "create"]).command == "state"
        invocation = argv.parse(["create", *option_and_value, "id"])
        assert (invocation.command, invocation.container_id) == ("create", "id")


@pytest.mark.parametrize("dashes", ["-", "--"])
@pytest.mark.parametrize("option", ALL_BOOLEANS)
def test_booleans(option: str, dashes: str) -> None:
    """An option without a value never eats the next argument, and sets nothing."""
    expected = {"command": "create", "container_id": "id"}
    for spelt in (dashes + option, f"{dashes}{option}=true"):
        assert expected == meaning([spelt, "create", "id"])
        assert expected == meaning(["create", spelt, "id"])


@pytest.mark.parametrize("option", ["gvisor-gro", "platform", "nobody-knows"])
def test_options_that_may_take_a_value(option: str) -> None:
    """What stands between such an option and the command is its value."""
    expected = {"command": "create", "bundle": "/b", "container_id": "id"}
    for value in ([], ["0"], ["20000ns"], ["1.5ms"]):
        assert expected == meaning([f"--{option}", *value, "create", "--bundle", "/b", "id"])
    assert expected == meaning([f"-{option}=1ms", "create", "--bundle", "/b", "id"])


def test_tables_fit_together() -> None:
    """No name has two meanings, and letters stand for options of the table."""
    values = set(VALUE_OPTIONS)
    assert len(values) == len(argv.VALUE_OPTIONS)
    assert values.isdisjoint((*ALL_BOOLEANS, *argv.FLAG_OPTIONS, *argv.OPTIONAL_VALUES))
    assert not set(argv.VALUE_LETTERS) & set(argv.FLAG_LETTERS)
    assert values.issuperset(argv.VALUE_LETTERS.values())
    assert [name for name in ALL_BOOLEANS if name[0] in argv.VALUE_LETTERS] == sorted(argv.FLAG_OPTIONS)
    for optional in argv.OPTIONAL_VALUES.values():
        assert set(optional).isdisjoint(argv.BUNDLE_COMMANDS)


@pytest.mark.parametrize(
    ("options", "letters"),
    [
        pytest.param(
            """criu log log-format root bundle console-socket empty-ns image-path
            lsm-mount-context lsm-profile manage-cgroups-mode pid-file pidfd-socket
            preserve-fds work-path""",
            "b",
            id="runc-1.3",
        ),
        pytest.param("console", "b", id="runc-1.0.0-rc1"),
        pytest.param(
            """log log-format log-level root bundle console-socket pid-file
            preserve-fds""",
            "lrbcp",
            id="youki-0.7",
        ),
        pytest.param(
            "bundle pid-file console-socket user-log fs-restore-image-path",
            "",
            id="containerd-shim-runsc-v1 of 2026",
        ),
    ],
)
def test_options_of_other_versions(options: str, letters: str) -> None:
    """What the sources of versions that aren't installed give a value is there too."""
    assert set(options.split()) <= set(VALUE_OPTIONS)
    assert set(letters) <= set(argv.VALUE_LETTERS)


@pytest.mark.parametrize(
    ("command", "values", "booleans"),
    [
        (
            "",
            "cgroup-manager log log-format log-level root rootless program-name",
            "debug systemd-cgroup version help usage",
        ),
        (
            "create",
            "bundle config console-socket preserve-fds pid-file program-name",
            "no-pivot no-subreaper no-new-keyring help usage",
        ),
        (
            "restore",
            """bundle image-path work-path pid-file console-socket manage-cgroups-mode
            network-lock lsm-profile lsm-mount-context program-name""",
            "tcp-established tcp-close ext-unix-sk shell-job detach file-locks help",
        ),
    ],
)
def test_abbreviations(command: str, values: str, booleans: str) -> None:
    """Every prefix that crun accepts for one of its options is that option."""
    names = values.split() + booleans.split()
    prefixes = {name[:length] for name in names for length in range(1, len(name) + 1)}
    for prefix in sorted(prefixes):
        meant = [name for name in names if name.startswith(prefix)]
        if prefix not in names and len(meant) > 1:
            continue  # ambiguous: crun refuses it
        name = prefix if prefix in names else meant[0]
        value = "1"  # which --rootless takes too
        for short in ([f"--{prefix}", value], [f"--{prefix}={value}"]):
            full = [f"--{name}", *short[1:]] if short[1:] else [f"--{name}={value}"]
            before = [command] if command else []
            after = ["id"] if command else ["create", "id"]
            assert meaning(before + full + after) == meaning(before + short + after)
            if name in values.split():
                assert argv.parse(before + short + after).container_id == "id"
