# SPDX-License-Identifier: Apache-2.0
"""doctor: the engines on this host, and whether they run cdi-runtime."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shlex
from typing import TYPE_CHECKING, NamedTuple

from cdi_hook.base import files, programs, selinux
from cdi_hook.base.quoting import quote
from cdi_hook.doctor.patient import as_root, ask_root
from cdi_hook.engines import ENGINES, client
from cdi_hook.engines.edit.config_editor import NAME
from cdi_hook.engines.edit.configuration import Configuration
from cdi_hook.engines.engine import runs_us
from cdi_hook.errors import ERROR, OK, UNKNOWN, WARNING, CDIError, Finding
from cdi_hook.inject.annotation import ANNOTATION_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cdi_hook.config.settings import Config
    from cdi_hook.doctor.patient import Patient
    from cdi_hook.engines.engine import Engine, OwnCDI

NAMES = "vendor.com/class=name"  # of a request


class _Examined(NamedTuple):
    """An engine, and what to say of it. If it doesn't run cdi-runtime, that depends on the others."""

    engine: Engine
    findings: list[Finding]
    unused: str = ""  # the fact that it doesn't
    of_daemon: Sequence[Finding] = ()  # what then is said only if none does


def check(patient: Patient) -> list[Finding]:
    """Say of each engine which version it has, and whether it runs cdi-runtime."""
    settings = patient.host.settings
    patterns = [f"{prefix}*" for prefix in settings.words("ANNOTATION_PREFIXES")]
    examined = [_examine(engine, patterns) for engine in ENGINES.values() if engine.probe().found()]
    if not examined:
        return [Finding(WARNING, f"no container engine is on this host ({', '.join(ENGINES)})")]
    unused = [one for one in examined if one.unused]
    findings = [finding for one in examined for finding in one.findings]
    for one in unused:
        if not one.engine.help.needs_configuration:
            findings.append(Finding(OK, f"{one.unused}; `{request(one.engine, settings)}` does so"))
        elif len(unused) < len(examined):
            findings.append(Finding(OK, one.unused))
        else:
            findings += [*one.of_daemon, Finding(ERROR, one.unused, _configure(one.engine))]
    return findings


def _examine(engine: Engine, patterns: Sequence[str]) -> _Examined:
    version = engine.probe().version()
    who = f"{engine.name} {version}" if version else engine.name
    try:
        configuration = Configuration(engine)
    except CDIError as error:
        return _Examined(engine, [_unreadable(who, error)])
    of_files, names = _of_files(who, engine, configuration, patterns)
    of_daemon, names, default = _of_daemon(who, engine, configuration, names)
    errors = [one for one in of_daemon if one.level == ERROR]
    others = [one for one in of_daemon if one.level != ERROR]
    findings = [*of_files, *_wrong_places(who, engine, configuration), *errors]
    uses = [f"runs cdi-runtime as its runtime{'s'[: len(names) - 1]} {', '.join(names)}"] if names else []
    uses += [f"calls the hook {stage} in {path}" for stage, path in configuration.hooks()]
    if uses:
        fact = f"{who} {' and '.join(uses)}{f' (the default is {default})' if default else ''}"
        findings += [*others, Finding(OK, f"{fact}; {_own_cdi(engine, configuration, version)}")]
        return _Examined(engine, findings)
    return _Examined(engine, findings, "" if errors else f"{who} isn't configured to run cdi-runtime", others)


def _own_cdi(engine: Engine, configuration: Configuration, version: str) -> str:
    """Say whether the engine injects devices itself."""
    if engine.own_cdi is None:
        return "it has no CDI of its own"
    if not _is_own_cdi_on(engine.own_cdi, configuration, version):
        return "its own CDI is off"
    injects = engine.own_cdi.injects
    rules = "of rules only DENY, and ALLOW with from=engine, judge that"
    return f"its own CDI is on: it injects {injects} itself; {rules}"


def _is_own_cdi_on(own_cdi: OwnCDI, configuration: Configuration, version: str) -> bool:
    editor = next(iter(configuration.editors.values()), None)
    return own_cdi.is_on(editor.cdi if editor else None, version)


def reads(engine: Engine, key: str) -> bool:
    """Say whether the engine's own CDI injects what a container's annotation with this key asks for."""
    own, is_on = engine.own_cdi, False
    with contextlib.suppress(CDIError):
        is_on = own is not None and _is_own_cdi_on(own, Configuration(engine), engine.probe().version())
    return is_on and key.startswith(ANNOTATION_PREFIX)


