# SPDX-License-Identifier: Apache-2.0
"""cdi-hook precreate, createRuntime and prestart without an engine: stdin and stdout, exit statuses, where errors go."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.unit.cli.conftest import World

ROOT = Path(__file__).resolve().parents[3]
PROGRAM = ROOT / "packaging/bin/cdi-hook"

STAGES = ["precreate", "createRuntime", "prestart"]


def asking(value: str = "vendor.com/gpu=gpu0", **more: Any) -> dict[str, Any]:
    """Return an OCI spec that asks for a device."""
    return {"ociVersion": "1.0.2", "annotations": {"cdi.k8s.io/a": value}, "root": {"path": "rootfs"}, **more}


def state(world: World, oci: object = None) -> str:
    """Return the state of a container whose bundle is the world's, and whose process is this one."""
    if oci is not None:
        world.oci(oci)
    return json.dumps({"ociVersion": "1.0.2", "id": "x", "pid": os.getpid(), "bundle": str(world.bundle)})


def test_precreate_edits(cdi_hook: World) -> None:
    """precreate prints the OCI spec with every edit, and keeps unknown fields."""
    cdi_hook.spec("vendor.json")
    oci = {**asking(), "x-unknown": [1.50]}
    edited = cdi_hook.json("precreate", stdin=json.dumps(oci))
    device = {"path": "/dev/gpu0", "type": "c", "major": 195, "minor": 7, "fileMode": 432}
    rule = {"allow": True, "type": "c", "major": 195, "minor": 7, "access": "rwm"}
    assert edited == {
        **oci,
        "process": {"user": {"uid": 0, "gid": 0}, "cwd": "", "env": ["DRIVER=1", "GPU=0"]},
        "linux": {"devices": [device], "resources": {"devices": [rule]}},
    }
    assert list(edited) == [*oci, "process", "linux"]


def test_precreate_twice_is_once(cdi_hook: World) -> None:
    """precreate prints its own output unchanged."""
    cdi_hook.spec("vendor.json")
    _, once, _ = cdi_hook("precreate", stdin=json.dumps(asking()))
    assert cdi_hook("precreate", stdin=once) == (0, once, "")


def test_precreate_prints_what_it_leaves_alone_as_it_came(cdi_hook: World) -> None:
    """If nothing is asked for, stdout is stdin to the byte."""
    text = '{ "b":1.0e1,\n\t"a": "\\u0041" }\n\n'
    assert cdi_hook("precreate", stdin=text) == (0, text, "")


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(
    ("oci", "configuration", "status", "message"),
    [
        (asking("vendor.com/gpu=gpu9"), {}, 6, "CDI device injection failed: unresolvable CDI devices vendor.com/gpu=gpu9 (asked"),
        (asking("gpu0"), {}, 5, 'CDI device injection failed: annotation "cdi.k8s.io/a": invalid CDI device name "gpu0" ('),
        (asking(), {"DENY": "vendor.com/*"}, 5, "CDI device injection failed: device vendor.com/gpu=gpu0 (asked for by annotation"),
        (asking(), {"SANDBOXES": "maybe"}, 4, "CDI device injection failed: the configuration can't be used: "),
        (asking(linux=7), {}, 7, "CDI device injection failed: the OCI spec's .linux is not an object; "),
        ([], {}, 3, ""),
    ],
    ids=["unknown", "malformed", "denied", "configuration", "impossible", "no object"],
)  # fmt: skip
def test_status_of_each_kind_of_failure(
    cdi_hook: World, stage: str, oci: object, configuration: dict[str, str], status: int, message: str
) -> None:
    """Each kind of failure has its exit status; the error is one line on stderr, and the same in LOG."""
    log = cdi_hook.root / "log"
    cdi_hook.spec("vendor.json")
    cdi_hook.configure(LOG=str(log), **configuration)
    stdin = json.dumps(oci) if stage == "precreate" else state(cdi_hook, oci)
    done, out, err = cdi_hook(stage, stdin=stdin)
    assert (done, out, err.count("\n")) == (status, "", 1)
    assert err.startswith(message)
    [line] = log.read_text().splitlines()
    assert (json.loads(line)["level"], json.loads(line)["msg"]) == ("ERROR", err[:-1])


@pytest.mark.parametrize(
    ("stage", "stdin", "message"),
    [
        ("precreate", "", "stdin must be an OCI spec, but "),
        ("precreate", "[]", "stdin must be an OCI spec, but "),
        ("createRuntime", "{", "stdin must be a container's state, but "),
        ("createRuntime", "{}", "the container's state on stdin has no process id in .pid"),
        ("prestart", '{"pid": -1}', "the container's state on stdin has no process id in .pid"),
        ("prestart", '{"pid": 1}', "the container's state on stdin has no absolute path in .bundle"),
        (
            "prestart",
            '{"pid": 1, "bundle": "b"}',
            "the container's state on stdin has no absolute path in .bundle",
        ),
        (
            "createRuntime",
            '{"pid": 1, "bundle": "/"}',
            'the container\'s state on stdin has "/" in .bundle, which crun writes in a user namespace; call crun ',
        ),
        (
            "prestart",
            '{"pid": 1, "bundle": "/none"}',
            'no bundle at "/none": there is no "/none/config.json"',
        ),
    ],
)
def test_stdin_that_is_no_use(cdi_hook: World, stage: str, stdin: str, message: str) -> None:
    """The message says what stdin must be, and the status is 3."""
    status, out, err = cdi_hook(stage, stdin=stdin)
    assert (status, out) == (3, "")
    assert err.startswith(message)


