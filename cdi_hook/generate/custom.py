# SPDX-License-Identifier: Apache-2.0
"""Devices that somebody names on the command line -> the data of a CDI spec."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING, Any

from cdi_hook.base.quoting import quote
from cdi_hook.edits.kinds import HOOK_ENV
from cdi_hook.errors import CDIError, InvalidName
from cdi_hook.generate import naming, node_edits
from cdi_hook.generate.device_class import ALL
from cdi_hook.generate.spec_data import checked
from cdi_hook.names import validate_device_name
from cdi_hook.specs import validation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdi_hook.generate.root import Root

_BINDS = frozenset(("bind", "rbind"))


def spec(
    root: Root,
    kind: str,
    devices: Sequence[str],
    mounts: Sequence[str] = (),
    env: Sequence[str] = (),
    hooks: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the spec for devices; the other edits are for all of them.

    A device is NAME=PATH[:CONTAINERPATH][:PERMISSIONS], a mount HOST:CONTAINER[:OPTION,...], an
    environment variable NAME=VALUE, and a hook NAME:PROGRAM with arguments, quoted as in a shell.
    Raises CDIError.
    """
    for problem in validation.validate_kind(kind):
        raise CDIError(f"--kind: {problem.message}", problem.fix)
    by_name: dict[str, list[dict[str, Any]]] = {}
    for text in devices:
        name, edits = _device(root, text)
        by_name.setdefault(name, []).append(edits)
    if ALL not in by_name:
        by_name[ALL] = [edits for several in by_name.values() for edits in several]
    common = {
        "env": list(env),
        "mounts": [_mount(root, text) for text in mounts],
        "hooks": [_hook(text) for text in hooks],
    }
    return checked(
        {
            "kind": kind,
            "devices": [
                {"name": name, "containerEdits": node_edits.together(several)}
                for name, several in by_name.items()
            ],
            "containerEdits": {field: items for field, items in common.items() if items},
        }
    )


def _device(root: Root, text: str) -> tuple[str, dict[str, Any]]:
    """Return a device's name and edits."""
    name, equals, path = text.partition("=")
    if not equals and name.startswith("/"):
        written = f"{os.path.basename(name.partition(':')[0])}={text}"
        raise CDIError(f"--device {quote(text)}: there is no name; write --device {written}")
    before, colon, permissions = path.rpartition(":")
    if colon and permissions and set(permissions) <= set("rwm"):  # a by-path link has colons too
        path = before
    else:
        permissions = ""
    path, colon, inside = path.partition(":/")
    try:
        validate_device_name(name)
    except InvalidName as error:
        raise CDIError(f"--device {quote(text)}: {error}") from error
    if naming.valid(name) != name:
        raise CDIError(f"--device {quote(text)}: {name} asks for any device that is free (EXCLUSIVE)")
    if not equals or not path.startswith("/"):
        raise CDIError(f"--device {quote(text)}: not of the form NAME=PATH[:CONTAINERPATH][:PERMISSIONS]")
    if not node_edits.is_node(root, path):
        kind = f"{quote(path)} is no device node" if root.exists(path) else f"there is no {quote(path)}"
        before = path.rpartition(":")[0]
        if before and node_edits.is_node(root, before):
            kind = f"after {quote(before + ':')} comes a path that begins with /, or some of rwm"
        raise CDIError(f"--device {quote(text)}: {kind}")
    edits = node_edits.edits(root, [path])
    node = edits["deviceNodes"][0]
    if colon:
        node.setdefault("hostPath", path)
        node["path"] = f"/{inside}"
    if permissions:
        node["permissions"] = permissions
    return name, edits


def _mount(root: Root, text: str) -> dict[str, Any]:
    """Return a bind mount."""
    source, _, rest = text.partition(":")
    target, _, written = rest.partition(":")
    if not source.startswith("/") or not target.startswith("/"):
        raise CDIError(f"--mount {quote(text)}: not of the form HOST:CONTAINER or HOST:CONTAINER:OPTION,...")
    if not root.exists(source):
        raise CDIError(f"--mount {quote(text)}: there is no {quote(source)}")
    options = written.split(",") if written else []
    if not _BINDS.intersection(options):
        options.append("rbind" if os.path.isdir(root.on_host(root.real(source))) else "bind")
    return {"hostPath": root.on_host(source), "containerPath": target, "options": options}


def _hook(text: str) -> dict[str, Any]:
    """Return a hook, with variables of its own; its first argument is the program's name."""
    name, colon, command = text.partition(":")
    try:
        path, *arguments = shlex.split(command)
    except ValueError:
        path, arguments = "", []
    if not colon or not path.startswith("/"):
        raise CDIError(f"--hook {quote(text)}: not of the form NAME:PROGRAM or 'NAME:PROGRAM ARGUMENT ...'")
    if not os.path.exists(path):
        raise CDIError(f"--hook {quote(text)}: there is no {quote(path)}")
    hook: dict[str, Any] = {"hookName": name, "path": path}
    if arguments:
        hook["args"] = [os.path.basename(path), *arguments]
    hook["env"] = list(HOOK_ENV)
    return hook
