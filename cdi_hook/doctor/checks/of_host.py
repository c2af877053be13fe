# SPDX-License-Identifier: Apache-2.0
"""doctor: what cdi-runtime stands on: Python, the configuration, runtimes, cgroups, units, the kernel."""

from __future__ import annotations

import contextlib
import glob
import importlib.util
import os
import platform
import re
import shutil
from typing import TYPE_CHECKING

from cdi_hook.base import files, packages, programs, words
from cdi_hook.base.process import ask
from cdi_hook.config.rule import matches
from cdi_hook.doctor import logs
from cdi_hook.doctor.checks import of_specs
from cdi_hook.doctor.patient import as_root, ask_root
from cdi_hook.edits import features, kinds
from cdi_hook.errors import ERROR, OK, UNKNOWN, WARNING, Finding, LeaseError
from cdi_hook.leases import claims, store

if TYPE_CHECKING:
    from cdi_hook.doctor.patient import Patient

_UNITS = "/usr/lib/systemd/system/cdi-hook-*"
_DENIED = re.compile(r'apparmor="DENIED"|avc: +denied')
_FIELD = re.compile(r'(\w+)=(?:"([^"]*)"|(\S+))')
_OURS = ("cdi-runtime", "cdi-hook", "runc", "crun")
_AUDIT = "/var/log/audit/audit.log"
_SHOWN = 3  # denials


def check_python(patient: Patient) -> list[Finding]:
    """Say which Python runs, and which packages it has."""
    python = f"Python {platform.python_version()}"
    if not packages.has("yaml"):
        fix = "install python3-yaml (Debian), python3-pyyaml (Fedora) or PyYAML (pip)"
        return [Finding(ERROR, f"{python} has no PyYAML, so no spec can be read", fix)]
    import yaml

    findings = []
    has_c = getattr(yaml, "__with_libyaml__", False)
    findings.append(
        Finding(OK, f"{python}, PyYAML {yaml.__version__} with its C parser")
        if has_c
        else Finding(
            WARNING, f"{python}, PyYAML {yaml.__version__} without its C parser: reading specs takes long"
        )
    )
    if not (importlib.util.find_spec("tomllib") or packages.has("tomli")):
        fix = "install python3-tomli (pip: tomli)"
        fact = "no tomli: `cdi-hook configure` edits only docker's configuration, and doctor reads no other"
        findings.append(Finding(WARNING, fact, fix))
    if patient.host.settings["LOG"] and not packages.has("pythonjsonlogger"):
        fact = "no python-json-logger: errors in LOG are written without it"
        findings.append(Finding(OK, fact, "install python3-pythonjsonlogger (pip: python-json-logger)"))
    return findings


def check_configuration(patient: Patient) -> list[Finding]:
    """Say which configuration counts, and which of its lines can't be used."""
    settings = patient.host.settings
    if settings.problems:
        fix = "man 5 cdi-hook.conf says what each key takes; until then containers that ask for a device fail"
        return [Finding(ERROR, problem, fix) for problem in settings.problems]
    used = [key for key, origin in settings.origins.items() if origin != "default"]
    if not os.path.exists(settings.path):
        findings = [Finding(OK, f"there is no {settings.path}: the defaults count")]
    else:
        findings = [Finding(OK, f"{settings.path} sets {', '.join(used) or 'nothing: the defaults count'}")]
    log = settings["LOG"]
    if log and not os.access(log if os.path.exists(log) else os.path.dirname(log), os.W_OK):
        if os.geteuid() == 0:
            findings.append(Finding(ERROR, f"LOG={log} can't be written", f"set another in {settings.path}"))
        else:
            findings.append(Finding(UNKNOWN, f"LOG={log} is written by root only", ask_root()))
    return findings


def check_exclusive(patient: Patient) -> list[Finding]:
    """Say what EXCLUSIVE doesn't see, and whether its leases can be read."""
    settings, directory = patient.host.settings, patient.host.lease_dir
    if not settings["EXCLUSIVE"]:
        return []
    if not directory:
        fact = "EXCLUSIVE needs a place for leases, and XDG_RUNTIME_DIR isn't set"
        return [Finding(ERROR, fact, "log in by a session that sets it")]
    try:
        leases = store.known(directory)
    except LeaseError as error:
        return [Finding(ERROR, error.cause, error.fix)]
    fact = (
        f"EXCLUSIVE={settings['EXCLUSIVE']}: {words.count(len(leases), 'lease')}; "
        "it doesn't see containers from before it was set, nor those that another runtime runs"
    )
    findings = [Finding(OK, fact)]
    if not claims.is_possible():
        fact = (
            f"EXCLUSIVE doesn't see containers of other users: {claims.SHARED} isn't there, or isn't sticky"
        )
        findings.append(Finding(WARNING, fact, f"mount a tmpfs with mode 1777 on {claims.SHARED}"))
    return findings