@pytest.mark.parametrize("configuration", [{}, {"LOG": "/dev/null"}], ids=["syslog", "LOG"])
def test_names_that_are_not_utf8(cdi_hook: World, configuration: dict[str, str]) -> None:
    """A spec file that can't be used is reported, whatever its name is."""
    cdi_hook.spec("vendor.json")
    (cdi_hook.specs / os.fsdecode(b"\xff.json")).touch()
    cdi_hook.configure(**configuration)
    status, out, err = cdi_hook("precreate", stdin=json.dumps(asking("vendor.com/gpu=gpu9")))
    assert (status, out, err.count("\n")) == (6, "", 2)
    assert err.startswith("Refreshing the CDI registry generated errors: ")


@pytest.mark.parametrize("stage", ["createRuntime", "prestart"])
def test_nothing_asked_nothing_done(cdi_hook: World, stage: str) -> None:
    """If a container asks for nothing, or has everything, its process isn't even looked at."""
    cdi_hook.spec("vendor.json")
    path = cdi_hook.oci({"ociVersion": "1.0.2"})
    assert cdi_hook(stage, stdin=state(cdi_hook)) == (0, "", "")
    path.write_text(json.dumps(cdi_hook.json("precreate", stdin=json.dumps(asking()))))
    before = path.stat()
    assert cdi_hook(stage, stdin=state(cdi_hook)) == (0, "", "")
    assert (path.stat().st_ino, path.stat().st_ctime_ns) == (before.st_ino, before.st_ctime_ns)


def test_configuration_by_option(cdi_hook: World) -> None:
    """--config names the configuration of a hook as of any command, and --debug shows where an error comes from."""
    cdi_hook.spec("vendor.json")
    other = cdi_hook.root / "other.conf"
    other.write_text(f"SPEC_DIRS={cdi_hook.specs}\nDENY=*\n")
    status, _, err = cdi_hook("precreate", "--config", other, stdin=json.dumps(asking()))
    assert (status, f"DENY=* ({other}:2) refuses it" in err) == (5, True)
    status, _, err = cdi_hook("--debug", "precreate", "--config", other, stdin=json.dumps(asking()))
    assert (status, err.startswith("Traceback ")) == (1, True)


@pytest.mark.parametrize("old", ["import argv", "pipeline.inject("])
def test_modules_that_are_being_replaced(cdi_hook: World, tmp_path: Path, old: str) -> None:
    """If modules don't fit each other, as in the middle of an upgrade, a hook restarts until they do, with its stdin."""
    cdi_hook.spec("vendor.json")
    tree = tmp_path / "tree"
    skipped = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "cdi_hook", tree / "cdi_hook", ignore=skipped)
    shutil.copytree(PROGRAM.parent, tree / "packaging/bin")
    module = tree / "cdi_hook/hooks/entry.py"
    text = module.read_text("utf-8")
    module.write_text(text.replace(old, f"{old[:-5]}other{old[-5:]}"), "utf-8")
    stdin = json.dumps(asking())
    with (tmp_path / "stdin").open("w+", encoding="utf-8") as file:
        file.write(stdin)
        file.seek(0)
        started = subprocess.Popen(
            [tree / "packaging/bin/cdi-hook", "precreate"], env=cdi_hook.environ, text=True,
            stdin=file, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
    with pytest.raises(subprocess.TimeoutExpired):
        started.wait(0.4)
    module.with_suffix(".new").write_text(text, "utf-8")
    module.with_suffix(".new").rename(module)
    assert (started.communicate()[0], started.returncode) == (cdi_hook("precreate", stdin=stdin)[1], 0)


def test_no_name_controls_a_terminal(cdi_hook: World) -> None:
    """What can't be printed in a spec file's name is escaped on stderr and in LOG."""
    own = cdi_hook.root / "log"
    cdi_hook.configure(LOG=str(own))
    (cdi_hook.specs / "\x1b[31m\x9b.yaml").write_text('cdiVersion: "9"\n')
    status, _, err = cdi_hook("precreate", stdin=json.dumps(asking()))
    assert status != 0
    for text in (err, own.read_text()):
        assert text.replace("\n", "").isprintable()
        assert "[31m" in text


@pytest.mark.parametrize("configuration", [{}, {"LOG": "/none/log"}, {"LOG": "/dev/full"}], ids=str)
def test_errors_go_to_syslog(cdi_hook: World, tmp_path: Path, configuration: dict[str, str]) -> None:
    """Without LOG, or if LOG can't be written, an error goes to syslog's daemon facility; stderr may be closed."""
    cdi_hook.configure(**configuration)
    if os.geteuid() != 0:
        pytest.skip("/dev/log can't be replaced here: it takes root")
    (tmp_path / "dev").mkdir()
    os.mknod(tmp_path / "dev/full", 0o666 | stat.S_IFCHR, Path("/dev/full").stat().st_rdev)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(tmp_path / "dev/log"))
        syslog.settimeout(20)
        script = f"mount --bind {tmp_path}/dev /dev; exec {PROGRAM} precreate 2>&-"
        subprocess.run(
            ["unshare", "-m", "sh", "-ec", script],
            input="no JSON",
            env=cdi_hook.environ,
            text=True,
            check=False,
        )
        said = syslog.recv(4096).decode()
    assert said.startswith("<27>")
    assert "cdi-hook: stdin must be an OCI spec, but " in said
