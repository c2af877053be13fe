# SPDX-License-Identifier: Apache-2.0
"""Container edits -> OCI runtime specification (CDI specification, "OCI Edits").

Works on the decoded JSON tree: what isn't edited, and the order of keys, stay.
Nothing is changed unless everything can be. Edits are data as spec.py has them
and already validated; they are never changed here.
"""

from __future__ import annotations

import posix

from cdi_hook.errors import InjectionError, quote
from cdi_hook.files import clean

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    Edits = dict[str, Any]
    OCI = dict[str, Any]

HOOK_NAMES = (
    "prestart",
    "createRuntime",
    "createContainer",
    "startContainer",
    "poststart",
    "poststop",
)
_LISTS = ("env", "deviceNodes", "netDevices", "hooks", "mounts", "additionalGids")
_TYPES = {0o060000: "b", 0o020000: "c", 0o010000: "p"}  # by S_IFMT of the host's node
_S_IFMT = 0o170000


def merge(many: Iterable[Edits]) -> Edits:
    """Return one edits object that does what these do, one after another."""
    merged: Edits = {}
    for edits in many:
        for name in _LISTS:
            if edits.get(name):
                merged.setdefault(name, []).extend(edits[name])
        if edits.get("intelRdt") is not None:
            merged["intelRdt"] = edits["intelRdt"]
    return merged


def apply(oci: OCI | None, edits: Edits, *, keep_present: bool = False, may_map_ids: bool = True) -> None:
    """Apply container edits to an OCI specification, in place.

    With keep_present, what is there already is neither added again nor moved,
    so that applying twice changes nothing. Without may_map_ids, no mount gets
    idmap because the container has a user namespace. Raises InjectionError, and leaves
    oci as it was, when a host device can't be used or oci isn't of the shape
    that the OCI runtime specification gives it.
    """
    if oci is None:
        raise InjectionError("can't edit nil OCI Spec")
    _check_shape(oci)
    nodes = [(_oci_device(node, oci), node) for node in edits.get("deviceNodes", ())]
    for hook in edits.get("hooks", ()):
        if hook.get("hookName") not in HOOK_NAMES:
            raise InjectionError(f"unknown hook name {quote(hook.get('hookName', ''))}")
    if edits.get("env"):
        _add_env(_list(_process(oci), "env"), edits["env"])
    if nodes:
        _add_devices(_object(oci, "linux"), nodes, keep_present)
    for net in edits.get("netDevices", ()):
        devices = _object(_object(oci, "linux"), "netDevices")
        devices[net.get("hostInterfaceName", "")] = {"name": net.get("name", "")}
    if edits.get("mounts"):
        _add_mounts(oci, edits["mounts"], keep_present, may_map_ids)
    if edits.get("hooks"):
        _add_hooks(_object(oci, "hooks"), edits["hooks"], keep_present)
    if edits.get("intelRdt") is not None:
        _object(oci, "linux")["intelRdt"] = _oci_rdt(edits["intelRdt"])
    for gid in edits.get("additionalGids", ()):
        if gid:
            gids = _list(_object(_process(oci), "user"), "additionalGids")
            if gid not in gids:
                gids.append(gid)


def _oci_rdt(rdt: Edits) -> OCI:
    fields = ("closID", "schemata", "l3CacheSchema", "memBwSchema", "enableMonitoring")
    oci = {name: rdt[name] for name in fields if rdt.get(name)}
    if "schemata" in oci:
        oci["schemata"] = list(oci["schemata"])
    return oci


# The tree: parents are made only when needed, null counts as absent.


def _object(parent: OCI, name: str) -> OCI:
    child = parent.get(name)
    if child is None:
        child = parent[name] = {}
    return child


def _list(parent: OCI, name: str) -> list[Any]:
    child = parent.get(name)
    if child is None:
        child = parent[name] = []
    return child


def _process(oci: OCI) -> OCI:
    if oci.get("process") is None:
        oci["process"] = {"user": {"uid": 0, "gid": 0}, "cwd": ""}
    return oci["process"]  # type: ignore[no-any-return]  # _check_shape has seen to it


