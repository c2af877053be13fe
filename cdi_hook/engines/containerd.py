# SPDX-License-Identifier: Apache-2.0
"""containerd: the CRI plugin's ``runtimes`` and ``default_runtime_name`` in config.toml, or in a drop-in.

    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.cdi]
    runtime_type = "io.containerd.runc.v2"
    container_annotations = ["cdi.k8s.io/*"]
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.cdi.options]
    BinaryName = "/usr/bin/cdi-runtime"
    SystemdCgroup = true

That is the layout of versions 3 and 4; version 2 has io.containerd.grpc.v1.cri
in its place. ctr has no use for it: it takes --runc-binary.

What ``containerd --config X config dump`` showed, of 1.7.24 (which reads
version 2 at most) and of 2.1.4:

- 1.7 puts an imported file's table of a plugin in the place of the whole table:
  with runtimes.cdi in a drop-in, the file's own sandbox_image and runtimes.runc
  are gone. 2.1 merges at every level. So a drop-in is for versions 3 and 4,
  which 1.x doesn't read.
- In 1.7 the built-in runtimes.runc is gone as soon as the file has any entry
  under runtimes; in 2.1 it stays.
- Both let [...containerd] stand after [...containerd.runtimes.cdi].
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cdi_hook.engines.model import Edited, Request, UnusableConfiguration, is_ours, refuse_foreign
from cdi_hook.engines.tomledit import TOMLText

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdi_hook.engines.model import Other

_PLUGINS = {
    2: "io.containerd.grpc.v1.cri",
    3: "io.containerd.cri.v1.runtime",
    4: "io.containerd.cri.v1.runtime",
}
_RUNC_TYPE = "io.containerd.runc.v2"
_DEFAULT = "default_runtime_name"
_POD_ANNOTATIONS = (
    "whoever may create a pod writes its annotations, and so can ask for any device that cdi-hook.conf's "
    "ALLOW and DENY let through"
)


class Containerd:
    """An Engine."""

    def add(self, text: str, request: Request, others: Sequence[Other] = ()) -> Edited:
        """See Engine."""
        document = TOMLText(text)
        base = _base(document)
        _refuse_replaced(document, others)
        notes: list[str] = []
        runtimes = (*base, "runtimes")
        path = (*runtimes, request.name)
        entry = document.get(path)
        if entry is None:
            entry, template = _entry(request, [document, *(TOMLText(other) for _, other in others)])
            document.add_table(path, entry)
            program = template.get("options", {}).get("BinaryName")
            if program and not is_ours(request.name, program):
                notes.append(
                    f"containerd's entry runs {program}; cdi-runtime runs what cdi-hook.conf's RUNTIMES says"
                )
            if document.tree["version"] == 2 and document.get((*runtimes, "runc")) is None:
                document.add_table((*runtimes, "runc"), {"runtime_type": _RUNC_TYPE})
        else:
            refuse_foreign(request.name, _program(entry))
            if _program(entry) != request.path:
                document.set((*path, "options"), "BinaryName", request.path)
            _let_through(document, path, "container_annotations", request.annotations)
            if request.pod_annotations:
                _let_through(document, path, "pod_annotations", request.annotations)
        if request.pod_annotations:
            notes.append(_POD_ANNOTATIONS)
        if request.set_default and document.get((*base, _DEFAULT)) != request.name:
            document.set(base, _DEFAULT, request.name)
        return Edited(document.text, tuple(notes))

    def remove(self, text: str, before: str | None) -> Edited:
        """See Engine."""
        ours = self.names(text)
        if not ours:
            return Edited(text)
        document = TOMLText(text)
        base = _base(document)
        notes = []
        runtimes = (*base, "runtimes")
        for name in ours:
            document.remove((*runtimes, name))
        if document.get((*base, _DEFAULT)) in ours:
            previous = self.default(before) if before is not None else None
            if previous is not None and (
                previous == "runc" or document.get((*runtimes, previous)) is not None
            ):
                document.set(base, _DEFAULT, previous)
            else:
                document.remove((*base, _DEFAULT))
                if previous is not None:
                    notes.append(
                        f"the default runtime was {previous}, which is gone: now it is containerd's own"
                    )
        runc = (*runtimes, "runc")
        if document.is_marked(runc) and document.get(runc) == {"runtime_type": _RUNC_TYPE}:
            document.remove(runc)
        return Edited(document.text, tuple(notes))

    def names(self, text: str) -> list[str]:
        """See Engine."""
        document = TOMLText(text)
        if document.tree.get("version") not in list(_PLUGINS):
            return []
        entries = document.get((*_base(document), "runtimes"))
        if not isinstance(entries, dict):
            return []
        return [name for name, entry in entries.items() if is_ours(name, _program(entry))]

    def default(self, text: str) -> str | None:
        """See Engine."""
        document = TOMLText(text)
        if document.tree.get("version") not in list(_PLUGINS):
            return None
        value = document.get((*_base(document), _DEFAULT))
        return value if isinstance(value, str) else None


def version(text: str) -> int:
    """Return the version of a configuration's layout; raises UnusableConfiguration for one not known here."""
    number = TOMLText(text).tree.get("version", 1)
    if not isinstance(number, int) or number not in _PLUGINS:
        known = f"known are {', '.join(map(str, _PLUGINS))}"
        step = (
            "; add `version = 2` and name plugins in full (containerd 2 does it: `containerd config migrate`)"
        )
        raise UnusableConfiguration(f"its version is {number!r}, {known}{step if number == 1 else ''}")
    return number


