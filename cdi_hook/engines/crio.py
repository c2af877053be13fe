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
from cdi_hook.engines.edit.configuration import Configuration
from cdi_hook.engines.edit.toml_document import TOMLText
from cdi_hook.engines.engine import POD, Engine, Files, Request, drop_ins

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdi_hook.engines.edit.document import Document, Key
    from cdi_hook.engines.engine import Other

# The fields that decide which program an entry runs.
_NOT_COPIED = (
    "runtime_path",
    "runtime_type",
    "runtime_config_path",
    "platform_runtime_paths",
    "inherit_default_runtime",
)
_BUNDLE = "/run/containers/storage/overlay-containers/{}/userdata"
_SOCKET = "/var/run/crio/crio.sock"
_CRICTL = ("crictl", "--runtime-endpoint", f"unix://{_SOCKET}")
# A pod's annotation: its status has no runtimeHandler.
_HANDLER = "io.kubernetes.cri-o.RuntimeHandler"
_POD_ANNOTATIONS = (
    "CRI-O passes a pod's annotations to its containers: whoever may create a pod with this runtime can "
    "ask for any device that ALLOW and DENY in cdi-hook.conf permit"
)


class Crio(Engine):
    name = "crio"
    file = "/etc/crio/crio.conf.d/99-cdi-hook.conf"
    daemon = "crio"
    programs = ("crio",)
    socket = _SOCKET
    own_cdi = "what the kubelet's CDI field and containers' annotations ask for"
    requests = {"pod": POD}  # noqa: RUF012 # nobody alters it
    hooks_key = ("crio", "runtime", "hooks_dir")
    hooks_dirs = ("/usr/share/containers/oci/hooks.d",)
    reload = "restart"
    tables = (("crio", "runtime"),)
    default_key = "default_runtime"
    program_key = ("runtime_path",)
    runtime_type = "oci"
    other_types = ("pod",)

    def files(self, path: str) -> Files:
        return drop_ins(path, "*")

    def edit(self, document: Document, key: Key, request: Request, others: Sequence[Other]) -> list[str]:
        if document.get(key) is None:
            # a drop-in's entry replaces one in a file before it
            texts = [TOMLText(text) for _, text in reversed(others)]
            template = self.template(request, [document, *texts])
            copied = {key: value for key, value in template.items() if key not in _NOT_COPIED}
            of_type = template.get("runtime_type") or self.runtime_type
            document.set(key, {"runtime_path": request.path, "runtime_type": of_type, **copied})
        super().edit(document, key, request, others)
        return [_POD_ANNOTATIONS]

    def inspect(self, name: str) -> list[KnownContainer]:
        found = _crictl("inspect", "--", name, unknown="could not find container")
        if found is None:
            return []
        pod = _crictl("inspectp", str(dig(found, "info", "sandboxID")))
        configuration = Configuration(self)
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