def check_patterns(patient: Patient) -> list[Finding]:
    """Find patterns of EXCLUSIVE, ALLOW and DENY that match no device, as one with a slip in it does."""
    settings, names = patient.host.settings, patient.cache.devices()
    written = [
        (f"EXCLUSIVE={one}", one, settings.origins["EXCLUSIVE"]) for one in settings.words("EXCLUSIVE")
    ]
    for rule in (*settings.rules("ALLOW"), *settings.rules("DENY")):
        written += [(f"{rule.key}={one}", one, rule.origin) for one in rule.patterns]
    return [
        Finding(
            WARNING,
            f"{what} ({origin}) matches no device of this host",
            f"{programs.command()} list shows their names",
        )
        for what, pattern, origin in written
        if names and not any(matches(name, pattern) for name in names)
    ]


def check_runtimes(patient: Patient) -> list[Finding]:
    """Say which runtime cdi-runtime calls, and what it would ignore that a spec asks for."""
    settings = patient.host.settings
    found = patient.runtimes
    if not found:
        fact = f"none of RUNTIMES ({settings['RUNTIMES']}) is on PATH or in the standard dirs"
        return [Finding(ERROR, fact, "install runc or crun, or give a path in RUNTIMES")]
    needed = _needed(patient)
    findings = []
    environ = dict(os.environb)
    first, *others = ((path, features.version_of(path, environ)) for path in found)
    answer = features.features(first[0], environ)
    lacks = [one for one in features.SINCE if not features.has(answer, one)]
    ignores = ", ".join(one.removesuffix(".enabled") for one in lacks)
    also = "".join(f"; {path} ({version}) is there too" for path, version in others)
    fact = f"cdi-runtime calls {first[0]} ({first[1]}){f', which ignores {ignores}' if ignores else ''}{also}"
    findings.append(Finding(OK, fact))
    for feature in lacks:
        if feature in needed:
            runc, crun = features.SINCE[feature]
            fact = f"{first[0]} ignores {feature}, which {needed[feature]} needs: its containers are refused"
            fix = f"install runc {runc} or crun {crun}, or later, and name it in RUNTIMES"
            findings.append(Finding(ERROR, fact, fix))
    return findings


def _needed(patient: Patient) -> dict[str, str]:
    """Return the features that specs need, and a spec that does."""
    needed = {}
    with contextlib.suppress(ImportError):
        for spec in patient.cache.specs:
            for _, part in of_specs.parts(spec):
                for name, wanted in kinds.each_kind(part):
                    for field, (feature, *_) in kinds.KINDS[name].features.items():
                        if any(not field or edit.get(field) for edit in wanted):
                            needed[feature] = spec.path
    return needed


def check_cgroups(patient: Patient) -> list[Finding]:
    """Say which cgroup layout the host has."""
    top = patient.path("/sys/fs/cgroup")
    if os.path.exists(f"{top}/cgroup.controllers"):
        return [Finding(OK, "cgroup v2")]
    if not os.path.isdir(f"{top}/devices"):
        return [Finding(WARNING, f"no cgroups that can hold device rules are mounted on {top}")]
    if os.path.exists(f"{top}/unified/cgroup.controllers"):
        first = patient.runtime
        if os.path.basename(first) == "crun":
            fact = (
                f"cgroup v1 and v2 are both mounted, where crun refuses to run, and cdi-runtime calls {first}"
            )
            return [Finding(ERROR, fact, f"set RUNTIMES=runc in {patient.host.settings.path}")]
        return [Finding(OK, "cgroup v1, with v2 beside it: crun refuses to run there")]
    return [Finding(OK, "cgroup v1")]


