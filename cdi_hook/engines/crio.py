# SPDX-License-Identifier: Apache-2.0
"""CRI-O: ``crio.runtime.runtimes`` and ``default_runtime``, in a drop-in of crio.conf.d.

    [crio.runtime.runtimes.cdi]
    runtime_path = "/usr/bin/cdi-runtime"
    runtime_type = "oci"

The rest of an entry says which monitor starts the runtime, and how. CRI-O's own
packages have another monitor, conmonrs, for runtime_type = "pod", and none on PATH.
So an entry that is there is copied, with only the program replaced.

After a reload, CRI-O lists a new handler, but no pod can use it (seen with 1.33 and
1.36): it has to be restarted, which ends no container.

CRI-O reads every file in crio.conf.d, in the order of their names; a later file
overrides an earlier one, in ``runtimes`` entry by entry (pkg/config/config.go,
UpdateFromPath). ``allowed_annotations`` is copied, and nothing is added to it: it
may have only CRI-O's own names, or CRI-O doesn't start
(validateAllowedAndGenerateDisallowedAnnotations). CRI-O passes all other
annotations to the runtime, and a pod's annotations to its containers
(internal/factory/container/container.go, SpecAddAnnotations).
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from cdi_hook.engines.client import KnownContainer, Unreachable, ask_json, dig, program
from cdi_hook.engines.edit.config_editor import Editor, Files, Request, drop_ins, to_copy
from cdi_hook.engines.edit.configuration import Configuration
from cdi_hook.engines.engine import POD, Engine, HelpText, OwnCDI, Prober

if TYPE_CHECKING:
    from cdi_hook.engines.edit.document import Key

# The fields that decide which program an entry runs.
_NOT_COPIED = "runtime_path runtime_type runtime_config_path platform_runtime_paths inherit_default_runtime"
_BUNDLE = "/run/containers/storage/overlay-containers/{}/userdata"
_SOCKET = "/var/run/crio/crio.sock"
_CRICTL = ("crictl", "--runtime-endpoint", f"unix://{_SOCKET}")
# A pod's annotation: its status has no runtimeHandler.
_HANDLER = "io.kubernetes.cri-o.RuntimeHandler"
_POD_ANNOTATIONS = (
    "CRI-O passes a pod's annotations to its containers: whoever may create a pod with this runtime can "
    "ask for any device that ALLOW and DENY in cdi-hook.conf permit"
)


class CrioEditor(Editor):
    table = ("crio", "runtime")
    default_key = "default_runtime"
    program_key = ("runtime_path",)
    hooks_key = ("crio", "runtime", "hooks_dir")

    @classmethod
    def files(cls, path: str) -> Files:
        return drop_ins(path, "*")

    def set_entry(self, key: Key, request: Request) -> list[str]:
        if self.document.get(key) is None:
            # a drop-in's entry replaces one in a file before it
            documents = [self.document, *(self.form(text) for _, text in reversed(self.others))]
            template = to_copy(request, documents, [self.table], ("oci", "pod"))
            copied = {key: value for key, value in template.items() if key not in _NOT_COPIED.split()}
            decides = {"runtime_path": request.path, "runtime_type": template.get("runtime_type") or "oci"}
            self.document.set(key, {**decides, **copied})
        super().set_entry(key, request)
        return [_POD_ANNOTATIONS]


class CrioProber(Prober):
    programs = ("crio",)
    socket = _SOCKET

    def inspect(self, name: str) -> list[KnownContainer]:
        found = _crictl("inspect", "--", name, unknown="could not find container")
        if found is None:
            return []
        pod = _crictl("inspectp", str(dig(found, "info", "sandboxID")))
        configuration = Configuration(self.engine)
        runtime = str(dig(pod, "info", "runtimeSpec", "annotations", _HANDLER) or configuration.default)
        identity = str(dig(found, "status", "id"))
        bundle = _BUNDLE.format(identity)
        return [
            KnownContainer(
                identity,
                runtime,
                configuration.program(runtime),
                bundle if os.path.isdir(bundle) else "",
                dig(found, "info", "runtimeSpec") or {},
                dig(found, "status", "labels") or {},
                (),
                str(dig(found, "status", "message") or ""),
                dig(found, "status", "state") == "CONTAINER_RUNNING",
                client="pod",
            )
        ]

    def of_pod(self, namespace: str, pod: str, container: str) -> list[KnownContainer]:
        labels = {"pod.namespace": namespace, "pod.name": pod, "container.name": container}
        wanted = [f"--label=io.kubernetes.{key}={value}" for key, value in labels.items() if value]
        found = dig(_crictl("ps", "--all", "--output=json", *wanted), "containers") or []
        return [one for each in found for one in self.inspect(str(dig(each, "id")))]


def _crictl(*arguments: str, unknown: str = "") -> Any:
    """Return what crictl prints; raises Unreachable."""
    if not program(_CRICTL[0]):
        raise Unreachable("crictl isn't installed, and nothing else asks CRI-O for a container")
    return ask_json(*_CRICTL, *arguments, unknown=unknown)


ENGINE = Engine(
    "crio",
    "/etc/crio/crio.conf.d/99-cdi-hook.conf",
    CrioEditor,
    CrioProber,
    HelpText({"pod": POD}),
    daemon="crio",
    units=("crio",),
    reload="restart",
    hooks_dirs=("/usr/share/containers/oci/hooks.d",),
    own_cdi=OwnCDI("what the kubelet's CDI field and containers' annotations ask for"),
)
