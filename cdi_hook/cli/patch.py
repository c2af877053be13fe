# SPDX-License-Identifier: Apache-2.0
"""What an injection changes in an OCI spec, each change with the CDI spec that it came from.

The changes are a JSON Patch (RFC 6902): applied one after another to the spec
as it was, they make the spec as it is. Beside the RFC's own members, a change
has ``was``, the value that is replaced, removed or moved, and ``sources``, a
list of {device, spec}: who asked for it, with device null for the edits that a
CDI spec makes for all its devices. As lines for people they are

    + .process.env[3] "A=1"  # vendor.com/gpu=0, /etc/cdi/vendor.yaml
    - .linux.devices[0] {"path":"/dev/x"}  # ...
    ~ .process.env[0] "A=0" -> "A=1"  # ...
    > .mounts[4] -> .mounts[2] {"destination":"/a"}  # ...

Trees in, changes out: nothing here injects, prints, or changes a tree.
"""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, Any

from cdi_hook import edits, jsontext

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Optional

    Change = dict[str, Any]
    Place = tuple[Any, ...]  # the names and indexes that lead there
    Source = tuple[Optional[str], str]  # a device, if it is one's own, and the path of its spec

# What edits add to, so that it is compared thing by thing; all else is one thing.
_ADDED_TO = frozenset(
    (
        (),
        ("process",),
        ("process", "env"),
        ("process", "user"),
        ("process", "user", "additionalGids"),
        ("linux",),
        ("linux", "devices"),
        ("linux", "resources"),
        ("linux", "resources", "devices"),
        ("linux", "netDevices"),
        ("mounts",),
        ("hooks",),
    )
)
# What tells a thing in a list from the others, where it isn't all of it.
_KEYS: dict[Place, Callable[[Any], Any]] = {
    ("process", "env"): lambda variable: variable.partition("=")[0],
    ("linux", "devices"): lambda device: device.get("path"),
    ("mounts",): lambda mount: mount.get("destination"),
}


def changes(
    before: dict[str, Any], after: dict[str, Any], parts: Iterable[tuple[Source, Any]]
) -> list[Change]:
    """Return what makes one OCI spec the other, when these edits, each with its source, were applied."""
    sources = _Sources(before, parts)
    found = []
    for change in _value(before, after, ()):
        place = change.pop("place")
        value = change.get("was") if change["op"] in ("remove", "move") else change["value"]
        asked = sources.of((*place[:-1], _key(place[:-1], value)) if isinstance(place[-1], int) else place)
        described = [{"device": device, "spec": path} for device, path in asked]
        found.append({"op": change.pop("op"), "path": _pointer(place), **change, "sources": described})
    return found


def line(change: Change) -> str:
    """Return a change as a line for people."""
    op, path = change["op"], _jq(change["path"])
    value = jsontext.dumps(change["value"]) if "value" in change else ""
    was = jsontext.dumps(change["was"]) if "was" in change else ""
    if op == "add":
        text = f"+ {path} {value}"
    elif op == "remove":
        text = f"- {path} {was}"
    elif op == "replace":
        text = f"~ {path} {was} -> {value}"
    else:
        text = f"> {_jq(change['from'])} -> {path} {was}"
    by_spec: dict[str, list[str]] = {}
    for source in change["sources"]:
        devices = by_spec.setdefault(source["spec"], [])
        if source["device"]:
            devices.append(source["device"])
    return f"{text}  # {'; '.join(', '.join((*devices, path)) for path, devices in by_spec.items())}"


def _pointer(place: Place) -> str:
    return "".join(f"/{str(one).replace('~', '~0').replace('/', '~1')}" for one in place)


def _jq(pointer: str) -> str:
    text = ""
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        if name.isdigit() and not pointer.startswith("/linux/netDevices/"):
            text += f"[{name}]"
        else:
            text += f".{name}" if name.isidentifier() and name.isascii() else f"[{jsontext.dumps(name)}]"
    return text


# Comparing. Values are compared as their text, which tells 1 from true and from 1.0.


def _value(before: Any, after: Any, place: Place) -> Iterator[Change]:
    if _same(before, after):
        return
    if not _is_added_to(place) or type(before) is not type(after):
        yield from _new({"op": "replace", "place": place, "value": after, "was": before})
    elif isinstance(after, list):
        yield from _list(before, after, place)
    else:
        for name in before:
            if name not in after:
                yield {"op": "remove", "place": (*place, name), "was": before[name]}
        for name, value in after.items():
            if name in before:
                yield from _value(before[name], value, (*place, name))
            else:
                yield from _new({"op": "add", "place": (*place, name), "value": value})


def _new(change: Change) -> Iterator[Change]:
    """Yield a change that sets a value; where edits add to it, first an empty one, then what is in it."""
    value, place = change["value"], change["place"]
    if _is_added_to(place) and isinstance(value, (dict, list)):
        empty: Any = type(value)()
        yield {**change, "value": empty}
        yield from _value(empty, value, place)
    else:
        yield change


