# SPDX-License-Identifier: Apache-2.0
"""The runtime that cdi-runtime passes the call to: RUNTIMES, PATH, the standard dirs, its own name; and never itself."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from .lab import CDI_RUNTIME, STANDARD_PATH

if TYPE_CHECKING:
    from pathlib import Path

    from .spy import Spy

ARGUMENTS = ("state", "container")


def found(spy: Spy, *programs: Path) -> list[str]:
    """Return the name of the copy of the spy that was called."""
    records = {program: spy.record(program) for program in programs}
    called = [program for program, record in records.items() if record]
    return [str(program) for program in called if records[program]["argument"][0] == os.fsencode(program)]


def test_absolute_path(spy: Spy) -> None:
    """A path names the runtime, whatever PATH is."""
    spy.configure(RUNTIMES=spy.program)
    assert spy.call(*ARGUMENTS).returncode == 0
    assert found(spy, spy.program) == [str(spy.program)]


def test_first_that_exists(spy: Spy) -> None:
    """Of several, the first one that exists and is executable is used."""
    plain = spy.install(spy.directory / "plain")
    plain.chmod(0o644)
    directory = spy.directory / "directory"
    directory.mkdir()
    second = spy.install(spy.directory / "second")
    spy.configure(RUNTIMES=f"{spy.directory}/none {plain} {directory} not-on-path {second} {spy.program}")
    assert spy.call(*ARGUMENTS, PATH=STANDARD_PATH).returncode == 0
    assert found(spy, spy.program, plain, second) == [str(second)]


def test_name_on_path(spy: Spy) -> None:
    """A name is looked up in PATH's dirs in order; relative dirs and the cwd aren't used."""
    first, second = (spy.install(spy.directory / name / "lowrunc") for name in ("bin1", "bin2"))
    here = spy.install(spy.directory / "lowrunc")
    spy.configure(RUNTIMES="lowrunc")
    completed = spy.call(*ARGUMENTS, PATH=f":.:{spy.directory}/none:{first.parent}:{second.parent}:")
    assert (completed.returncode, completed.stderr) == (0, "")
    assert found(spy, first, second, here) == [str(first)]


def test_name_before_later_name_on_earlier_dir(spy: Spy) -> None:
    """The order of RUNTIMES takes precedence over the order of PATH."""
    late = spy.install(spy.directory / "bin1" / "second-choice")
    wanted = spy.install(spy.directory / "bin2" / "first-choice")
    spy.configure(RUNTIMES="first-choice second-choice")
    assert spy.call(*ARGUMENTS, PATH=f"{late.parent}:{wanted.parent}").returncode == 0
    assert found(spy, late, wanted) == [str(wanted)]


def test_path_with_spaces_and_patterns(spy: Spy) -> None:
    """A dir of PATH may have any name: a space doesn't split it, and a pattern in it matches nothing else."""
    odd = spy.install(spy.directory / "a b*?" / "lowrunc")
    decoy = spy.install(spy.directory / "a bcd" / "lowrunc")
    spy.configure(RUNTIMES="lowrunc")
    assert spy.call(*ARGUMENTS, PATH=f"{odd.parent}").returncode == 0
    assert found(spy, odd, decoy) == [str(odd)]


@pytest.mark.parametrize(
    "environ", [{}, {"PATH": ""}, {"PATH": "/nonexistent"}], ids=["none", "empty", "no dir"]
)
def test_standard_dirs(spy: Spy, environ: dict[str, str]) -> None:
    """If PATH has no runtime, the standard dirs are used, because podman calls some commands without PATH."""
    spy.configure(RUNTIMES="cat")
    assert spy.call(str(spy.configuration), **environ).stdout == "RUNTIMES='cat'\n"


def test_default_runtimes(spy: Spy) -> None:
    """Without a configuration, runc is preferred to crun."""
    runc, crun = (spy.install(spy.directory / "bin" / name) for name in ("runc", "crun"))
    path = str(runc.parent)
    assert not spy.configuration.exists()
    assert spy.call(*ARGUMENTS, PATH=path).returncode == 0
    assert found(spy, runc, crun) == [str(runc)]
    runc.chmod(0o644)
    spy.configure()
    assert spy.call("--root", str(spy.directory), *ARGUMENTS, PATH=path).returncode in (0, 1)


