# SPDX-License-Identifier: Apache-2.0
"""The rules for a spec's data, which return findings.

Findings are in the order of the reference implementation. shape.py
has checked the data's types before.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any, Callable

from cdi_hook.base.quoting import quote
from cdi_hook.base.words import instead
from cdi_hook.edits.kinds import EXPOSED_HOOK, HOOK_ENV, HOOK_NAMES, KINDS, is_exposed
from cdi_hook.errors import ERROR, WARNING, Finding, InvalidName
from cdi_hook.names import parse_qualifier, validate_device_name, validate_kind_part
from cdi_hook.specs.versions import NEWER, USABLE, VERSIONS, requirement

NODE_TYPES = ("", "b", "c", "u", "p")
_ODD = 0o7111  # bits of a mode that no device node has use for: to execute, and the special ones

# The edits of one kind, and their place in the spec -> findings.
Checker = Callable[[Any, str], Iterable[Finding]]


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
            WARNING,
            f"{version} is higher than this spec needs; engines that know only {minimum} could read it too",
            place=".cdiVersion",
        )
    for text, part in zip(parse_qualifier(data["kind"]), ("vendor", "class")):
        if len(text) == 1:
            yield Finding(
                WARNING,
                f"the {part} {quote(text)} has one letter, which crashes docker, podman and other engines "
                "(CDI's own library up to 1.1.0)",
                "take a longer name",
                ".kind",
            )
    for node, place in _edits_of(data, "deviceNodes"):
        mode = node.get("fileMode")
        if mode is not None and _is_decimal(mode):
            message = f"fileMode {mode} is decimal, and as a mode it is 0{mode:o}"
            yield Finding(
                WARNING, message, f"write 0{mode} (in JSON {int(str(mode), 8)})", f"{place}.fileMode"
            )
    for mount, place in _edits_of(data, "mounts"):
        source = mount["hostPath"]
        if source.startswith("~") or "$" in source:
            message = (
                f"nothing replaces ~ or a variable in {quote(source)}, so it is looked for by that very name"
            )
            yield Finding(WARNING, message, "write the whole path", f"{place}.hostPath")
    yield from exposed_hooks(data)


def _is_decimal(mode: int) -> bool:
    """Say whether a mode is odd, and its decimal digits, read as octal ones, are a common one."""
    digits = str(mode)
    meant = int(digits, 8) if len(digits) == 3 and not digits.strip("01234567") else _ODD
    return bool(mode & _ODD) and (not meant & _ODD or meant == 0o777)


def _edits_of(data: dict[str, Any], kind: str) -> Iterator[tuple[Any, str]]:
    """Yield a valid spec's edits of a kind, each with its place."""
    parts = [("", data), *((f".devices[{index}]", one) for index, one in enumerate(data["devices"]))]
    for path, part in parts:
        for index, edit in enumerate((part.get("containerEdits") or {}).get(kind) or ()):
            yield edit, f"{path}.containerEdits.{kind}[{index}]"


def exposed_hooks(data: dict[str, Any]) -> Iterator[Finding]:
    """Yield a finding for each hook of a valid spec that an image's variables may reach."""
    for hook, place in _edits_of(data, "hooks"):
        if is_exposed(hook):
            yield Finding(
                WARNING,
                f"the {EXPOSED_HOOK} hook {quote(hook['path'])} has no env. If an engine's own CDI "
                "injects it, runc before 1.3 runs it as root on the host with the container's variables, "
                "so that an image can run any program there (CVE-2025-23266). cdi-runtime gives it one",
                f'write env: ["{HOOK_ENV[0]}"], or generate the spec again',
                place,
            )


def _validate_version(data: dict[str, Any]) -> Iterator[Finding]:
    declared = data.get("cdiVersion", "")
    version = declared.removeprefix("v")
    minimum, what = requirement(data)
    need = f"{what or 'this spec'} needs {minimum}"
    if version not in VERSIONS:
        problem = f": {NEWER}" if _is_newer(version) else f", not one of {', '.join(USABLE)}"
        message = f"invalid version {quote(declared)}{problem}"
        yield Finding(ERROR, message if declared else "there is no cdiVersion", need, ".cdiVersion")
    elif VERSIONS.index(minimum) < VERSIONS.index(version):
        yield Finding(ERROR, f"{declared} is too low: {need}", place=".cdiVersion")


def _is_newer(version: str) -> bool:
    if not re.fullmatch(r"\d{1,9}\.\d{1,9}\.\d{1,9}", version):
        return False
    return [*map(int, version.split("."))] > [*map(int, VERSIONS[0].split("."))]