def _configure(engine: Engine) -> str:
    return as_root("cdi-hook", "configure", engine.name, *(["--reload"] if engine.daemon else []))


def request(engine: Engine, settings: Config, client: str = "", names: str = NAMES) -> str:
    """Return what a person writes so that a new container gets devices; "" if that is more than one line."""
    asks = engine.probe().requests()
    text = asks.get(client) or next(iter(asks.values()), "\n")
    words = {"program": programs.path("cdi-runtime"), "key": key(settings), "names": names}
    return "" if "\n" in text else text.format(**words)


def ask(engine: Engine | None, settings: Config, client: str, names: str, own_key: str = "") -> str:
    """Return the part of that which asks for the devices: an option, or a line of YAML."""
    asks = engine.probe().requests() if engine else {}
    text = asks.get(client) or next(iter(asks.values()), "--annotation {key}={names}")
    comment = text.partition("  # ")[2].partition("\n")[0]
    lines = text.splitlines()
    at = next(index for index, line in enumerate(lines) if "{names}" in line)
    words = {"key": own_key or key(settings)}
    if at:
        line = lines[at].strip().format(**words, names=json.dumps(names)[1:-1])
        asked = f"{lines[at - 1].strip()} {{{line}}}"
    else:
        before, option = text.partition("{names}")[0].split()[-2:]
        asked = shlex.join((before, f"{option.format(**words)}{names}"))
    return f"{asked}, {comment}" if comment else asked


def key(settings: Config) -> str:
    """Return the key of an annotation that asks for devices."""
    return f"{next(iter(settings.words('ANNOTATION_PREFIXES')), '')}NAME"


def _unreadable(who: str, error: CDIError) -> Finding:
    if isinstance(error.__cause__, PermissionError):
        return Finding(UNKNOWN, f"{who}: {error}: only root may look", ask_root())
    return Finding(ERROR, f"{who}: {error}")


def _of_files(
    who: str, engine: Engine, configuration: Configuration, patterns: Sequence[str]
) -> tuple[list[Finding], list[str]]:
    """Return what is wrong with our runtimes in the files, and the names of those that are right."""
    findings, names = [], []
    fix = _configure(engine)
    ours = configuration.ours()
    for name, (runs, path) in configuration.programs.items():
        runtime = f"{who}: {path}: the runtime {name}"
        if name not in ours:
            if name == NAME:
                fact = f"{runtime} is {quote(runs)}, which isn't cdi-runtime"
                findings.append(
                    Finding(ERROR, fact, f"give it the path {programs.path('cdi-runtime')} in {path}")
                )
        elif os.path.isabs(runs) and not os.access(runs, os.X_OK):
            findings.append(Finding(ERROR, f"{runtime} is {runs}, and there is no such program", fix))
        else:
            names.append(name)
            if lacks := configuration.editors[path].lacks(name, patterns):
                findings.append(Finding(ERROR, f"{runtime} doesn't get all annotations: {lacks}", fix))
    return findings, names


def _of_daemon(
    who: str, engine: Engine, configuration: Configuration, names: list[str]
) -> tuple[list[Finding], list[str], str]:
    """Return what is wrong with the daemon, the names of our runtimes that it has, and its default one."""
    default = configuration.default
    if not engine.daemon:
        return [], names, default
    try:
        said = engine.probe().says()
    except client.Unreachable as error:
        of_host = [name for name in names if not engine.is_users(configuration.programs[name][1])]
        return [_unanswered(who, engine, error)], of_host, default
    if said is None:
        return _unread(who, engine, configuration) if names else [], names, default
    unknown = [name for name in names if name not in said.runtimes]
    findings = [_unknown(who, engine, name, configuration.programs[name][1]) for name in unknown]
    if default in names and default in said.runtimes and said.default != default:
        fact = f"its daemon has the default runtime {said.default}, and its configuration has {default}"
        fix = as_root(*engine.reload_command(engine.file))
        findings.append(Finding(ERROR, f"{who}: {fact}", fix))
    has = [name for name, runs in said.runtimes.items() if name in names or runs_us(runs)]
    return findings, has, said.default or default


def _unanswered(who: str, engine: Engine, error: client.Unreachable) -> Finding:
    if error.is_forbidden:
        return Finding(UNKNOWN, f"{who}: only root may ask its daemon", ask_root())
    fix = as_root("systemctl", "start", engine.unit())
    return Finding(WARNING, f"{who}: its daemon doesn't answer: {error}", fix)


