# SPDX-License-Identifier: Apache-2.0
"""update keeps a container's devices, whatever rules the engine sends along, and sets what it is to set."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from .lab import ALONE, CDI_RUNTIME, DEVICE, RUNTIMES, TIMEOUT_S, Lab, Runtime, why_not

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

LAYOUTS = {
    "crun-v1": Runtime("crun", ALONE["runc-v1-alone"].prefix),
    **{name: RUNTIMES[name] for name in ("crun-v2", "runc-v1", "runc-v2")},
}
# What engines send: the rules that they know, which don't have the device.
RULES = [
    {"allow": False, "access": "rwm"},
    {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"},
]
PIDS = 77
CRUNS_WAYS = ["-r-", "--res -", "--resour=FILE"]
WAYS = [
    "--resources=-", "--resources -", "--resources=FILE", "--resources FILE", "-r FILE", "-r /dev/stdin",
]  # fmt: skip


@pytest.fixture(params=LAYOUTS)
def lab(request: pytest.FixtureRequest, busybox: Path, tmp_path: Path) -> Generator[Lab]:
    """A lab with this runtime."""
    lab = Lab(tmp_path, LAYOUTS[request.param], busybox)
    reason = why_not(lab)
    if reason:
        pytest.skip(reason)
    yield lab
    lab.close()


def started(lab: Lab, *, asks: bool = True) -> str:
    """Return a container that runs, and has the device if it asks."""
    device = lab.spec({"deviceNodes": [{"path": str(DEVICE)}]})
    container = lab.create(lab.bundle("sleep 1000", [device] if asks else [], "job"))
    assert lab.call("start", container).returncode == 0
    return container


def can_open(lab: Lab, container: str) -> bool:
    done = lab.call("exec", container, "sh", "-c", f"true <{DEVICE} && echo opened")
    return "opened" in done.stdout


def update(lab: Lab, *arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        lab.command("update", *arguments), env=lab.environ, cwd=lab.directory, timeout=TIMEOUT_S, check=False,
        input=text, capture_output=True, text=True,
    )  # fmt: skip


def resources(lab: Lab, **rules: Any) -> str:
    """Return what an engine sends. On v2 this machine may have no controller but that of devices."""
    is_unified = lab.runtime.prefix == RUNTIMES["crun-v2"].prefix
    return json.dumps({**rules, **({} if is_unified else {"pids": {"limit": PIDS}})})


def is_updated(lab: Lab, container: str) -> bool:
    """Say whether the container may have so many processes."""
    if lab.runtime.prefix == RUNTIMES["crun-v2"].prefix:
        return True
    done = subprocess.run(
        [*lab.runtime.prefix, "sh", "-c", 'find /sys/fs/cgroup -path "*$0*" -name pids.max -exec cat {} +', container],
        check=False, capture_output=True, text=True,  # it says 1 if a group of another test goes while it looks
    )  # fmt: skip
    return done.stdout.split()[0] == str(PIDS)


@pytest.mark.parametrize("way", WAYS)
def test_a_device_is_kept(lab: Lab, way: str) -> None:
    """The container can open it, and the rest of the update holds."""
    check_that_it_is_kept(lab, way)


@pytest.mark.parametrize("lab", ["crun-v1", "crun-v2"], indirect=True)
@pytest.mark.parametrize("way", CRUNS_WAYS)
def test_a_device_is_kept_by_cruns_words(lab: Lab, way: str) -> None:
    """So it is where only crun knows the spelling."""
    check_that_it_is_kept(lab, way)


def check_that_it_is_kept(lab: Lab, way: str) -> None:
    container = started(lab)
    assert can_open(lab, container)
    file = lab.directory / "resources.json"
    text = resources(lab, devices=RULES)
    file.write_text(text, "utf-8")
    words = way.replace("FILE", str(file)).split()
    done = update(lab, *words, container, text="" if "FILE" in way else text)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert can_open(lab, container)
    assert is_updated(lab, container)
    assert file.read_text("utf-8") == text


def test_crun_takes_a_device_away(lab: Lab) -> None:
    """That is why; runc doesn't."""
    container = started(lab)
    command = lab.command("update", "--resources=-", container, program=lab.runtime.name)
    subprocess.run(command, env=lab.environ, check=True, input=resources(lab, devices=RULES), text=True)
    assert can_open(lab, container) == (lab.runtime.name == "runc")


@pytest.mark.parametrize("rules", [{}, {"devices": []}, {"devices": None}])
def test_no_rules(lab: Lab, rules: dict[str, Any]) -> None:
    """What has no rules holds too."""
    container = started(lab)
    assert update(lab, "--resources", "-", container, text=resources(lab, **rules)).returncode == 0
    assert can_open(lab, container)
    assert is_updated(lab, container)


def test_options_alone(lab: Lab) -> None:
    """So does an update without resources of its own."""
    container = started(lab)
    options = [] if is_updated(lab, container) else [f"--pids-limit={PIDS}"]
    assert update(lab, *options, container).returncode == 0
    assert can_open(lab, container)
    assert is_updated(lab, container)


def test_no_python_without_a_device(lab: Lab) -> None:
    """Of a container that asks for none the update goes to the runtime as it came, and its rules hold."""
    container, trace = started(lab, asks=False), lab.directory / "trace"
    command = [
        "strace",
        "-f",
        "-qq",
        "-e",
        "trace=execve",
        "-o",
        str(trace),
        *lab.command("update", "-r", "-", container),
    ]
    done = subprocess.run(
        command,
        env=lab.environ,
        cwd=lab.directory,
        check=False,
        input=resources(lab, devices=RULES),
        text=True,
    )
    assert done.returncode == 0
    assert "start.py" not in trace.read_text("utf-8")
    assert is_updated(lab, container)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--resources", "-"), "{"),
        (("--resources", "-"), "[]"),
        (("--resources=/nonexistent",), ""),
        (("--resources=/dev/null",), ""),
        (("--resources",), ""),
        (("--nonsense",), ""),
    ],
)
def test_what_is_wrong(lab: Lab, arguments: tuple[str, ...], text: str) -> None:
    """It is an error, and the container has its device."""
    container = started(lab)
    done = update(lab, *arguments, container, text=text)
    assert "Traceback" not in done.stderr
    if arguments != ("--resources=/dev/null",) and text != "[]":
        assert done.returncode != 0
        assert done.stderr
    assert can_open(lab, container)


def test_an_unknown_container(lab: Lab) -> None:
    """It is for the runtime to say that there is none."""
    started(lab)
    ours = update(lab, "--resources=-", "nobody", text=resources(lab, devices=RULES))
    theirs = subprocess.run(
        lab.command("update", "--resources=-", "nobody", program=lab.runtime.name),
        env=lab.environ, check=False, input=resources(lab, devices=RULES), text=True, capture_output=True,
    )  # fmt: skip
    assert ours.returncode == theirs.returncode != 0
    assert ours.stderr.partition("error")[2] == theirs.stderr.partition("error")[2]  # without the time


def test_the_default_root(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without --root crun's own dir counts."""
    monkeypatch.setattr(
        lab, "command", lambda *words, program=CDI_RUNTIME: [*lab.runtime.prefix, str(program), *words]
    )
    monkeypatch.setattr(lab, "state_root", lab.directory)
    container = started(lab)
    assert update(lab, "--resources=-", container, text=resources(lab, devices=RULES)).returncode == 0
    assert can_open(lab, container)
    lab.close()
