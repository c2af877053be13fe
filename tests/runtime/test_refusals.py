# SPDX-License-Identifier: Apache-2.0
"""A request that can't be met is refused before a runtime is called: status 1, one message, nothing created or written."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from .lab import STANDARD_PATH

if TYPE_CHECKING:
    from .lab import Bundle, Completed, Lab

UNKNOWN = "vendor.com/device=two"


def told(completed: Completed) -> str:
    """Return what a call that was refused for the unknown device says on stderr: one line, and nothing else anywhere.

    tests/unit/runtime/test_shim.py has all of its words.
    """
    assert (completed.returncode, completed.stdout) == (1, "")
    beginning = f'CDI device injection failed: unresolvable CDI devices {UNKNOWN} (asked for by annotation "cdi.k8s.io/test")'
    assert re.fullmatch(rf"{re.escape(beginning)}; .*\n", completed.stderr)
    return completed.stderr.removesuffix("\n")


@pytest.fixture
def bundle(lab: Lab) -> Bundle:
    """A bundle that asks for a device that nothing defines."""
    lab.spec({"env": ["ONE=1"]})
    return lab.bundle("true", [UNKNOWN])


@pytest.mark.parametrize("command", ["create", "run"])
@pytest.mark.parametrize("log_format", ["json", "text", None])
def test_unknown_device(lab: Lab, bundle: Bundle, command: str, log_format: str | None) -> None:
    """An unknown device is one line in --log and on stderr; no container is created, and the bundle isn't changed."""
    before = bundle.identity()
    container = lab.container()
    log = ["--log", str(lab.log)] + (["--log-format", log_format] if log_format else [])
    completed = lab.call(*log, command, "--bundle", str(bundle.path), container)
    message = told(completed)
    [line] = lab.log.read_text("utf-8").splitlines()
    if log_format == "json":
        fields = json.loads(line)
        assert (sorted(fields), fields["level"], fields["msg"]) == (
            ["level", "msg", "time"],
            "error",
            message,
        )
        time = fields["time"]
    else:
        quoted = message.replace('"', '\\"')
        match = re.fullmatch(r'time="(.*?)" level=error msg="(.*)"', line)
        assert match is not None
        assert match[2] == quoted
        time = match[1]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", time)
    assert bundle.identity() == before
    assert lab.state(container) == {}


def test_unknown_device_without_log(lab: Lab, bundle: Bundle) -> None:
    """Without --log, or if --log can't be written, stderr still has the message."""
    for log in ((), ("--log", str(lab.directory / "none" / "log"))):
        completed = lab.call(*log, "create", "--bundle", str(bundle.path), lab.container())
        assert f" no usable CDI spec in {lab.specs} defines it; " in told(completed)


def test_log_is_appended_to(lab: Lab, bundle: Bundle) -> None:
    """The line is appended to a log that has other lines."""
    lab.log.write_text('{"level":"info","msg":"before"}\n', "utf-8")
    completed = lab.call(
        "--log", str(lab.log), "--log-format", "json", "create", "--bundle", str(bundle.path), lab.container()
    )
    lines = [json.loads(line) for line in lab.log.read_text("utf-8").splitlines()]
    assert [line["msg"] for line in lines] == ["before", told(completed)]


def test_refused_spec_is_told(lab: Lab) -> None:
    """If a spec file was refused, the log has a warning about it, and the error names the file and its error."""
    (lab.specs / "two.json").write_text('{"cdiVersion": "0.6.0", "kind": "vendor.com/device"}', "utf-8")
    bundle = lab.bundle("true", [UNKNOWN])
    lab.call(
        "--log", str(lab.log), "--log-format", "json", "create", "--bundle", str(bundle.path), lab.container()
    )
    warning, error = (json.loads(line) for line in lab.log.read_text("utf-8").splitlines())
    refusal = ".devices: there are no devices; a spec has at least one"
    assert (warning["level"], warning["error"]) == ("warning", f"{lab.specs}/two.json: {refusal}")
    assert warning["msg"] == "Refreshing the CDI registry generated errors"
    assert error["level"] == "error"
    assert f"refused: {lab.specs}/two.json: .devices: there are no devices; " in error["msg"]


@pytest.mark.parametrize("runtime", ["runc-v1"], indirect=True)
def test_missing_host_device(lab: Lab) -> None:
    """A device whose node the host lacks is refused, and the error names the spec that asks for it."""
    device = lab.spec({"deviceNodes": [{"path": "/dev/cdi-hook-gone"}]})
    bundle = lab.bundle("true", [device])
    before = bundle.identity()
    completed = lab.call("create", "--bundle", str(bundle.path), lab.container())
    assert (completed.returncode, completed.stdout) == (1, "")
    assert re.fullmatch(r'CDI device injection failed: .* "/dev/cdi-hook-gone": .*\n', completed.stderr)
    assert (
        f'device {device} (asked for by annotation "cdi.k8s.io/test") is defined by {lab.specs}/one.json'
        in completed.stderr
    )
    assert bundle.identity() == before


