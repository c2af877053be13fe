# SPDX-License-Identifier: Apache-2.0
"""The rules for a spec's data, which return findings.

Findings are in the order and the words of the reference implementation. shape.py
has checked the data's types before.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Callable

from cdi_hook.base.words import instead
from cdi_hook.edits.kinds import EXPOSED_HOOK, HOOK_ENV, HOOK_NAMES, KINDS, is_exposed
from cdi_hook.errors import Finding, InvalidName, quote
from cdi_hook.names import parse_qualifier, validate_device_name, validate_kind_part
from cdi_hook.specs.versions import USABLE, VERSIONS, requirement

NODE_TYPES = ("", "b", "c", "u", "p")

# The edits of one kind, and their place in the spec -> findings.
Rule = Callable[[Any, str], Iterable[Finding]]


def validate(data: dict[str, Any]) -> list[Finding]:
    """Return all findings; the first one is the error that the reference reports."""
    return [
        *_validate_version(data),
        *validate_kind(data.get("kind", "")),
        *validate_edits(data.get("containerEdits"), ".containerEdits"),
        *_validate_devices(data),
    ]


def warnings(data: dict[str, Any]) -> Iterator[Finding]:
    """Yield what is allowed in a valid spec, but troubles some engines."""
    version, minimum = data["cdiVersion"].removeprefix("v"), requirement(data, in_full=True)[0]
    if version != minimum:
        yield Finding(
            ".cdiVersion",
            f"{version} is higher than this spec needs; engines that know only {minimum} could read it too",
        )
    for text, part in zip(parse_qualifier(data["kind"]), ("vendor", "class")):
        if len(text) == 1:
            yield Finding(
                ".kind",
                f"the {part} {quote(text)} has one letter, which crashes docker, podman and other engines "
                "(CDI's own library up to 1.1.0); take a longer name",
            )
    yield from exposed_hooks(data)


def exposed_hooks(data: dict[str, Any]) -> Iterator[Finding]:
    """Yield a finding for each hook of a valid spec that an image's variables may reach."""
    parts = [("", data), *((f".devices[{index}]", one) for index, one in enumerate(data["devices"]))]
    for path, part in parts:
        for index, hook in enumerate((part.get("containerEdits") or {}).get("hooks") or ()):
            if is_exposed(hook):
                yield Finding(
                    f"{path}.containerEdits.hooks[{index}]",
                    f"the {EXPOSED_HOOK} hook {quote(hook['path'])} has no env. If an engine's own CDI "
                    "injects it, runc before 1.3 runs it as root on the host with the container's variables, "
                    "so that an image can run any program there (CVE-2025-23266). cdi-runtime gives it an "
                    f'env. Write env: ["{HOOK_ENV[0]}"], or generate the spec again',
                )


def _validate_version(data: dict[str, Any]) -> Iterator[Finding]:
    declared = data.get("cdiVersion", "")
    version = declared.removeprefix("v")
    minimum, what = requirement(data)
    need = f"{what or 'this spec'} needs {minimum}"
    if version not in VERSIONS:
        message = f"invalid version {quote(declared)}"
        plain = f"there is no cdiVersion; {need}"
        if declared:
            plain = f"{message}, known are {', '.join(USABLE)}; {need}"
        yield Finding(".cdiVersion", message, plain=plain)
    elif VERSIONS.index(minimum) < VERSIONS.index(version):
        message = f"the spec version must be at least v{minimum}"
        yield Finding(".cdiVersion", message, plain=f"{declared} is too low: {need}")


def validate_kind(kind: str) -> Iterator[Finding]:
    """Yield what is wrong with the kind of a spec."""
    for text, part in zip(parse_qualifier(kind), ("vendor", "class")):
        try:
            validate_kind_part(text, part)
        except InvalidName as error:
            plain = ""
            if not text:
                lacking = f"{quote(kind)} is not vendor/class" if kind else "there is no kind"
                plain = f"{lacking}; write one such as vendor.com/gpu"
            yield Finding(".kind", str(error), plain=plain)
            if not text:
                return


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
            # "class" is the reference implementation's mistake
            plain = str(error).replace("invalid class", "invalid name", 1) if name else "there is no name"
            yield Finding(f"{path}.name", str(error), within, plain)
        edits = device.get("containerEdits", {})
        if not any(value or "" in KINDS[kind].optional for kind, value in edits.items()):
            plain = f"device {quote(name)} has no edits; a device has at least one"
            yield Finding(f"{path}.containerEdits", "invalid device, empty device edits", within, plain)
        within += f"invalid device {quote(name)}: "
        yield from validate_edits(edits, f"{path}.containerEdits", within)
        if name in seen:
            yield Finding(f"{path}.name", f"invalid spec, multiple device {quote(name)}")
        seen.add(name)
    if not devices:
        plain = "there are no devices; a spec has at least one"
        yield Finding(".devices", "invalid spec, no devices", plain=plain)


def validate_edits(edits: dict[str, Any] | None, path: str = "", within: str = "") -> list[Finding]:
    """Return all findings of one container edits object."""
    return [
        Finding(one.path, one.message, within + one.within, one.plain)
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
        Finding(
            f"{path}[{index}]",
            f"invalid environment variable {quote(variable)}",
            within,
            f"{quote(variable)} is no variable; one is written NAME=value",
        )
        for index, variable in enumerate(env)
        if variable.find("=") <= 0
    ]


def _validate_node(node: dict[str, Any], path: str) -> Iterator[Finding]:
    name = node.get("path", "")
    if not name:
        yield Finding(f"{path}.path", "invalid (empty) device path", plain="there is no path")
        return
    type_ = node.get("type", "")
    if type_ not in NODE_TYPES:
        message = f"device {quote(name)}: invalid type {quote(type_)}"
        yield Finding(f"{path}.type", message, plain=f"{message}; known are {', '.join(NODE_TYPES[1:])}")
    permissions = node.get("permissions", "")
    if permissions != "none" and permissions.strip("rwm"):
        message = f"device {quote(name)}: invalid permissions {quote(permissions)}"
        plain = f"{message}; they are some of r (read), w (write) and m (mknod), such as rw, or none"
        yield Finding(f"{path}.permissions", message, plain=plain)


def _validate_hook(hook: dict[str, Any], path: str) -> list[Finding]:
    name = hook.get("hookName", "")
    if name not in HOOK_NAMES:
        message = f"invalid hook name {quote(name)}"
        plain = f"{message if name else 'there is no hookName'}; {instead(name, HOOK_NAMES)}"
        return [Finding(f"{path}.hookName", message, plain=plain)]
    if not hook.get("path"):
        message = f"invalid hook {quote(name)} with empty path"
        return [Finding(f"{path}.path", message, plain=f"{name} hook: there is no path")]
    return _validate_env(hook.get("env", []), f"{path}.env", f"invalid hook {quote(name)}: ")


def _validate_mount(mount: dict[str, Any], path: str) -> list[Finding]:
    return [
        Finding(f"{path}.{whose}Path", f"invalid mount, empty {whose} path", plain=f"there is no {whose}Path")
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
        yield Finding(
            f"{path}.closID", "invalid ClosID", plain=f"invalid closID {quote(clos[:80])}; it is a dir's name"
        )


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
