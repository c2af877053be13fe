# SPDX-License-Identifier: Apache-2.0
"""A Kubernetes device plugin: a node offers the devices of one CDI kind as a resource of that name.

A pod asks by ``resources: {limits: {vendor.com/gpu: 1}}``. The plugin then annotates the container; the
handler must pass this annotation on (container_annotations in ../handler). Make the two modules it needs with
``python3 -m grpc_tools.protoc -I. --python_out=. --grpc_python_out=. deviceplugin.proto``, and run it on the
node, where grpcio is installed: ``python3 plugin.py vendor.com/gpu``. It ends when the kubelet starts again,
which forgets its plugins: the plugin's pod or unit starts it again.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent import futures

import deviceplugin_pb2 as api
import deviceplugin_pb2_grpc as services
import grpc

import cdi_hook

DIR = "/var/lib/kubelet/device-plugins"


class Plugin(services.DevicePluginServicer):
    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.cache = cdi_hook.Cache()

    def names(self) -> list[str]:
        """Return one name for each device; those with the same edits are one, and "all" is none."""
        known = self.cache.by_name()
        ours = [name for name in sorted(known, reverse=True) if name.startswith(f"{self.kind}=")]
        devices = [name for name in ours if name != f"{self.kind}=all"]  # first: it may have a device's edits
        found = {json.dumps(known[name].container_edits): name.partition("=")[2] for name in devices}
        return sorted(found.values())

    def GetDevicePluginOptions(self, request: api.Empty, context: object) -> api.DevicePluginOptions:
        return api.DevicePluginOptions()

    def ListAndWatch(
        self, request: api.Empty, context: grpc.ServicerContext
    ) -> Iterator[api.ListAndWatchResponse]:
        known = None
        while context.is_active():
            names = self.names()
            if names != known:  # a spec came, changed or went
                known = names
                devices = [api.Device(ID=name, health="Healthy") for name in names]
                yield api.ListAndWatchResponse(devices=devices)
            time.sleep(1)

    def Allocate(self, request: api.AllocateRequest, context: object) -> api.AllocateResponse:
        response = api.AllocateResponse()
        for one in request.container_requests:
            names = [f"{self.kind}={device}" for device in one.devices_ids]
            annotations = cdi_hook.update_annotations({}, "plugin", self.kind, names)
            response.container_responses.add(annotations=annotations)
        return response


def serve(kind: str) -> None:
    name = f"{kind.replace('/', '-')}.sock"
    kubelet = f"{DIR}/kubelet.sock"
    started = os.stat(kubelet).st_ino
    server = grpc.server(futures.ThreadPoolExecutor())
    services.add_DevicePluginServicer_to_server(Plugin(kind), server)
    server.add_insecure_port(f"unix://{DIR}/{name}")
    server.start()
    with grpc.insecure_channel(f"unix://{kubelet}") as channel:
        request = api.RegisterRequest(version="v1beta1", endpoint=name, resource_name=kind)
        services.RegistrationStub(channel).Register(request)
    while os.path.exists(kubelet) and os.stat(kubelet).st_ino == started:
        time.sleep(1)
    server.stop(None)


if __name__ == "__main__":
    serve(sys.argv[1])
