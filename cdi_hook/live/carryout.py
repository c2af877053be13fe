# SPDX-License-Identifier: Apache-2.0
"""Carry out an OCI specification's changes in the container that is being created: all of them or none."""

from __future__ import annotations

import os
import resource

from cdi_hook.base import json_text
from cdi_hook.container.namespaces import Child, Container
from cdi_hook.container.rootfs import Rootfs
from cdi_hook.errors import BundleError
from cdi_hook.live import nodes
from cdi_hook.live.mounts import Mount
from cdi_hook.live.steps import Steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    from cdi_hook.edits.target import Change


def carry_out(
    changes: Sequence[Change],
    oci: dict[str, Any],
    state: dict[str, Any],
    commit: Callable[[], object],
    warn: Callable[[str], None],
) -> None:
    """Carry out changes in the container of a state; raises CDIError.

    ``oci`` is the OCI specification after the changes; ``commit`` is called when
    all of them are carried out.
    """
    plan = Steps(changes, oci)
    container = Container(state["pid"], state["bundle"], _root_path(oci))
    mounts = [Mount(mount, hidden, container) for mount, hidden in plan.mounts]
    devices = [nodes.Node(device, host_path) for device, host_path in plan.nodes]
    root = Rootfs(container.rootfs)

    def enter_and_make() -> None:
        os.umask(0)
        most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # undoing a mount needs several descriptors
        for mount in mounts:
            mount.gather()
        nodes.gather(devices, container)  # last: it hides the bundle, where relative sources start
        container.join("user", "mnt")
        for mount in mounts:
            mount.attach(root)
        nodes.place(devices, container, root)

    if plan.rules:
        from cdi_hook.live import device_rules

        device_rules.allow(container.pid, plan.rules, warn)
    inside = Child(enter_and_make, root.undo)
    try:
        _run_hooks(plan.hooks, json_text.dumps(state).encode(), container)
        _move_net_devices(plan.net_devices, container, commit)
    except BaseException:
        inside.undo()
        raise
    inside.keep()


def _root_path(oci: dict[str, Any]) -> str:
    root = oci.get("root")
    path = root.get("path") if isinstance(root, dict) else None
    if not isinstance(path, str) or not path:
        raise BundleError("the OCI spec has no .root.path")
    return path


def _run_hooks(planned: list[tuple[str, dict[str, Any]]], state: bytes, container: Container) -> None:
    """Run hooks where the runtime would: createContainer hooks in the container's namespaces and rootfs."""
    if not planned:
        return
    from cdi_hook.live import hook_calls  # subprocess: 10 ms

    def enter_and_run() -> None:
        container.join("user", "mnt", "net", "ipc", "uts", "pid")
        os.fchdir(container.rootfs)
        hook_calls.run(inside, state)

    inside = [one for one in planned if one[0] == "createContainer"]
    hook_calls.run([one for one in planned if one not in inside], state)
    if inside:
        Child(enter_and_run).keep()


def _move_net_devices(
    names: list[tuple[str, str]], container: Container, commit: Callable[[], object]
) -> None:
    if not names:
        commit()
        return
    from cdi_hook.live import net  # socket, 4 ms

    devices = net.NetDevices(names, container.namespace("net"))
    devices.move()
    try:
        commit()
    except BaseException:
        devices.undo()
        raise