def check_units(patient: Patient) -> list[Finding]:
    """Say which of our units are there, enabled, and have failed."""
    if not os.path.isdir(patient.path("/run/systemd/system")) or not shutil.which("systemctl"):
        return []
    units = sorted(os.path.basename(path) for path in glob.glob(patient.path(_UNITS)))
    if not units:
        return []
    names = ("Id", "UnitFileState", "ActiveState")
    command = ["systemctl", "show", *(f"--property={name}" for name in names), *units]
    answer = ask(command)
    if answer.status != 0:
        return [Finding(UNKNOWN, f"systemd doesn't say how cdi-hook's units are: {answer.why}", ask_root())]
    findings, disabled, right = [], [], []
    for block in answer.out.strip().split("\n\n"):
        unit = dict(line.partition("=")[::2] for line in block.splitlines())
        name, state = unit.get("Id", ""), unit.get("UnitFileState", "")
        if unit.get("ActiveState") == "failed":
            fix = f"systemctl status {name}; journalctl -u {name}"
            findings.append(Finding(ERROR, f"the unit {name} has failed", fix))
        elif state in ("disabled", "masked"):
            if "generate" not in name or patient.host.settings["GENERATE"]:
                disabled.append(name)
        else:
            right.append(name)
    if disabled:
        fix = as_root("systemctl", "enable", "--now", *disabled)
        findings.append(Finding(WARNING, f"not enabled: {', '.join(disabled)}", fix))
    if right:
        findings.append(Finding(OK, f"enabled: {', '.join(right)}"))
    return findings


def check_kernel(patient: Patient) -> list[Finding]:
    """Find what AppArmor and SELinux have denied to the runtime, or to containers of what specs give them."""
    findings = []
    paths = _given(patient)
    enforce = patient.path("/sys/fs/selinux/enforce")
    switch = patient.path("/sys/fs/selinux/booleans/container_use_devices")
    with contextlib.suppress(OSError):
        if files.read(enforce).strip() == b"1" and files.read(switch).split()[:1] == [b"0"] and paths:
            fact = "SELinux lets containers use only devices that are labelled for them"
            findings.append(Finding(WARNING, fact, as_root("setsebool", "-P", "container_use_devices", "on")))
    if not any(map(os.path.isdir, map(patient.path, ("/sys/module/apparmor", "/sys/fs/selinux")))):
        return findings
    seen: dict[str, Finding] = {}
    lines, may_read = _kernel_log(patient)
    for line in lines:
        if not _DENIED.search(line):
            continue
        fields = {name: quoted or bare for name, quoted, bare in _FIELD.findall(line)}
        who = fields.get("profile") or fields.get("comm", "?")
        what = fields.get("name") or fields.get("path", "?")
        if who in _OURS or fields.get("comm") in _OURS or what in paths:
            system = "AppArmor" if "apparmor" in fields else "SELinux"
            how = fields.get("operation") or line.partition("{")[2].partition("}")[0].strip() or "?"
            fix = (
                f"allow it in the profile {who} (/etc/apparmor.d/local)"
                if system == "AppArmor"
                else "ausearch -m avc -ts recent | audit2why"
            )
            seen[f"{who} {how} {what}"] = Finding(WARNING, f"{system} denied {who}: {how} of {what}", fix)
    findings += list(seen.values())[-_SHOWN:]
    if not may_read:
        findings.append(Finding(UNKNOWN, "only root may see what AppArmor or SELinux denied", ask_root()))
    return findings


def _given(patient: Patient) -> set[str]:
    """Return the paths that specs give to containers."""
    found = set()
    with contextlib.suppress(ImportError):
        for spec in patient.cache.specs:
            for _, part in of_specs.parts(spec):
                found |= {node["path"] for node in part.get("deviceNodes") or ()}
                found |= {mount["containerPath"] for mount in part.get("mounts") or ()}
    return found


def _kernel_log(patient: Patient) -> tuple[list[str], bool]:
    """Return the lines of the kernel's log and of the audit daemon's, and whether they may be read."""
    lines, may_read = [], False
    with contextlib.suppress(OSError):
        descriptor = os.open(patient.path("/dev/kmsg"), files.READ)
        try:
            may_read = True
            while record := os.read(descriptor, 1 << 13):  # one record a read; at the end EAGAIN
                lines.append(record.decode("utf-8", "replace").partition("\n")[0])
        finally:
            os.close(descriptor)
    with contextlib.suppress(OSError):
        lines += logs.tail(patient.path(_AUDIT))
        may_read = True
    return lines, may_read
