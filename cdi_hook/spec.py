# SPDX-License-Identifier: Apache-2.0
"""The CDI spec: its model, its versions, its rules, its files (CDI specification 0.3.0 to 1.1.0).

A spec is kept as plain data with the specification's own field names, as JSON
has it; a field that is absent or null isn't there. SCHEMA is the model. This
module loads, checks and writes one spec; several of them, and what wins, are
cache.py's. It is cold: the compiled index spares a container's start of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Callable

from cdi_hook import files, reader
from cdi_hook.edits import HOOK_NAMES
from cdi_hook.errors import CDIError, Finding, InvalidName, InvalidSpec, quote
from cdi_hook.names import (
    parse_qualifier,
    validate_class_name,
    validate_device_name,
    validate_vendor_name,
)

STRING, BOOL, INT64, UINT32 = reader.STRING, reader.BOOL, reader.INT64, reader.UINT32

CONTAINER_EDITS = {
    "env": ("list", STRING),
    "deviceNodes": (
        "list",
        {
            "path": STRING,
            "hostPath": STRING,
            "type": STRING,
            "major": INT64,
            "minor": INT64,
            "fileMode": UINT32,
            "permissions": STRING,
            "uid": UINT32,
            "gid": UINT32,
        },
    ),
    "netDevices": ("list", {"hostInterfaceName": STRING, "name": STRING}),
    "hooks": (
        "list",
        {
            "hookName": STRING,
            "path": STRING,
            "args": ("list", STRING),
            "env": ("list", STRING),
            "timeout": INT64,
        },
    ),
    "mounts": (
        "list",
        {
            "hostPath": STRING,
            "containerPath": STRING,
            "options": ("list", STRING),
            "type": STRING,
        },
    ),
    "intelRdt": {
        "closID": STRING,
        "l3CacheSchema": STRING,
        "memBwSchema": STRING,
        "schemata": ("list", STRING),
        "enableMonitoring": BOOL,
    },
    "additionalGids": ("list", UINT32),
}
SCHEMA: dict[str, Any] = {
    "cdiVersion": STRING,
    "kind": STRING,
    "annotations": ("map", STRING),
    "devices": (
        "list",
        {"name": STRING, "annotations": ("map", STRING), "containerEdits": CONTAINER_EDITS},
    ),
    "containerEdits": CONTAINER_EDITS,
}
NODE_TYPES = ("", "b", "c", "u", "p")
SPEC_EXTENSIONS = (".json", ".yaml")

Edits = dict[str, Any]


class Device:
    """One device of a spec: its name, annotations and container edits."""

    __slots__ = ("annotations", "container_edits", "name", "spec")

    def __init__(self, spec: Spec, data: dict[str, Any]) -> None:
        self.spec = spec
        self.name: str = data.get("name", "")
        self.annotations: dict[str, str] = data.get("annotations", {})
        self.container_edits: Edits = data.get("containerEdits", {})

    @property
    def qualified_name(self) -> str:
        """``vendor/class=name``."""
        return f"{self.spec.kind}={self.name}"


class Spec:
    """A valid CDI spec: its data, where it came from and the priority of its dir."""

    def __init__(self, data: dict[str, Any], path: str = "", priority: int = 0) -> None:
        """Take decoded data; raise InvalidSpec, with every finding, when it breaks a rule."""
        findings = validate(data)
        if findings:
            first = findings[0]
            raise InvalidSpec(f"invalid CDI Spec: {first.within}{first.message}", findings)
        self.data = data
        self.path = files.clean(path)
        if not self.path.endswith(SPEC_EXTENSIONS):
            self.path += ".yaml"
        self.priority = priority
        self.kind: str = data["kind"]
        self.vendor, self.class_ = parse_qualifier(self.kind)
        self.container_edits: Edits = data.get("containerEdits", {})
        self.devices = {device["name"]: Device(self, device) for device in data["devices"]}


def load(path: str, priority: int = 0) -> Spec:
    """Read one spec file.

    Raises FileNotFoundError, or InvalidSpec for anything else that is wrong
    with the file, in the reference implementation's words.
    """
    try:
        data = files.read(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        if isinstance(error, IsADirectoryError):
            reason = f"read {path}: is a directory"
        else:
            reason = f"open {path}: {(error.strerror or str(error)).lower()}"
        message = f"failed to read CDI Spec {quote(path)}: {reason}"
        raise InvalidSpec(message, [Finding("", reason)]) from error
    value, findings = reader.read(data, SCHEMA)
    if findings:
        raise InvalidSpec(
            f"failed to parse CDI Spec {quote(path)}: failed to unmarshal CDI Spec: {findings[0]}",
            findings,
        )
    if value is None:
        message = f"failed to parse CDI Spec {quote(path)}, no Spec data"
        raise InvalidSpec(message, [Finding("", "no Spec data")])
    return Spec(value, path, priority)


# Versions: the newest first, each with what makes a spec need it.


def _all_edits(data: dict[str, Any]) -> list[Edits]:
    devices = data.get("devices", [])
    return [data.get("containerEdits", {}), *(device.get("containerEdits", {}) for device in devices)]


def _requires_v110(data: dict[str, Any]) -> bool:
    for edits in _all_edits(data):
        rdt = edits.get("intelRdt", {})
        if "schemata" in rdt or rdt.get("enableMonitoring") or edits.get("netDevices"):
            return True
    return False


def _requires_v070(data: dict[str, Any]) -> bool:
    return any("intelRdt" in edits or edits.get("additionalGids") for edits in _all_edits(data))


def _requires_v060(data: dict[str, Any]) -> bool:
    if data.get("annotations") or any(device.get("annotations") for device in data.get("devices", [])):
        return True
    return "." in data.get("kind", "").partition("/")[2]


def _seen_edits(data: dict[str, Any]) -> list[Edits]:
    """Return the edits in which the reference looks for 0.4.0's and 0.5.0's features.

    It keeps pointers to a loop variable, and so sees the last device's and the spec's own.
    """
    return _all_edits({**data, "devices": data.get("devices", [])[-1:]})


def _requires_v050(data: dict[str, Any]) -> bool:
    if any(device.get("name", "")[:1] in tuple("0123456789") for device in data.get("devices", [])):
        return True
    return any(node.get("hostPath") for edits in _seen_edits(data) for node in edits.get("deviceNodes", []))


def _requires_v040(data: dict[str, Any]) -> bool:
    return any(mount.get("type") for edits in _seen_edits(data) for mount in edits.get("mounts", []))


_EARLIEST = "0.3.0"
VERSIONS: tuple[tuple[str, Callable[[dict[str, Any]], bool] | None], ...] = (
    ("1.1.0", _requires_v110),
    ("1.0.0", None),
    ("0.8.0", None),
    ("0.7.0", _requires_v070),
    ("0.6.0", _requires_v060),
    ("0.5.0", _requires_v050),
    ("0.4.0", _requires_v040),
    (_EARLIEST, None),
    ("0.2.0", None),
    ("0.1.0", None),
)
_VERSION_ORDER = {version: index for index, (version, _) in enumerate(VERSIONS)}


def minimum_version(data: dict[str, Any]) -> str:
    """Return the lowest CDI version that has everything the spec uses."""
    for version, requires in VERSIONS:
        if requires is not None and requires(data):
            return version
    return _EARLIEST


# Rules: findings in the order in which the reference implementation would stumble.


def validate(data: dict[str, Any]) -> list[Finding]:
    """Return everything that is wrong with a spec, the reference's own first complaint first."""
    return [
        *_validate_version(data),
        *_validate_kind(data),
        *validate_edits(data.get("containerEdits"), ".containerEdits"),
        *_validate_devices(data),
    ]


