# SPDX-License-Identifier: Apache-2.0
"""Compiles what a cache of spec dirs holds into the index that index.py reads, and says when.

The index also keeps each valid spec's text and data, so that who finds that one spec has changed
parses only that one.
"""

from __future__ import annotations

import contextlib
import os
import struct
import time
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any

from cdi_hook.base import files, json_text
from cdi_hook.catalog import index, inventory
from cdi_hook.catalog.cache import SETTLED_NS, SILENT, UNMOUNT
from cdi_hook.catalog.lock import Turn
from cdi_hook.errors import CDIError
from cdi_hook.version import __version__

if TYPE_CHECKING:
    from cdi_hook.catalog.cache import Cache, Remembered


STALE = "a spec has changed without its size and times: containers get what it said before"


def write(found: index.Index, cache: Cache) -> None:
    """Write an index of a cache, unless it has no place, can't be written, or a spec is too fresh."""
    if found.path and cache.is_settled:
        try:
            _replace(found, cache)
        except OSError:
            return


def build(found: index.Index, cache: Cache) -> str:
    """Write an index of a cache as soon as the specs have settled, and return its path.

    Raises OSError when it can't be written, CDIError when the specs don't settle within some seconds,
    can't be read, or are in a dir that doesn't answer.
    """
    if cache.silent:
        raise CDIError(f"{cache.silent[0]}: {SILENT}", UNMOUNT)
    with Turn(found.path):
        for _ in range(60):
            if cache.is_settled:
                _replace(found, cache)
                return found.path
            time.sleep(SETTLED_NS / 1e9)
            cache.refresh()
    raise CDIError("a CDI spec changes all the time, is dated in the future, or can't be read")


def _replace(found: index.Index, cache: Cache) -> None:
    os.makedirs(os.path.dirname(found.path), 0o755, exist_ok=True)
    files.replace(found.path, compile_index(found, cache), 0o600)


def is_stale(found: index.Index, cache: Cache) -> bool:
    """Say whether an index fits the specs by size and times, but not by content."""
    head = read(found.path)[0] if found.path else {}
    if not head or not found.is_fresh(head):
        return False
    return files.read(found.path, 1 << 32) != compile_index(found, cache)


def prune(directory: str) -> list[str]:
    """Remove from directory the indexes whose spec dirs are all gone, and return their paths."""
    removed = []
    for name in sorted(os.listdir(directory)):
        path = f"{directory}/{name}"
        if not name.endswith(".index"):
            continue
        start = read(path)[0]
        if start and all(map(files.is_gone, start["dirs"])):
            with contextlib.suppress(FileNotFoundError):  # somebody else prunes too
                os.unlink(path)
                removed.append(path)
    return removed


def read(path: str) -> tuple[dict[str, Any], Remembered]:
    """Return the head of the index at path, and the specs that it remembers; ({}, {}) if there is none."""
    return index.read(path, _read) or ({}, {})


def _read(descriptor: int) -> tuple[dict[str, Any], Remembered] | None:
    start, slots, table = index.head(descriptor)
    if start["version"] != __version__:
        return None
    remembered = {}
    for number, (path, _) in enumerate(start["watched"], slots + len(start["watched"])):
        for text, data in index.record(descriptor, table, number):
            remembered[path] = (text, data)
    return start, remembered


def _places(cache: Cache, numbers: dict[str, int]) -> list[int]:
    """Return the numbers of the dirs, in rising priority; only the first if one is named twice."""
    places = [numbers[one] for one in cache.spec_dirs]
    return places if places == sorted(set(places)) else places[:1]


def compile_index(found: index.Index, cache: Cache) -> bytes:
    """Return the text of an index of what a cache of its dirs holds."""
    snapshot = cache.snapshot()  # one: the specs may change at any moment
    devices = sorted(snapshot.devices.items())
    numbers = {path: number for number, path in enumerate(snapshot.identities)}
    slots = 2 * len(devices) + 1
    records: dict[int, Any] = {}
    for name, device in devices:
        number = numbers[device.spec.path]
        records.setdefault(index.number(name) % slots, []).append([name, number, device.edits])
        records[slots + number] = [device.spec.container_edits]
    for path, known in snapshot.remembered.items():
        records[slots + len(numbers) + numbers[path]] = [known]
    head = {
        "version": __version__,
        "dirs": found.spec_dirs,
        "strict": found.strict,
        "watched": list(snapshot.identities.items()),
        "places": _places(cache, numbers),
        "images": snapshot.images,
    }
    records[slots + 2 * len(numbers)] = inventory.to_record(snapshot.inventory(), numbers)
    texts = [b""] * (slots + 2 * len(numbers) + 1)
    for place, record in records.items():
        texts[place] = json_text.dumps(record).encode()
    start = json_text.dumps(head).encode()
    lengths = [len(text) for text in texts]
    places = accumulate(lengths, initial=index.HEAD_AT + len(start) + 8 * len(texts))
    table = struct.pack(f"<{2 * len(texts)}I", *chain.from_iterable(zip(places, lengths)))
    return b"".join((index.MAGIC, struct.pack("<II", len(start), slots), start, table, *texts))
