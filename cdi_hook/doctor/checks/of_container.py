# SPDX-License-Identifier: Apache-2.0
"""doctor: one container: its runtime, what it asks for, what only looks like asking, what it was given."""

from __future__ import annotations

import contextlib
import copy
import difflib
import os
import re
import shlex
from functools import cached_property
from typing import TYPE_CHECKING, Any

from cdi_hook.base import json_text, programs, words
from cdi_hook.base.quoting import quote
from cdi_hook.config.settings import OF_PLUGIN
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
from cdi_hook.inject.request import Facts
from cdi_hook.leases import choice, inquiry, store
from cdi_hook.names import is_qualified_name

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    for name, findings in (
        ("asked", case.asked),
        ("given", case.given[0]),
        ("holds", case.holds()),
        ("looks like", case.mistaken),
        ("asked", case.unasked),
        ("runtime", case.runtime()),
        ("engine", case.did_not_start()),
        ("log", case.log()),
    ):
        for finding in findings:
            yield name, finding


class _Case:
    """A container that is examined."""

    def __init__(self, patient: Patient, engine: Engine | None, container: KnownContainer) -> None:
        self._patient, self._engine, self._container = patient, engine, container
        self._settings = patient.host.settings
        self._who = f"{engine.name}'s container {container.identity[:12]}" if engine else container.bundle
        self._oci, self._is_whole = _config(container)
        patient.host.call = Facts(container.identity, container.bundle or self._former())
        self._request = request.DeviceRequest()
        self._refusal: CDIError | None = None
        try:
            self._request = request.collect(self._oci, self._settings, container.identity)
        except CDIError as error:
            self._refusal = error
        self._names = self._request.device_ids

    def _former(self) -> str:
        """Return where the bundle of a pod's container was, as far as the policy asks; "" for another's."""
        claims = _object(client.dig(self._container.oci, "annotations"))
        marks = [mark for _, key, mark in request.PODS if key in claims]
        return marks[0] if self._engine and marks and self._container.client == "pod" else ""

    def _ask(self, names: str = of_engines.NAMES, key: str = "") -> str:
        return of_engines.ask(self._engine, self._settings, self._container.client, names, key)

    def _ask_root(self) -> str:
        return ask_root(self._container.bundle or self._container.identity)

    @cached_property
    def asked(self) -> list[Finding]:
        """What it asks for."""
        if self._refusal:
            fix = f"start it again with a name of `{programs.command()} list`"
            return [Finding(ERROR, f"{self._who}: {self._refusal}", fix)]
        origins = ", ".join(f"{name} ({self._request.origins[name]})" for name in self._names)
        return [Finding(OK, f"{self._who} asks for {origins}")] if origins else []

    @cached_property
    def given(self) -> tuple[list[Finding], bool]:
        """Whether it has that, and can open it; and whether cdi-runtime could give it nothing more."""
        if not self._names:
            return [], True
        finding, is_given = self._compared()
        closed = self._closed() if is_given and self._engine else ()
        return [finding, *closed], is_given

    def _compared(self) -> tuple[Finding, bool]:
        """Say whether the container has what it asks for: then injecting again changes nothing."""
        who, host = self._who, self._patient.host
        try:
            changes = pipeline.inject(copy.deepcopy(self._oci), host, lambda *_: None, keep_index=False)
        except CDIError as error:
            is_draw = isinstance(error, UnresolvableDevices) and all(map(choice.may_be_draw, error.names))
            if host.settings["EXCLUSIVE"] and not self._is_whole and is_draw:
                return Finding(OK, f"{who} isn't running; it gets what is free then when it starts"), True
            return Finding(ERROR, f"{who}: {error}", f"{programs.command()} doctor"), False
        if not self._is_whole and self._container.is_running:
            fact = f"only root may read the config.json of {who}, which says what it was given"
            return Finding(UNKNOWN, fact, self._ask_root()), False
        if not self._is_whole:
            return Finding(OK, f"{who} isn't running; cdi-runtime could give it all of that"), False
        if not changes:
            return Finding(OK, f"{who} was given all of that"), True
        stages = {
            stage for stage, hooks in _object(self._oci.get("hooks")).items() for hook in _list(hooks)
            if os.path.basename(str(client.dig(hook, "path"))) == "cdi-hook"
        }  # fmt: skip
        if stages:
            fact = f"{who} is given all of that by its hook {', '.join(sorted(stages))}, while it is created"
            return Finding(OK, fact), True
        lacks = words.count(len(changes), "change")
        fact = f"{who} was not given all of that: its config.json lacks {lacks}"
        if self._engine and not runs_us(self._container.program):
            return Finding(ERROR, fact), False  # what runtime() says is the fix
        if self._engine:
            fact += "; the spec may have changed since it was created"
        fix = shlex.join((programs.command(), "inject", "--diff", self._container.bundle))
        return Finding(ERROR, fact, fix), False

    def _closed(self) -> Iterator[Finding]:
        """Yield the nodes that a user's own container can't open: it may open no more than the user may."""
        if os.geteuid() == 0:
            return
        has_groups = client.dig(self._oci, "annotations", _KEEPS_GROUPS) == "1"
        parts = self._patient.cache.parts(self._names)
        for path in sorted({node["path"] for _, part in parts for node in part.get("deviceNodes") or ()}):
            with contextlib.suppress(OSError):
                status = os.stat(path)
                others, group = status.st_mode & 0o006 == 0o006, host_check.group(status.st_gid)
                fact = f"{self._who} can't open {path}, which is for the group {group}"
                if others or status.st_uid == os.geteuid():
                    continue
                if status.st_mode & 0o060 != 0o060:
                    yield Finding(ERROR, f"{self._who} can't open {path}: only root may")
                elif status.st_gid not in (os.getegid(), *os.getgroups()):
                    fix = f"{host_check.join(group)}; then log in again"
                    yield Finding(ERROR, f"{fact}: you aren't in it", fix)
                elif not has_groups:
                    fix = "--group-add keep-groups, an option of podman that crun knows"
                    yield Finding(ERROR, f"{fact}: you are in it, and the container left it", fix)

    def holds(self) -> Iterator[Finding]:
        """Yield which devices it has for itself."""
        if not self._settings["EXCLUSIVE"]:
            return
        leases = store.known(self._patient.host.lease_dir)
        own = [lease for lease in leases if lease["id"] == self._container.identity]
        inquiry.ask(own, leases, inquiry.SHORT_S)
        for lease in filter(lambda lease: lease.how, own):
            names = words.some(dict.fromkeys(device.name for device in lease.devices))
            yield Finding(OK, f"no other container may have {names}, which {self._who} holds (EXCLUSIVE)")

    @cached_property
    def mistaken(self) -> list[Finding]:
        """What looks like a request and is none, and the requests that its engine doesn't pass on."""
        return [*self._looks_like(), *self._lost()]

    def _looks_like(self) -> Iterator[Finding]:
        prefixes, variables = self._settings.words("ANNOTATION_PREFIXES"), self._settings.words("DEVICE_ENV")
        who, names = self._who, self._names
        # a misspelt key of a pod's gets no further
        annotations = {key: value for _, key, value, _ in self._container.lost}
        annotations |= _object(client.dig(self._oci, "annotations"))
        for key, value in sorted(annotations.items()):
            if not key.startswith(tuple(prefixes)) and _is_near(key, str(value), prefixes):
                fact = f"{who} has the annotation {quote(key)}, which asks for nothing"
                right = " or ".join(prefix for prefix in prefixes if prefix != OF_PLUGIN)
                yield Finding(ERROR, f"{fact}: the key has to begin with {right}", self._ask(str(value)))
        for key, value in sorted(self._container.labels.items()):
            is_right = key.startswith(tuple(prefixes))
            if is_right or _is_near(key, str(value), prefixes):
                fact = f"{who} has the label {quote(key)}, which asks for nothing: it has to be an annotation"
                yield Finding(ERROR, fact, self._ask(str(value), key if is_right else ""))
        for variable in _list(client.dig(self._oci, "process", "env")):
            name, _, value = str(variable).partition("=")
            is_known = _KNOWN.fullmatch(name) and value not in request.NOTHING and not names
            # an image may have such a variable, so one word in it is no request beside a request
            is_other = name not in (*variables, DEALT)  # which says what the container has
            if is_other and (is_known or (_VARIABLE.fullmatch(name) and _names_devices(value))):
                shown = f"{value[:_MOST]}..." if len(value) > _MOST else value
                fact = f"{who} has the variable {name}={shown}, which asks for nothing"
                fix = f"{self._ask()}, or DEVICE_ENV={name} in cdi-hook.conf"
                yield Finding(WARNING if names else ERROR, fact, fix)

    def _lost(self) -> Iterator[Finding]:
        engine, prefixes = self._engine, tuple(self._settings.words("ANNOTATION_PREFIXES"))
        for whose, key, value, flag in self._container.lost:
            if not engine or not key.startswith(prefixes) or set(value.split(",")) <= set(self._names):
                continue
            if not flag and of_engines.reads(engine, key):
                fact = f"{self._who} has {value} by {whose}'s annotation {key} and {engine.name}'s own CDI"
                is_unjudged = self._settings.has_policy and not runs_us(self._container.program)
                unjudged = "; without the runtime class no rule of cdi-hook.conf judges that"
                yield Finding(WARNING, fact + unjudged) if is_unjudged else Finding(OK, fact)
                continue
            lost = f"{self._who} gets nothing by {whose}'s annotation {key}={value}"
            fix = as_root("cdi-hook", "configure", engine.name, *filter(None, [flag]), "--reload")
            fix = fix if runs_us(self._container.program) else _runtime_class(engine)
            yield Finding(ERROR, f"{lost}: {engine.name} doesn't pass it on", fix)

    @cached_property
    def unasked(self) -> list[Finding]:
        """That it asks its engine, or nobody."""
        if self._container.native:
            whom = self._engine.name if self._engine else "its engine"
            fact = f"{self._who} asks {whom} itself: {'; '.join(self._container.native)}"
            return [Finding(OK, f"{fact}; that isn't cdi-runtime's to give")]
        if self.asked or self.mistaken:
            return []
        fix = f"{self._ask()}; {programs.command()} list shows the names"
        if self._container.client == "pod":
            fix = f"resources {{limits: {{vendor.com/class: 1}}}} where a device plugin offers it, or {fix}"
        return [Finding(ERROR, f"{self._who} asks for no device", fix)]

    @property
    def _lacks(self) -> bool:
        """Whether it lacks something that cdi-runtime could give."""
        wrong = (*self.asked, *self.mistaken, *self.unasked)
        return not self.given[1] or any(finding.level == ERROR for finding in wrong)

    def runtime(self) -> Iterator[Finding]:
        """Yield which runtime created it, and if the container lacks something how to create it with ours."""
        engine, container = self._engine, self._container
        if engine is None or not (container.runtime or container.program):
            return
        made = f"{self._who} was created with the runtime {container.runtime}"
        if container.program not in ("", container.runtime):
            made += f" ({container.program})"
        if runs_us(container.program):
            yield Finding(OK, f"{made}, which is cdi-runtime")
            return
        made += ", which isn't cdi-runtime"
        if not self._lacks:
            yield Finding(OK, made)
            return
        kept = f"; {engine.name} always restarts it with that" if engine.help.keeps_runtime else ""
        if container.client == "pod":
            yield Finding(ERROR, f"{made}{kept}", _runtime_class(engine))
            return
        lost = [value for _, _, value, _ in container.lost if _names_devices(value)]
        names = ",".join(self._names or lost[:1]) or of_engines.NAMES
        again = of_engines.request(engine, self._settings, container.client, names)
        again = again or f"{shlex.join((programs.command(), 'show', names))} says how"
        yield Finding(ERROR, f"{made}{kept}", f"create it again: {again}")

    def did_not_start(self) -> Iterator[Finding]:
        """Yield why its engine says that it didn't start, unless that is said already."""
        said, is_wrong = self._container.error, any(finding.level == ERROR for finding in self.given[0])
        if said and not (FAILED in said and is_wrong):
            names = "nvidia.com/gpu=all" if "--gpus" in self._container.native else of_engines.NAMES
            fix = self._ask(names) if self._container.native else ""
            yield Finding(ERROR, f"{self._who} didn't start: {said}", fix)

    def log(self) -> Iterator[Finding]:
        """Yield the last lines of LOG about it."""
        path, identity = self._settings["LOG"], self._container.identity
        if not path:
            return
        try:
            lines = logs.tail(path)
        except FileNotFoundError:
            return
        except OSError as error:
            yield Finding(UNKNOWN, f"LOG={path} can't be read: {error.strerror}", self._ask_root())
            return
        trees = []
        for line in lines:
            if identity in line:
                with contextlib.suppress(ValueError):
                    tree = json_text.loads(line)
                    if client.dig(tree, "container") == identity:
                        trees.append(tree)
        for tree in trees[-_SHOWN:]:
            level = {"ERROR": ERROR, "WARNING": WARNING}.get(str(tree.get("level")), OK)
            asked = [device for device in _list(tree.get("devices")) if isinstance(device, dict)]
            devices = ", ".join(str(device.get("name")) for device in asked)
            said = f"{tree.get('msg')}{f': {devices}' if devices and level == OK else ''}"
            yield Finding(level, f"{path}, {tree.get('time')}: {said}")


def _config(container: KnownContainer) -> tuple[dict[str, Any], bool]:
    """Return the container's OCI spec as it is in its bundle, and True, else what its engine has of it."""
    if container.bundle:
        with contextlib.suppress(CDIError):
            loaded = bundle.load(f"{container.bundle}/config.json")
            if loaded:
                return loaded[0], True
    return dict(container.oci), False


def _runtime_class(engine: Engine) -> str:
    """Return what makes a pod's containers ours."""
    ours: list[str] = []
    with contextlib.suppress(CDIError):
        ours = Configuration(engine).ours()
    if not ours:
        return as_root("cdi-hook", "configure", engine.name, "--reload")
    return f"create the pod again with runtimeClassName: {NAME if NAME in ours else ours[0]}"


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