def _validate_version(data: dict[str, Any]) -> list[Finding]:
    declared = data.get("cdiVersion", "")
    version = declared.removeprefix("v")
    if version not in _VERSION_ORDER:
        return [Finding(".cdiVersion", f"invalid version {quote(declared)}")]
    minimum = minimum_version(data)
    if _VERSION_ORDER[minimum] < _VERSION_ORDER[version]:
        return [Finding(".cdiVersion", f"the spec version must be at least v{minimum}")]
    return []


def _validate_kind(data: dict[str, Any]) -> list[Finding]:
    vendor, class_ = parse_qualifier(data.get("kind", ""))
    findings = []
    for validate_part, part in ((validate_vendor_name, vendor), (validate_class_name, class_)):
        try:
            validate_part(part)
        except InvalidName as error:
            findings.append(Finding(".kind", str(error)))
    return findings


def _validate_devices(data: dict[str, Any]) -> list[Finding]:
    findings = []
    devices = data.get("devices", [])
    seen = set()
    for index, device in enumerate(devices):
        path = f".devices[{index}]"
        name = device.get("name", "")
        within = f"failed add device {quote(name)}: "
        try:
            validate_device_name(name)
        except InvalidName as error:
            findings.append(Finding(f"{path}.name", str(error), within))
        edits = device.get("containerEdits", {})
        if not any(value or key == "intelRdt" for key, value in edits.items()):
            findings.append(Finding(f"{path}.containerEdits", "invalid device, empty device edits", within))
        within += f"invalid device {quote(name)}: "
        findings += validate_edits(edits, f"{path}.containerEdits", within)
        if name in seen:
            findings.append(Finding(f"{path}.name", f"invalid spec, multiple device {quote(name)}"))
        seen.add(name)
    if not devices:
        findings.append(Finding(".devices", "invalid spec, no devices"))
    return findings


