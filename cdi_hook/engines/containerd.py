# SPDX-License-Identifier: Apache-2.0
"""containerd: the CRI plugin's ``runtimes`` and ``default_runtime_name`` in config.toml, or in a drop-in.

    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.cdi]
    runtime_type = "io.containerd.runc.v2"
    container_annotations = ["cdi.k8s.io/*", "cdi-hook.local/*"]
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.cdi.options]
    BinaryName = "/usr/bin/cdi-runtime"
    SystemdCgroup = true

This is the layout of versions 3 and 4 of the file. Version 2 has
io.containerd.grpc.v1.cri in place of io.containerd.cri.v1.runtime. ctr doesn't
read these tables: it has --runc-binary.

Seen with ``containerd --config X config dump``, of 1.7.24, which reads version 2
at most, and of 2.1.4:

- In 1.7 an imported file's table of a plugin replaces the whole table: a drop-in
  with runtimes.cdi removes the file's own sandbox_image and runtimes.runc. 2.1
  merges at every level. So only versions 3 and 4, which 1.x doesn't read, get a
  drop-in.
- 1.7 drops its built-in runtimes.runc if the file has any entry under runtimes;
  2.1 keeps it.
- Both accept [...containerd] after [...containerd.runtimes.cdi].

Seen with 2.0 to 2.3: without a config.toml, no drop-in is read. So a config.toml that
is written imports none: what that would turn on, nobody has ever seen work. 2.3
refuses a drop-in of a higher version than config.toml has.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import glob
import json
import os
import re
from typing import TYPE_CHECKING, Any

from cdi_hook.base.process import ask
from cdi_hook.base.quoting import quote
from cdi_hook.engines.client import KnownContainer, Unreachable, ask_json, bundle, dig
from cdi_hook.engines.client import program as program_of
from cdi_hook.engines.edit import file_change
from cdi_hook.engines.edit.config_editor import Editor, Files, is_ours, to_copy
from cdi_hook.engines.edit.document import UnusableConfiguration, named
from cdi_hook.engines.edit.toml_document import TOMLText
from cdi_hook.engines.engine import POD, Engine, HelpText, OwnCDI, Prober

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cdi_hook.engines.edit.config_editor import Edited, Other, Request
    from cdi_hook.engines.edit.document import Key

_PLUGINS = {2: "io.containerd.grpc.v1.cri", **dict.fromkeys((3, 4), "io.containerd.cri.v1.runtime")}
_OTHERS = ("moby",)  # namespaces of engines that speak for themselves
_OF_KUBERNETES = "k8s.io"  # the namespace of the kubelet
# A container's labels that people know it by.
_NAMES = ("nerdctl/name", "io.kubernetes.pod.name", "io.kubernetes.container.name")
_BINARY_NAME = 6 << 3 | 2  # containerd.runc.v1.Options: field 6, of bytes
_MERGES = (3, 4)  # the versions whose imported files are merged at every level
_DROP_IN = "99-cdi-hook.toml"
_POD_FLAG = "--pod-annotations"
_POD_HELP = "let pods' annotations name devices too, which whoever may create a pod writes"
_POD_ANNOTATIONS = (
    "whoever may create a pod writes its annotations, and so can ask for any device that ALLOW and DENY in "
    "cdi-hook.conf permit"
)
_TABLES = [("plugins", plugin, "containerd") for plugin in dict.fromkeys(_PLUGINS.values())]
_TYPE = "io.containerd.runc.v2"


class ContainerdEditor(Editor):
    default_key = "default_runtime_name"
    program_key = ("options", "BinaryName")
    made = ""  # the name of the file among the others that the engine makes of this one

    @classmethod
    def files(cls, path: str) -> Files:
        """Return config.toml and what it imports; the edit goes to a drop-in if one is imported."""
        text = file_change.read(path)
        own = os.path.join(os.path.dirname(path), "conf.d", _DROP_IN)
        if text is None:
            unread = sorted({*glob.glob(f"{glob.escape(os.path.dirname(own))}/*.toml")} - {own})
            return Files(path, (path,), (path, own), unread)
        with named(path):
            editor = cls("", text)
            merges = editor.document.tree.get("version") in _MERGES
            patterns, has_ours = imports(text), bool(editor.ours)
        files = [path]
        place = path
        for pattern in patterns:
            whole = os.path.normpath(os.path.join(os.path.dirname(path), pattern))
            found = glob.glob(whole) if "*" in whole else [whole]
            directory, names = os.path.split(whole)
            if merges and "*" not in directory and fnmatch.fnmatchcase(_DROP_IN, names) and place == path:
                found.append(place := os.path.join(directory, _DROP_IN))
            files += sorted(found)
        place = path if has_ours else place
        return Files(place, files, (place, *files))

    @property
    def _plugin(self) -> Key:
        number = self.document.tree.get("version")  # an unknown one has no such table
        return ("plugins", _PLUGINS.get(number, "") if isinstance(number, int) else "")

    @property
    def table(self) -> Key:
        return (*self._plugin, "containerd")

    @property
    def cdi_key(self) -> Key:
        return (*self._plugin, "enable_cdi")

    def start(self) -> str:
        # A drop-in has the version of its config.toml. Every containerd reads version 2.
        number = version(self.others[0][1]) if os.path.basename(self.path) == _DROP_IN else 2
        return f"{super().start()}version = {number}\n"

    def has(self, name: str) -> bool:
        return name == "runc" or name in self.programs

    def check(self, request: Request) -> None:  # noqa: ARG002  # for templates
        """Refuse a text in which an entry would do nothing, or harm."""
        _refuse_disabled(self.document.text)
        if version(self.document.text) == 2:
            _refuse_replaced([one for one in self.others if os.path.basename(one[0]) != self.made])

    def add(self, request: Request) -> Edited:
        self.check(request)
        return super().add(request)

    def set_entry(self, key: Key, request: Request) -> list[str]:
        notes = []
        pods = _POD_FLAG in request.flags
        documents = [self.document, *(self.form(text) for _, text in self.others)]
        template = to_copy(request, documents, _TABLES, [_TYPE])
        if self.document.get(key) is None:
            program = self.program(template)
            if program and not is_ours(request.name, program):
                notes.append(
                    f"containerd's entry runs {program}; cdi-runtime runs one of RUNTIMES in cdi-hook.conf"
                )
            entry = {"runtime_type": "", **template} | {"runtime_type": _TYPE}
            entry["options"] = {**entry.pop("options", {}), "BinaryName": request.path}
            self.document.set(key, entry)
            runc = (*key[:-1], "runc")
            if self.document.tree["version"] == 2 and all(one.get(runc) is None for one in documents):
                self.document.set(runc, {"runtime_type": _TYPE})
        super().set_entry(key, request)
        for name, is_open in (("container_annotations", True), ("pod_annotations", pods)):
            has = self.document.get((*key, name)) or []
            others = [one for one in has if one not in request.annotations]
            wanted = _with(has, request.annotations) if is_open else others
            if wanted or name in template:
                if wanted != has:
                    self.document.set((*key, name), wanted)
            elif has:
                self.document.remove((*key, name))
        return [*notes, _POD_ANNOTATIONS] if pods else notes

    def remove(self, before: Editor | None) -> Edited:
        edited = super().remove(before)
        runc = (*self.table, "runtimes", "runc")
        if self.document.get(runc) == {"runtime_type": _TYPE} and self.document.is_marked(runc):
            self.document.remove(runc)
        return edited._replace(text=self.document.text)

    def lacks(self, name: str, annotations: Sequence[str]) -> str:
        passed = self.document.get((*self.table, "runtimes", name, "container_annotations")) or []
        missing = [one for one in annotations if one not in passed and "*" not in passed]
        return f"container_annotations doesn't have {', '.join(missing)}" if missing else ""


class ContainerdProber(Prober):
    programs: tuple[str, ...] = ("containerd",)
    socket = "/run/containerd/containerd.sock"
    states: tuple[str, ...] = ("/run/containerd",)

    def says(self) -> None:
        self._ctr("version")

    def inspect(self, name: str) -> list[KnownContainer]:
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name):
            return []  # neither an id nor a name
        filters = [f'id~="^{re.escape(name)}"', *(f'labels."{label}"=={name}' for label in _NAMES)]
        return [
            one
            for namespace in self._ctr("namespaces", "ls", "-q")
            if namespace not in _OTHERS
            for one in self._containers(namespace, filters)
        ]

    def of_pod(self, namespace: str, pod: str, container: str) -> list[KnownContainer]:
        wanted = {"pod.namespace": namespace, "pod.name": pod, "container.name": container}
        labels = [f'labels."io.kubernetes.{key}"=={value}' for key, value in wanted.items() if value]
        return self._containers(_OF_KUBERNETES, [",".join(labels)])

    def _containers(self, namespace: str, filters: Sequence[str]) -> list[KnownContainer]:
        found = []
        for identity in self._ctr("-n", namespace, "containers", "ls", "-q", *filters):
            found += list(self._container(namespace, identity))
        return found

    def _ctr(self, *arguments: str) -> list[str]:
        """Return the lines that ctr prints; raises Unreachable."""
        if not os.path.exists(self.socket):
            raise Unreachable(f"there is no {self.socket}")
        answer = ask((*self._client(), *arguments))
        if answer.status != 0:
            raise Unreachable(answer.why)
        return answer.out.split("\n")[:-1]

    def _client(self) -> tuple[str, ...]:
        own = os.path.join(self.own_dir, "ctr")
        return program_of(own) or own, "--address", self.socket

    def _info(self, namespace: str, identity: str) -> Any:
        """Return what containerd has of a container; None if it is gone by now."""
        command = (*self._client(), "-n", namespace, "containers", "info", identity)
        return ask_json(*command, unknown="not found")

    def _container(self, namespace: str, identity: str) -> Iterator[KnownContainer]:
        """Yield a container, unless it is a pod's sandbox or gone by now."""
        one = self._info(namespace, identity)
        if one is None or dig(one, "Labels", "io.cri-containerd.kind") == "sandbox":
            return
        handler, lost = self._of_kubernetes(namespace, one)
        yield KnownContainer(
            identity,
            handler or str(dig(one, "Runtime", "Name") or ""),
            _binary(dig(one, "Runtime", "Options", "value")),
            bundle(self.states, namespace, identity),
            dig(one, "Spec") or {},
            dig(one, "Labels") or {},
            lost=lost,
            client="pod" if handler else "",
        )

    def _of_kubernetes(self, namespace: str, one: Any) -> tuple[str, tuple[tuple[str, str, str, str], ...]]:
        """Return the handler of a container's pod, "" without one, and the annotations that get lost."""
        own = _metadata(one, "container")
        sandbox = dig(own, "SandboxID")
        if not sandbox:
            return "", ()
        of_pod = _metadata(self._info(namespace, str(sandbox)), "sandbox")
        passed = dig(one, "Spec", "annotations") or {}
        lost = [
            (whose, key, str(value), flag)
            for whose, tree, flag in (("the container", own, ""), ("its pod", of_pod, _POD_FLAG))
            for key, value in (dig(tree, "Config", "annotations") or {}).items()
            if key not in passed
        ]
        return str(dig(of_pod, "RuntimeHandler") or "the default"), tuple(lost)


