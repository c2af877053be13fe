# SPDX-License-Identifier: Apache-2.0
"""cdi_hook.runtime.argv: the command lines that engines write."""

from __future__ import annotations

import pytest

from .reading import meaning

CONTAINERD = "/run/containerd/io.containerd.runtime.v2.task/default/c1"
MOBY = "/run/containerd/io.containerd.runtime.v2.task/moby/9f3a"
CRI = "/run/containerd/io.containerd.runtime.v2.task/k8s.io/77aa"
PODMAN = "/var/lib/containers/storage/overlay-containers/5bd1/userdata"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(
            f"--root /run/containerd/runc/default --log {CONTAINERD}/log.json"
            f" --log-format json create --bundle {CONTAINERD}"
            f" --pid-file {CONTAINERD}/init.pid c1",
            {
                "command": "create",
                "root": "/run/containerd/runc/default",
                "bundle": CONTAINERD,
                "container_id": "c1",
                "log": f"{CONTAINERD}/log.json",
                "log_format": "json",
            },
            id="containerd",
        ),
        pytest.param(
            f"--root /var/run/docker/runtime-runc/moby --log {MOBY}/log.json"
            f" --log-format json --systemd-cgroup create --bundle {MOBY}"
            f" --pid-file {MOBY}/init.pid --console-socket /tmp/pty1/pty.sock 9f3a",
            {
                "command": "create",
                "root": "/var/run/docker/runtime-runc/moby",
                "bundle": MOBY,
                "container_id": "9f3a",
                "log": f"{MOBY}/log.json",
                "log_format": "json",
            },
            id="docker",
        ),
        pytest.param(
            f"--root /run/containerd/runc/k8s.io --log {CRI}/log.json --log-format"
            f" json --systemd-cgroup create --bundle {CRI} --pid-file {CRI}/init.pid"
            " --no-pivot --no-new-keyring 77aa",
            {
                "command": "create",
                "root": "/run/containerd/runc/k8s.io",
                "bundle": CRI,
                "container_id": "77aa",
                "log": f"{CRI}/log.json",
                "log_format": "json",
            },
            id="CRI",
        ),
        pytest.param(
            f"create --bundle {PODMAN} --pid-file {PODMAN}/pidfile"
            " --console-socket /tmp/conmon-term.X --preserve-fds 1 5bd1",
            {"command": "create", "bundle": PODMAN, "container_id": "5bd1"},
            id="conmon",
        ),
        pytest.param(
            f"--systemd-cgroup --root=/run/crun --log-level debug restore --bundle"
            f" {PODMAN} --pid-file {PODMAN}/pidfile --image-path {PODMAN}/checkpoint"
            " --work-path /w --tcp-established --detach --lsm-profile selinux:x 5bd1",
            {"command": "restore", "root": "/run/crun", "bundle": PODMAN, "container_id": "5bd1"},
            id="conmon-restore",
        ),
        pytest.param(
            f"--root /r --log {CRI}/log.json --log-format json restore --image-path"
            f" /i --work-path /w --empty-ns network --manage-cgroups-mode soft"
            f" --bundle {CRI} --pid-file {CRI}/init.pid --detach 77aa",
            {
                "command": "restore",
                "root": "/r",
                "bundle": CRI,
                "container_id": "77aa",
                "log": f"{CRI}/log.json",
                "log_format": "json",
            },
            id="containerd-restore",
        ),
        pytest.param(
            "--root=/run/containerd/runsc/k8s.io --log=/b/log.json --log-format=json"
            " --network=none --platform systrap --rootless create --bundle /b"
            " --pid-file /b/init.pid --user-log /u c1",
            {
                "command": "create",
                "root": "/run/containerd/runsc/k8s.io",
                "bundle": "/b",
                "container_id": "c1",
                "log": "/b/log.json",
                "log_format": "json",
            },
            id="containerd-runsc",
        ),
        pytest.param(
            "--root /run/runc --log /tmp/l run --no-new-keyring --bundle /tmp/b --pid-file /tmp/p buildkit1",
            {
                "command": "run",
                "root": "/run/runc",
                "bundle": "/tmp/b",
                "container_id": "buildkit1",
                "log": "/tmp/l",
            },
            id="buildkit",
        ),
        pytest.param(
            "--log /l --log-format json delete --force create",
            {"command": "delete", "log": "/l", "log_format": "json"},
            id="delete",
        ),
        pytest.param(
            "--root /r exec --process /p --detach --pid-file /f c1",
            {"command": "exec", "root": "/r"},
            id="exec",
        ),
        pytest.param(
            "update --resources=- --bundle /x create",
            {"command": "update"},
            id="update",
        ),
        pytest.param("features", {"command": "features"}, id="docker-start"),
        pytest.param("--version", {}, id="docker-version"),
    ],
)
def test_engines(arguments: str, expected: dict[str, str]) -> None:
    """The command lines that engines write are read as they mean them."""
    assert expected == meaning(arguments.split())
