# SPDX-License-Identifier: Apache-2.0
"""Container edits -> changes of an OCI runtime specification (CDI specification, "OCI Edits").

KINDS is the one table of edit kinds. Who reads specs, checks them, applies them,
or injects into a container that is being created takes from it what a kind is.
What has no entry is refused, never skipped.

apply() works on the decoded JSON tree, in two steps. First each edit becomes
what the OCI specification has in its place; that may fail. Then these things
are put into the tree; that can't fail. Each step that alters the tree is a
Change, in the words of JSON Patch (RFC 6902). The list of changes, carried out
one after another on the tree as it was, gives the tree as it is. No change: an
empty list. Edits are never altered here.
"""

from __future__ import annotations

import posix

from cdi_hook import errors
from cdi_hook.base import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from cdi_hook.errors import Source

    Edits = dict[str, Any]  # one containerEdits object, after a spec's own schema
    OCI = dict[str, Any]
    Part = tuple[Source, Edits]  # what one device, or a spec for all its devices, asks for
    Place = tuple[Any, ...]  # the keys and indexes that lead to something in a tree

# What a field of an edit holds; a list of these is ("list", STRING).
STRING = "a string"
BOOL = "true or false"
INT64 = "an integer"
UINT32 = "an integer from 0 to 4294967295"

# Beside the edits of a device: what shows that it is still the one that its name means (proof.py).
PROOF = "proof"

# Of mounts, or of device nodes, that an OCI specification may have: each edit looks through them, and
# no container has a tenth of that.
_MOST_ITEMS = 8192
_NODE_TYPES = {0o060000: "b", 0o020000: "c", 0o010000: "p"}  # by S_IFMT of the host's node
_S_IFMT = 0o170000


class Kind:
    """One kind of edit.

    ``schema`` is the form that it has in a CDI spec. ``since`` maps a field ("":
    the kind itself) to the CDI version that brought it. In ``optional`` fields, a
    zero or an empty value is not the same as none.

    ``convert`` takes an edit and the target. It returns what the OCI specification
    has for the edit, and before that a key: of several with the same key, the last
    wins. It may raise InjectionError. ``add`` puts what was converted into the
    target. ``touches`` is what the two rely on in the OCI specification: a place,
    whether it is a list or an object, and what is in it (see _check_items).

    ``too_late`` names an edit that can't be made any more once the container is
    being created, and returns "" for one that can. Without it none can.

    ``hindrance`` says why no runtime can carry out an edit on this host, or returns "".
    ``convert`` doesn't look for that.

    ``features`` maps a field ("": the kind itself) that not every runtime knows to
    what a runtime that does has below ``linux`` of its features.
    """

    __slots__ = (
        "add", "convert", "features", "hindrance", "is_list", "optional", "schema", "since", "too_late",
        "touches",
    )  # fmt: skip

    def __init__(
        self,
        schema: object,
        convert: Callable[[Any, Target], tuple[Any, Any]],
        add: Callable[[Target, list[Wanted]], None],
        touches: Sequence[tuple[Place, type, type | str | None]],
        since: Mapping[str, str] = {},  # nobody alters it
        optional: Sequence[str] = (),
        too_late: Callable[[Any], str] | None = None,
        hindrance: Callable[[Any], str] | None = None,
        features: Mapping[str, str] = {},
    ) -> None:
        self.schema = schema
        self.is_list = isinstance(schema, tuple)
        self.convert = convert
        self.add = add
        self.touches = touches
        self.since = since
        self.optional = optional
        self.too_late = too_late
        self.hindrance = hindrance
        self.features = features


class Wanted:
    """An edit (None: what others go into), what it becomes in the OCI specification, and who asks for it."""

    __slots__ = ("edit", "item", "key", "kind", "sources")

    def __init__(self, kind: str, edit: Any, key: Any, item: Any, sources: dict[Source, None]) -> None:
        self.kind = kind
        self.edit = edit
        self.key = key
        self.item = item
        self.sources = sources


