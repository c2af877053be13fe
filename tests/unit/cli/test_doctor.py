# SPDX-License-Identifier: Apache-2.0
"""cdi-hook doctor: its lines, its JSON and its exit status; tests/unit/doctor has what each check finds."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cdi_hook.doctor import checks

from .conftest import PROGRAM, VENDOR, Shape, World

if TYPE_CHECKING:
    from collections.abc import Iterator

SHAPE = Shape(("check", "level", "place", "message", "fix"), "BUNDLE", "FILE")
ASK = {"annotations": {"cdi.k8s.io/x": "vendor.com/gpu=gpu1"}}
GIVEN = ["GPU=1", "DRIVER=1"]


def test_lines_and_exit_status(cdi_hook: World) -> None:
    """Each finding is a line with its level, and below it what to do; the last line counts; without an error the status is 0."""
    cdi_hook.spec("vendor.json")
    path = cdi_hook.oci({**ASK, "process": {"env": GIVEN}})
    asked = f'ok       {cdi_hook.bundle} asks for vendor.com/gpu=gpu1 (annotation "cdi.k8s.io/x")\n'
    given = f"ok       {cdi_hook.bundle} was given all of that\n"
    before = path.read_bytes()
    assert cdi_hook("doctor", cdi_hook.bundle) == (0, f"{asked}{given}in all: 2 fine\n", "")
    assert path.read_bytes() == before
    cdi_hook.oci({"annotations": {"cdi.k8s.io": "vendor.com/gpu=gpu1"}})
    assert cdi_hook("doctor", cdi_hook.bundle) == (
        1,
        f'error    {cdi_hook.bundle} has the annotation "cdi.k8s.io", which asks for nothing: the key has to begin '
        "with cdi.k8s.io/\n         fix: --annotation cdi.k8s.io/NAME=vendor.com/gpu=gpu1\n",
        "",
    )


def test_what_is_wrong_comes_first(cdi_hook: World) -> None:
    """Errors come before warnings, and these before what is fine, whatever was looked at first."""
    cdi_hook.spec("vendor.json")
    cdi_hook.spec("damaged.json", "{")
    status, out, _ = cdi_hook("doctor", PATH=f"{cdi_hook.root}:/bin")
    *lines, last = [line for line in out.splitlines() if not line.startswith("  ")]
    levels = [line.split()[0] for line in lines]
    assert levels == sorted(levels, key=["error", "warning", "unknown", "ok"].index)
    assert (status, last.startswith(f"in all: {levels.count('error')} wrong, ")) == (1, True)


@pytest.mark.parametrize(("variable", "is_coloured"), [("OTHER", True), ("NO_COLOR", False)])
def test_colour(cdi_hook: World, variable: str, is_coloured: bool) -> None:
    """A level has a colour on a terminal, but not with NO_COLOR."""
    cdi_hook.spec("vendor.json")
    cdi_hook.oci({**ASK, "process": {"env": GIVEN}})
    command = shlex.join((str(PROGRAM), "doctor", str(cdi_hook.bundle)))
    environ = {**cdi_hook.environ, variable: "1"}
    done = subprocess.run(
        ["script", "-qec", command, "/dev/null"],
        env=environ,
        capture_output=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    assert (b"\x1b[32mok      \x1b[0m " in done.stdout) is is_coloured


def test_json(cdi_hook: World) -> None:
    """--json has the same."""
    cdi_hook.spec("vendor.json")
    cdi_hook.oci({**ASK, "process": {"env": GIVEN}})
    asks = f'{cdi_hook.bundle} asks for vendor.com/gpu=gpu1 (annotation "cdi.k8s.io/x")'
    assert cdi_hook.json("doctor", "--json", cdi_hook.bundle) == [
        {"check": check, "level": "ok", "place": "", "message": message, "fix": ""}
        for check, message in (("asked", asks), ("given", f"{cdi_hook.bundle} was given all of that"))
    ]


def test_a_host(cdi_hook: World) -> None:
    """A host is examined by all checks of the table, in its order, and an error in it is the exit status."""
    cdi_hook.spec("vendor.json")
    cdi_hook.spec("bad.yml", VENDOR)
    status, out, err = cdi_hook("doctor", "--json", PATH=f"{cdi_hook.root}:/bin")
    assert (status, err) == (1, "")
    found = json.loads(out)["items"]
    names = list(dict.fromkeys(one["check"] for one in found))
    assert names == [name for name in checks.CHECKS if name in names]
    assert {"engines", "runtimes", "configuration", "specs", "overlooked", "index", "python"} <= {*names}
    assert {one["level"] for one in found} <= {"ok", "warning", "error", "unknown"}
    assert [one["fix"] for one in found if one["check"] == "overlooked"] == [
        f"mv {cdi_hook.specs}/bad.yml {cdi_hook.specs}/bad.yaml"
    ]


@pytest.fixture
def everybodys() -> Iterator[World]:
    """A world that a user who isn't root can enter, unlike pytest's own dir."""
    with tempfile.TemporaryDirectory(prefix="cdi-") as directory:
        Path(directory).chmod(0o755)
        yield World(Path(directory))


def as_user(world: World, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run doctor as a user who isn't root."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only root can become a user")
    user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    done = subprocess.run(
        [*user, PROGRAM, "doctor", *arguments], env=world.environ, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    if "can't open file" in done.stderr or "Permission denied" in done.stderr:
        pytest.skip("a user can't enter the dir that this tree is in")
    assert done.stderr == ""
    return done


def test_a_users_container(everybodys: World) -> None:
    """A user who may not read LOG is told that root may, and that is no error."""
    log = everybodys.root / "log"
    log.write_text("")
    log.chmod(0o600)
    everybodys.configure(LOG=str(log))
    everybodys.spec("vendor.json")
    everybodys.oci({**ASK, "process": {"env": GIVEN}})
    done = as_user(everybodys, everybodys.bundle)
    assert done.stdout.splitlines()[:2] == [
        f"unknown  LOG={log} can't be read: Permission denied",
        f"         fix: sudo {PROGRAM} doctor {everybodys.bundle}",
    ]
    assert done.returncode == 0


def test_a_users_host(everybodys: World) -> None:
    """A spec and a spec dir that a user may not read are for root to look at."""
    path = Path(everybodys.spec("vendor.json"))
    path.chmod(0o600)
    closed = everybodys.root / "closed"
    closed.mkdir(mode=0o700)
    everybodys.configure(SPEC_DIRS=f"{everybodys.specs}:{closed}")
    found = json.loads(as_user(everybodys, "--json").stdout)["items"]
    assert [one for one in found if one["check"] == "specs"] == [
        {
            "check": "specs",
            "level": "unknown",
            "place": "",
            "message": f"{one}: only root may read it",
            "fix": f"sudo {PROGRAM} doctor",
        }
        for one in (path, closed)
    ]
    fixes = {one["fix"] for one in found if one["check"] == "engines" and one["level"] == "error"}
    assert all(fix.startswith(f"sudo {PROGRAM} configure ") for fix in fixes)


def test_links_are_made(cdi_hook: World) -> None:
    """--fix makes the links that are missing and says so; a second time there is nothing to make."""
    unshare = ["unshare", "-m", "--propagation", "private"]
    if os.geteuid() != 0 or subprocess.run([*unshare, "true"], check=False).returncode:
        pytest.skip("a /dev of its own needs root")
    cdi_hook.spec(
        "vendor.json",
        {
            "cdiVersion": "0.6.0",
            "kind": "vendor.com/gpu",
            "devices": [{"name": "gpu0", "containerEdits": {"deviceNodes": [{"path": "/dev/mine"}]}}],
        },
    )
    script = """
    mount -t tmpfs none /dev
    for node in null:1:3 mine:1:7; do
        mknod -m 666 /dev/${node%%:*} c $(echo ${node#*:} | tr : " ")
    done
    "$0" doctor --fix --json || :
    "$0" doctor --fix --json || :
    readlink /dev/char/1:7
    """
    done = subprocess.run(
        [*unshare, "sh", "-ec", script, PROGRAM], env=cdi_hook.environ, capture_output=True, text=True,
        check=False, timeout=60,
    )  # fmt: skip
    first, second, target = done.stdout.splitlines()
    fact = "/dev/char/1:7 was made, for /dev/mine"
    assert json.loads(first)["items"][0] == {
        "check": "links",
        "level": "ok",
        "place": "",
        "message": fact,
        "fix": "",
    }
    assert not [one for one in json.loads(second)["items"] if one["check"] == "links"]
    assert (target, done.stderr) == ("../mine", "")