def _list(before: list[Any], after: list[Any], place: Place) -> Iterator[Change]:
    partners = _pair(before, after, place)
    edited = {
        index: old
        for index, old in enumerate(partners)
        if old is not None and not _same(before[old], after[index])
    }
    partners = [None if index in edited else old for index, old in enumerate(partners)]
    staying = _rising(partners)
    for index, old in edited.items():  # replaced where it stands; else one goes, and the other comes
        if all((other < index) == ((partners[other] or 0) < old) for other in staying):
            partners[index] = old
            staying.add(index)
    now = [*range(len(before))]
    for old in sorted(set(now).difference(partners), reverse=True):
        yield {"op": "remove", "place": (*place, old), "was": before[old]}
        del now[old]
    for old, source, target in _moves(now, partners, staying):
        start = _pointer((*place, source))
        yield {"op": "move", "from": start, "place": (*place, target), "was": before[old]}
    kept = [index for index, partner in enumerate(partners) if partner is not None]
    for position, (old, index) in enumerate(zip(now, kept)):
        if not _same(before[old], after[index]):
            value, was = after[index], before[old]
            yield {"op": "replace", "place": (*place, position), "value": value, "was": was}
    for index, partner in enumerate(partners):
        if partner is None:
            yield {"op": "add", "place": (*place, index), "value": after[index]}


def _moves(now: list[int], partners: list[int | None], staying: set[int]) -> Iterator[tuple[int, int, int]]:
    """Bring now into the order of partners; yield what is moved, from where and where to."""
    target = 0
    for index, partner in enumerate(partners):
        if partner is None:
            continue
        source = now.index(partner)
        if index not in staying:
            target -= source < target
            now.insert(target, now.pop(source))
            if source != target:
                yield partner, source, target
            source = target
        target = source + 1


def _pair(before: list[Any], after: list[Any], place: Place) -> list[int | None]:
    """Return which item of before each item of after was: the same one, else one with its key."""
    partners: list[int | None] = [None] * len(after)
    for identify in (jsontext.dumps, lambda item: _key(place, item)):
        free: dict[Any, list[int]] = {}
        taken = set(partners)
        for old in reversed(range(len(before))):
            if old not in taken:
                free.setdefault(identify(before[old]), []).append(old)
        for index, item in enumerate(after):
            if partners[index] is None and free.get(identify(item)):
                partners[index] = free[identify(item)].pop()
    return partners


def _rising(partners: list[int | None]) -> set[int]:
    """Return the most indexes whose partners are in rising order: what needn't be moved."""
    ends: list[int] = []  # the lowest partner that a row of each length ends in
    last: list[int] = []  # and that partner's index
    previous: dict[int, int | None] = {}  # the index before, in its row
    for index, partner in enumerate(partners):
        if partner is not None:
            length = bisect.bisect(ends, partner)
            previous[index] = last[length - 1] if length else None
            ends[length : length + 1], last[length : length + 1] = [partner], [index]
    row: set[int] = set()
    step = last[-1] if last else None
    while step is not None:
        row.add(step)
        step = previous[step]
    return row


def _same(before: Any, after: Any) -> bool:
    return jsontext.dumps(before) == jsontext.dumps(after)


def _is_added_to(place: Place) -> bool:
    return place in _ADDED_TO or (len(place) == 2 and place[0] == "hooks")


def _key(place: Place, item: Any) -> Any:
    key = _KEYS.get(place)
    return key(item) if key else jsontext.dumps(item)


# Sources.


class _Sources:
    """What each of some edits asks for, so that a change can be traced to them."""

    def __init__(self, before: dict[str, Any], parts: Iterable[tuple[Source, Any]]) -> None:
        """Apply each part alone, for a container with the user and the namespaces of before."""
        self._asked: dict[Place, tuple[str, list[Source]]] = {}
        user = (before.get("process") or {}).get("user") or {}
        owner = {name: user[name] for name in ("uid", "gid") if name in user}
        namespaces = (before.get("linux") or {}).get("namespaces") or []
        for source, part in parts:
            alone: dict[str, Any] = {"process": {"user": dict(owner)}, "linux": {"namespaces": namespaces}}
            own = {place for place, _ in _things(alone, ())}
            edits.apply(alone, part)
            for place, text in _things(alone, ()):
                if place not in own:
                    self._ask(place, text, source)

    def _ask(self, place: Place, text: str, source: Source) -> None:
        last, sources = self._asked.get(place, ("", []))
        if text != last:  # of two that differ, the later wins
            self._asked[place] = (text, [source])
        elif source not in sources:
            sources.append(source)

    def of(self, place: Place) -> list[Source]:
        """Return who asked for the thing at place; else whose specs ask for things in it, or around it."""
        if place in self._asked:
            return self._asked[place][1]
        while True:
            specs = {
                path: None
                for other, (_, sources) in self._asked.items()
                for _, path in sources
                if other[: len(place)] == place
            }
            if specs or not place:
                return [(None, path) for path in specs]
            place = place[:-1]


def _things(value: Any, place: Place) -> Iterator[tuple[Place, str]]:
    if not _is_added_to(place):
        yield place, jsontext.dumps(value)
    elif isinstance(value, dict):
        for name in value:
            yield from _things(value[name], (*place, name))
    else:
        for item in value:
            yield (*place, _key(place, item)), jsontext.dumps(item)