class Change:
    """One step of an injection (RFC 6902, section 4), with who asked for it.

    ``op`` is add, remove, replace or move; ``place`` is where, as it is when the
    changes before this one are made; ``value`` is what was put there, ``was`` what
    was there, or was moved, and ``origin`` where a moved thing was.

    ``kind`` is the kind of edit; ``edit`` is the edit itself, as the CDI spec has
    it, or None for an object or a list that was made for others to go into, and
    for what made room for others. ``sources`` is who asked for it.
    """

    __slots__ = ("_wanted", "op", "origin", "place", "value", "was")

    origin: Place  # only a move has it

    def __init__(self, op: str, place: Place, wanted: Wanted, value: Any = None, was: Any = None) -> None:
        self.op = op
        self.place = place
        self.value = value
        self.was = was
        self._wanted = wanted

    @property
    def kind(self) -> str:
        """The name of the kind of edit."""
        return self._wanted.kind

    @property
    def edit(self) -> Any:
        """The edit, as the CDI spec has it."""
        return self._wanted.edit

    @property
    def sources(self) -> list[Source]:
        """Who asked for it."""
        return list(self._wanted.sources)

    @property
    def is_put(self) -> bool:
        """Whether this puts there what an edit becomes; other steps make room for it."""
        return self.edit is not None and self.op in ("add", "replace")

    @property
    def too_late(self) -> str:
        """What this is, where it can't be done to a container that is being created; else ""."""
        if self.edit is None:
            return ""
        too_late = KINDS[self.kind].too_late
        return too_late(self.edit) if too_late else f"an edit of the kind {self.kind}"


class Target:
    """An OCI specification that edits go into, and the changes that were made to it."""

    __slots__ = ("changes", "keep_present", "maps_ids", "oci", "user")

    def __init__(self, oci: OCI, keep_present: bool, may_map_ids: bool) -> None:
        self.oci = oci
        self.keep_present = keep_present
        self.user: OCI = (oci.get("process") or {}).get("user") or {}
        namespaces = (oci.get("linux") or {}).get("namespaces") or ()
        self.maps_ids = may_map_ids and any(one.get("type") == "user" for one in namespaces)
        self.changes: list[Change] = []

    def open(self, place: Place, kind: Callable[[], Any], wanted: Wanted) -> Any:
        """Return the object or list at a place, and make what is missing. Null counts as missing."""
        node: Any = self.oci
        for depth, name in enumerate(place, 1):
            child = node.get(name)
            if child is None:
                make = kind if depth == len(place) else _new_process if name == "process" else dict
                op = "replace" if name in node else "add"
                parent = Wanted(wanted.kind, None, None, None, wanted.sources)
                self.changes.append(Change(op, place[:depth], parent, make()))
                child = node[name] = make()
            node = child
        return node

    def append(self, place: Place, items: list[Any], wanted: Wanted, item: Any) -> None:
        """Put an item at the end of the list at a place."""
        self.changes.append(Change("add", (*place, len(items)), wanted, item))
        items.append(item)

    def put(self, place: Place, node: Any, key: Any, wanted: Wanted) -> None:
        """Put an item at a key of the object, or an index of the list, at a place, unless it is there."""
        item = wanted.item
        if isinstance(node, dict) and key not in node:
            self.changes.append(Change("add", (*place, key), wanted, item))
        elif node[key] != item:
            self.changes.append(Change("replace", (*place, key), wanted, item, node[key]))
        else:
            return
        node[key] = item

    def remove(self, place: Place, items: list[Any], index: int, wanted: Wanted) -> None:
        """Take an item out of the list at a place."""
        self.changes.append(Change("remove", (*place, index), wanted, was=items.pop(index)))


def _new_process() -> OCI:
    return {"user": {"uid": 0, "gid": 0}, "cwd": ""}


def apply(
    oci: OCI | None, parts: Iterable[Part], *, keep_present: bool = False, may_map_ids: bool = True
) -> list[Change]:
    """Apply container edits to an OCI specification, in place, and return the changes made.

    With keep_present, what is there already is neither added again nor moved,
    so that applying twice changes nothing. Without may_map_ids, no mount gets
    idmap because the container has a user namespace.

    Raises InjectionError, and leaves oci as it was, when a host device can't be
    used, an edit is of no known kind, or oci isn't of the shape that the OCI
    runtime specification gives it.
    """
    if oci is None:
        raise errors.InjectionError("can't edit nil OCI Spec")
    _check_shape(oci)
    target = Target(oci, keep_present, may_map_ids)
    by_kind: dict[str, list[Wanted]] = {name: [] for name in KINDS}
    for source, part in parts:
        try:
            if PROOF in part:
                _prove(part[PROOF])
            for name, edits in each_kind(part):
                convert, wanted = KINDS[name].convert, by_kind[name]
                for edit in edits:
                    wanted.append(Wanted(name, edit, *convert(edit, target), {source: None}))
        except errors.InjectionError as error:
            error.source = source
            raise
    for name, wanted in by_kind.items():
        if wanted:
            KINDS[name].add(target, wanted)
    return target.changes


