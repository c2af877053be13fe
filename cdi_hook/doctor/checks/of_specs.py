# SPDX-License-Identifier: Apache-2.0
"""doctor: the CDI specs on this host: which count, which don't and why, and what of the host they miss."""

from __future__ import annotations

import os
import re
import shlex
import stat
from typing import TYPE_CHECKING

from cdi_hook.base import files, programs, trust, words
from cdi_hook.doctor.patient import as_root, ask_root
from cdi_hook.edits import features, host_check, kinds, target
from cdi_hook.errors import ERROR, OK, UNKNOWN, WARNING, Finding
from cdi_hook.inject import explain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cdi_hook.doctor.patient import Patient
    from cdi_hook.specs.model import Spec

# Where people put specs that nothing reads.
_ELSEWHERE = (
    "/etc/cdi.d",
    "/etc/cdi",
    "/var/run/cdi",
    "/usr/share/cdi",
    "/usr/local/etc/cdi",
    "/etc/containers/cdi",
    "~/.config/cdi",
)
# It tells systemd of a device only if there is such a link (fixed in 1.1.7).
_NEEDS_LINKS = r"runc version 1\.1\.[3-6]\b"
_OURS = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))  # cdi-hook's own code
_SHOWN = 8  # devices of a spec


def check_dirs(patient: Patient) -> list[Finding]:
    """Say what each spec dir has, and which files in it are refused."""
    from cdi_hook.catalog.cache import SILENT, UNMOUNT

    cache = patient.cache
    findings, counts = [], dict.fromkeys(cache.spec_dirs, 0)
    for spec in cache.specs:
        counts[cache.spec_dirs[spec.priority]] += 1
    devices = len(cache.devices())
    found = [f"{directory} ({count})" for directory, count in counts.items() if count]
    if devices:
        findings.append(Finding(OK, f"{words.count(devices, 'device')} in the specs of {', '.join(found)}"))
    elif not cache.errors and not patient.silent:
        fact = f"no CDI spec in {', '.join(cache.spec_dirs) or 'SPEC_DIRS, which is empty'}"
        make = as_root("cdi-hook", "generate", "CLASS", "--output", "/etc/cdi")
        findings.append(Finding(ERROR, fact, f'{make}; "cdi-hook generate" shows the classes'))
    origin = patient.host.settings.origins["SPEC_DIRS"]
    named = patient.host.settings["SPEC_DIRS"].split(":") if origin != "default" else ()
    gone = [one for one in named if one and one not in patient.silent and not os.path.lexists(one)]
    findings += [Finding(WARNING, f"{origin}: SPEC_DIRS: there is no {one}") for one in gone]
    findings += [Finding(ERROR, f"{one}: {SILENT}", UNMOUNT) for one in patient.silent]
    for path, problems in sorted(cache.problems.items()):
        findings += [_refused(path, one) for one in problems]
    return findings


def _refused(path: str, problem: Finding) -> Finding:
    if problem.kind == "denied":
        return Finding(UNKNOWN, f"{path}: only root may read it", ask_root())
    if problem.kind == "untrusted":
        why, remedy = trust.untrusted(path)
        if why:  # it may have been fixed meanwhile
            return Finding(ERROR, f"{path}: refused by SPEC_TRUST=strict: {why}", remedy)
    return Finding(ERROR, f"{path}: {problem}", shlex.join(("cdi-hook", "validate", path)))


def check_overlooked(patient: Patient) -> list[Finding]:
    """Find files that look like specs, and that nothing reads."""
    from cdi_hook.specs.model import SPEC_EXTENSIONS

    dirs = [files.clean(one) for one in patient.host.spec_dirs]
    wrong = explain.misnamed(dirs)
    findings = [Finding(ERROR, f"{path}{explain.MISNAMED}", _move(path, right)) for path, right in wrong]
    real = {os.path.realpath(one) for one in dirs}
    for directory in dirs:
        for path, is_dir in _entries(directory):
            if is_dir:
                inner = [one for one, _ in _entries(path) if one.endswith(SPEC_EXTENSIONS)]
                if inner:
                    findings.append(_elsewhere(inner[0], "a spec dir's own dirs aren't read", directory))
    for directory in _ELSEWHERE:
        place = os.path.expanduser(directory) if directory[0] == "~" else patient.path(directory)
        if os.path.realpath(place) in real:
            continue
        for path, is_dir in _entries(place):
            if not is_dir and path.endswith(SPEC_EXTENSIONS) and dirs:
                findings.append(_elsewhere(path, f"{directory} isn't in SPEC_DIRS", dirs[0]))
    return findings


