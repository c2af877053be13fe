# SPDX-License-Identifier: Apache-2.0
"""What a runtime says it can do, by its command features (OCI runtime specification, "Features Structure").

A runtime ignores what it doesn't know in config.json. So it is asked before an
edit is made of which edits.KINDS says that not every runtime knows it. Cold:
nothing is asked for any other edit.
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from typing import TYPE_CHECKING, Any

from cdi_hook import edits, jsontext
from cdi_hook.errors import FAILED, InjectionError, quote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# The releases of runc and crun that brought what a feature stands for.
SINCE = {
    "netDevices.enabled": ("1.4", "1.22"),
    "intelRdt.schemata": ("1.4", "1.22"),
    "intelRdt.monitoring": ("1.4", "1.24"),
}
_CRUN = "run.oci.crun.version"  # an annotation of its answer, which has no fields for Intel RDT's
_TIMEOUT_S = 10
_MOST = 1 << 20  # bytes


def check(runtime: str, changes: Sequence[edits.Change], environ: Mapping[bytes, bytes]) -> None:
    """Raise InjectionError if a runtime, by its path, would ignore one of the changes."""
    answer: Any = None
    for change in changes:
        for field, feature in edits.KINDS[change.kind].features.items():
            if not change.is_put or (field and not change.edit.get(field)):
                continue
            if answer is None:
                answer = _features(runtime, environ)
            if not _has(answer, feature):
                version = _ask(runtime, "--version", environ).decode("utf-8", "replace").partition("\n")[0]
                runc, crun = SINCE[feature]
                what = f"{change.kind}.{field}" if field else change.kind
                raise InjectionError(
                    f"{FAILED}the OCI runtime {quote(runtime)} ({version or 'of an unknown version'}) would "
                    f"ignore {what}, which by its features it doesn't know; runc from {runc} on and crun "
                    f"from {crun} on do (name one in RUNTIMES)",
                    change.sources[0],
                )


def _features(runtime: str, environ: Mapping[bytes, bytes]) -> dict[str, Any]:
    try:
        answer = jsontext.loads(_ask(runtime, "features", environ).decode())
    except ValueError:
        answer = None
    return answer if isinstance(answer, dict) else {}


def _has(answer: dict[str, Any], feature: str) -> bool:
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


def _ask(runtime: str, argument: str, environ: Mapping[bytes, bytes]) -> bytes:
    """Return what a runtime prints, or b"" if it fails, takes too long or prints too much."""
    end = time.monotonic() + _TIMEOUT_S
    data = b""
    try:
        process = subprocess.Popen(  # noqa: S603 # the program that this process becomes
            [runtime, argument],
            env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        )  # fmt: skip
    except OSError:
        return b""
    with process:
        assert process.stdout
        descriptor = process.stdout.fileno()
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        chunk = b"..."
        while chunk and len(data) <= _MOST and poll.poll(max(0, end - time.monotonic()) * 1000):
            chunk = os.read(descriptor, 1 << 16)
            data += chunk
        try:
            ended = not chunk and process.wait(max(0, end - time.monotonic())) == 0
        except subprocess.TimeoutExpired:
            ended = False
        process.kill()
    return data if ended else b""