def _prove(annotation: str) -> None:
    from cdi_hook.edits import proof

    reason = proof.stale(annotation)
    if reason:
        raise errors.HostMismatch(reason)


def check_host(changes: Iterable[Change]) -> None:
    """Raise InjectionError if no runtime could make one of these changes on this host."""
    hindrances = {}
    for change in changes:
        hindrance = KINDS[change.kind].hindrance
        if hindrance and change.is_put:
            reason = hindrance(change.edit)
            if reason:
                hindrances[reason] = change
    if hindrances:
        reason, change = next(iter(hindrances.items()))
        more = f" and {len(hindrances) - 1} more" if len(hindrances) > 1 else ""
        raise errors.HostMismatch(f"{reason}{more}, needed by the spec's {change.kind}", change.sources[0])


def lack(path: str) -> str:
    """Say that the host lacks a file, if it does; of a relative path that isn't known."""
    return f"the host has no {errors.quote(path)}" if path[:1] == "/" and files.is_gone(path) else ""


def each_kind(part: Edits) -> Iterator[tuple[str, Sequence[Any]]]:
    """Yield the kinds in one containerEdits object, each with its edits.

    Raises InjectionError for a kind that isn't known.
    """
    for name, value in part.items():
        if name == PROOF:
            continue
        kind = KINDS.get(name)
        if kind is None:
            raise errors.InjectionError(f"unknown kind of container edits {errors.quote(name)}")
        if value is not None:
            yield name, value if kind.is_list else (value,)


def merge(parts: Iterable[Edits]) -> Edits:
    """Return one containerEdits object that does what these do, one after another."""
    merged: Edits = {}
    for part in parts:
        for name, edits in each_kind(part):
            if not KINDS[name].is_list:
                merged[name] = edits[0]
            elif edits:
                merged.setdefault(name, []).extend(edits)
    return merged


# The shape of the OCI specification, as far as edits touch it.

_SHAPES: dict[type, str] = {dict: "an object", list: "a list", str: "a string"}


def _check_shape(oci: OCI) -> None:
    """Refuse a tree in which what edits touch isn't what the specification says."""
    for kind in KINDS.values():
        for place, shape, item in kind.touches:
            node: Any = oci
            for depth, name in enumerate(place, 1):
                node = node.get(name)
                if node is None:
                    break
                wanted = shape if depth == len(place) else dict
                if not isinstance(node, wanted):
                    raise _misshapen(place[:depth], f"is not {_SHAPES[wanted]}")
            else:
                _check_items(node, place, item)


def _check_items(items: Any, place: Place, item: type | str | None) -> None:
    """Check what is in a list or an object.

    ``item`` is the type of a list's items, or the field of these that has to be a
    string; list for an object of lists of objects, int for one with ids.
    """
    if item is list:
        for name, there in items.items():
            if there is not None and not isinstance(there, list):
                raise _misshapen((*place, name), "is not a list")
            _check_items(there or (), (*place, name), dict)
    elif item is int:
        for name in ("uid", "gid"):
            number = items.get(name) or 0
            if not isinstance(number, int) or not 0 <= number < 1 << 32:
                raise _misshapen((*place, name), "is not a number from 0 to 4294967295")
    elif item is not None:
        kind: Any = item if isinstance(item, type) else dict
        if {*map(type, items)} - {kind} and not all(isinstance(one, kind) for one in items):
            raise _misshapen(place, f"has an item that is not {_SHAPES[kind]}")
        if kind is not item:
            if not all(isinstance(one.get(item) or "", str) for one in items):
                raise _misshapen(place, f"has an item whose {item} is not a string")
            if len(items) > _MOST_ITEMS:
                raise _misshapen(place, f"has more than {_MOST_ITEMS} items")


def _misshapen(place: Place, reason: str) -> errors.InjectionError:
    return errors.InjectionError(f"the OCI spec's .{'.'.join(place)} {reason}")