def _elsewhere(path: str, why: str, directory: str) -> Finding:
    return Finding(WARNING, f"{path} isn't read: {why}", _move(path, f"{directory}/{os.path.basename(path)}"))


def _move(path: str, target: str) -> str:
    return (
        shlex.join(("mv", path, target))
        if os.access(os.path.dirname(path), os.W_OK)
        else as_root("mv", path, target)
    )


def _entries(directory: str) -> list[tuple[str, bool]]:
    """Return the paths in a dir, and whether each is a dir; nothing for a dir that can't be read."""
    try:
        with os.scandir(directory) as entries:
            return sorted((entry.path, entry.is_dir()) for entry in entries if entry.name[0] != ".")
    except OSError:
        return []


def check_stale(patient: Patient) -> list[Finding]:
    """Find specs whose edits can't be made on this host."""
    findings = []
    for spec in patient.cache.specs:
        lacking: dict[str, list[str]] = {}
        for device, part in parts(spec):
            for one in host_check.findings(part):
                lacking.setdefault(one.message, []).append(device)
        if lacking:
            devices = next(iter(lacking.values()))
            who = "all its devices" if "" in devices else words.some(devices, _SHOWN)
            fix = f"{explain.GENERATE} ({shlex.join(('cdi-hook', 'validate', spec.path))} shows all of it)"
            findings.append(Finding(ERROR, f"{spec.path}: {words.some(lacking, 1)}, needed by {who}", fix))
    return findings


def parts(spec: Spec) -> Iterator[tuple[str, target.Edits]]:
    """Yield a spec's own edits with the name "", then each device's."""
    yield "", spec.container_edits
    for device in spec.devices.values():
        yield device.qualified_name, device.edits


def check_names(patient: Patient) -> list[Finding]:
    """Find vendors and classes of one letter."""
    from cdi_hook.specs import validation

    return [
        _of_spec(ERROR, spec, one)
        for spec in patient.cache.specs
        for one in validation.warnings(spec.data)
        if one.place == ".kind"
    ]


def check_hooks(patient: Patient) -> list[Finding]:
    """Find hooks that an image's variables may reach."""
    from cdi_hook.specs import validation

    return [
        _of_spec(WARNING, spec, one)
        for spec in patient.cache.specs
        for one in validation.exposed_hooks(spec.data)
    ]


def _of_spec(level: str, spec: Spec, found: Finding) -> Finding:
    fix = shlex.join(("cdi-hook", "validate", spec.path))
    return Finding(level, f"{spec.path}: {found.message}", fix)


def check_writers(patient: Patient) -> list[Finding]:
    """Find what others than root can write, and root's containers use: programs of hooks, our own files."""
    if os.geteuid() != 0:
        return []  # a user's containers have a user's rights
    findings = []
    settings = patient.host.settings
    if not patient.host.strict:
        fact = f"SPEC_TRUST={settings['SPEC_TRUST']}: who can write a spec can have root run any program"
        findings.append(Finding(WARNING, fact, f"set SPEC_TRUST=strict in {settings.path}"))
    paths = {
        settings.path: "the configuration",
        _OURS: "cdi-hook's own code",
        programs.path("cdi-runtime"): "what engines run",
    }
    for directory, _, _ in os.walk(_OURS):
        paths[directory] = "of cdi-hook's own code"
    for spec in patient.cache.specs:
        for _, part in parts(spec):
            for name, wanted in kinds.each_kind(part):
                for edit in wanted if name == "hooks" else ():
                    if edit["hookName"] != "startContainer":  # whose program is the container's
                        paths[edit["path"]] = f"a hook's program, of {spec.path}"
    for path, what in paths.items():
        why, remedy = trust.untrusted(path)
        if why:
            findings.append(Finding(ERROR, f"{path}, {what}: {why}", remedy))
    return findings


