# SPDX-License-Identifier: Apache-2.0
"""Compiles what a cache of spec dirs holds into the index that index.py reads, and says when."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from cdi_hook import __version__, files, index, jsontext
from cdi_hook.errors import CDIError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdi_hook.registry import Registry
    from cdi_hook.specs.cache import Cache

# A file that changed a moment ago may change again without a new time stamp.
_SETTLED_NS = 50_000_000


def write(registry: Registry) -> None:
    """Write the index of a registry, unless it has no place, can't be written, or a spec is too fresh."""
    if registry.path and not _is_fresh(registry.cache):
        try:
            _replace(registry)
        except OSError:
            return


def build(registry: Registry) -> str:
    """Write the index of a registry as soon as the specs have settled, and return its path.

    Raises OSError when it can't be written, CDIError when the specs don't settle within a second.
    """
    for _ in range(20):
        if not _is_fresh(registry.cache):
            _replace(registry)
            return registry.path
        time.sleep(_SETTLED_NS / 1e9)
        registry.cache.refresh()
    raise CDIError("a CDI spec changes all the time, or is dated in the future")


def _is_fresh(cache: Cache) -> bool:
    """Say whether a spec was so new when it was read that it may have changed again unseen."""
    settled = cache.read_ns - _SETTLED_NS
    return any(one is not None and max(one[3], one[4]) > settled for one in cache.identities.values())


def _replace(registry: Registry) -> None:
    os.makedirs(os.path.dirname(registry.path), 0o755, exist_ok=True)
    files.replace(registry.path, compile_index(registry.cache, registry.spec_dirs, registry.strict), 0o600)


def prune(directory: str) -> list[str]:
    """Remove from directory the indexes whose spec dirs are all gone, and return their paths."""
    removed = []
    for name in sorted(os.listdir(directory)):
        path = f"{directory}/{name}"
        if not name.endswith(".index"):
            continue
        try:
            descriptor = index.open_own(path)
        except OSError:
            continue
        try:
            is_gone = not any(map(files.identify, index.head(descriptor)[0]["dirs"]))
        except index.BROKEN:
            continue  # another version's, say
        finally:
            os.close(descriptor)
        if is_gone:
            os.unlink(path)
            removed.append(path)
    return removed


def compile_index(cache: Cache, spec_dirs: Sequence[str], strict: bool) -> bytes:
    """Return the index of what a cache of these dirs holds."""
    devices = sorted(cache.by_name().items())  # asked once: the specs may change at any moment
    specs = list(dict.fromkeys(device.spec for _, device in devices))
    numbers = {id(spec): number for number, spec in enumerate(specs)}
    slots = 2 * len(devices) + 1
    records: list[Any] = [*([] for _ in range(slots)), *([spec.path, spec.container_edits] for spec in specs)]
    for name, device in devices:
        records[index.number(name) % slots].append([name, numbers[id(device.spec)], device.container_edits])
    watched = [[path, identity] for path, identity in cache.identities.items()]
    head = {"version": __version__, "dirs": spec_dirs, "strict": strict, "watched": watched}
    start = jsontext.dumps(head).encode()
    place = index.HEAD_AT + len(start) + 8 * len(records)
    table, texts = [], []
    for record in records:
        text = jsontext.dumps(record).encode() if record else b""
        table.append(_pair(place if text else 0, len(text)))
        texts.append(text)
        place += len(text)
    return b"".join((index.MAGIC, _pair(len(start), slots), start, *table, *texts))


def _pair(first: int, second: int) -> bytes:
    return first.to_bytes(4, "little") + second.to_bytes(4, "little")