# What is common to several kinds.


def _winners(wanted: list[Wanted], at_first: bool = False) -> list[Wanted]:
    """Of those with the same key keep the last, with all who ask for the very same.

    They come in the order in which the last, or else the first, of each key was asked for.
    """
    found: dict[Any, Wanted] = {one.key: one for one in wanted}
    if len(found) == len(wanted):
        return wanted
    found = {}
    for one in wanted:
        other = found.get(one.key) if at_first else found.pop(one.key, None)
        sources = dict(one.sources)
        if other is not None and other.item == one.item:
            other.sources.update(sources)
            sources = other.sources
        found[one.key] = Wanted(one.kind, one.edit, one.key, one.item, sources)
    return list(found.values())


def _index(items: list[Any], item: Any) -> int:
    return next(index for index, one in enumerate(items) if one is item)


def _can_be_late(_edit: Any) -> str:
    return ""


# Environment.

_ENV = ("process", "env")


def _variable(edit: str, _target: Target) -> tuple[str, str]:
    return edit.partition("=")[0], edit


def _add_env(target: Target, wanted: list[Wanted]) -> None:
    env = target.open(_ENV, list, wanted[0])
    indexes = {variable.partition("=")[0]: index for index, variable in enumerate(env)}
    for one in _winners(wanted, at_first=True):
        if one.key in indexes:
            target.put(_ENV, env, indexes[one.key], one)
        else:
            target.append(_ENV, env, one, one.item)


# Device nodes and their cgroup rules.

_DEVICES = ("linux", "devices")
_RULES = ("linux", "resources", "devices")


def _oci_device(node: Edits, target: Target) -> tuple[str, OCI]:
    """Return linux.devices' entry for a device node, filled in from the host's.

    Raises InjectionError when the host's node is needed and isn't there, or is
    of another type.
    """
    path = node.get("path", "")
    host_path = node.get("hostPath") or path
    type_, major, minor = node.get("type", ""), node.get("major", 0), node.get("minor", 0)
    complete = type_ and (major or type_ == "p")
    mode = node.get("fileMode")
    try:
        status = posix.lstat(host_path)
        host_type = _NODE_TYPES.get(status.st_mode & _S_IFMT)
        problem = "" if host_type else "not a device node"
    except OSError as error:
        problem = (error.strerror or str(error)).lower()
    except ValueError:  # a NUL in the path
        problem = "invalid argument"
    if problem and not complete:
        raise errors.HostMismatch(
            f"failed to stat CDI host device {errors.quote(host_path)}: {problem}", node=host_path
        )
    if not problem:
        if mode is None:
            mode = status.st_mode & 0o7777
        if not complete:
            type_ = type_ or host_type
            if type_ != host_type:
                pair = f"({errors.quote(path)}, {errors.quote(host_path)})"
                raise errors.HostMismatch(f"CDI device {pair}, host type mismatch ({type_}, {host_type})")
            if type_ != "p" and not major:
                major, minor = posix.major(status.st_rdev), posix.minor(status.st_rdev)
    device = {"path": path, "type": type_, "major": major, "minor": minor}
    if mode is not None:
        device["fileMode"] = mode
    for name in ("uid", "gid"):
        owner = node.get(name)
        if owner is None and (target.user.get(name) or 0) > 0:
            owner = target.user[name]
        if owner is not None:
            device[name] = owner
    return path, device


def _add_devices(target: Target, wanted: list[Wanted]) -> None:
    devices = target.open(_DEVICES, list, wanted[0])
    present: dict[Any, list[OCI]] = {}
    for device in devices:
        present.setdefault(device.get("path"), []).append(device)
    for one in _winners(wanted) if target.keep_present else wanted:
        there = present.setdefault(one.key, [])
        if target.keep_present and there == [one.item]:
            continue
        if there:
            target.remove(_DEVICES, devices, _index(devices, there.pop(0)), one)
        while target.keep_present and len(there) > 1:  # one that stayed would be replaced next time
            target.remove(_DEVICES, devices, _index(devices, there.pop(0)), one)
        if there:
            target.put(_DEVICES, devices, _index(devices, there[0]), one)
            there[0] = one.item
        else:
            target.append(_DEVICES, devices, one, one.item)
            there.append(one.item)
    _add_rules(target, [one for one in wanted if one.item["type"] in ("b", "c")])


