# SPDX-License-Identifier: Apache-2.0
"""doctor.host: Python, the configuration, the runtimes, cgroups, units and the kernel's log."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cdi_hook.base import packages
from cdi_hook.doctor import checks
from cdi_hook.doctor.checks import of_host

from .conftest import said

if TYPE_CHECKING:
    from cdi_hook.errors import Finding

    from .conftest import Place

SYSTEMD = "run/systemd/system/x"
NOT_ENABLED = "not enabled: cdi-hook-index.path"


def test_python(place: Place) -> None:
    """The version of Python and of PyYAML is said, and whether PyYAML has its C parser."""
    import yaml

    ((level, fact, fix),) = said(of_host.check_python, place)
    assert (level, fact, fix) == (
        "ok",
        f"Python {platform.python_version()}, PyYAML {yaml.__version__} with its C parser",
        "",
    )


def test_packages_that_are_missing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PyYAML no spec can be read, and the checks that need it say nothing instead of failing."""
    place.write(place.specs / "vendor.yaml", "kind: vendor.com/gpu\n")
    place.configure(LOG=str(place.root / "log"))
    missing = {"tomli", "pythonjsonlogger"}
    monkeypatch.setitem(sys.modules, "tomllib", None)
    monkeypatch.setattr(packages, "has", lambda name: name not in missing)
    assert [line[:2] for line in said(of_host.check_python, place)[1:]] == [
        (
            "warning",
            "no tomli: `cdi-hook configure` edits only docker's configuration, and doctor reads no other",
        ),
        ("ok", "no python-json-logger: errors in LOG are written without it"),
    ]
    missing.add("yaml")
    for name in [
        name
        for name in sys.modules
        if name.partition(".")[0] == "yaml" or name.startswith(("cdi_hook.specs", "cdi_hook.catalog"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "yaml", None)
    python = f"Python {platform.python_version()}"
    assert said(of_host.check_python, place) == [
        (
            "error",
            f"{python} has no PyYAML, so no spec can be read",
            "install python3-yaml (Debian), python3-pyyaml (Fedora) or PyYAML (pip)",
        )
    ]
    checked = [name for name, _ in checks.examine(place.patient(), debug=True)]
    assert not {"specs", "overlooked", "stale"} & {*checked}
    assert "python" in checked


def test_configuration(place: Place) -> None:
    """The keys that are set are named, and so is each line that can't be used."""
    assert said(of_host.check_configuration, place) == [("ok", "/T/cdi-hook.conf sets SPEC_DIRS", "")]
    place.write(place.config, "SANDBOXES=maybe\nALOW=*\n")
    found = said(of_host.check_configuration, place)
    assert [(level, fact.partition(" ")[0]) for level, fact, _ in found] == [
        ("error", "/T/cdi-hook.conf:1:"),
        ("error", "/T/cdi-hook.conf:2:"),
    ]
    place.config.unlink()
    assert said(of_host.check_configuration, place) == [
        ("ok", "there is no /T/cdi-hook.conf: the defaults count", "")
    ]


def test_a_host_without_a_place_for_claims(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """There EXCLUSIVE doesn't hold between users."""
    place.configure(EXCLUSIVE="vendor.com/gpu=*")
    assert [level for level, _, _ in said(of_host.check_exclusive, place)] == ["ok"]
    monkeypatch.setattr("cdi_hook.leases.claims.SHARED", str(place.root))
    assert said(of_host.check_exclusive, place)[1:] == [
        (
            "warning",
            "EXCLUSIVE doesn't see containers of other users: /T isn't there, or isn't sticky",
            "mount a tmpfs with mode 1777 on /T",
        )
    ]


def test_patterns_that_match_no_device(place: Place) -> None:
    """Each is named with its line; with no device at all, and without the keys, there is nothing to say."""
    rules = {"EXCLUSIVE": "vendor.com/gpu=* vendor.com/gup=*", "DENY_a": "vendor.com/gpu=any namespace=x"}
    place.configure(ALLOW="vendor.com/*=gpu? v.com/gpu=gpu0", **rules)
    assert said(of_host.check_patterns, place) == []
    place.spec()
    fix = "cdi-hook list shows their names"
    assert said(of_host.check_patterns, place) == [
        ("warning", f"{what} (/T/cdi-hook.conf:{line}) matches no device of this host", fix)
        for what, line in (
            ("EXCLUSIVE=vendor.com/gup=*", 3),
            ("ALLOW=v.com/gpu=gpu0", 2),
            ("DENY_a=vendor.com/gpu=any", 4),
        )
    ]
    place.configure()
    assert said(of_host.check_patterns, place) == []


def test_log_that_cannot_be_written(place: Place) -> None:
    """A LOG in a dir that isn't there is found."""
    place.configure(LOG=str(place.root / "nowhere/log"))
    level, fact, _ = said(of_host.check_configuration, place)[1]
    if os.geteuid() == 0:
        assert (level, fact) == ("error", "LOG=/T/nowhere/log can't be written")
    else:
        assert (level, fact) == ("unknown", "LOG=/T/nowhere/log is written by root only")


def test_runtimes(place: Place) -> None:
    """The first of RUNTIMES that exists is what cdi-runtime calls, with its version and what it ignores."""
    new = place.program(
        "new", '[ $1 = features ] && echo \'{"linux":{"netDevices":{"enabled":true}}}\' || echo "new 1"'
    )
    place.program("old", 'echo "old 0.1"')
    (place.programs / "cdi-loop").symlink_to("/usr/bin/true")
    place.configure(RUNTIMES=f"nowhere cdi-loop old {new}")
    fact = (
        "cdi-runtime calls /T/bin/old (old 0.1), which ignores netDevices, intelRdt.schemata, "
        "intelRdt.monitoring; /T/bin/new (new 1) is there too"
    )
    assert said(of_host.check_runtimes, place) == [("ok", fact, "")]
    place.spec(netDevices=[{"hostInterfaceName": "eth9", "name": "e"}])
    assert said(of_host.check_runtimes, place)[1:] == [
        (
            "error",
            "/T/bin/old ignores netDevices.enabled, which /T/cdi/vendor.json needs: its containers are refused",
            "install runc 1.4 or crun 1.22, or later, and name it in RUNTIMES",
        )
    ]
    place.configure(RUNTIMES="new")
    assert len(said(of_host.check_runtimes, place)) == 1


def test_no_runtime(place: Place) -> None:
    """A host without any of RUNTIMES is told so."""
    place.configure(RUNTIMES="nowhere /not/there")
    assert said(of_host.check_runtimes, place) == [
        (
            "error",
            "none of RUNTIMES (nowhere /not/there) is on PATH or in the standard dirs",
            "install runc or crun, or give a path in RUNTIMES",
        )
    ]


@pytest.mark.parametrize("name", ["runc", "crun"])
def test_real_runtimes(place: Place, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A real runtime is found, with its version."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(place.root))  # without one crun says nothing to a user
    path = shutil.which(name, path="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin")
    if not path:
        pytest.skip(f"{name} isn't installed")
    place.configure(RUNTIMES=path)
    ((level, fact, _),) = said(of_host.check_runtimes, place)
    assert level == "ok"
    assert fact.startswith(f"cdi-runtime calls {path} ({name} version ")


@pytest.mark.parametrize(
    ("files", "runtimes", "expected"),
    [
        (["cgroup.controllers"], "crun", ("ok", "cgroup v2", "")),
        (["devices/x"], "crun", ("ok", "cgroup v1", "")),
        (
            ["devices/x", "unified/cgroup.controllers"],
            "runc crun",
            ("ok", "cgroup v1, with v2 beside it: crun refuses to run there", ""),
        ),
        (
            ["devices/x", "unified/cgroup.controllers"],
            "crun runc",
            (
                "error",
                "cgroup v1 and v2 are both mounted, where crun refuses to run, and cdi-runtime calls /T/bin/crun",
                "set RUNTIMES=runc in /T/cdi-hook.conf",
            ),
        ),
        (
            [],
            "runc",
            ("warning", "no cgroups that can hold device rules are mounted on /T/sys/fs/cgroup", ""),
        ),
    ],
    ids=["v2", "v1", "hybrid", "hybrid with crun", "none"],
)
def test_cgroups(place: Place, files: list[str], runtimes: str, expected: tuple[str, str, str]) -> None:
    """The layout is told by what is mounted, and crun isn't called where it refuses to run."""
    for name in ("runc", "crun"):
        place.program(name, "")
    place.configure(RUNTIMES=runtimes)
    for file in files:
        place.write(f"sys/fs/cgroup/{file}", "")
    assert said(of_host.check_cgroups, place) == [expected]


def test_units(place: Place) -> None:
    """Units that have failed or aren't enabled are found; without systemd, or without units, nothing is said."""
    names = (
        "cdi-hook-generate.path",
        "cdi-hook-index.path",
        "cdi-hook-index.service",
        "cdi-hook-other.service",
    )
    states = (("disabled", "inactive"), ("disabled", "active"), ("enabled", "failed"), ("static", "inactive"))
    blocks = [
        f"Id={name}\nUnitFileState={enabled}\nActiveState={active}\n"
        for name, (enabled, active) in zip(names, states)
    ]
    text = "\n".join(blocks)
    place.program("systemctl", f"printf %s '{text}'")
    assert said(of_host.check_units, place) == []
    place.write(SYSTEMD, "")
    assert said(of_host.check_units, place) == []
    for name in names:
        place.write(f"usr/lib/systemd/system/{name}", "")
    found = said(of_host.check_units, place)
    assert found[0] == (
        "error",
        "the unit cdi-hook-index.service has failed",
        "systemctl status cdi-hook-index.service; journalctl -u cdi-hook-index.service",
    )
    assert found[1][:2] == ("warning", NOT_ENABLED)
    assert found[1][2].endswith("systemctl enable --now cdi-hook-index.path")
    assert found[2] == ("ok", "enabled: cdi-hook-other.service", "")
    place.configure(GENERATE="kvm")
    assert (
        said(of_host.check_units, place)[1][1] == "not enabled: cdi-hook-generate.path, cdi-hook-index.path"
    )


def test_systemd_that_does_not_answer(place: Place) -> None:
    """A systemctl that fails is no reason to stop."""
    place.program("systemctl", "echo no bus >&2; exit 1")
    place.write(SYSTEMD, "")
    place.write("usr/lib/systemd/system/cdi-hook-index.path", "")
    ((level, fact, _),) = said(of_host.check_units, place)
    assert (level, fact) == ("unknown", "systemd doesn't say how cdi-hook's units are: no bus")


AUDIT = """\
type=AVC msg=audit(1.1:1): apparmor="DENIED" operation="open" profile="crun" name="/etc/cdi/x" comm="python3"
type=AVC msg=audit(1.1:2): apparmor="DENIED" operation="mount" profile="docker-default" name="/greeting" comm="sh"
type=AVC msg=audit(1.1:3): apparmor="DENIED" operation="open" profile="cupsd" name="/etc/x" comm="cupsd"
type=AVC msg=audit(1.1:4): avc:  denied  { read write } for pid=1 comm="nvidia-smi" path="/dev/null" dev="devtmpfs"
type=AVC msg=audit(1.1:5): apparmor="DENIED" operation="mount" profile="docker-default" name="/greeting" comm="sh"
"""


def test_denials(place: Place) -> None:
    """What AppArmor or SELinux denied to the runtimes, or of what specs give to containers, is found once."""
    place.spec(
        deviceNodes=[{"path": "/dev/null"}],
        mounts=[{"hostPath": "/x", "containerPath": "/greeting", "options": ["bind"]}],
    )
    place.write("var/log/audit/audit.log", AUDIT)
    assert said(of_host.check_kernel, place) == []
    place.write("sys/module/apparmor/x", "")
    profile = "/etc/apparmor.d/local"
    assert said(of_host.check_kernel, place) == [
        ("warning", "AppArmor denied crun: open of /etc/cdi/x", f"allow it in the profile crun ({profile})"),
        (
            "warning",
            "AppArmor denied docker-default: mount of /greeting",
            f"allow it in the profile docker-default ({profile})",
        ),
        (
            "warning",
            "SELinux denied nvidia-smi: read write of /dev/null",
            "ausearch -m avc -ts recent | audit2why",
        ),
    ]
    (place.root / "var/log/audit/audit.log").unlink()
    ((level, fact, _),) = said(of_host.check_kernel, place)
    assert (level, fact) == ("unknown", "only root may see what AppArmor or SELinux denied")


def test_kernel_log(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's own log is read to its end, without waiting for more."""
    try:
        os.close(os.open("/dev/kmsg", os.O_RDONLY))
    except OSError:
        pytest.skip("only root may read /dev/kmsg")
    place.write("sys/module/apparmor/x", "")
    (place.root / "dev").mkdir()
    (place.root / "dev/kmsg").symlink_to("/dev/kmsg")
    monkeypatch.setattr(of_host, "_OURS", ())
    assert said(of_host.check_kernel, place) == []


def test_selinux_switch(place: Place) -> None:
    """Where SELinux keeps containers from devices, the switch is named, if a spec has a device."""
    place.write("sys/fs/selinux/enforce", "1")
    place.write("sys/fs/selinux/booleans/container_use_devices", "0 0")
    place.write("var/log/audit/audit.log", "")
    assert said(of_host.check_kernel, place) == []
    place.spec(deviceNodes=[{"path": "/dev/null"}])
    ((level, fact, fix),) = said(of_host.check_kernel, place)
    assert (level, fact) == ("warning", "SELinux lets containers use only devices that are labelled for them")
    assert fix.endswith("setsebool -P container_use_devices on")
    Path(place.root / "sys/fs/selinux/booleans/container_use_devices").write_text("1 1")
    assert said(of_host.check_kernel, place) == []


def test_a_check_that_fails_stops_no_other(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that fails is a finding, with --debug an error, and the next checks still run."""

    def fail(_: object) -> list[Finding]:
        raise ZeroDivisionError("no")

    monkeypatch.setattr(checks, "CHECKS", {"bad": fail, "cgroups": of_host.check_cgroups})
    found = list(checks.examine(place.patient()))
    assert (found[0][1].level, found[0][1].message) == (
        "unknown",
        "the check of bad can't go on: ZeroDivisionError: no",
    )
    assert [name for name, _ in found] == ["bad", "cgroups"]
    with pytest.raises(ZeroDivisionError):
        list(checks.examine(place.patient(), debug=True))