def _unread(who: str, engine: Engine, configuration: Configuration) -> list[Finding]:
    """Say that a daemon which can't say what it has read hasn't read its files: it made its socket before."""
    try:
        started = os.stat(engine.prober.socket).st_mtime
    except OSError:
        return []
    if max((os.stat(one).st_mtime for one in configuration.editors), default=0) <= started:
        return []
    fix = as_root("systemctl", "restart", engine.unit())
    return [Finding(ERROR, f"{who}: it was started before its configuration changed", fix)]


def _unknown(who: str, engine: Engine, name: str, path: str) -> Finding:
    """Say that the daemon doesn't know a runtime of a file."""
    fact = f"{who}: its daemon doesn't know the runtime {name} of {path}"
    if engine.is_users(path):
        fact += f", which only a user's own (rootless) {engine.name} reads"
        return Finding(ERROR, fact, _configure(engine))
    return Finding(ERROR, fact, as_root(*engine.reload_command(path)))


def process(daemon: str) -> str:
    """Return the dir in /proc of root's process of a daemon, "" if it doesn't run.

    A container may have such a daemon too, with other process ids, and any user a process of its name.
    """
    here = os.readlink("/proc/self/ns/pid")
    for directory in glob.glob("/proc/[0-9]*"):
        with contextlib.suppress(OSError):
            is_daemon = files.read(f"{directory}/comm").strip() == daemon.encode()
            if is_daemon and os.stat(directory).st_uid == 0 and os.readlink(f"{directory}/ns/pid") == here:
                return directory
    return ""


def check_nodes(patient: Patient) -> list[Finding]:
    """Find device nodes that can't be opened, because an engine mounts a container's rootfs with nodev."""
    outside = {
        f"{spec.path}: the node {node['path']}"
        for spec in patient.cache.specs
        for part in (spec.data, *spec.data["devices"])
        for node in (part.get("containerEdits") or {}).get("deviceNodes") or ()
        if not node["path"].startswith("/dev/")
    }
    findings = []
    for engine in ENGINES.values():
        probe = engine.probe()
        reason = probe.closes_nodes() if outside and probe.found() else ""
        fact = f"can't be opened in {engine.name}'s containers: it isn't in /dev, and {reason}"
        findings += [
            Finding(WARNING, f"{one} {fact}", "give it a path in /dev") for one in sorted(outside) if reason
        ]
    return findings


def check_labels(patient: Patient) -> list[Finding]:
    """Find specs and an index that SELinux doesn't let an engine read that runs here."""
    with contextlib.suppress(OSError):
        if files.read(patient.path(f"{selinux.FS}/enforce")).strip() == b"1":
            index = patient.registry.index.path
            findings = [_hidden(patient, one, _whole(one), ERROR) for one in patient.registry.spec_dirs]
            findings.append(_hidden(patient, os.path.dirname(index), [index], WARNING))
            return [one for one in findings if one]
    return []


def _whole(directory: str) -> list[str]:
    return sorted([directory, *glob.glob(f"{glob.escape(directory)}/*")])


def _hidden(patient: Patient, directory: str, paths: Sequence[str], level: str) -> Finding | None:
    """Return a finding for the first of these paths in a dir that an engine may not read."""
    for daemon in {engine.daemon: None for engine in ENGINES.values() if engine.daemon}:
        with contextlib.suppress(OSError, ValueError):
            context = files.read(f"{process(daemon)}/attr/current").decode().strip("\0\n")
            for path in paths:
                label = selinux.refused(context, path, patient.path(""))
                if label:
                    fact = f"SELinux doesn't let {daemon} read {path}, which is labelled {label}"
                    return Finding(level, fact, _mend(directory))
    return None


def _mend(directory: str) -> str:
    """Return the command that gives a dir and what is in it the label by which engines may read them."""
    if selinux.is_below_run(directory):
        return f'{as_root("chcon", "-R")} "$({shlex.join(selinux.THEIRS)})" {shlex.quote(directory)}'
    return as_root("restorecon", "-R", directory)


def _wrong_places(who: str, engine: Engine, configuration: Configuration) -> Iterator[Finding]:
    """Yield our precreate hook where buildah and CRI-O read it, and fail at it."""
    for stage, path in configuration.hooks():
        if stage == "precreate" and os.path.dirname(path) in engine.hooks_dirs:
            fact = f"{who}: {path} has the stage precreate, at which buildah and CRI-O fail"
            yield Finding(ERROR, fact, as_root("rm", path))
