# SPDX-License-Identifier: Apache-2.0
"""doctor: one container: its runtime, what it asks for, what only looks like asking, what it was given."""

from __future__ import annotations

import contextlib
import copy
import difflib
import os
import re
import shlex
from typing import TYPE_CHECKING, Any

from cdi_hook.base import json_text, programs, words
from cdi_hook.base.quoting import quote
from cdi_hook.doctor import logs
from cdi_hook.doctor.checks import of_engines
from cdi_hook.doctor.patient import as_root, ask_root
from cdi_hook.edits import host_check
from cdi_hook.engines import ENGINES, client
from cdi_hook.engines.edit.config_editor import NAME
from cdi_hook.engines.edit.configuration import Configuration
from cdi_hook.engines.engine import runs_us
from cdi_hook.errors import ERROR, FAILED, OK, UNKNOWN, WARNING, CDIError, Finding, UnresolvableDevices
from cdi_hook.inject import bundle, pipeline, request
from cdi_hook.inject.deal import DEALT
from cdi_hook.leases import choice, inquiry, store
from cdi_hook.names import is_qualified_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cdi_hook.config.settings import Config
    from cdi_hook.doctor.patient import Patient
    from cdi_hook.engines.client import KnownContainer
    from cdi_hook.engines.engine import Engine

# Variables by which other runtimes are asked for devices.
_KNOWN = re.compile(r"(AMD|HABANA|NVIDIA)_VISIBLE_DEVICES")
_VARIABLE = re.compile(r"[A-Za-z_]\w*", re.ASCII)
_KEEPS_GROUPS = "run.oci.keep_original_groups"  # podman's --group-add keep-groups, for crun
_POD = re.compile(
    r"([a-z0-9][a-z0-9-]*)/([a-z0-9][a-z0-9.-]*)(?:/([a-z0-9][a-z0-9-]*))?"
)  # as Kubernetes has them
_SHOWN = 3  # lines of LOG
_MOST = 200  # characters of a value


def find(name: str) -> tuple[list[tuple[Engine | None, KnownContainer]], list[Finding]]:
    """Return the containers with this name, id or dir, each with its engine, and who couldn't be asked."""
    if os.path.basename(name) == "config.json" and os.path.isfile(name):
        name = os.path.dirname(name) or "."
    if os.path.isfile(f"{name}/config.json"):
        directory = os.path.abspath(name)
        return [(None, client.KnownContainer(os.path.basename(directory), bundle=directory))], []
    found: list[tuple[Engine | None, KnownContainer]] = []
    findings, asked = [], []
    of_pod = _POD.fullmatch(name)
    for engine in ENGINES.values():
        probe = engine.probe()
        if not probe.found():
            continue
        try:
            known = probe.of_pod(*of_pod.groups(default="")) if of_pod else probe.inspect(name)
            found += [(engine, one) for one in known]
            asked.append(engine.name)
        except CDIError as error:
            fact, fix = f"{engine.name} can't be asked: {error}", ""
            if isinstance(error, client.Unreachable) and error.is_forbidden:
                fact, fix = f"only root may ask {engine.name}", ask_root(name)
            findings.append(Finding(UNKNOWN, fact, fix))
    if found:
        findings = []
    elif asked or not findings:
        whom = f"; asked: {', '.join(asked)}" if asked else ", and no engine that could be asked is here"
        who = "root" if os.geteuid() == 0 else "you"
        fact = f"no container and no bundle {quote(name)} is known to {who}{whom}"
        fix = "a user's engine and root's don't know each other's containers"
        if of_pod:
            command = f"kubectl -n {of_pod[1]} describe pod {of_pod[2]}"
            fix = f"{command} says on which node it is, and what went wrong"
        findings.append(Finding(ERROR, fact, fix))
    return found, findings


def examine(
    patient: Patient, engine: Engine | None, container: KnownContainer
) -> Iterator[tuple[str, Finding]]:
    """Yield what there is to say of a container, each with the name that --json has for it."""
    case = _Case(patient, engine, container)
    for name, look in (
        ("asked", case.asked),
        ("given", case.given),
        ("holds", case.holds),
        ("looks like", case.looks_like),
        ("looks like", case.lost),
        ("asked", case.asks_nothing),
        ("runtime", case.runtime),
        ("engine", case.did_not_start),
        ("log", case.log),
    ):
        for finding in look():
            case.found.append((name, finding))
            yield name, finding