def _metadata(one: Any, kind: str) -> Any:
    """Return what the CRI plugin keeps beside a container, as JSON in base64; None for another's."""
    try:
        text = base64.b64decode(dig(one, "Extensions", f"io.cri-containerd.{kind}.metadata", "value") or "")
        return json.loads(text)["Metadata"]
    except (ValueError, KeyError, TypeError):
        return None


def _binary(options: Any) -> str:
    """Return BinaryName of a shim's options, which ctr shows as protobuf in base64; without it, runc."""
    try:
        data = base64.b64decode(options or "")
        while data:
            tag, kind, data = data[0], data[0] & 7, data[1:]
            length, data = _number(data)
            if kind == 2:
                value, data = data[:length], data[length:]
                if tag == _BINARY_NAME:
                    return value.decode()
            elif kind:
                break
    except (binascii.Error, IndexError, StopIteration, TypeError, UnicodeDecodeError):
        return ""
    return "runc"


def _number(data: bytes) -> tuple[int, bytes]:
    """Return a protobuf's number at the beginning of data, and what comes after it."""
    size = next(index for index, byte in enumerate(data, 1) if byte < 0x80)
    return sum((byte & 0x7F) << 7 * index for index, byte in enumerate(data[:size])), data[size:]


def version(text: str) -> int:
    """Return the version of a configuration; raises UnusableConfiguration for an unknown one."""
    number = TOMLText(text).tree.get("version", 1)
    if not isinstance(number, int) or number not in _PLUGINS:
        known = f"cdi-hook knows {', '.join(map(str, _PLUGINS))}"
        step = "; add `version = 2` and write plugins' full names (containerd 2: `containerd config migrate`)"
        raise UnusableConfiguration(f"its version is {number!r}; {known}{step if number == 1 else ''}")
    return number