def _check_shape(oci: OCI) -> None:
    """Refuse a tree in which what edits touch isn't what the specification says."""
    process = _shaped(oci, "process", dict, "")
    user = _shaped(process, "user", dict, ".process")
    linux = _shaped(oci, "linux", dict, "")
    resources = _shaped(linux, "resources", dict, ".linux")
    hooks = _shaped(oci, "hooks", dict, "")
    _shaped(linux, "netDevices", dict, ".linux")
    _shaped(user, "additionalGids", list, ".process.user")
    for name in ("uid", "gid"):
        number = user.get(name) or 0
        if not isinstance(number, int) or not 0 <= number < 1 << 32:
            raise InjectionError(f"the OCI spec's .process.user.{name} is not a number from 0 to 4294967295")
    for parent, name, item, path in (
        (process, "env", str, ".process"),
        (linux, "devices", dict, ".linux"),
        (linux, "namespaces", dict, ".linux"),
        (resources, "devices", dict, ".linux.resources"),
        (oci, "mounts", dict, ""),
        *((hooks, name, dict, ".hooks") for name in hooks),
    ):
        for element in _shaped(parent, name, list, path):
            if not isinstance(element, item):
                raise InjectionError(f"the OCI spec's {path}.{name} has an item that is not {_SHAPES[item]}")
    for items, name, path in (
        (oci.get("mounts"), "destination", ".mounts"),
        (linux.get("devices"), "path", ".linux.devices"),
    ):
        for element in items or ():
            if not isinstance(element.get(name) or "", str):
                raise InjectionError(f"the OCI spec's {path} has an item whose {name} is not a string")


_SHAPES: dict[type, str] = {dict: "an object", list: "a list", str: "a string"}


def _shaped(parent: Any, name: str, kind: type, path: str) -> Any:
    value = parent.get(name)
    if value is None:
        return kind()
    if not isinstance(value, kind):
        raise InjectionError(f"the OCI spec's {path}.{name} is not {_SHAPES[kind]}")
    return value


# Environment.


def _add_env(env: list[str], added: list[str]) -> None:
    places = {variable.partition("=")[0]: index for index, variable in enumerate(env)}
    for variable in added:
        key = variable.partition("=")[0]
        if key in places:
            env[places[key]] = variable
        else:
            places[key] = len(env)
            env.append(variable)


# Device nodes and their cgroup rules.


def _oci_device(node: Edits, oci: OCI) -> OCI:
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
        host_type = _TYPES.get(status.st_mode & _S_IFMT)
        problem = "" if host_type else "not a device node"
    except OSError as error:
        problem = (error.strerror or str(error)).lower()
    except ValueError:  # a NUL in the path
        problem = "invalid argument"
    if problem and not complete:
        raise InjectionError(f"failed to stat CDI host device {quote(host_path)}: {problem}")
    if not problem:
        if mode is None:
            mode = status.st_mode & 0o7777
        if not complete:
            type_ = type_ or host_type
            if type_ != host_type:
                pair = f"({quote(path)}, {quote(host_path)})"
                raise InjectionError(f"CDI device {pair}, host type mismatch ({type_}, {host_type})")
            if type_ != "p" and not major:
                major, minor = device_major(status.st_rdev), device_minor(status.st_rdev)
    device = {"path": path, "type": type_, "major": major, "minor": minor}
    if mode is not None:
        device["fileMode"] = mode
    user = (oci.get("process") or {}).get("user") or {}
    for name in ("uid", "gid"):
        owner = node.get(name)
        if owner is None and (user.get(name) or 0) > 0:
            owner = user[name]
        if owner is not None:
            device[name] = owner
    return device


def device_major(rdev: int) -> int:
    """Return the major number of a device, as glibc's major(3) does."""
    return (rdev >> 8) & 0xFFF | (rdev >> 32) & ~0xFFF


def device_minor(rdev: int) -> int:
    """Return the minor number of a device, as glibc's minor(3) does."""
    return rdev & 0xFF | (rdev >> 12) & 0xFFFFFF00