class _Case:
    """A container that is examined; ``found`` is what has been said of it so far."""

    def __init__(self, patient: Patient, engine: Engine | None, container: KnownContainer) -> None:
        self._patient, self._engine, self._container = patient, engine, container
        self._settings = patient.host.settings
        self._who = f"{engine.name}'s container {container.identity[:12]}" if engine else container.bundle
        self._oci, self._is_whole = _config(container)
        self._names: list[str] = []  # of the devices that it asks for
        self._is_given = True
        self.found: list[tuple[str, Finding]] = []
        patient.host.call.container = container.identity
        patient.host.call.bundle = container.bundle or _former(engine, container)

    @property
    def _lacks(self) -> bool:
        """Whether it lacks something that cdi-runtime could give."""
        is_wrong = any(one.level == ERROR and name != "given" for name, one in self.found)
        return is_wrong or not self._is_given

    def _ask(self, names: str = of_engines.NAMES, key: str = "") -> str:
        return of_engines.ask(self._engine, self._settings, self._container.client, names, key)

    def asked(self) -> Iterator[Finding]:
        """Yield what it asks for."""
        try:
            asks = request.collect(self._oci, self._settings, self._container.identity)
        except CDIError as error:
            fix = f"start it again with a name of `{programs.command()} list`"
            yield Finding(ERROR, f"{self._who}: {error}", fix)
            return
        self._names = asks.device_ids
        if self._names:
            origins = ", ".join(f"{name} ({asks.origins[name]})" for name in self._names)
            yield Finding(OK, f"{self._who} asks for {origins}")

    def given(self) -> Iterator[Finding]:
        """Yield whether it has that, and can open it."""
        if not self._names:
            return
        finding, self._is_given = _given(
            self._who, self._patient, self._engine, self._container, self._oci, self._is_whole
        )
        yield finding
        if self._is_given and self._engine:
            yield from _closed(self._who, self._patient, self._oci, self._names)

    def holds(self) -> Iterator[Finding]:
        """Yield which devices it has for itself."""
        if not self._settings["EXCLUSIVE"]:
            return
        leases = store.known(self._patient.host.lease_dir)
        own = [lease for lease in leases if lease["id"] == self._container.identity]
        inquiry.ask(own, leases, inquiry.SHORT_S)
        for lease in filter(lambda lease: lease.how, own):
            names = words.some(dict.fromkeys(one.name for one in lease.devices))
            yield Finding(OK, f"no other container may have {names}, which {self._who} holds (EXCLUSIVE)")

    def looks_like(self) -> Iterator[Finding]:
        """Yield what looks like a request and is none."""
        return _looks_like(self._who, self._container, self._oci, self._settings, self._names, self._ask)

    def lost(self) -> Iterator[Finding]:
        """Yield the requests that its engine doesn't pass on."""
        return _lost(self._who, self._engine, self._container, self._settings, self._names)

    def asks_nothing(self) -> Iterator[Finding]:
        """Yield that it asks its engine, or nobody."""
        if self._container.native:
            whom = self._engine.name if self._engine else "its engine"
            fact = f"{self._who} asks {whom} itself: {'; '.join(self._container.native)}"
            yield Finding(OK, f"{fact}; that isn't cdi-runtime's to give")
        elif not any(name in ("asked", "looks like") for name, _ in self.found):
            fix = f"{self._ask()}; {programs.command()} list shows the names"
            if self._container.client == "pod":
                fix = (
                    f"resources {{limits: {{vendor.com/class: 1}}}} where a device plugin offers it, or {fix}"
                )
            yield Finding(ERROR, f"{self._who} asks for no device", fix)

    def runtime(self) -> Iterator[Finding]:
        """Yield which runtime it was created with."""
        lost = [value for _, _, value, _ in self._container.lost if _names_devices(value)]
        names = ",".join(self._names or lost[:1])
        return _runtime(
            self._who, self._engine, self._container, self._settings, names, is_needed=self._lacks
        )

    def did_not_start(self) -> Iterator[Finding]:
        """Yield why its engine says that it didn't start, unless that is said already."""
        is_said = any(name == "given" and one.level == ERROR for name, one in self.found)
        said = self._container.error
        if said and not (FAILED in said and is_said):
            names = "nvidia.com/gpu=all" if "--gpus" in self._container.native else of_engines.NAMES
            fix = self._ask(names) if self._container.native else ""
            yield Finding(ERROR, f"{self._who} didn't start: {said}", fix)

    def log(self) -> Iterator[Finding]:
        """Yield what LOG says of it."""
        return _log(self._patient, self._container)


def _is_of_draws(error: CDIError) -> bool:
    """Say whether an error is only that no spec defines `any`."""
    return isinstance(error, UnresolvableDevices) and all(map(choice.may_be_draw, error.names))


def _config(container: KnownContainer) -> tuple[dict[str, Any], bool]:
    """Return the container's OCI spec as it is in its bundle, and True, else what its engine has of it."""
    if container.bundle:
        with contextlib.suppress(CDIError):
            loaded = bundle.load(f"{container.bundle}/config.json")
            if loaded:
                return loaded[0], True
    return dict(container.oci), False