def _refuse_disabled(text: str) -> None:
    """Refuse a configuration that turns the CRI plugin off, as that of docker's packages does."""
    tree = TOMLText(text).tree
    disabled = tree.get("disabled_plugins")
    names = {"cri", *_PLUGINS.values()}.intersection(disabled if isinstance(disabled, list) else ())
    if names:
        lines = text.split("\n")
        number = 1 + next(n for n, line in enumerate(lines) if "disabled_plugins" in line.partition("#")[0])
        step = "" if "version" in tree else " and add the line `version = 2`"
        raise UnusableConfiguration(
            f"line {number}, disabled_plugins, turns off the CRI plugin, which alone reads the entry: take "
            f"{' and '.join(map(quote, sorted(names)))} out of it{step}; docker and ctr need no entry here"
        )


def imports(text: str) -> list[str]:
    """Return the paths and patterns of the files that a configuration imports."""
    value = TOMLText(text).tree.get("imports", [])
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _with(has: Sequence[str], patterns: Sequence[str]) -> list[str]:
    return [*has, *(one for one in patterns if one not in has)]


def _refuse_replaced(others: Sequence[Other]) -> None:
    """Refuse to edit a table that containerd 1 ignores, because an imported file's table replaces it."""
    for path, text in others:
        for plugin in (_PLUGINS[2], "cri"):
            if TOMLText(text).get(("plugins", plugin)) is not None:
                raise UnusableConfiguration(
                    f"it imports {path}, whose table of {plugin} replaces the one here in containerd 1: "
                    "name that file with --file, or keep the table in one file"
                )


ENGINE = Engine(
    "containerd",
    "/etc/containerd/config.toml",
    ContainerdEditor,
    ContainerdProber,
    HelpText(
        {
            "ctr": "ctr run --runc-binary {program} --annotation {key}={names} IMAGE ID",
            "nerdctl": "nerdctl run --runtime {program} --annotation {key}={names} IMAGE",
            "pod": POD,
        },
        about=", versions 2 to 4; from version 3 on, a drop-in beside it if it imports one",
        flags=((_POD_FLAG, f"{_POD_HELP}; without this option they no longer do"),),
    ),
    daemon="containerd",
    units=("containerd",),
    reload="restart",
    own_cdi=OwnCDI(
        "what the kubelet's CDI field and containers' annotations cdi.k8s.io/ ask for", on_since=(2, 0)
    ),
)