def _add_devices(linux: OCI, nodes: list[tuple[OCI, Edits]], keep_present: bool) -> None:
    last = {device["path"]: device for device, _ in nodes}
    for device, _ in nodes:
        if keep_present and (device is not last[device["path"]] or _is_only(linux, device)):
            continue
        devices = _list(linux, "devices")
        _remove_first(devices, "path", device["path"])
        for index, present in enumerate(devices):
            if present.get("path") == device["path"]:
                devices[index] = device
                break
        else:
            devices.append(device)
    for device, node in nodes:
        if device["type"] not in ("b", "c"):
            continue
        rule = {"allow": True, "type": device["type"], "major": device["major"], "minor": device["minor"]}
        permissions = node.get("permissions") or "rwm"
        if permissions != "none":
            rule["access"] = permissions
        rules = _list(_object(linux, "resources"), "devices")
        if not (keep_present and _is_allowed(rules, rule)):
            rules.append(rule)


def _is_only(linux: OCI, device: OCI) -> bool:
    """Say whether this very device is there, and no other with its path."""
    return [one for one in linux.get("devices") or () if one.get("path") == device["path"]] == [device]


def _is_allowed(rules: list[OCI], rule: OCI) -> bool:
    """Say whether this very rule is there, and no later one takes something back."""
    for present in reversed(rules):
        if present == rule:
            return True
        if not present.get("allow"):
            return False
    return False


def _remove_first(items: list[OCI], name: str, value: str) -> None:
    for index, item in enumerate(items):
        if item.get(name) == value:
            del items[index]
            return


# Mounts.


def _add_mounts(oci: OCI, added: list[Edits], keep_present: bool, may_map_ids: bool) -> None:
    namespaces = (oci.get("linux") or {}).get("namespaces") or ()
    maps_ids = may_map_ids and any(namespace.get("type") == "user" for namespace in namespaces)
    mounts = _list(oci, "mounts")
    topmost = {mount.get("destination"): mount for mount in mounts}
    last = {edit.get("containerPath", ""): edit for edit in added}
    changed = False
    for edit in added:
        mount = _oci_mount(edit, maps_ids)
        destination = mount["destination"]
        if keep_present and (edit is not last[destination] or topmost.get(destination) == mount):
            continue
        if destination in topmost:
            _remove_first(mounts, "destination", destination)
        mounts.append(mount)
        topmost[destination] = mount
        changed = True
    if changed:
        mounts.sort(key=_depth)


def _depth(mount: OCI) -> int:
    destination: str = mount.get("destination") or ""
    if (
        not destination.startswith("/")
        or "//" in destination
        or "/." in destination
        or destination[-1] == "/"
    ):
        destination = clean(destination)
    return destination.count("/")


def _oci_mount(edit: Edits, maps_ids: bool) -> OCI:
    mount: OCI = {"destination": edit.get("containerPath", "")}
    if edit.get("type"):
        mount["type"] = edit["type"]
    mount["source"] = edit.get("hostPath", "")
    options = list(edit.get("options", ()))
    if maps_ids and "idmap" not in options and "ridmap" not in options:
        binds = [option for option in options if option in ("bind", "rbind")]
        kind = binds[-1] if binds else edit.get("type")
        if kind in ("bind", "rbind") and (binds or kind == "bind"):
            options.append("ridmap" if kind == "rbind" else "idmap")
    if options:
        mount["options"] = options
    return mount


# Hooks.


def _add_hooks(hooks: OCI, added: list[Edits], keep_present: bool) -> None:
    unclaimed = {name: list(present or ()) for name, present in hooks.items()} if keep_present else {}
    for edit in added:
        hook: OCI = {"path": edit.get("path", "")}
        for name in ("args", "env"):
            if edit.get(name):
                hook[name] = list(edit[name])
        if edit.get("timeout") is not None:
            hook["timeout"] = edit["timeout"]
        # Two devices may each ask for the same hook: one that is there does for one of them.
        there = unclaimed.get(edit["hookName"], [])
        if hook in there:
            there.remove(hook)
        else:
            _list(hooks, edit["hookName"]).append(hook)