def _given(
    who: str,
    patient: Patient,
    engine: Engine | None,
    container: KnownContainer,
    oci: dict[str, Any],
    is_whole: bool,
) -> tuple[Finding, bool]:
    """Say whether the container has what it asks for: then injecting again changes nothing."""
    try:
        changes = pipeline.inject(copy.deepcopy(oci), patient.host, _no_warning, keep_index=False)
    except CDIError as error:
        if patient.host.settings["EXCLUSIVE"] and not is_whole and _is_of_draws(error):
            return Finding(OK, f"{who} isn't running; it gets what is free then when it starts"), True
        return Finding(ERROR, f"{who}: {error}", f"{programs.command()} doctor"), False
    if not is_whole and container.is_running:
        fact = f"only root may read the config.json of {who}, which says what it was given"
        return Finding(UNKNOWN, fact, _ask_root(container)), False
    if not is_whole:
        return Finding(OK, f"{who} isn't running; cdi-runtime could give it all of that"), False
    if not changes:
        return Finding(OK, f"{who} was given all of that"), True
    stages = {
        stage for stage, hooks in _object(oci.get("hooks")).items() for one in _list(hooks)
        if os.path.basename(str(client.dig(one, "path"))) == "cdi-hook"
    }  # fmt: skip
    if stages:
        fact = f"{who} is given all of that by its hook {', '.join(sorted(stages))}, while it is created"
        return Finding(OK, fact), True
    fact = f"{who} was not given all of that: its config.json lacks {words.count(len(changes), 'change')}"
    if engine and not runs_us(container.program):
        return Finding(ERROR, fact), False  # what runtime() says is the fix
    if engine:
        fact += "; the spec may have changed since it was created"
    return Finding(ERROR, fact, shlex.join((programs.command(), "inject", "--diff", container.bundle))), False


def _closed(who: str, patient: Patient, oci: dict[str, Any], names: list[str]) -> Iterator[Finding]:
    """Yield the nodes that a user's own container can't open: it may open no more than the user may."""
    if os.geteuid() == 0:
        return
    has_groups = client.dig(oci, "annotations", _KEEPS_GROUPS) == "1"
    parts = patient.cache.parts(names)
    for path in sorted({node["path"] for _, part in parts for node in part.get("deviceNodes") or ()}):
        with contextlib.suppress(OSError):
            status = os.stat(path)
            others, group = status.st_mode & 0o006 == 0o006, host_check.group(status.st_gid)
            fact = f"{who} can't open {path}, which is for the group {group}"
            if others or status.st_uid == os.geteuid():
                continue
            if status.st_mode & 0o060 != 0o060:
                yield Finding(ERROR, f"{who} can't open {path}: only root may")
            elif status.st_gid not in (os.getegid(), *os.getgroups()):
                yield Finding(
                    ERROR, f"{fact}: you aren't in it", f"{host_check.join(group)}; then log in again"
                )
            elif not has_groups:
                fix = "--group-add keep-groups, an option of podman that crun knows"
                yield Finding(ERROR, f"{fact}: you are in it, and the container left it", fix)


def _former(engine: Engine | None, container: KnownContainer) -> str:
    """Return where the bundle of a pod's container was, as far as the policy asks; "" for another's."""
    is_claim = client.dig(container.oci, "annotations")
    marks = [mark for _, key, mark in request.PODS if key in _object(is_claim)]
    return marks[0] if engine and marks and container.client == "pod" else ""


def _ask_root(container: KnownContainer) -> str:
    return ask_root(container.bundle or container.identity)


def _no_warning(_message: str, _errors: list[str]) -> None:
    pass


def _runtime(
    who: str,
    engine: Engine | None,
    container: KnownContainer,
    settings: Config,
    names: str,
    *,
    is_needed: bool,
) -> Iterator[Finding]:
    """Yield which runtime created it, and if the container lacks something how to create it with ours."""
    if engine is None or not (container.runtime or container.program):
        return
    made = f"{who} was created with the runtime {container.runtime}"
    if container.program not in ("", container.runtime):
        made += f" ({container.program})"
    if runs_us(container.program):
        yield Finding(OK, f"{made}, which is cdi-runtime")
        return
    made += ", which isn't cdi-runtime"
    if not is_needed:
        yield Finding(OK, made)
        return
    kept = f"; {engine.name} always restarts it with that" if engine.help.keeps_runtime else ""
    if container.client == "pod":
        yield Finding(ERROR, f"{made}{kept}", _runtime_class(engine))
        return
    again = of_engines.request(engine, settings, container.client, names or of_engines.NAMES)
    again = again or f"{shlex.join((programs.command(), 'show', names or of_engines.NAMES))} says how"
    yield Finding(ERROR, f"{made}{kept}", f"create it again: {again}")