def validate_kind(kind: str) -> Iterator[Finding]:
    """Yield what is wrong with the kind of a spec."""
    for text, part in zip(parse_qualifier(kind), ("vendor", "class")):
        try:
            validate_kind_part(text, part)
        except InvalidName as error:
            if text:
                yield Finding(ERROR, error.cause, place=".kind")
                continue
            message = f"{quote(kind)} is not vendor/class" if kind else "there is no kind"
            yield Finding(ERROR, message, "write one such as vendor.com/gpu", ".kind")
            return


def _validate_devices(data: dict[str, Any]) -> Iterator[Finding]:
    devices = data.get("devices", [])
    seen = set()
    for index, device in enumerate(devices):
        path = f".devices[{index}]"
        name = device.get("name", "")
        try:
            validate_device_name(name)
        except InvalidName as error:
            yield Finding(ERROR, error.cause if name else "there is no name", place=f"{path}.name")
        edits = device.get("containerEdits", {})
        if not any(value or "" in KINDS[kind].optional for kind, value in edits.items()):
            message = f"device {quote(name)} has no edits; a device has at least one"
            yield Finding(ERROR, message, place=f"{path}.containerEdits")
        yield from validate_edits(edits, f"{path}.containerEdits")
        if name in seen:
            yield Finding(ERROR, f"another device has the name {quote(name)}", place=f"{path}.name")
        seen.add(name)
    if not devices:
        yield Finding(ERROR, "there are no devices; a spec has at least one", place=".devices")


def validate_edits(edits: dict[str, Any] | None, path: str = "") -> list[Finding]:
    """Return all findings of one container edits object."""
    return [
        one
        for name, rule in RULES.items()
        if edits and edits.get(name) is not None
        for one in rule(edits[name], f"{path}.{name}")
    ]


def _each(rule: Checker) -> Checker:
    return lambda items, path: [
        finding for index, item in enumerate(items) for finding in rule(item, f"{path}[{index}]")
    ]


def _validate_env(env: list[str], path: str) -> list[Finding]:
    return [
        Finding(ERROR, f"{quote(variable)} is no variable", "one is written NAME=value", f"{path}[{index}]")
        for index, variable in enumerate(env)
        if variable.find("=") <= 0
    ]


def _validate_node(node: dict[str, Any], path: str) -> Iterator[Finding]:
    name = node.get("path", "")
    if not name:
        yield Finding(ERROR, "there is no path", place=f"{path}.path")
        return
    type_ = node.get("type", "")
    if type_ not in NODE_TYPES:
        message = f"device {quote(name)}: invalid type {quote(type_)}"
        yield Finding(ERROR, message, f"it is one of {', '.join(NODE_TYPES[1:])}", f"{path}.type")
    permissions = node.get("permissions", "")
    if permissions != "none" and permissions.strip("rwm"):
        message = f"device {quote(name)}: invalid permissions {quote(permissions)}"
        fix = "they are some of r (read), w (write) and m (mknod), such as rw, or none"
        yield Finding(ERROR, message, fix, f"{path}.permissions")


def _validate_hook(hook: dict[str, Any], path: str) -> list[Finding]:
    name = hook.get("hookName", "")
    if name not in HOOK_NAMES:
        message = f"invalid hook name {quote(name)}" if name else "there is no hookName"
        return [Finding(ERROR, message, instead(name, HOOK_NAMES), f"{path}.hookName")]
    if not hook.get("path"):
        return [Finding(ERROR, f"{name} hook: there is no path", place=f"{path}.path")]
    return _validate_env(hook.get("env", []), f"{path}.env")


def _validate_mount(mount: dict[str, Any], path: str) -> list[Finding]:
    return [
        Finding(ERROR, f"there is no {whose}Path", place=f"{path}.{whose}Path")
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
            problem = "there is no hostInterfaceName"
        elif not name:
            field, problem = "name", "there is no name"
        elif host in hosts:
            problem = f"{quote(host)} has two names, {quote(hosts[host])} and {quote(name)}"
        elif name in names:
            field = "name"
            problem = f"two net devices have the name {quote(name)}, {quote(names[name])} and {quote(host)}"
        if problem:
            yield Finding(ERROR, problem, place=f"{path}[{index}].{field}")
        hosts.setdefault(host, name)
        names.setdefault(name, host)


def _validate_rdt(rdt: dict[str, Any], path: str) -> Iterator[Finding]:
    clos = rdt.get("closID", "")
    if clos != "/" and (len(clos.encode()) >= 4096 or clos in (".", "..") or "/" in clos or "\n" in clos):
        yield Finding(ERROR, f"invalid closID {quote(clos[:80])}", "it is a dir's name", f"{path}.closID")


# By kind of edit, in the order in which the reference implementation checks them. Of what isn't here, the
# schema says all.
RULES: dict[str, Checker] = {
    "env": _validate_env,
    "deviceNodes": _each(_validate_node),
    "hooks": _each(_validate_hook),
    "mounts": _each(_validate_mount),
    "intelRdt": _validate_rdt,
    "netDevices": _validate_net_devices,
}
