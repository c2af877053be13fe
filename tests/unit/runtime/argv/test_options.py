# SPDX-License-Identifier: Apache-2.0
"""cdi_hook.runtime.argv: how options are spelt."""

from __future__ import annotations

import pytest

from cdi_hook.runtime import argv

from .reading import meaning


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--bundle", "v"], {"bundle": "v"}),
        (["--bundle=v"], {"bundle": "v"}),
        (["-bundle", "v"], {"bundle": "v"}),
        (["-bundle=v"], {"bundle": "v"}),
        (["-b", "v"], {"bundle": "v"}),
        (["-bv"], {"bundle": "v"}),
        (["-b=v"], {"bundle": "v"}),
        (["--b", "v"], {"bundle": "v"}),
        (["--b=v"], {"bundle": "v"}),
        (["-b/run/b=c"], {"bundle": "/run/b=c"}),
        (["-b", "=v"], {"bundle": "=v"}),
        (["-b", "a", "-b="], {}),
        (["--bundle==v"], {"bundle": "=v"}),
        (["--bundle=a=b"], {"bundle": "a=b"}),
        (["--bundle", "-v"], {"bundle": "-v"}),
        (["--bundle", "--config"], {"bundle": "--config"}),
        (["--bundle", "--"], {"bundle": "--"}),
        (["--bundle", ""], {}),
        (["--bundle="], {}),
        (["--bundle", "a", "--bundle="], {}),
        (["--bundle", "a", "-b", "b"], {"bundle": "b"}),
        (["-bb", "--bundle=a"], {"bundle": "a"}),
        (["-db", "v"], {"bundle": "v"}),
        (["-dbv"], {"bundle": "v"}),
        (["-db=v"], {"bundle": "v"}),
        (["-d", "-b", "v"], {"bundle": "v"}),
        (["-f", "v"], {"config": "v"}),
        (["-fv"], {"config": "v"}),
        (["-dfv"], {"config": "v"}),
        (["--config", "v"], {"config": "v"}),
        (["--config=v"], {"config": "v"}),
        (["-fa", "--config", "b"], {"config": "b"}),
        (["-f", "config.json"], {}),
        (["-f", ""], {"config": ""}),
        (["--bund", "v"], {"bundle": "v"}),
        (["--bund=v"], {"bundle": "v"}),
        (["--conf", "v"], {"config": "v"}),
        (["--co", "v"], {}),
        (["--pid", "v"], {}),
        (["-bund", "v"], {"bundle": "und", "container_id": "v"}),
        (["-c", "v", "-p", "w"], {}),
        (["-cv", "-pw"], {}),
        (["-detach", "-keep", "-no-pivot"], {}),
        (["-file-locks", "-lazy-pages", "-background"], {}),
        (["-file-locks=true", "-fs-restore-direct=0"], {}),
        (["--debug=b", "--detach=true"], {}),
        (["--unknown=v"], {}),
        (["--unknown", "v"], {"container_id": "v"}),
        (["-unknown", "v"], {"container_id": "v"}),
        (["--bundles", "v"], {"container_id": "v"}),
        (["--Bundle", "v"], {"container_id": "v"}),
        (["---bundle", "v"], {"container_id": "v"}),
        (["-d", "v"], {"container_id": "v"}),
        (["--=v"], {}),
        (["--", "-b", "v"], {"container_id": "-b"}),
        (["-bv", "--", "-ba", "--bundle=b"], {"bundle": "v", "container_id": "-ba"}),
        (["-"], {"container_id": "-"}),
        (["--network-lock", "--bundle", "-b", "v"], {"bundle": "v"}),
    ],
)
def test_options(options: list[str], expected: dict[str, str]) -> None:
    """Each runtime's way to write an option is understood, and nothing else."""
    expected = {"command": "run", "container_id": "id"} | expected
    assert expected == meaning(["run", *options, "id"])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["id", "--bundle", "v"], {"bundle": "v"}),
        (["id", "--bundle=v", "-f", "c"], {"bundle": "v", "config": "c"}),
        (["-b", "a", "id", "-b", "v"], {"bundle": "v"}),
        (["id", "--detach", "-bv"], {"bundle": "v"}),
        (["id", "--", "-b", "v"], {}),
        (["--", "id", "-b", "v"], {}),
        (["id", "another", "-b", "v"], {"bundle": "v"}),
        (["id", "--bundle"], {}),
        (["-b", "v", "id", "-b"], {"bundle": "v"}),
    ],
)
def test_after_the_id(arguments: list[str], expected: dict[str, str]) -> None:
    """Options count after the container's id too, up to a "--"."""
    expected = {"command": "create", "container_id": "id"} | expected
    assert expected == meaning(["create", *arguments])


