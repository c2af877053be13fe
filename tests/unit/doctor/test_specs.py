# SPDX-License-Identifier: Apache-2.0
"""doctor.specs: which specs count, which are overlooked, and what of the host they miss."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cdi_hook.catalog import index_writer
from cdi_hook.doctor.checks import of_specs
from cdi_hook.inject import explain

from .conftest import said

if TYPE_CHECKING:
    from cdi_hook.errors import Finding

    from .conftest import Place

REMAKE = f"{explain.GENERATE} (cdi-hook validate /T/cdi/vendor.json shows all of it)"
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root's specs are held to SPEC_TRUST")


def test_dirs(place: Place) -> None:
    """The dirs are named with the number of their specs, and a file that is refused with what shows more."""
    place.spec()
    place.write("cdi/bad.yaml", "{}")
    fix = "cdi-hook validate /T/cdi/bad.yaml"
    assert said(of_specs.check_dirs, place) == [
        ("ok", "1 device in the specs of /T/cdi (1)", ""),
        (
            "error",
            "/T/cdi/bad.yaml: .cdiVersion: there is no cdiVersion; this spec needs 0.3.0 (and 2 more)",
            fix,
        ),
    ]


def test_no_spec(place: Place) -> None:
    """A host without a spec is told what makes one."""
    assert said(of_specs.check_dirs, place) == [
        (
            "error",
            "no CDI spec in /T/cdi" if os.geteuid() == 0 else "no CDI spec in /T/cdi, /T/.config/cdi",
            f"{'' if os.geteuid() == 0 else 'sudo '}cdi-hook generate CLASS --output /etc/cdi; "
            '"cdi-hook generate" shows the classes',
        )
    ]


def test_dir_that_is_not_there(place: Place) -> None:
    """A dir that SPEC_DIRS names and that isn't there is found; of the default dirs either may be missing."""
    place.spec()
    place.configure(SPEC_DIRS=f"{place.specs}:{place.root}/cdii")
    fact = "/T/cdi-hook.conf:1: SPEC_DIRS: there is no /T/cdii"
    assert said(of_specs.check_dirs, place)[1:] == [("warning", fact, "")]


@ROOT
@pytest.mark.parametrize(
    ("mode", "owner", "reason", "fix"),
    [
        (0o666, 0, "is writable by others than root (mode 0666)", "chmod go-w"),
        (0o644, 1, "belongs to uid 1, not to root", "chown root"),
    ],
)
def test_spec_that_is_not_trusted(place: Place, mode: int, owner: int, reason: str, fix: str) -> None:
    """A spec that others could have written is refused, and the command that mends it is given."""
    path = place.spec()
    Path(path).chmod(mode)
    os.chown(path, owner, 0)
    fact = f"/T/cdi/vendor.json: refused by SPEC_TRUST=strict: /T/cdi/vendor.json {reason}"
    assert said(of_specs.check_dirs, place) == [("error", fact, f"{fix} /T/cdi/vendor.json")]