def _add_rules(target: Target, wanted: list[Wanted]) -> None:
    if not wanted:
        return
    rules = target.open(_RULES, list, wanted[0])
    allowed = _allowed(rules) if target.keep_present else {}
    for one in wanted:
        rule = {"allow": True, **{name: one.item[name] for name in ("type", "major", "minor")}}
        permissions = one.edit.get("permissions") or "rwm"
        if permissions != "none":
            rule["access"] = permissions
        key = frozenset(rule.items())
        if not target.keep_present or key not in allowed:
            sources = allowed[key] = dict(one.sources)
            target.append(_RULES, rules, Wanted(one.kind, one.edit, key, rule, sources), rule)
        else:  # it is there, or another device has just been given the same
            allowed[key].update(one.sources)


def _allowed(rules: list[OCI]) -> dict[frozenset[Any], dict[Source, None]]:
    """Return the rules from which no later one takes something back."""
    allowed: dict[frozenset[Any], dict[Source, None]] = {}
    for rule in reversed(rules):
        if not rule.get("allow"):
            break
        try:
            allowed[frozenset(rule.items())] = {}
        except TypeError:  # it has a list, say, and so it is none of ours
            pass
    return allowed


# Net devices.

_NET_DEVICES = ("linux", "netDevices")


def _oci_net_device(edit: Edits, _target: Target) -> tuple[str, OCI]:
    return edit.get("hostInterfaceName", ""), {"name": edit.get("name", "")}


def _add_net_devices(target: Target, wanted: list[Wanted]) -> None:
    devices = target.open(_NET_DEVICES, dict, wanted[0])
    for one in _winners(wanted, at_first=True):
        target.put(_NET_DEVICES, devices, one.key, one)


# Hooks.

# The names that a hook may have (OCI runtime specification, "POSIX-platform Hooks"), and whether
# such hooks are still to run when a createRuntime hook does.
HOOK_NAMES = {
    "prestart": True,
    "createRuntime": True,
    "createContainer": True,
    "startContainer": False,
    "poststart": False,
    "poststop": False,
}
# What a hook gets that has no variables of its own. On runc before 1.3 a createContainer hook without any
# runs on the host with the container's, which an image chooses (CVE-2025-23266); later it has none.
HOOK_ENV = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
EXPOSED_HOOK = "createContainer"


def is_exposed(hook: Edits) -> bool:
    """Say whether a spec's hook may run with variables that an image chooses."""
    return hook.get("hookName") == EXPOSED_HOOK and not hook.get("env")


def _oci_hook(edit: Edits, target: Target) -> tuple[str, OCI]:
    name = edit.get("hookName", "")
    if name not in HOOK_NAMES:
        raise errors.InjectionError(f"unknown hook name {errors.quote(name)}")
    hook: OCI = {"path": edit.get("path", "")}
    for field in ("args", "env"):
        if edit.get(field):
            hook[field] = list(edit[field])
    if target.keep_present and is_exposed(edit):
        hook["env"] = list(HOOK_ENV)
    if edit.get("timeout") is not None:
        hook["timeout"] = edit["timeout"]
    return name, hook


def _add_hooks(target: Target, wanted: list[Wanted]) -> None:
    present = target.open(("hooks",), dict, wanted[0])
    # Two devices may each ask for the same hook: one that is there does for one of them.
    unclaimed: dict[Any, list[Place]] = {_hook_identity(one.key, one.item): [] for one in wanted}
    for name, hooks in present.items() if target.keep_present else ():
        for index, hook in enumerate(hooks or ()):
            claimed = unclaimed.get(_hook_identity(name, hook))
            if claimed is not None:
                claimed.append(("hooks", name, index))
    for one in wanted:
        claimed = unclaimed[_hook_identity(one.key, one.item)]
        if not claimed:
            place = ("hooks", one.key)
            target.append(place, target.open(place, list, one), one, one.item)
        # The engine may have injected it without variables, and for other devices too.
        for place in claimed if one.key == EXPOSED_HOOK else ():
            env = Wanted(one.kind, None, None, one.item["env"], one.sources)
            target.put(place, present[one.key][place[-1]], "env", env)
        del claimed[:1]


