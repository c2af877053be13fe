# SPDX-License-Identifier: Apache-2.0
"""The rules for a spec's data, which return findings.

Findings are in the order and the words of the reference implementation. shape.py
has checked the data's types before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Callable

from cdi_hook.edits import HOOK_NAMES, KINDS
from cdi_hook.errors import Finding, InvalidName, quote
from cdi_hook.names import parse_qualifier, validate_device_name, validate_kind_part
from cdi_hook.specs.versions import VERSIONS, minimum_version

NODE_TYPES = ("", "b", "c", "u", "p")

# The edits of one kind, and their place in the spec -> findings.
Rule = Callable[[Any, str], Iterable[Finding]]


def validate(data: dict[str, Any]) -> list[Finding]:
    """Return all findings; the first one is the error that the reference reports."""
    return [
        *_validate_version(data),
        *_validate_kind(data),
        *validate_edits(data.get("containerEdits"), ".containerEdits"),
        *_validate_devices(data),
    ]


def _validate_version(data: dict[str, Any]) -> Iterator[Finding]:
    declared = data.get("cdiVersion", "")
    version = declared.removeprefix("v")
    if version not in VERSIONS:
        yield Finding(".cdiVersion", f"invalid version {quote(declared)}")
    elif VERSIONS.index(minimum := minimum_version(data)) < VERSIONS.index(version):
        yield Finding(".cdiVersion", f"the spec version must be at least v{minimum}")


def _validate_kind(data: dict[str, Any]) -> Iterator[Finding]:
    for text, part in zip(parse_qualifier(data.get("kind", "")), ("vendor", "class")):
        try:
            validate_kind_part(text, part)
        except InvalidName as error:
            yield Finding(".kind", str(error))


def _validate_devices(data: dict[str, Any]) -> Iterator[Finding]:
    devices = data.get("devices", [])
    seen = set()
    for index, device in enumerate(devices):
        path = f".devices[{index}]"
        name = device.get("name", "")
        within = f"failed add device {quote(name)}: "
        try:
            validate_device_name(name)
        except InvalidName as error:
            yield Finding(f"{path}.name", str(error), within)
        edits = device.get("containerEdits", {})
        if not any(value or "" in KINDS[kind].optional for kind, value in edits.items()):
            yield Finding(f"{path}.containerEdits", "invalid device, empty device edits", within)
        within += f"invalid device {quote(name)}: "
        yield from validate_edits(edits, f"{path}.containerEdits", within)
        if name in seen:
            yield Finding(f"{path}.name", f"invalid spec, multiple device {quote(name)}")
        seen.add(name)
    if not devices:
        yield Finding(".devices", "invalid spec, no devices")


def validate_edits(edits: dict[str, Any] | None, path: str = "", within: str = "") -> list[Finding]:
    """Return all findings of one container edits object."""
    return [
        Finding(one.path, one.message, within + one.within)
        for name, rule in RULES.items()
        if edits and edits.get(name) is not None
        for one in rule(edits[name], f"{path}.{name}")
    ]


def _each(rule: Rule) -> Rule:
    return lambda items, path: [
        finding for index, item in enumerate(items) for finding in rule(item, f"{path}[{index}]")
    ]


def _validate_env(env: list[str], path: str, within: str = "invalid container edits: ") -> list[Finding]:
    return [
        Finding(f"{path}[{index}]", f"invalid environment variable {quote(variable)}", within)
        for index, variable in enumerate(env)
        if variable.find("=") <= 0
    ]


def _validate_node(node: dict[str, Any], path: str) -> Iterator[Finding]:
    name = node.get("path", "")
    if not name:
        yield Finding(f"{path}.path", "invalid (empty) device path")
        return
    type_ = node.get("type", "")
    if type_ not in NODE_TYPES:
        yield Finding(f"{path}.type", f"device {quote(name)}: invalid type {quote(type_)}")
    permissions = node.get("permissions", "")
    if permissions != "none" and permissions.strip("rwm"):
        yield Finding(
            f"{path}.permissions", f"device {quote(name)}: invalid permissions {quote(permissions)}"
        )


def _validate_hook(hook: dict[str, Any], path: str) -> list[Finding]:
    name = hook.get("hookName", "")
    if name not in HOOK_NAMES:
        return [Finding(f"{path}.hookName", f"invalid hook name {quote(name)}")]
    if not hook.get("path"):
        return [Finding(f"{path}.path", f"invalid hook {quote(name)} with empty path")]
    return _validate_env(hook.get("env", []), f"{path}.env", f"invalid hook {quote(name)}: ")


def _validate_mount(mount: dict[str, Any], path: str) -> list[Finding]:
    return [
        Finding(f"{path}.{whose}Path", f"invalid mount, empty {whose} path")
        for whose in ("host", "container")
        if not mount.get(f"{whose}Path")
    ]


def _validate_net_devices(devices: list[dict[str, str]], path: str) -> Iterator[Finding]:
    hosts: dict[str, str] = {}
    names: dict[str, str] = {}
    for index, device in enumerate(devices):
        host, name = device.get("hostInterfaceName", ""), device.get("name", "")
        field, problem = "hostInterfaceName", ""
        if not host:
            problem = "empty HostInterfaceName"
        elif not name:
            field, problem = "name", "empty Name"
        elif host in hosts:
            both = f"{quote(name)} and {quote(hosts[host])}"
            problem = f"duplicate HostInterfaceName {quote(host)} with names {both}"
        elif name in names:
            both = f"{quote(host)} and {quote(names[name])}"
            field, problem = "name", f"duplicate Name {quote(name)} with HostInterfaceName {both}"
        if problem:
            yield Finding(f"{path}[{index}].{field}", f"invalid linux net device, {problem}")
        hosts.setdefault(host, name)
        names.setdefault(name, host)


def _validate_rdt(rdt: dict[str, Any], path: str) -> Iterator[Finding]:
    clos = rdt.get("closID", "")
    if clos != "/" and (len(clos.encode()) >= 4096 or clos in (".", "..") or "/" in clos or "\n" in clos):
        yield Finding(f"{path}.closID", "invalid ClosID")


# By kind of edit, in the order in which the reference implementation checks them.
RULES: dict[str, Rule] = {
    "env": _validate_env,
    "deviceNodes": _each(_validate_node),
    "hooks": _each(_validate_hook),
    "mounts": _each(_validate_mount),
    "intelRdt": _validate_rdt,
    "netDevices": _validate_net_devices,
    "additionalGids": lambda _gids, _path: [],  # the schema's type is their only rule
}
