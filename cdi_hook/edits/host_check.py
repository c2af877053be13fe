# SPDX-License-Identifier: Apache-2.0
"""What keeps container edits from being carried out on this host: nodes, mount sources, programs.

It asks what an injection asks: edits.KINDS has both questions. Nothing is changed here.
"""

from __future__ import annotations

import grp
import os
from typing import TYPE_CHECKING, Any

from cdi_hook.base.quoting import quote
from cdi_hook.edits import kinds, proof, target
from cdi_hook.errors import WARNING, Finding, HostMismatch, InjectionError

if TYPE_CHECKING:
    from collections.abc import Iterator


def findings(part: target.Edits, path: str = "") -> Iterator[Finding]:
    """Yield what is missing for one containerEdits object; ``path`` is its place in the spec."""
    for name, found in kinds.each_kind(part):
        kind = kinds.KINDS[name]
        for index, edit in enumerate(found):
            reason = hindrance(name, edit)
            if reason:
                yield Finding(WARNING, reason, place=f"{path}.{name}{f'[{index}]' if kind.is_list else ''}")
    reason = proof.stale(part[kinds.PROOF]) if kinds.PROOF in part else ""
    if reason:
        yield Finding(WARNING, reason, place=path)


def hindrance(name: str, edit: Any) -> str:
    """Return why an edit of the kind ``name`` can't be carried out on this host, or ""."""
    kind = kinds.KINDS[name]
    try:
        kind.convert(edit, target.Target({}, keep_present=False, can_map_ids=None))
    except HostMismatch as error:
        return path_advice(error.node) or kinds.lack(error.node) or error.cause
    except InjectionError as error:
        return error.cause
    return kind.hindrance(edit) if kind.hindrance else ""


def path_advice(path: str) -> str:
    """Return what to write in place of a node's path on the host that is relative, or a link; else ""."""
    if path and not os.path.isabs(path):
        return f"{quote(path)} isn't an absolute path; write {quote(f'/{path}')}"
    if not os.path.islink(path):
        return ""
    target = os.path.realpath(path)
    if not os.path.exists(target):
        return f"{quote(path)} is a link to {quote(target)}, and the host has no such file"
    return f"{quote(path)} is a link, and a node's host path can't be one: write hostPath: {target}"


def group(gid: int) -> str:
    """Return a group's name, or its number if it has none."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def join(name: str) -> str:
    """Return the command by which a user comes into a group."""
    return f"sudo usermod -aG {name} $USER"