@pytest.mark.parametrize("runtime", ["runc-v1"], indirect=True)
def test_bad_configuration_hurts_only_who_asks(lab: Lab) -> None:
    """A bad line of the configuration stops a container that asks for a device, and no other container."""
    device = lab.spec({"env": ["ONE=1"]})
    lab.configure(SPEC_TRUST="perhaps", NONSENSE="1")
    assert lab.run(lab.bundle("echo fine", name="idle")) == "fine\n"
    bundle = lab.bundle("true", [device])
    completed = lab.call("create", "--bundle", str(bundle.path), lab.container())
    conf = lab.configuration
    assert completed.returncode == 1
    assert completed.stderr.startswith(
        f"CDI device injection failed: the configuration can't be used: {conf}:3: SPEC_TRUST: "
        f'"perhaps" is none of strict, none; {conf}:4: unknown key NONSENSE; '
    )


@pytest.mark.parametrize("runtime", ["runc-v1"], indirect=True)
@pytest.mark.parametrize("value", ["$NOPE", "a*/", "~/x/", "[x"])
def test_a_bad_prefix_hides_no_request(lab: Lab, value: str) -> None:
    """With a bad ANNOTATION_PREFIXES, a container that uses the default prefix is stopped, whatever a shell reads."""
    bundle = lab.bundle("true", [lab.spec({"env": ["ONE=1"]})])
    idle = lab.bundle("echo fine", name="idle")
    with lab.configuration.open("a", encoding="utf-8", newline="") as file:
        file.write(f"ANNOTATION_PREFIXES={value}\n")
    completed = lab.call("create", "--bundle", str(bundle.path), lab.container())
    assert completed.returncode == 1
    assert completed.stderr.startswith(
        f"CDI device injection failed: the configuration can't be used: {lab.configuration}:3: ANNOTATION_PREFIXES: "
    )
    assert lab.run(idle) == "fine\n"


@pytest.mark.parametrize("runtime", ["runc-v1", "crun-v2"], indirect=True)
def test_runtime_s_own_errors(lab: Lab) -> None:
    """Errors in the arguments or the bundle are left to the runtime and its own words."""
    program = shutil.which(lab.runtime.name, path=STANDARD_PATH)
    assert program is not None
    for arguments in (
        ("create", "--bundle", "/nonexistent", "x"),
        ("run",),
        ("nonsense",),
        ("delete", "gone"),
    ):
        ours = lab.call("--log-format", "json", *arguments)
        theirs = lab.call("--log-format", "json", *arguments, program=program)
        timeless = [re.sub(r'"time": ?"[^"]*"|^[0-9T:.Z-]+', "", one.stderr) for one in (ours, theirs)]
        assert (ours.returncode, ours.stdout, timeless[0]) == (theirs.returncode, theirs.stdout, timeless[1])


@pytest.mark.parametrize("runtime", ["runc-v1"], indirect=True)
@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "--bundle", "", "ID"),
        ("create", "--bundle=", "ID"),
        ("create", "-b", "", "ID"),
        ("create", "--pid-file", "--bundle", "ID"),
        ("--log", "--bundle", "create", "ID"),
        ("create", "--bundle", ".", "--console-socket", "--bundle", "ID"),
        ("--log", "create", "run", "-b.", "ID"),
        ("--log", "-b", "create", "--", "ID"),
        ("--future", "v", "create", "--bundle", ".", "ID"),
    ],
)
def test_no_way_of_writing_it_hides_a_request(lab: Lab, bundle: Bundle, arguments: tuple[str, ...]) -> None:
    """However odd the arguments are, the bundle that they mean is read: nothing starts without its device."""
    command = lab.command(*(lab.container() if one == "ID" else one for one in arguments))
    completed = subprocess.run(
        command, env=lab.environ, cwd=bundle.path, check=False, capture_output=True, text=True, timeout=30
    )
    assert told(completed)


@pytest.mark.parametrize("runtime", ["runc-v1"], indirect=True)
def test_a_nul_hides_no_request(lab: Lab, bundle: Bundle) -> None:
    """A config.json with a NUL after its end, which runtimes accept, is refused like any other text there."""
    with bundle.config_file.open("a", encoding="utf-8") as file:
        file.write("\0")
    completed = lab.call("create", "--bundle", str(bundle.path), lab.container())
    assert (completed.returncode, completed.stdout) == (1, "")
    assert "is not valid JSON: there is more after the end, at line " in completed.stderr


@pytest.mark.parametrize("runtime", ["runc-v1", "crun-v2"], indirect=True)
def test_a_key_that_runtimes_read_differently_hides_no_request(lab: Lab, bundle: Bundle) -> None:
    """runc reads "Process" as process and crun doesn't: a request beside or below such a key is refused."""
    bundle.config["Annotations"] = bundle.config.pop("annotations")
    bundle.write()
    completed = lab.call("create", "--bundle", str(bundle.path), lab.container())
    assert (completed.returncode, completed.stdout) == (1, "")
    assert 'the OCI spec has a key "Annotations": runc takes it for "annotations", crun' in completed.stderr
    idle = lab.bundle("echo $A", name="idle")
    idle.config["process"]["Env"] = [*idle.config["process"]["env"], "A=1"]
    idle.write()
    assert lab.run(idle) == ("1\n" if lab.runtime.name == "runc" else "\n")


@pytest.mark.parametrize("runtime", ["runc-v1"], indirect=True)
def test_a_fifo_for_a_config_does_not_hang(lab: Lab, bundle: Bundle) -> None:
    """A config.json that is a FIFO is refused at once, even without a writer."""
    config = bundle.path / "config.json"
    config.unlink()
    os.mkfifo(config)
    completed = lab.call("create", "--bundle", str(bundle.path), lab.container())
    assert (completed.returncode, completed.stdout) == (1, "")
    assert completed.stderr == f'can\'t read "{config}": not a regular file\n'