def missing_links(patient: Patient) -> dict[str, str]:
    """Return the links of /dev/char and /dev/block that are missing for devices of specs: their targets."""
    found = {}
    for spec in patient.cache.specs:
        for _, part in parts(spec):
            for node in part.get("deviceNodes") or ():
                path = node.get("hostPath") or node["path"]
                try:
                    status = os.stat(path)
                except OSError:
                    continue
                kind = "char" if stat.S_ISCHR(status.st_mode) else "block"
                if kind == "char" or stat.S_ISBLK(status.st_mode):
                    number = f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
                    link = patient.path(f"/dev/{kind}/{number}")
                    if not os.path.exists(link):
                        found[link] = os.path.realpath(path)
    return found


def check_links(patient: Patient) -> list[Finding]:
    """Find device nodes that have no link by their number, where the runtime needs it."""
    missing = missing_links(patient) if os.path.isdir(patient.path("/run/systemd/system")) else {}
    if not missing:
        return []
    link, node = next(iter(missing.items()))
    more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
    fact = f"no {link} for {node}{more}"
    runtime = patient.runtime
    if not re.match(_NEEDS_LINKS, features.version_of(runtime, dict(os.environb))):
        return [Finding(OK, f"{fact}, which only runc 1.1.3 to 1.1.6 needs")]
    loss = "where systemd makes the cgroups, containers lose the device after `systemctl daemon-reload`"
    fact = f"{fact}, which this runc needs: {loss}"
    return [Finding(WARNING, fact, as_root("cdi-hook", "doctor", "--fix"))]


def make_links(patient: Patient) -> dict[str, str]:
    """Make the missing links, and return those that were made; raises OSError."""
    made = {}
    for link, node in missing_links(patient).items():
        os.makedirs(os.path.dirname(link), 0o755, exist_ok=True)
        if os.path.islink(link):
            os.unlink(link)  # its node is gone
        os.symlink(os.path.relpath(node, os.path.dirname(link)), link)
        made[link] = node
    return made


def check_index(patient: Patient) -> list[Finding]:
    """Say whether the index is up to date, and how old it is."""
    from cdi_hook.catalog import index_writer

    registry = patient.registry
    if patient.silent:
        return []  # it can't be told
    fix = as_root("cdi-hook", "index") if patient.host.is_root else "cdi-hook index"
    if not registry.index.path:
        fact = "there is no place for an index, so each container's start reads the specs"
        return [Finding(WARNING, fact, "set XDG_RUNTIME_DIR, as a login by systemd does")]
    try:
        changed = os.stat(registry.index.path).st_mtime
    except PermissionError:
        return [Finding(UNKNOWN, f"{registry.index.path}: only root may look", ask_root())]
    except OSError:
        if not any(map(os.path.isdir, registry.spec_dirs)):
            return []
        return [
            Finding(
                WARNING, f"no index at {registry.index.path} yet: the next container's start builds it", fix
            )
        ]
    head, _ = index_writer.read(registry.index.path)
    if not head:
        fact = (
            f"{registry.index.path} isn't read: others can write it, or it is of another version or damaged"
        )
        return [Finding(WARNING, fact, fix)]
    import time

    age = _age(max(0, time.time() - changed))
    if registry.index.is_fresh(head):
        if index_writer.is_stale(registry.index, registry.cache):
            return [Finding(ERROR, f"{registry.index.path} is {age} old, and {index_writer.STALE}", fix)]
        return [Finding(OK, f"{registry.index.path} is {age} old and up to date")]
    fact = f"{registry.index.path} is {age} old and out of date: the next container's start rebuilds it"
    return [Finding(WARNING, fact, fix)]


def _age(seconds: float) -> str:
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return words.count(int(seconds / length), unit)
    return words.count(int(seconds), "second")