def test_overlooked(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root's specs with another ending, in a dir of a spec dir, or in a dir that isn't in SPEC_DIRS are found."""
    monkeypatch.setattr("cdi_hook.base.files.is_system_root", lambda: True)  # a user's own dir is read
    spec = Path(place.spec("right.yaml")).read_text()
    place.write("cdi/a.yml", spec)
    place.write("cdi/b.JSON", spec)
    place.write("cdi/c.yaml~", spec)
    place.write("cdi/sub/d.json", spec)
    place.write("etc/cdi/e.yaml", spec)
    place.write(".config/cdi/f.yaml", spec)
    ending = "isn't read, because its name ends neither in .json nor in .yaml"
    assert said(of_specs.check_overlooked, place) == [
        ("error", f"/T/cdi/a.yml {ending}", "mv /T/cdi/a.yml /T/cdi/a.yaml"),
        ("error", f"/T/cdi/b.JSON {ending}", "mv /T/cdi/b.JSON /T/cdi/b.json"),
        (
            "warning",
            "/T/cdi/sub/d.json isn't read: a spec dir's own dirs aren't read",
            "mv /T/cdi/sub/d.json /T/cdi/d.json",
        ),
        (
            "warning",
            "/T/etc/cdi/e.yaml isn't read: /etc/cdi isn't in SPEC_DIRS",
            "mv /T/etc/cdi/e.yaml /T/cdi/e.yaml",
        ),
        (
            "warning",
            "/T/.config/cdi/f.yaml isn't read: ~/.config/cdi isn't in SPEC_DIRS",
            "mv /T/.config/cdi/f.yaml /T/cdi/f.yaml",
        ),
    ]


def test_hook_without_env(place: Place) -> None:
    """A hook that an image's variables may reach is named, with the CVE; others are not."""
    stages: dict[str, list[str]] = {
        "createContainer": [],
        "createRuntime": [],
        "startContainer": [],
        "poststop": [],
    }
    hooks = [{"hookName": stage, "path": "/bin/true", "env": env} for stage, env in stages.items()]
    place.spec(hooks=[*hooks, {**hooks[0], "env": ["A=1"]}])
    [(level, fact, fix)] = said(of_specs.check_hooks, place)
    assert (level, fix) == ("warning", "cdi-hook validate /T/cdi/vendor.json")
    assert fact.startswith('/T/cdi/vendor.json: the createContainer hook "/bin/true" has no env.')
    assert "CVE-2025-23266" in fact


def test_stale(place: Place) -> None:
    """A node, a bind mount's source and a hook's program that are gone are found, with the device."""
    edits: dict[str, Any] = {
        "deviceNodes": [{"path": "/dev/null"}, {"path": "/dev/gone", "hostPath": "/dev/gone0"}],
        "mounts": [
            {"hostPath": "/gone/lib", "containerPath": "/lib", "options": ["bind"]},
            {"hostPath": "tmpfs", "containerPath": "/t", "type": "tmpfs"},
        ],
        "hooks": [
            {"hookName": "createContainer", "path": "/gone/hook"},
            {"hookName": "startContainer", "path": "/in/container"},
        ],
    }
    place.spec(**edits)
    place.spec("good.json", "good.com/gpu", deviceNodes=[{"path": "/dev/null"}])
    fact = '/T/cdi/vendor.json: the host has no "/dev/gone0" and 2 more, needed by vendor.com/gpu=gpu0'
    assert said(of_specs.check_stale, place) == [("error", fact, REMAKE)]


def test_dangling_link(place: Place) -> None:
    """A link whose target is gone is gone too."""
    (place.root / "node").symlink_to("/dev/gone")
    place.spec(deviceNodes=[{"path": "/dev/x", "hostPath": str(place.root / "node")}])
    reason = '"/T/node" is a link to "/dev/gone", and the host has no such file'
    fact = f"/T/cdi/vendor.json: {reason}, needed by vendor.com/gpu=gpu0"
    assert said(of_specs.check_stale, place) == [("error", fact, REMAKE)]


def test_one_letter(place: Place) -> None:
    """A vendor or class of one letter is found, because engines crash at it."""
    place.spec(kind="a.com/b")
    ((level, fact, fix),) = said(of_specs.check_names, place)
    assert (level, fix) == ("error", "cdi-hook validate /T/cdi/vendor.json")
    assert fact.startswith('/T/cdi/vendor.json: the class "b" has one letter, which crashes docker, podman ')
    place.spec()
    assert said(of_specs.check_names, place) == []


@ROOT
def test_writers(place: Place) -> None:
    """What others can write is found: the configuration, a hook's program; and that specs aren't held to it."""
    program = place.program("hook", "exit 0")
    place.spec(hooks=[{"hookName": "createRuntime", "path": program}])
    assert said(of_specs.check_writers, place) == []
    Path(program).chmod(0o777)
    place.configure(SPEC_TRUST="none")
    place.config.chmod(0o664)
    assert said(of_specs.check_writers, place) == [
        (
            "warning",
            "SPEC_TRUST=none: who can write a spec can have root run any program",
            "set SPEC_TRUST=strict in /T/cdi-hook.conf",
        ),
        (
            "error",
            "/T/cdi-hook.conf, the configuration: /T/cdi-hook.conf is writable by others than root (mode 0664)",
            "chmod go-w /T/cdi-hook.conf",
        ),
        (
            "error",
            "/T/bin/hook, a hook's program, of /T/cdi/vendor.json: /T/bin/hook is writable by others than root "
            "(mode 0777)",
            "chmod go-w /T/bin/hook",
        ),
    ]


def test_links(place: Place) -> None:
    """Where systemd runs, a missing link in /dev/char is found, and made; only some runtimes need it."""
    place.spec(deviceNodes=[{"path": "/dev/null"}, {"path": "/dev/zero"}, {"path": "/dev/gone"}])
    place.program("runc", "echo runc version 1.1.15+ds1")
    place.configure(RUNTIMES="runc")
    assert said(of_specs.check_links, place) == []
    (place.root / "run/systemd/system").mkdir(parents=True)
    fact = "no /T/dev/char/1:3 for /dev/null and 1 more, which {}"
    needless = fact.format("only runc 1.1.3 to 1.1.6 needs")
    assert said(of_specs.check_links, place) == [("ok", needless, "")]
    place.program("runc", "echo runc version 1.1.5")
    ((level, said_of_it, fix),) = said(of_specs.check_links, place)
    assert (level, fix.split()[-3:]) == ("warning", ["cdi-hook", "doctor", "--fix"])
    assert said_of_it == fact.format(
        "this runc needs: where systemd makes the cgroups, containers lose the device after "
        "`systemctl daemon-reload`"
    )
    links = place.root / "dev/char"
    made = {str(links / "1:3"): "/dev/null", str(links / "1:5"): "/dev/zero"}
    assert of_specs.make_links(place.patient()) == made
    assert (links / "1:3").resolve() == Path("/dev/null")
    (links / "1:5").unlink()
    (links / "1:5").symlink_to("../gone")
    assert of_specs.make_links(place.patient()) == {str(links / "1:5"): "/dev/zero"}
    assert said(of_specs.check_links, place) == []
    assert of_specs.make_links(place.patient()) == {}


def test_index(place: Place) -> None:
    """An index that is missing, holds, is out of date, or could be anybody's is told apart."""
    place.spec()
    patient = place.patient()
    path = patient.registry.index.path.replace(str(place.root), "/T")
    ((level, fact, fix),) = said(of_specs.check_index, place)
    assert (level, fact) == ("warning", f"no index at {path} yet: the next container's start builds it")
    assert fix.split()[-2:] == ["cdi-hook", "index"]
    time.sleep(0.06)
    index_writer.build(patient.registry.index, patient.registry.cache)
    ((level, fact, fix),) = said(of_specs.check_index, place)
    assert (level, fact.replace("1 second", "0 seconds"), fix) == (
        "ok", f"{path} is 0 seconds old and up to date", ""
    )  # fmt: skip
    os.utime(patient.registry.index.path, (time.time() - 7300, time.time() - 7300))
    place.spec("other.json", "other.com/gpu")
    ((level, fact, _),) = said(of_specs.check_index, place)
    assert (level, fact) == (
        "warning",
        f"{path} is 2 hours old and out of date: the next container's start rebuilds it",
    )
    Path(patient.registry.index.path).chmod(0o666)
    ((level, fact, _),) = said(of_specs.check_index, place)
    assert (level, fact) == (
        "warning",
        f"{path} isn't read: others can write it, or it is of another version or damaged",
    )


def test_no_place_for_an_index(place: Place) -> None:
    """A user without a runtime dir has no index."""

    def check(_: object) -> list[Finding]:
        patient = place.patient()
        patient.host.state_dir = ""
        patient.registry = patient.host.registry()
        return of_specs.check_index(patient)

    fact = "there is no place for an index, so each container's start reads the specs"
    assert said(check, place) == [("warning", fact, "set XDG_RUNTIME_DIR, as a login by systemd does")]
