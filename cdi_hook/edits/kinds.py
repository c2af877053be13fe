# SPDX-License-Identifier: Apache-2.0
"""The table of kinds of container edits: what each becomes in an OCI runtime specification.

KINDS is the one table of edit kinds. Who reads specs, checks them, applies them,
or injects into a container that is being created takes from it what a kind is.
What has no entry is refused, never skipped.
"""

from __future__ import annotations

import posix

from cdi_hook import errors
from cdi_hook.base import files
from cdi_hook.base.quoting import quote
from cdi_hook.edits.target import (
    Change,
    Wanted,
    a_user,
    an_object,
    anything,
    lists_of_objects,
    objects,
    objects_with,
    strings,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from typing import Any

    from cdi_hook.edits.target import OCI, Edits, Place, Shape, Target
    from cdi_hook.errors import Source

# What a field of an edit holds; a list of these is ("list", STRING).
STRING = "a string"
BOOL = "true or false"
INT64 = "an integer"
UINT32 = "an integer from 0 to 4294967295"

# Beside the edits of a device: what shows that it is still the one that its name means (proof.py).
PROOF = "proof"

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
    target. ``touches`` is what the two rely on in the OCI specification: places, and
    the shape of each. ``keys`` are all keys that they read or write, there and below.

    ``too_late`` names an edit that can't be made any more once the container is
    being created, and returns "" for one that can. Without it none can.

    ``hindrance`` says why no runtime can carry out an edit on this host, or returns "".
    ``convert`` doesn't look for that.

    ``features`` maps a field ("": the kind itself) that not every runtime knows to
    what a runtime that does has below ``linux`` of its features, and to the releases
    of runc and crun that brought it.

    ``words`` is what people call edits of this kind.
    """

    __slots__ = (
        "add", "convert", "features", "hindrance", "is_list", "keys", "optional", "schema", "since",
        "too_late", "touches", "words",
    )  # fmt: skip

    def __init__(
        self,
        words: str,
        schema: object,
        convert: Callable[[Any, Target], tuple[Any, Any]],
        add: Callable[[Target, list[Wanted]], None],
        touches: Sequence[tuple[Place, Shape]],
        keys: Sequence[str] = (),
        since: Mapping[str, str] = {},  # nobody alters it
        optional: Sequence[str] = (),
        too_late: Callable[[Any], str] | None = None,
        hindrance: Callable[[Any], str] | None = None,
        features: Mapping[str, tuple[str, str, str]] = {},
    ) -> None:
        self.words = words
        self.schema = schema
        self.is_list = isinstance(schema, tuple)
        self.convert = convert
        self.add = add
        self.touches = touches
        self.keys = {*keys, *(name for place, _ in touches for name in place)}
        self.since = since
        self.optional = optional
        self.too_late = too_late
        self.hindrance = hindrance
        self.features = features


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


def can_be_late(_edit: Any) -> str:
    """Say that such an edit can still be made in a container that is being created."""
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
            f"failed to stat CDI host device {quote(host_path)}: {problem}", node=host_path
        )
    if not problem:
        if mode is None:
            mode = status.st_mode & 0o7777
        if not complete:
            type_ = type_ or host_type
            if type_ != host_type:
                pair = f"({quote(path)}, {quote(host_path)})"
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
        raise errors.InjectionError(f"unknown hook name {quote(name)}")
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
    paths = {one.item["path"] for one in wanted}
    for name, hooks in present.items() if target.keep_present else ():
        for index, hook in enumerate(hooks or ()):
            path = hook.get("path")
            if not isinstance(path, str) or path not in paths:  # an image's author may have written a million
                continue
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
    return "" if HOOK_NAMES[name] else f"{name} hook {quote(edit['path'])}"


# Mounts.

_MOUNTS = ("mounts",)


def _oci_mount(edit: Edits, target: Target) -> tuple[str, OCI]:
    destination = edit.get("containerPath", "")
    mount: OCI = {"destination": destination}
    if edit.get("type"):
        mount["type"] = edit["type"]
    mount["source"] = edit.get("hostPath", "")
    options = list(edit.get("options", ()))
    if target.can_map_ids and "idmap" not in options and "ridmap" not in options:
        binds = [option for option in options if option in ("bind", "rbind")]
        is_all = binds[-1:] == ["rbind"]
        if (binds or edit.get("type") == "bind") and target.can_map_ids(mount["source"], is_all):
            options.append("ridmap" if is_all else "idmap")
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
    source, place = quote(edit["hostPath"]), quote(edit["containerPath"])
    return f'"options: [bind]" is missing for the mount of {source} at {place}'


def _usurped(path: str) -> str:
    """Say that others may have made NVIDIA's dir in /tmp: a link there would mount any dir of the host."""
    if path != _MPS:
        return ""
    status = posix.lstat(path)
    if status.st_mode & _S_IFMT == _S_IFDIR and status.st_uid == 0:
        return ""
    return f"{quote(path)} is no dir of root's, so anybody may have made it: remove it, then start MPS"


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
        "variables", ("list", STRING), _variable, _add_env, ((_ENV, strings),),
        too_late=lambda variable: f"variable {quote(variable)}",
    ),
    "deviceNodes": Kind(
        "device nodes",
        ("list", {
            "path": STRING, "hostPath": STRING, "type": STRING, "major": INT64, "minor": INT64,
            "fileMode": UINT32, "permissions": STRING, "uid": UINT32, "gid": UINT32,
        }),
        _oci_device, _add_devices,
        ((_DEVICES, objects_with("path")), (_RULES, objects), (("process", "user"), a_user)),
        ("path", "uid", "gid"),
        since={"hostPath": "0.5.0"}, optional=("fileMode", "uid", "gid"), too_late=can_be_late,
    ),
    "netDevices": Kind(
        "net devices",
        ("list", {"hostInterfaceName": STRING, "name": STRING}),
        _oci_net_device, _add_net_devices, ((_NET_DEVICES, an_object),),
        since={"": "1.1.0"}, too_late=can_be_late, features={"": ("netDevices.enabled", "1.4", "1.22")},
    ),
    "hooks": Kind(
        "hooks",
        ("list", {
            "hookName": STRING, "path": STRING, "args": ("list", STRING), "env": ("list", STRING),
            "timeout": INT64,
        }),
        _oci_hook, _add_hooks, ((("hooks",), lists_of_objects),), tuple(HOOK_NAMES),
        optional=("timeout",), too_late=_late_hook, hindrance=_hook_hindrance,
    ),
    "mounts": Kind(
        "mounts",
        ("list", {
            "hostPath": STRING, "containerPath": STRING, "options": ("list", STRING), "type": STRING,
        }),
        _oci_mount, _add_mounts,
        ((_MOUNTS, objects_with("destination")), (("linux", "namespaces"), objects)),
        ("destination", "type"),
        since={"type": "0.4.0"}, too_late=can_be_late, hindrance=_mount_hindrance,
    ),
    "intelRdt": Kind(
        "Intel RDT",
        {
            "closID": STRING, "l3CacheSchema": STRING, "memBwSchema": STRING,
            "schemata": ("list", STRING), "enableMonitoring": BOOL,
        },
        _oci_rdt, _set_rdt, ((("linux",), an_object),), ("intelRdt",),
        since={"": "0.7.0", "schemata": "1.1.0", "enableMonitoring": "1.1.0"},
        optional=("", "schemata"), too_late=lambda _rdt: "Intel RDT",
        features={
            "schemata": ("intelRdt.schemata", "1.4", "1.22"),
            "enableMonitoring": ("intelRdt.monitoring", "1.4", "1.24"),
        },
    ),
    "additionalGids": Kind(
        "additional groups",
        ("list", UINT32), lambda gid, _target: (gid, gid), _add_gids, ((_GIDS, anything),),
        since={"": "0.7.0"}, too_late=lambda gid: f"additional group {gid}",
    ),
}
# fmt: on


def each_kind(part: Edits) -> Iterator[tuple[str, Sequence[Any]]]:
    """Yield the kinds in one containerEdits object, each with its edits.

    Raises InjectionError for a kind that isn't known.
    """
    for name, value in part.items():
        if name == PROOF:
            continue
        kind = KINDS.get(name)
        if kind is None:
            raise errors.InjectionError(f"unknown kind of container edits {quote(name)}")
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


def lack(path: str) -> str:
    """Say that the host lacks a file, if it does; of a relative path that isn't known."""
    return f"the host has no {quote(path)}" if path[:1] == "/" and files.is_gone(path) else ""
