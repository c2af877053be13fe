# SPDX-License-Identifier: Apache-2.0
"""The kubelet's side of the device plugin API, as its device manager does it (pkg/kubelet/cm/devicemanager)."""

from __future__ import annotations

import json
import os
import threading
import time
from concurrent import futures
from typing import TYPE_CHECKING, Any

import grpc

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TIMEOUT_S = 20


def wait(is_done: Callable[[], Any]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + TIMEOUT_S
    while not is_done():
        assert time.monotonic() < end, "it doesn't come"
        time.sleep(0.05)


class Endpoint:
    """A plugin that has registered: the stream of its devices is read until it ends."""

    def __init__(self, kubelet: Kubelet, request: Any) -> None:
        self.options = request.options
        self.devices: dict[str, Any] = {}
        self.lists = 0
        self.is_over = False
        self._channel = grpc.insecure_channel(f"unix://{kubelet.directory}/{request.endpoint}")
        self.stub = kubelet.services.DevicePluginStub(self._channel)
        assert self.stub.GetDevicePluginOptions(kubelet.api.Empty(), timeout=TIMEOUT_S) == request.options
        self._stream = self.stub.ListAndWatch(kubelet.api.Empty())
        self._kubelet = kubelet
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            for answer in self._stream:
                self.devices = {one.ID: one for one in answer.devices}
                self.lists += 1
                self._kubelet.checkpoint()
        except grpc.RpcError:
            pass
        self.is_over, self.devices = True, {}
        self._kubelet.checkpoint()

    def stop(self) -> None:
        """Stop listening, as the kubelet does when it stops, or when another plugin registers."""
        self._stream.cancel()
        self._channel.close()
        self._reader.join()


class Kubelet:
    """A kubelet that has started: like the real one it first removes all sockets in its dir of plugins."""

    def __init__(self, directory: Path, api: Any, services: Any) -> None:
        self.directory, self.api, self.services = directory, api, services
        self.endpoints: dict[str, Endpoint] = {}
        self.requests: list[Any] = []
        self._lock = threading.RLock()
        for path in directory.glob("*.sock"):
            path.unlink()

        class Registration(services.RegistrationServicer):  # type: ignore[misc] # generated code has no types
            def Register(_self, request: Any, context: Any) -> Any:  # noqa: N802, N805 # the API's name
                self.register(request, context)
                return api.Empty()

        self._server = grpc.server(futures.ThreadPoolExecutor())
        services.add_RegistrationServicer_to_server(Registration(), self._server)
        self._server.add_insecure_port(f"unix://{directory}/kubelet.sock")
        self._server.start()

    def register(self, request: Any, context: Any) -> None:
        """Take a registration: the newest for a resource counts, and the one before it is stopped."""
        if request.version != "v1beta1":
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "requested API version is not supported")
        with self._lock:
            before = self.endpoints.pop(request.resource_name, None)
        if before:
            before.stop()
        self.requests.append(request)
        endpoint = Endpoint(self, request)
        with self._lock:
            self.endpoints[request.resource_name] = endpoint
        self.checkpoint()

    def checkpoint(self) -> None:
        """Write which devices are registered and well, as the kubelet keeps them over its restarts."""
        with self._lock:
            found = {
                name: [key for key, one in endpoint.devices.items() if one.health == "Healthy"]
                for name, endpoint in self.endpoints.items()
            }
            data = {"Data": {"PodDeviceEntries": None, "RegisteredDevices": found}, "Checksum": 1}
            new = self.directory / ".kubelet_internal_checkpoint"
            new.write_text(json.dumps(data))
            os.replace(new, self.directory / "kubelet_internal_checkpoint")

    def healths(self, resource: str) -> dict[str, str]:
        """Return the health of each device of a resource."""
        endpoint = self.endpoints.get(resource)
        return {key: one.health for key, one in endpoint.devices.items()} if endpoint else {}

    def has(self, resource: str, **healths: str) -> None:
        """Wait until a resource has these devices, and no other."""
        wait(lambda: self.healths(resource) == healths)

    def allocate(self, resource: str, *ids: str) -> Any:
        """Allocate devices to one container; return the plugin's answer for it."""
        wanted = self.api.ContainerAllocateRequest(devices_ids=ids)
        request = self.api.AllocateRequest(container_requests=[wanted])
        answer = self.endpoints[resource].stub.Allocate(request, timeout=TIMEOUT_S)
        (container,) = answer.container_responses
        return container

    def prefer(self, resource: str, available: list[str], must: list[str], size: int) -> list[str]:
        """Return which of the available devices the plugin prefers."""
        wanted = self.api.ContainerPreferredAllocationRequest(
            available_deviceIDs=available, must_include_deviceIDs=must, allocation_size=size
        )
        request = self.api.PreferredAllocationRequest(container_requests=[wanted])
        answer = self.endpoints[resource].stub.GetPreferredAllocation(request, timeout=TIMEOUT_S)
        (container,) = answer.container_responses
        return list(container.deviceIDs)

    def stop(self) -> None:
        """End: the streams, and the server; its socket stays, as a killed kubelet's does."""
        self._server.stop(None).wait()
        for endpoint in self.endpoints.values():
            endpoint.stop()