def validate_edits(edits: Edits | None, path: str = "", within: str = "") -> list[Finding]:
    """Return everything that is wrong with one container edits object."""
    edits = edits or {}
    found = [
        *_validate_env(edits.get("env", []), f"{path}.env", "invalid container edits: "),
        *_each(_validate_node, edits, "deviceNodes", path),
        *_each(_validate_hook, edits, "hooks", path),
        *_each(_validate_mount, edits, "mounts", path),
    ]
    clos = edits.get("intelRdt", {}).get("closID", "")
    if clos != "/" and (len(clos.encode()) >= 4096 or clos in (".", "..") or "/" in clos or "\n" in clos):
        found.append(Finding(f"{path}.intelRdt.closID", "invalid ClosID"))
    found += _validate_net_devices(edits.get("netDevices", []), f"{path}.netDevices")
    return [Finding(one.path, one.message, within + one.within) for one in found]


def _each(
    rule: Callable[[dict[str, Any], str], list[Finding]], edits: Edits, name: str, path: str
) -> list[Finding]:
    return [
        finding
        for index, item in enumerate(edits.get(name, []))
        for finding in rule(item, f"{path}.{name}[{index}]")
    ]


def _validate_env(env: list[str], path: str, within: str) -> list[Finding]:
    return [
        Finding(f"{path}[{index}]", f"invalid environment variable {quote(variable)}", within)
        for index, variable in enumerate(env)
        if variable.find("=") <= 0
    ]


def _validate_node(node: dict[str, Any], path: str) -> list[Finding]:
    name = node.get("path", "")
    if not name:
        return [Finding(f"{path}.path", "invalid (empty) device path")]
    findings = []
    type_ = node.get("type", "")
    if type_ not in NODE_TYPES:
        findings.append(Finding(f"{path}.type", f"device {quote(name)}: invalid type {quote(type_)}"))
    permissions = node.get("permissions", "")
    if permissions != "none" and permissions.strip("rwm"):
        message = f"device {quote(name)}: invalid permissions {quote(permissions)}"
        findings.append(Finding(f"{path}.permissions", message))
    return findings


def _validate_hook(hook: dict[str, Any], path: str) -> list[Finding]:
    name = hook.get("hookName", "")
    if name not in HOOK_NAMES:
        return [Finding(f"{path}.hookName", f"invalid hook name {quote(name)}")]
    if not hook.get("path"):
        return [Finding(f"{path}.path", f"invalid hook {quote(name)} with empty path")]
    return _validate_env(hook.get("env", []), f"{path}.env", f"invalid hook {quote(name)}: ")


