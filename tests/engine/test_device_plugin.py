# SPDX-License-Identifier: Apache-2.0
"""packaging/kubernetes/device-plugin with containerd: from a spec to a pod's container with the device.

tests/plugin has what the plugin does; here its answers are given to a real engine.
"""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from tests.plugin.conftest import SOURCE, made, modules
from tests.plugin.kubelet import Kubelet

from . import world
from .cri import Pod

if TYPE_CHECKING:
    from collections.abc import Callable

    from .box import Box
    from .containerd import Containerd

__all__ = ["made", "modules"]  # fixtures

pytestmark = pytest.mark.xdist_group("containerd")
HOME = "/run/board/plugin"
KIND = "vendor.com/device"


def install(box: Box, modules_dir: Path) -> None:
    """Put the plugin and what it needs into the box, for the box's own Python."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for file in (*modules_dir.glob("*.py"), *SOURCE.glob("*.py")):
            archive.add(file, file.name)
        for package in ("grpc", "google", "typing_extensions.py"):
            archive.add(Path(grpc.__file__).parents[1] / package, package)
    box.do("sh", "-c", f"mkdir -p {HOME} && tar -xC {HOME}", stdin=data.getvalue())
    box.write(f"{HOME}/devices.yaml", "devices: [{pattern: '*/*=*'}]\n")


def test_device_plugin(
    containerds: Callable[..., Containerd],
    made: Path,  # the fixtures are imported
    modules: tuple[Any, Any],
) -> None:
    """The plugin registers, and a pod's container has what it was asked to allocate."""
    engine = containerds()
    box = engine.box
    install(box, made)
    box.do("mkdir", "-p", "/var/lib/kubelet/device-plugins")
    kubelet = Kubelet(Path(f"/proc/{box.pid}/root/var/lib/kubelet/device-plugins"), *modules)
    box.daemon("python3", "-u", f"{HOME}/plugin.py", "/", f"{HOME}/devices.yaml", ready=["true"])
    kubelet.has(KIND, forbidden="Healthy", fuse="Healthy", soft="Healthy")
    answer = kubelet.allocate(KIND, "fuse")
    assert dict(answer.annotations) == {"cdi.k8s.io/plugin_vendor.com_device": world.FUSE}
    with Pod(engine) as pod:
        _, log = pod.run(world.LOOK, dict(answer.annotations))
        assert log == "".join(f"stdout {line}\n" for line in world.SEEN.splitlines())
    box.do("pkill", "-f", f"{HOME}/plugin.py")
    kubelet.has(KIND)
    kubelet.stop()