def _hook_identity(name: str, hook: OCI) -> Any:
    """Return what two hooks have in common if they are equal; None for one that none of ours equals.

    A hook that has got HOOK_ENV from us equals one without variables.
    """
    if name == EXPOSED_HOOK and not hook.get("env"):
        hook = {**hook, "env": HOOK_ENV}
    try:
        return name, frozenset(
            (field, tuple(value) if isinstance(value, list) else value) for field, value in hook.items()
        )
    except TypeError:  # it has an object, say
        return None


def _hook_hindrance(edit: Edits) -> str:
    # The program of a startContainer hook is looked for in the container.
    return "" if edit["hookName"] == "startContainer" else lack(edit["path"])


def _late_hook(edit: Edits) -> str:
    name = edit["hookName"]
    return "" if HOOK_NAMES[name] else f"{name} hook {errors.quote(edit['path'])}"


# Mounts.

_MOUNTS = ("mounts",)


def _oci_mount(edit: Edits, target: Target) -> tuple[str, OCI]:
    destination = edit.get("containerPath", "")
    mount: OCI = {"destination": destination}
    if edit.get("type"):
        mount["type"] = edit["type"]
    mount["source"] = edit.get("hostPath", "")
    options = list(edit.get("options", ()))
    if target.maps_ids and "idmap" not in options and "ridmap" not in options:
        binds = [option for option in options if option in ("bind", "rbind")]
        kind = binds[-1] if binds else edit.get("type")
        if kind in ("bind", "rbind") and (binds or kind == "bind"):
            options.append("ridmap" if kind == "rbind" else "idmap")
    if options:
        mount["options"] = options
    return destination, mount


_MPS = "/tmp/nvidia-mps"  # noqa: S108 # of NVIDIA's Multi-Process Service
_S_IFDIR = 0o040000


def _mount_hindrance(edit: Edits) -> str:
    options, type_ = edit.get("options") or (), edit.get("type")
    if "bind" in options or "rbind" in options or type_ == "bind":
        return lack(edit["hostPath"]) or _usurped(edit["hostPath"])
    if type_:
        return ""
    source, place = errors.quote(edit["hostPath"]), errors.quote(edit["containerPath"])
    return f'"options: [bind]" is missing for the mount of {source} at {place}'


def _usurped(path: str) -> str:
    """Say that others may have made NVIDIA's dir in /tmp: a link there would mount any dir of the host."""
    if path != _MPS:
        return ""
    status = posix.lstat(path)
    if status.st_mode & _S_IFMT == _S_IFDIR and status.st_uid == 0:
        return ""
    return f"{errors.quote(path)} is no dir of root's, so anybody may have made it: remove it, then start MPS"


def _add_mounts(target: Target, wanted: list[Wanted]) -> None:
    """Add mounts, and bring all into the order of their depth; those that are added come after their like."""
    mounts = target.open(_MOUNTS, list, wanted[0])
    topmost = {mount.get("destination"): mount for mount in mounts}
    added: list[Wanted] = []
    for one in _winners(wanted) if target.keep_present else wanted:
        there = topmost.get(one.key)
        if there is not None:
            if target.keep_present and there == one.item:
                continue
            index = next((i for i, mount in enumerate(mounts) if mount.get("destination") == one.key), None)
            if index is None:  # of two that are added, the first goes
                del added[next(i for i, other in enumerate(added) if other.key == one.key)]
            else:
                target.remove(_MOUNTS, mounts, index, one)
        added.append(one)
        topmost[one.key] = one.item
    if added:
        new = {id(one.item): one for one in added}
        ordered = sorted([*mounts, *(one.item for one in added)], key=_depth)
        _move_mounts(target, mounts, [mount for mount in ordered if id(mount) not in new], added[0])
        for index, mount in enumerate(ordered):
            if id(mount) in new:
                target.changes.append(Change("add", (*_MOUNTS, index), new[id(mount)], mount))
        mounts[:] = ordered


def _move_mounts(target: Target, mounts: list[OCI], ordered: list[OCI], wanted: Wanted) -> None:
    """Bring mounts into another order, for one that is added."""
    places = [id(mount) for mount in mounts]  # of which list.index finds one soon
    for index, mount in enumerate(ordered):
        if mounts[index] is not mount:
            source = places.index(id(mount), index)
            mounts.insert(index, mounts.pop(source))
            places.insert(index, places.pop(source))
            mover = Wanted(wanted.kind, None, None, None, wanted.sources)
            target.changes.append(Change("move", (*_MOUNTS, index), mover, was=mount))
            target.changes[-1].origin = (*_MOUNTS, source)