def merges_imports(text: str) -> bool:
    """Say whether what a configuration of this version imports is merged with it at every level."""
    return TOMLText(text).tree.get("version") in (3, 4)


def imports(text: str) -> list[str]:
    """Return the paths and patterns of the files that a configuration imports."""
    value = TOMLText(text).tree.get("imports", [])
    return [one for one in value if isinstance(one, str)] if isinstance(value, list) else []


def _base(document: TOMLText) -> tuple[str, ...]:
    return ("plugins", _PLUGINS[version(document.text)], "containerd")


def _program(entry: Any) -> Any:
    options = entry.get("options") if isinstance(entry, dict) else None
    return options.get("BinaryName") if isinstance(options, dict) else None


def _refuse_replaced(document: TOMLText, others: Sequence[Other]) -> None:
    """Refuse to edit what containerd 1 would not look at: an imported file's table comes in its place."""
    if document.tree["version"] != 2:
        return
    for path, text in others:
        for plugin in (_PLUGINS[2], "cri"):
            if TOMLText(text).get(("plugins", plugin)) is not None:
                raise UnusableConfiguration(
                    f"it imports {path}, whose table of {plugin} containerd 1 puts in the place of the one "
                    "here: name that file by --config, or have the table in one file"
                )


def _entry(request: Request, documents: Sequence[TOMLText]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return an entry for the request, and the one that it is made from."""
    template = _template(request, documents)
    entry: dict[str, Any] = {"runtime_type": _RUNC_TYPE, **template}
    for key, is_wanted in (("container_annotations", True), ("pod_annotations", request.pod_annotations)):
        has = list(entry.get(key) or ())
        if is_wanted:
            entry[key] = [*has, *(one for one in request.annotations if one not in has)]
    entry["options"] = {**entry.pop("options", {}), "BinaryName": request.path}
    return entry, template


def _template(request: Request, documents: Sequence[TOMLText]) -> dict[str, Any]:
    """Return the entry of a runtime that the runc shim runs, the best one; {} when there is none."""
    for name in request.templates:
        for document in documents:
            for plugin in dict.fromkeys(_PLUGINS.values()):
                entry = document.get(("plugins", plugin, "containerd", "runtimes", name))
                if isinstance(entry, dict) and entry.get("runtime_type", _RUNC_TYPE) in ("", _RUNC_TYPE):
                    return {**entry, "runtime_type": _RUNC_TYPE}
    return {}


def _let_through(document: TOMLText, path: tuple[str, ...], key: str, patterns: Sequence[str]) -> None:
    has = list(document.get((*path, key)) or ())
    wanted = [*has, *(one for one in patterns if one not in has)]
    if wanted != has:
        document.set(path, key, wanted)
