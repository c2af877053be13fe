# SPDX-License-Identifier: Apache-2.0
"""CRI-O: ``crio.runtime.runtimes`` and ``default_runtime``, in a drop-in of crio.conf.d.

    [crio.runtime.runtimes.cdi]
    runtime_path = "/usr/bin/cdi-runtime"
    runtime_type = "oci"

CRI-O reads every file in crio.conf.d, whatever its name, in the order of names,
each on top of those before; of ``runtimes``, entry by entry (pkg/config/config.go,
UpdateFromPath). ``allowed_annotations`` is copied and never added to: it takes
CRI-O's own names only, and CRI-O doesn't start with another in it
(validateAllowedAndGenerateDisallowedAnnotations); all that isn't among those
names is handed on, a pod's annotations to its containers as well
(internal/factory/container/container.go, SpecAddAnnotations).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cdi_hook.engines.dropin import DropIn
from cdi_hook.engines.model import Edited, Request, refuse_foreign
from cdi_hook.engines.tomledit import TOMLText

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdi_hook.engines.model import Other

# What says which program an entry runs.
_NOT_COPIED = (
    "runtime_path",
    "runtime_type",
    "runtime_config_path",
    "platform_runtime_paths",
    "inherit_default_runtime",
)
_POD_ANNOTATIONS = (
    "CRI-O hands a pod's annotations on to its containers: whoever may create a pod that runs by this "
    "runtime can ask for any device that cdi-hook.conf's ALLOW and DENY let through"
)


class Crio(DropIn):
    """An Engine."""

    table = ("crio", "runtime")
    default_key = "default_runtime"

    def program(self, entry: Any) -> Any:
        """Return the path of the program that an entry runs."""
        return entry.get("runtime_path") if isinstance(entry, dict) else None

    def add(self, text: str, request: Request, others: Sequence[Other] = ()) -> Edited:
        """See Engine."""
        document = TOMLText(text)
        path = (*self.runtimes, request.name)
        entry = document.get(path)
        if entry is None:
            # a drop-in's entry comes in the place of one in a file before it
            template = self._template(
                request, [document, *(TOMLText(other) for _, other in reversed(others))]
            )
            copied = {key: value for key, value in template.items() if key not in _NOT_COPIED}
            document.add_table(path, {"runtime_path": request.path, "runtime_type": "oci", **copied})
        else:
            refuse_foreign(request.name, self.program(entry))
            if self.program(entry) != request.path:
                document.set(path, "runtime_path", request.path)
        if request.set_default:
            self.set_default(document, request.name)
        return Edited(document.text, (_POD_ANNOTATIONS,))

    def _template(self, request: Request, documents: Sequence[TOMLText]) -> dict[str, Any]:
        """Return the entry of an OCI runtime, the best one; {} when there is none."""
        for name in request.templates:
            for document in documents:
                entry = document.get((*self.runtimes, name))
                if isinstance(entry, dict) and entry.get("runtime_type", "oci") in ("", "oci"):
                    return entry
        return {}