def _depth(mount: OCI) -> int:
    path: str = mount.get("destination") or ""
    if path[:1] != "/" or "//" in path or "/." in path or path[-1] == "/":
        from cdi_hook.base.files import clean  # hardly any is written like that

        path = clean(path)
    return path.count("/")


# Intel RDT and additional groups.


def _oci_rdt(edit: Edits, _target: Target) -> tuple[None, OCI]:
    fields = ("closID", "schemata", "l3CacheSchema", "memBwSchema", "enableMonitoring")
    oci = {name: edit[name] for name in fields if edit.get(name)}
    if "schemata" in oci:
        oci["schemata"] = list(oci["schemata"])
    return None, oci


def _set_rdt(target: Target, wanted: list[Wanted]) -> None:
    (last,) = _winners(wanted)
    target.put(("linux",), target.open(("linux",), dict, last), "intelRdt", last)


_GIDS = ("process", "user", "additionalGids")


def _add_gids(target: Target, wanted: list[Wanted]) -> None:
    wanted = [one for one in _winners(wanted, at_first=True) if one.item]
    if wanted:
        gids = target.open(_GIDS, list, wanted[0])
        present = {gid for gid in gids if isinstance(gid, int)}
        for one in wanted:
            if one.item not in present:
                target.append(_GIDS, gids, one, one.item)


# In the order of the CDI specification's own schema, in which specs are written and edits applied.
# fmt: off
KINDS = {
    "env": Kind(
        ("list", STRING), _variable, _add_env, ((_ENV, list, str),),
        too_late=lambda variable: f"variable {errors.quote(variable)}",
    ),
    "deviceNodes": Kind(
        ("list", {
            "path": STRING, "hostPath": STRING, "type": STRING, "major": INT64, "minor": INT64,
            "fileMode": UINT32, "permissions": STRING, "uid": UINT32, "gid": UINT32,
        }),
        _oci_device, _add_devices,
        ((_DEVICES, list, "path"), (_RULES, list, dict), (("process", "user"), dict, int)),
        since={"hostPath": "0.5.0"}, optional=("fileMode", "uid", "gid"), too_late=_can_be_late,
    ),
    "netDevices": Kind(
        ("list", {"hostInterfaceName": STRING, "name": STRING}),
        _oci_net_device, _add_net_devices, ((_NET_DEVICES, dict, None),),
        since={"": "1.1.0"}, too_late=_can_be_late, features={"": "netDevices.enabled"},
    ),
    "hooks": Kind(
        ("list", {
            "hookName": STRING, "path": STRING, "args": ("list", STRING), "env": ("list", STRING),
            "timeout": INT64,
        }),
        _oci_hook, _add_hooks, ((("hooks",), dict, list),),
        optional=("timeout",), too_late=_late_hook, hindrance=_hook_hindrance,
    ),
    "mounts": Kind(
        ("list", {
            "hostPath": STRING, "containerPath": STRING, "options": ("list", STRING), "type": STRING,
        }),
        _oci_mount, _add_mounts,
        ((_MOUNTS, list, "destination"), (("linux", "namespaces"), list, dict)),
        since={"type": "0.4.0"}, too_late=_can_be_late, hindrance=_mount_hindrance,
    ),
    "intelRdt": Kind(
        {
            "closID": STRING, "l3CacheSchema": STRING, "memBwSchema": STRING,
            "schemata": ("list", STRING), "enableMonitoring": BOOL,
        },
        _oci_rdt, _set_rdt, ((("linux",), dict, None),),
        since={"": "0.7.0", "schemata": "1.1.0", "enableMonitoring": "1.1.0"},
        optional=("", "schemata"), too_late=lambda _rdt: "Intel RDT",
        features={"schemata": "intelRdt.schemata", "enableMonitoring": "intelRdt.monitoring"},
    ),
    "additionalGids": Kind(
        ("list", UINT32), lambda gid, _target: (gid, gid), _add_gids, ((_GIDS, list, None),),
        since={"": "0.7.0"}, too_late=lambda gid: f"additional group {gid}",
    ),
}
# fmt: on