def _runtime_class(engine: Engine) -> str:
    """Return what makes a pod's containers ours."""
    ours: list[str] = []
    with contextlib.suppress(CDIError):
        ours = Configuration(engine).ours()
    if not ours:
        return as_root("cdi-hook", "configure", engine.name, "--reload")
    return f"create the pod again with runtimeClassName: {NAME if NAME in ours else ours[0]}"


def _looks_like(
    who: str,
    container: KnownContainer,
    oci: Mapping[str, Any],
    settings: Config,
    names: list[str],
    ask: Callable[..., str],
) -> Iterator[Finding]:
    """Yield what looks like a request and is none; ``names`` are the devices that are asked for."""
    prefixes, variables = settings.words("ANNOTATION_PREFIXES"), settings.words("DEVICE_ENV")
    lost = {key: value for _, key, value, _ in container.lost}  # a misspelt key of a pod's gets no further
    for key, value in sorted({**lost, **_object(client.dig(oci, "annotations"))}.items()):
        if not key.startswith(tuple(prefixes)) and _is_near(key, str(value), prefixes):
            fact = f"{who} has the annotation {quote(key)}, which asks for nothing: the key has to begin with"
            yield Finding(ERROR, f"{fact} {' or '.join(prefixes)}", ask(str(value)))
    for key, value in sorted(container.labels.items()):
        is_right = key.startswith(tuple(prefixes))
        if is_right or _is_near(key, str(value), prefixes):
            fact = f"{who} has the label {quote(key)}, which asks for nothing: it has to be an annotation"
            yield Finding(ERROR, fact, ask(str(value), key if is_right else ""))
    for one in _list(client.dig(oci, "process", "env")):
        name, _, value = str(one).partition("=")
        is_known = _KNOWN.fullmatch(name) and value not in request.NOTHING and not names
        # an image may have such a variable, so one word in it is no request beside a request
        is_other = name not in (*variables, DEALT)  # which says what the container has
        if is_other and (is_known or (_VARIABLE.fullmatch(name) and _names_devices(value))):
            shown = f"{value[:_MOST]}..." if len(value) > _MOST else value
            fact = f"{who} has the variable {name}={shown}, which asks for nothing"
            fix = f"{ask()}, or DEVICE_ENV={name} in cdi-hook.conf"
            yield Finding(WARNING if names else ERROR, fact, fix)


def _lost(
    who: str, engine: Engine | None, container: KnownContainer, settings: Config, names: list[str]
) -> Iterator[Finding]:
    """Yield the requests that the engine doesn't pass on to the runtime, for other devices than ``names``."""
    for whose, key, value, flag in container.lost:
        is_request = key.startswith(tuple(settings.words("ANNOTATION_PREFIXES")))
        if engine and is_request and not set(value.split(",")) <= set(names):
            fact = (
                f"{who} gets nothing by {whose}'s annotation {key}={value}: {engine.name} doesn't pass it on"
            )
            fix = as_root("cdi-hook", "configure", engine.name, *filter(None, [flag]), "--reload")
            yield Finding(ERROR, fact, fix if runs_us(container.program) else _runtime_class(engine))


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_near(key: str, value: str, prefixes: list[str]) -> bool:
    """Say whether a key was meant to begin with a prefix."""
    if _names_devices(value):
        return True
    first = key.partition("/")[0].lower()
    known = [prefix.rstrip("/") for prefix in prefixes]
    return first in known or ("=" in value and bool(difflib.get_close_matches(first, known, 1, 0.8)))


def _names_devices(value: str) -> bool:
    """Say whether a text is a list of qualified names."""
    return all(is_qualified_name(one.strip()) for one in value.split(","))


def _log(patient: Patient, container: KnownContainer) -> Iterator[Finding]:
    """Yield the last lines of LOG about a container."""
    path = patient.host.settings["LOG"]
    if not path:
        return
    try:
        lines = logs.tail(path)
    except FileNotFoundError:
        return
    except OSError as error:
        yield Finding(UNKNOWN, f"LOG={path} can't be read: {error.strerror}", _ask_root(container))
        return
    found = []
    for line in lines:
        if container.identity in line:
            with contextlib.suppress(ValueError):
                tree = json_text.loads(line)
                if client.dig(tree, "container") == container.identity:
                    found.append(tree)
    for tree in found[-_SHOWN:]:
        level = {"ERROR": ERROR, "WARNING": WARNING}.get(str(tree.get("level")), OK)
        named = tree.get("devices")
        asked = named if isinstance(named, list) else []
        devices = ", ".join(str(one.get("name")) for one in asked if isinstance(one, dict))
        said = f"{tree.get('msg')}{f': {devices}' if devices and level == OK else ''}"
        yield Finding(level, f"{path}, {tree.get('time')}: {said}")
