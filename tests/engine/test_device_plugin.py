# SPDX-License-Identifier: Apache-2.0
"""packaging/kubernetes/device-plugin, with the kubelet's side of its API: from a spec to a pod's container with the device."""

from __future__ import annotations

import io
import sys
import tarfile
from concurrent import futures
from pathlib import Path
from queue import Queue
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from grpc_tools import protoc

from . import world
from .box import ROOT
from .cri import Pod

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from .box import Box
    from .containerd import Containerd

pytestmark = pytest.mark.xdist_group("containerd")
SOURCE = ROOT / "packaging/kubernetes/device-plugin"
SOCKETS = "/var/lib/kubelet/device-plugins"
HOME = "/run/board/plugin"
KIND = "vendor.com/device"
TIMEOUT_S = 30
MORE = """\
cdiVersion: 0.6.0
kind: vendor.com/device
devices:
- {name: one, containerEdits: {env: [NUMBER=1]}}
- {name: one-by-another-name, containerEdits: {env: [NUMBER=1]}}
- {name: all, containerEdits: {env: [NUMBER=1]}}
"""


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> Generator[tuple[Path, Any, Any]]:
    """The modules made from the plugin's proto file, and their dir."""
    made = tmp_path_factory.mktemp("plugin")
    arguments = ["protoc", f"-I{SOURCE}", f"--python_out={made}", f"--grpc_python_out={made}"]
    assert protoc.main([*arguments, str(SOURCE / "deviceplugin.proto")]) == 0
    sys.path.insert(0, str(made))
    import deviceplugin_pb2
    import deviceplugin_pb2_grpc

    yield made, deviceplugin_pb2, deviceplugin_pb2_grpc
    sys.path.remove(str(made))


def install(box: Box, made: Path) -> None:
    """Put the plugin and what it needs into the box, for the box's own Python."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        for file in (*made.iterdir(), SOURCE / "plugin.py"):
            if file.is_file():
                archive.add(file, file.name)
        for package in ("grpc", "google", "typing_extensions.py"):
            archive.add(Path(grpc.__file__).parents[1] / package, package)
    box.do("sh", "-c", f"mkdir -p {HOME} && tar -xC {HOME}", stdin=data.getvalue())


def kubelet(box: Box, api: Any, services: Any, requests: Queue[Any]) -> grpc.Server:
    """Start the kubelet's side: it takes registrations."""

    class Registration(services.RegistrationServicer):  # type: ignore[misc] # generated code has no types
        def Register(self, request: Any, _context: object) -> Any:  # noqa: N802 # the API's name
            requests.put(request)
            return api.Empty()

    server = grpc.server(futures.ThreadPoolExecutor())
    services.add_RegistrationServicer_to_server(Registration(), server)
    box.do("rm", "-f", f"{SOCKETS}/kubelet.sock")
    server.add_insecure_port(f"unix:///proc/{box.pid}/root{SOCKETS}/kubelet.sock")
    server.start()
    return server


def test_device_plugin(containerds: Callable[..., Containerd], messages: tuple[Path, Any, Any]) -> None:
    """The plugin registers, lists the kind's devices as specs change, and a pod's container gets what is allocated."""
    made, api, services = messages
    engine = containerds()
    box = engine.box
    install(box, made)
    box.do("mkdir", "-p", SOCKETS)
    requests: Queue[Any] = Queue()
    server = kubelet(box, api, services, requests)
    box.daemon("python3", f"{HOME}/plugin.py", KIND, ready=["true"])
    request = requests.get(timeout=TIMEOUT_S)
    assert (request.version, request.resource_name) == ("v1beta1", KIND)
    with grpc.insecure_channel(f"unix:///proc/{box.pid}/root{SOCKETS}/{request.endpoint}") as channel:
        plugin = services.DevicePluginStub(channel)
        assert plugin.GetDevicePluginOptions(api.Empty()) == api.DevicePluginOptions()
        watch = plugin.ListAndWatch(api.Empty(), timeout=TIMEOUT_S)
        seen = [[(device.ID, device.health) for device in next(watch).devices]]
        box.write("/var/run/cdi/more.yaml", MORE)
        seen.append([(device.ID, device.health) for device in next(watch).devices])
        box.do("rm", "/var/run/cdi/more.yaml")
        seen.append([(device.ID, device.health) for device in next(watch).devices])
        few = [("forbidden", "Healthy"), ("fuse", "Healthy")]  # soft has the same edits as forbidden
        assert seen == [few, [*few, ("one", "Healthy")], few]
        watch.cancel()
        wanted = api.ContainerAllocateRequest(devices_ids=["fuse"])
        (answer,) = plugin.Allocate(api.AllocateRequest(container_requests=[wanted])).container_responses
    assert answer.annotations == {"cdi.k8s.io/plugin_vendor.com_device": world.FUSE}
    with Pod(engine) as pod:
        _, log = pod.run(world.LOOK, dict(answer.annotations))
        assert log == "".join(f"stdout {line}\n" for line in world.SEEN.splitlines())
    server.stop(None).wait()
    server = kubelet(
        box, api, services, requests
    )  # it starts again: the plugin ends, for its pod to start it again
    box.wait(lambda: "plugin.py" not in box.do("sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"))
    server.stop(None).wait()
