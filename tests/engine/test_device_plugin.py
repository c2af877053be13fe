# SPDX-License-Identifier: Apache-2.0
"""packaging/kubernetes/device-plugin with containerd: from a spec to a pod's container with the device.

tests/plugin has what the plugin does; here its answers are given to a real engine.
"""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from tests.plugin.conftest import SOURCE, made, modules
from tests.plugin.kubelet import Kubelet

from . import world
from .cri import Pod, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .box import Box
    from .containerd import Containerd
    from .crio import Crio

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


CONF = "/etc/cdi-hook/cdi-hook.conf"
RULE = 'ALLOW_ml="vendor.com/device=* namespace=ml-*"'
SEEN = "".join(f"stdout {line}\n" for line in world.SEEN.splitlines())


@pytest.fixture(params=["containerd", "containerd with CDI of its own", "CRI-O"])
def engine(
    request: pytest.FixtureRequest, containerds: Callable[..., Containerd], crios: Callable[[], Crio]
) -> Containerd | Crio:
    """Each engine that asks its own CDI or doesn't."""
    if request.param == "CRI-O":
        return crios()
    return containerds(enable_cdi=request.param != "containerd")


@contextlib.contextmanager
def allocated(box: Box, modules_dir: Path, modules: tuple[Any, Any], name: str) -> Iterator[dict[str, str]]:
    """Run the plugin, and give the annotations with which the kubelet makes a container that has a device."""
    install(box, modules_dir)
    box.do("mkdir", "-p", "/var/lib/kubelet/device-plugins")
    kubelet = Kubelet(Path(f"/proc/{box.pid}/root/var/lib/kubelet/device-plugins"), *modules)
    box.daemon("python3", "-u", f"{HOME}/plugin.py", "/", f"{HOME}/devices.yaml", ready=["true"])
    kubelet.has(KIND, forbidden="Healthy", fuse="Healthy", soft="Healthy")
    yield dict(kubelet.allocate(KIND, name).annotations)
    box.do("pkill", "-f", f"{HOME}/plugin.py")
    kubelet.has(KIND)
    kubelet.stop()


def errors(box: Box, name: str) -> list[str]:
    """Return what doctor finds wrong with a pod."""
    found = json.loads(box.call("cdi-hook", "doctor", "--json", name).stdout)["items"]
    return [one["message"] for one in found if one["level"] in ("error", "warning")]


def test_a_rule_holds_with_and_without_the_class(
    engine: Containerd | Crio,
    made: Path,  # the fixtures are imported
    modules: tuple[Any, Any],
) -> None:
    """What the plugin was asked for, a pod with the class has if a rule allows it; without the class it has nothing."""
    box = engine.box
    before = box.read(CONF)
    with allocated(box, made, modules, "fuse") as annotations:
        assert annotations == {"cdi-hook.local/vendor.com_device": world.FUSE}
        box.write(CONF, f"{RULE}\n")
        with Pod(engine, namespace="ml-a") as pod:
            assert pod.run(world.LOOK, annotations)[1] == SEEN
        with Pod(engine, namespace="tenant") as pod:
            container = pod.create("true", annotations)
            with pytest.raises(
                Refusal, match="is not allowed on this host: it is allowed only as in ALLOW_ml="
            ):
                pod.start(container)
        with Pod(engine, "runc", namespace="tenant") as pod:
            container, log = pod.run("test -e /dev/fuse; echo $?", annotations)
            assert log == "stdout 1\n"
            *_, wrong = errors(box, f"tenant/{pod.name}")
            assert wrong.endswith("was created with the runtime runc, which isn't cdi-runtime")
        box.write(CONF, before)


def test_an_engines_own_cdi_asks_no_rule(containerds: Callable[..., Containerd]) -> None:
    """What another plugin asks of an engine's own CDI, a pod without the class has, and doctor says which rules don't count."""
    box = (engine := containerds(enable_cdi=True)).box
    before = box.read(CONF)
    box.write(CONF, f"{RULE}\n")
    with Pod(engine, "runc", namespace="tenant") as pod:
        container, log = pod.run(world.LOOK, {world.KEY: world.FUSE})
        assert log == SEEN
        assert errors(box, f"tenant/{pod.name}") == [
            f"containerd's container {container[:12]} has {world.FUSE} by the container's annotation {world.KEY} and "
            "containerd's own CDI; without the runtime class no rule of cdi-hook.conf judges that"
        ]
    box.write(CONF, before)
