# SPDX-License-Identifier: Apache-2.0
"""What a runtime says it can do, by its command features (OCI runtime specification, "Features Structure").

A runtime ignores what it doesn't know in config.json. So it is asked before an
edit is made of which edits.KINDS says that not every runtime knows it. Cold:
nothing is asked for any other edit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cdi_hook.base import json_text
from cdi_hook.base.process import ask
from cdi_hook.base.quoting import quote
from cdi_hook.edits import kinds, target
from cdi_hook.errors import InjectionError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# By feature, the releases of runc and crun that brought what it stands for.
SINCE = {name: since for kind in kinds.KINDS.values() for name, *since in kind.features.values()}
_CRUN = "run.oci.crun.version"  # an annotation of its answer, which has no fields for Intel RDT's


def check(runtime: str, changes: Sequence[target.Change], environ: Mapping[bytes, bytes]) -> None:
    """Raise InjectionError if a runtime, by its path, would ignore one of the changes."""
    answer: Any = None
    for change in changes:
        for field, (feature, runc, crun) in kinds.KINDS[change.kind].features.items():
            if not change.is_put or (field and not change.edit.get(field)):
                continue
            if answer is None:
                answer = features(runtime, environ)
            if not has(answer, feature):
                version = version_of(runtime, environ)
                what = f"{change.kind}.{field}" if field else change.kind
                raise InjectionError(
                    f"the OCI runtime {quote(runtime)} ({version or 'of an unknown version'}) would "
                    f"ignore {what}, which by its features it doesn't know; runc from {runc} on and crun "
                    f"from {crun} on do (name one in RUNTIMES)",
                    change.sources[0],
                )


def version_of(runtime: str, environ: Mapping[bytes, bytes]) -> str:
    """Return the first line of what a runtime says of its version; "" if it says nothing."""
    return ask((runtime, "--version"), environ).said.partition("\n")[0]


def features(runtime: str, environ: Mapping[bytes, bytes]) -> dict[str, Any]:
    """Return what a runtime says of its features; {} if it says nothing."""
    try:
        tree = json_text.loads(ask((runtime, "features"), environ).said)
    except ValueError:
        tree = None
    return tree if isinstance(tree, dict) else {}


def has(answer: dict[str, Any], feature: str) -> bool:
    """Say whether a runtime that answered so has a feature of SINCE."""
    node: Any = answer.get("linux")
    for name in feature.split("."):
        node = node.get(name) if isinstance(node, dict) else None
    if node is None and feature.startswith("intelRdt."):
        annotations = answer.get("annotations")
        crun = annotations.get(_CRUN) if isinstance(annotations, dict) else None
        return isinstance(crun, str) and _release(crun) >= _release(SINCE[feature][1])
    return node is True


def _release(version: str) -> list[int]:
    """Return the first two numbers of a version, or [] if it doesn't begin with two."""
    numbers = version.split(".")[:2]
    return [int(one) for one in numbers] if all(one.isdecimal() for one in numbers) else []