@pytest.mark.parametrize("link", ["symbolic", "hard"])
def test_never_itself(spy: Spy, link: str) -> None:
    """If RUNTIMES names the shim first, or PATH has it as runc before the real one, it calls another."""
    real = spy.install(spy.directory / "real" / "runc")
    shim = spy.directory / "shim"
    shim.mkdir()
    if link == "symbolic":
        (shim / "runc").symlink_to(CDI_RUNTIME)
        program: Path = CDI_RUNTIME
    else:
        program = shim / "cdi-runtime"
        text = CDI_RUNTIME.read_text("utf-8").replace("cdi_lib=''", f"cdi_lib='{CDI_RUNTIME.parents[2]}'")
        program.write_text(text, "utf-8")
        program.chmod(0o755)
        os.link(program, shim / "runc")
    spy.configure(RUNTIMES=f"{program} cdi-runtime {shim}/runc runc")
    completed = spy.call(*ARGUMENTS, program=program, PATH=f"{CDI_RUNTIME.parent}:{shim}:{real.parent}")
    assert (completed.returncode, completed.stderr) == (0, "")
    assert found(spy, real) == [str(real)]


def test_called_as_the_runtime(spy: Spy) -> None:
    """Installed as runc before the real runc on PATH, it calls the real one."""
    real = spy.install(spy.directory / "real" / "runc")
    shim = spy.directory / "shim" / "runc"
    shim.parent.mkdir()
    shim.symlink_to(CDI_RUNTIME)
    spy.configure(RUNTIMES="runc")
    completed = spy.call(*ARGUMENTS, program=shim, PATH=f"{shim.parent}:{real.parent}")
    assert (completed.returncode, completed.stderr) == (0, "")
    assert found(spy, real) == [str(real)]


def test_name_of_the_link(spy: Spy) -> None:
    """Called as cdi-spy it runs spy from PATH, whatever RUNTIMES says."""
    other = spy.install(spy.directory / "other")
    link = spy.directory / "bin" / "cdi-spy"
    link.parent.mkdir()
    link.symlink_to(CDI_RUNTIME)
    spy.configure(RUNTIMES=other)
    completed = spy.call(*ARGUMENTS, program=link, PATH=str(spy.directory))
    assert (completed.returncode, completed.stderr) == (0, "")
    assert found(spy, spy.program, other) == [str(spy.program)]


def test_link_to_crun(spy: Spy) -> None:
    """Called as cdi-crun it runs crun, also from the standard dirs."""
    link = spy.directory / "cdi-crun"
    link.symlink_to(CDI_RUNTIME)
    spy.configure(RUNTIMES=spy.program)
    crun = spy.install(spy.directory / "bin" / "crun")
    assert spy.call(*ARGUMENTS, program=link, PATH=str(crun.parent)).returncode == 0
    assert found(spy, spy.program, crun) == [str(crun)]


@pytest.mark.parametrize("arguments", [ARGUMENTS, ("create", "--bundle", "/nonexistent", "container"), ()])
@pytest.mark.parametrize("log_format", ["json", "text"])
def test_none_found(spy: Spy, arguments: tuple[str, ...], log_format: str) -> None:
    """If there is no runtime, the error in --log and on stderr names what was looked for."""
    spy.configure(RUNTIMES="/nonexistent/runc no-such-runtime cdi-runtime")
    log = spy.directory / "log"
    completed = spy.call(
        "--log", str(log), "--log-format", log_format, *arguments, PATH=str(CDI_RUNTIME.parent)
    )
    message = (
        'there is no OCI runtime to call: none of "/nonexistent/runc no-such-runtime cdi-runtime" '
        f"(RUNTIMES, {spy.configuration}:1) is on PATH or in the standard dirs; "
        "install one, or give its path in RUNTIMES"
    )
    assert (completed.returncode, completed.stdout, completed.stderr) == (1, "", f"{message}\n")
    text = log.read_text("utf-8")
    if log_format == "json":
        line = json.loads(text)
        assert (line["level"], line["msg"]) == ("error", message)
    else:
        quoted = message.replace('"', '\\"')
        assert text.split(" ", 1)[1] == f'level=error msg="{quoted}"\n'


def test_link_to_no_runtime(spy: Spy) -> None:
    """Called as cdi-NAME without a runtime NAME, it fails and runs no other."""
    link = spy.directory / "cdi-no-such-runtime"
    link.symlink_to(CDI_RUNTIME)
    spy.configure(RUNTIMES=spy.program)
    completed = spy.call(*ARGUMENTS, program=link)
    assert (completed.returncode, completed.stdout) == (1, "")
    assert completed.stderr.startswith("there is no OCI runtime to call: ")
    assert found(spy, spy.program) == []