def _validate_mount(mount: dict[str, Any], path: str) -> list[Finding]:
    findings = []
    if not mount.get("hostPath"):
        findings.append(Finding(f"{path}.hostPath", "invalid mount, empty host path"))
    if not mount.get("containerPath"):
        findings.append(Finding(f"{path}.containerPath", "invalid mount, empty container path"))
    return findings


def _validate_net_devices(devices: list[dict[str, str]], path: str) -> list[Finding]:
    findings = []
    hosts: dict[str, str] = {}
    names: dict[str, str] = {}
    what = "invalid linux net device, "
    for index, device in enumerate(devices):
        here = f"{path}[{index}]"
        host, name = device.get("hostInterfaceName", ""), device.get("name", "")
        if not host:
            findings.append(Finding(f"{here}.hostInterfaceName", what + "empty HostInterfaceName"))
        elif not name:
            findings.append(Finding(f"{here}.name", what + "empty Name"))
        elif host in hosts:
            message = f"duplicate HostInterfaceName {quote(host)} with names"
            message += f" {quote(name)} and {quote(hosts[host])}"
            findings.append(Finding(f"{here}.hostInterfaceName", what + message))
        elif name in names:
            message = f"duplicate Name {quote(name)} with HostInterfaceName"
            message += f" {quote(host)} and {quote(names[name])}"
            findings.append(Finding(f"{here}.name", what + message))
        hosts.setdefault(host, name)
        names.setdefault(name, host)
    return findings


# Writing.


def spec_name(vendor: str, class_: str) -> str:
    """Return the file name, without extension, for a vendor's static spec."""
    return f"{vendor}-{class_}"


def transient_spec_name(vendor: str, class_: str, transient_id: str) -> str:
    """Return the file name, without extension, for a spec that lives as long as transient_id."""
    return f"{spec_name(vendor, class_)}_{transient_id.replace('/', '_')}"


def name_for(data: dict[str, Any], transient_id: str | None = None) -> str:
    """Return the file name for a spec's data; raises InvalidName when its kind has no vendor."""
    vendor, class_ = parse_qualifier(data.get("kind", ""))
    if not vendor:
        raise InvalidName(f"invalid vendor/class {quote(class_)} in Spec")
    if transient_id is None:
        return spec_name(vendor, class_)
    return transient_spec_name(vendor, class_, transient_id)


def write(spec: Spec) -> None:
    """Write a spec to its path, replacing what is there in one step; make the dir where missing."""
    directory, name = os.path.split(spec.path)
    try:
        os.makedirs(directory or ".", 0o755, exist_ok=True)
        files.replace(spec.path, dump(spec.data, name), 0o600)
    except OSError as error:
        raise CDIError(f"can't write CDI spec {quote(spec.path)}: {error.strerror}") from error


def dump(data: dict[str, Any], name: str) -> bytes:
    """Return a spec as the text of a file called name: JSON for .json, else YAML."""
    data = _ordered(data, SCHEMA)
    if name.endswith(".json"):
        return json.dumps(data, separators=(",", ":"), ensure_ascii=False).encode()
    return reader.write(data)


# Zero says something in these: the model has "absent" beside it.
_OPTIONAL = frozenset(("fileMode", "uid", "gid", "timeout", "intelRdt"))


def _ordered(value: Any, schema: reader.Schema) -> Any:
    """Return value in the model's order of fields, without the fields that say nothing."""
    if isinstance(schema, Mapping):
        return {
            name: _ordered(value.get(name, {}), child)
            for name, child in schema.items()
            if value.get(name) or name == "containerEdits" or (name in _OPTIONAL and name in value)
        }
    if isinstance(schema, tuple) and schema[0] == "map":
        return dict(sorted(value.items()))
    if isinstance(schema, tuple):
        return [_ordered(item, schema[1]) for item in value]
    return value