def test_end_of_global_options() -> None:
    """A "--" before the command doesn't end the command's own options."""
    expected = {"command": "create", "bundle": "v", "container_id": "id"}
    assert expected == meaning(["--debug", "--", "create", "-b", "v", "id"])


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--log", "a", "--log=b"], {"log": "b"}),
        (["-l", "a"], {"log": "a"}),
        (["-la"], {"log": "a"}),
        (["-l=a"], {"log": "a"}),
        (["-log", "a"], {"log": "a"}),
        (["-sla"], {"log": "a"}),
        (["--log", "a", "--log="], {}),
        (["--log=journald:x"], {"log": "journald:x"}),
        (["--log-format", "json"], {"log_format": "json"}),
        (["-log-format=json"], {"log_format": "json"}),
        (["--log-f", "json"], {"log_format": "json"}),
        (["--log-level", "debug"], {}),
        (["-log-packets", "-lisafs"], {}),
        (["--debug-log=/d", "--debug-log-format=text"], {}),
    ],
)
def test_log(arguments: list[str], expected: dict[str, str]) -> None:
    """The log and its format are read, whatever the command."""
    assert {"command": "state"} | expected == meaning([*arguments, "state", "x"])


@pytest.mark.parametrize("text", ["/b/\udcff\udcfe", "/b/é b", "/b/\n", "\udc80"])
def test_any_bytes(text: str) -> None:
    """Values that aren't UTF-8, or hold spaces and newlines, come out as given."""
    expected = {"command": "create", "bundle": text, "container_id": text, "log": text}
    for options in (["--bundle", text], [f"--bundle={text}"], [f"-b{text}"]):
        assert expected == meaning(["--log", text, "create", *options, text])


@pytest.mark.parametrize(
    ("line", "configs"),
    [
        ("--log /l create --bundle v --pid-file p id", "v/config.json"),
        ("create id", "config.json"),
        ("create --bundle v -f w id", "w"),
        ("run id --bundle v", "v/config.json"),
        ("run --bundle v -1 --", "v/config.json"),
        ("run --bundle v --pid-file -1", "v/config.json"),
        ("restore --bundle v id other", "v/config.json"),
        ("run -bundle v id", "v/config.json undle/config.json"),
        ("run -b=v id", "v/config.json =v/config.json"),
        ("run -dfv id", "v run/config.json -dfv/config.json id/config.json config.json"),
        ("run -file-locks id", "config.json ile-locks"),
        ("run - -b v", "v/config.json run/config.json -/config.json -b/config.json config.json"),
        ("restore id -b v", "v/config.json restore/config.json id/config.json -b/config.json config.json"),
        ("run -bv --", "v/config.json run/config.json -bv/config.json --/config.json config.json"),
    ],
)
def test_where_config_json_may_be(line: str, configs: str) -> None:
    """Where every runtime reads the same bundle there is one config.json, else all that some runtime may read."""
    assert list(argv.parse(line.split()).configs) == configs.split()


@pytest.mark.parametrize(
    "command", ["rootfs-upper", "fscheckpoint", "read", "sandboxexec", "statefile", "bwrap", "checkpointt"]
)
def test_commands_of_2026(command: str) -> None:
    """The commands that runsc and youki got last are commands too: what follows is no create."""
    assert argv.parse(["--debug", command, "create", "b"]).command == command
