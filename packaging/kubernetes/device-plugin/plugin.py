# SPDX-License-Identifier: Apache-2.0
"""A Kubernetes device plugin: a node offers its CDI devices, each kind as a resource of that name.

    python3 plugin.py ROOT CONFIGURATION

ROOT is where the node's root dir is: of it, /dev, /sys, /etc/cdi, /run/cdi and
/var/lib/kubelet/device-plugins are used. CONFIGURATION is devices.yaml. offer.py says what is
offered; this tells the kubelet, for as long as it runs, and answers /health and /metrics.

The two modules that it needs are made from deviceplugin.proto, as the Containerfile does.
"""

from __future__ import annotations

import contextlib
import glob
import hashlib
import http.server
import json
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections import Counter
from concurrent import futures
from typing import TYPE_CHECKING, Any

import deviceplugin_pb2 as api
import deviceplugin_pb2_grpc as services
import grpc
import offer

import cdi_hook

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

VERSION = "v1beta1"
DIR = "var/lib/kubelet/device-plugins"
PERIOD_S = 1.0  # how often all is looked at
PATIENCE_S = 5.0  # how long the kubelet may take to connect, and how long until a failure is tried again
BEAT_S = 60.0  # a loop that takes longer hangs
PORT = 8080
ANNOTATIONS = "cdi-hook.local/"  # only cdi-runtime reads these, and so its rules hold
_WORKERS = 8  # of each kind: streams that have ended need one for up to PERIOD_S
_LONGEST_KEY = 63  # characters of an annotation's name
_PREFIX = "cdi-"


def say(message: str) -> None:
    """Write a line to the log."""
    print(f"cdi-hook: {message}", flush=True)


class Metrics:
    """Numbers by name and labels, as Prometheus reads them (text format 0.0.4)."""

    HELP = {  # noqa: RUF012 # nobody alters it
        "cdi_device_plugin_devices": ("gauge", "Device ids offered to the kubelet, by resource and health."),
        "cdi_device_plugin_allocations_total": (
            "counter",
            "Containers that were given devices, by resource.",
        ),
        "cdi_device_plugin_refusals_total": ("counter", "Allocations that were refused, by resource."),
        "cdi_device_plugin_registrations_total": ("counter", "Registrations with the kubelet, by resource."),
    }

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()

    def add(self, name: str, **labels: str) -> None:
        """Count one more."""
        with self._lock:
            self._values[name, tuple(labels.items())] += 1

    def set(self, name: str, value: int, **labels: str) -> None:
        """Replace a value."""
        with self._lock:
            self._values[name, tuple(labels.items())] = value

    def text(self) -> str:
        """Return all of them."""
        with self._lock:
            values = sorted(self._values.items())
        lines = []
        for name, (kind, about) in self.HELP.items():
            lines += [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
            for (of, labels), value in values:
                if of == name:
                    lines.append(
                        f"{name}{{{','.join(f'{key}={json.dumps(one)}' for key, one in labels)}}} {value}"
                    )
        return "\n".join([*lines, ""])


class Resource(services.DevicePluginServicer):  # type: ignore[misc] # gRPC's code has no types
    """One resource: its devices, the socket that the kubelet asks it by, and whether the kubelet knows it."""

    def __init__(self, kind: str, directory: str, request: str, metrics: Metrics) -> None:
        self.kind = kind
        self._directory = directory
        self._request = request
        self._metrics = metrics
        self._changed = threading.Condition()
        self._devices: Sequence[offer.Device] = ()
        self._version = 0
        self._streams = 0
        # Each instance has a socket of its own: one that ends must not take away that of its successor.
        digest = hashlib.sha256(kind.encode()).hexdigest()[:12]
        self._socket = f"{directory}/{_PREFIX}{digest}-{secrets.token_hex(4)}.sock"
        self._server: grpc.Server | None = None
        self._registered_with: object = None
        self._next = 0.0  # when the registration may be tried, or looked at, again
        self._told = ""

    # What the kubelet calls (Kubernetes' device plugin API, v1beta1)

    def GetDevicePluginOptions(self, request: api.Empty, context: object) -> api.DevicePluginOptions:
        return _options()

    def ListAndWatch(
        self, request: api.Empty, context: grpc.ServicerContext
    ) -> Iterator[api.ListAndWatchResponse]:
        with self._changed:
            self._streams += 1
        seen = -1
        try:
            while context.is_active():
                with self._changed:
                    self._changed.wait_for(lambda: self._version != seen, timeout=PERIOD_S)  # noqa: B023
                    is_new, seen, devices = self._version != seen, self._version, self._devices
                if is_new:
                    yield api.ListAndWatchResponse(
                        devices=[one for device in devices for one in _listed(device)]
                    )
        finally:
            with self._changed:
                self._streams -= 1

    def GetPreferredAllocation(
        self, request: api.PreferredAllocationRequest, context: object
    ) -> api.PreferredAllocationResponse:
        response = api.PreferredAllocationResponse()
        for one in request.container_requests:
            ids = offer.prefer(
                self._devices, one.available_deviceIDs, one.must_include_deviceIDs, one.allocation_size
            )
            response.container_responses.add(deviceIDs=ids)
        return response

    def Allocate(self, request: api.AllocateRequest, context: grpc.ServicerContext) -> api.AllocateResponse:
        devices = {one: device for device in self._devices for one in device.ids}
        response = api.AllocateResponse()
        for one in request.container_requests:
            for wanted in one.devices_ids:
                if wanted not in devices or not devices[wanted].is_there:
                    self._refuse(wanted, context)
            names = list(dict.fromkeys(f"{self.kind}={devices[wanted].name}" for wanted in one.devices_ids))
            response.container_responses.add(**self._asking(names))
            self._metrics.add("cdi_device_plugin_allocations_total", resource=self.kind)
        return response

    def _refuse(self, wanted: str, context: grpc.ServicerContext) -> None:
        self._metrics.add("cdi_device_plugin_refusals_total", resource=self.kind)
        why = f"{self.kind}={wanted.partition('::')[0]} is no longer on this node"
        say(f"refused: {why}")
        context.abort(grpc.StatusCode.NOT_FOUND, why)  # it raises

    def _asking(self, names: list[str]) -> dict[str, Any]:
        """Return what asks cdi-runtime for devices, or an engine's own CDI by the kubelet's field."""
        if self._request == offer.FIELD:
            return {"cdi_devices": [api.CDIDevice(name=name) for name in names]}
        of = self.kind.replace("/", "_")
        if len(of) > _LONGEST_KEY:
            of = hashlib.sha256(of.encode()).hexdigest()[:12]
        return {"annotations": {f"{ANNOTATIONS}{of}": cdi_hook.annotation_value(names)}}

    # What the loop calls

    def update(self, devices: Sequence[offer.Device]) -> None:
        """Have these devices, and tell the kubelet of changes."""
        with self._changed:
            if devices == self._devices and self._version:
                return
            self._devices = devices
            self._version += 1
            self._changed.notify_all()
        well = [device.name for device in devices if device.is_there]
        ill = [device.name for device in devices if not device.is_there]
        gone = f"; not there: {', '.join(ill)}" if ill else ""
        say(f"{self.kind}: {', '.join(well) or 'no device'}{gone}")
        for health, names in (("Healthy", well), ("Unhealthy", ill)):
            number = sum(len(device.ids) for device in devices if device.name in names)
            self._metrics.set("cdi_device_plugin_devices", number, resource=self.kind, health=health)

    def keep_registered(self, now: float) -> None:
        """Serve, and register with the kubelet that runs now, unless another plugin owns the resource."""
        kubelet = _identity(f"{self._directory}/kubelet.sock")
        if kubelet is None:
            return self._tell("the kubelet isn't there: waiting for it")
        if self._server is None or not os.path.exists(
            self._socket
        ):  # a kubelet that starts removes all sockets
            self._serve()
        if kubelet == self._registered_with:
            if now < self._next or self._streams:
                return None
            say(f"{self.kind}: the kubelet doesn't listen: it may have another plugin for this resource")
        elif now < self._next:
            return None
        self._registered_with, self._next = None, now + PATIENCE_S
        if self._is_anothers():
            return self._tell("another device plugin offers this resource: not registered while it does")
        try:
            with grpc.insecure_channel(f"unix://{self._directory}/kubelet.sock") as channel:
                request = api.RegisterRequest(
                    version=VERSION,
                    endpoint=os.path.basename(self._socket),
                    resource_name=self.kind,
                    options=_options(),
                )
                services.RegistrationStub(channel).Register(request, timeout=PATIENCE_S)
        except grpc.RpcError as error:
            return self._tell(f"the kubelet refused it: {error.details()}")
        self._registered_with, self._told = kubelet, ""
        self._metrics.add("cdi_device_plugin_registrations_total", resource=self.kind)
        return say(f"{self.kind}: registered with the kubelet")

    def stop(self) -> None:
        """Serve no longer; the socket goes."""
        if self._server:
            self._server.stop(None).wait()
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._socket)

    def _serve(self) -> None:
        self.stop()
        self._server = grpc.server(futures.ThreadPoolExecutor(_WORKERS))
        services.add_DevicePluginServicer_to_server(self, self._server)
        self._server.add_insecure_port(f"unix://{self._socket}")
        self._server.start()
        self._registered_with = None

    def _is_anothers(self) -> bool:
        """Say whether the kubelet has devices of this resource, in its checkpoint, that can't be ours."""
        try:
            with open(f"{self._directory}/kubelet_internal_checkpoint", encoding="utf-8") as file:
                data = json.load(file)
            known = data["Data"]["RegisteredDevices"][self.kind] or []
        except (OSError, ValueError, KeyError, TypeError):
            return False
        ours = {name for device in self._devices for name in (device.name, *device.ids)}
        return bool(known) and not any(one in ours or str(one).rpartition("::")[0] in ours for one in known)

    def _tell(self, message: str) -> None:
        """Say what keeps it from being registered, once."""
        if message != self._told:
            self._told = message
            say(f"{self.kind}: {message}")


def _options() -> api.DevicePluginOptions:
    return api.DevicePluginOptions(get_preferred_allocation_available=True)


def _listed(device: offer.Device) -> Iterator[api.Device]:
    topology = None
    if device.numa:
        topology = api.TopologyInfo(nodes=[api.NUMANode(ID=number) for number in device.numa])
    health = "Healthy" if device.is_there else "Unhealthy"
    return (api.Device(ID=one, health=health, topology=topology) for one in device.ids)


def _identity(path: str) -> object:
    """Return what tells a socket from a later one of its name; an inode's number may be used again."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_ctime_ns


def remove_stale(directory: str) -> None:
    """Remove sockets of instances that were killed."""
    for path in glob.glob(f"{glob.escape(directory)}/{_PREFIX}*.sock"):
        with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
            client.settimeout(1)
            try:
                client.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)


class Plugin:
    """All resources of a node."""

    def __init__(self, root: str, configuration: offer.Configuration) -> None:
        self.metrics = Metrics()
        self._directory = f"{root}/{DIR}"
        self._request = configuration.request
        self._node = offer.Node(root, configuration)
        self._resources: dict[str, Resource] = {}
        self._told: set[str] = set()
        self.beat = time.monotonic()

    def look(self) -> None:
        """Look at the node, and tell the kubelet what it offers now."""
        offered, refused = self._node.kinds()
        wrong = {*refused, *self._node.errors()}
        for message in sorted(wrong - self._told):
            say(message)
        self._told = wrong
        for kind in offered:
            if kind not in self._resources:
                self._resources[kind] = Resource(kind, self._directory, self._request, self.metrics)
        for kind, resource in self._resources.items():
            resource.update(offered.get(kind, []))
            resource.keep_registered(time.monotonic())
        self.beat = time.monotonic()

    def stop(self) -> None:
        for resource in self._resources.values():
            resource.stop()


def answer(plugin: Plugin, port: int) -> http.server.HTTPServer:
    """Answer /health and /metrics, one request at a time."""

    class Handler(http.server.BaseHTTPRequestHandler):
        timeout = 2  # s: nobody keeps others waiting

        def do_GET(self) -> None:
            is_alive = time.monotonic() - plugin.beat < BEAT_S
            found = {"/metrics": (200, plugin.metrics.text()), "/health": (200 if is_alive else 503, "")}
            status, text = found.get(self.path, (404, ""))
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def main(root: str, configuration: str) -> None:
    end = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: end.set())
    root = root.rstrip("/")
    remove_stale(f"{root}/{DIR}")
    plugin = Plugin(root, offer.read(configuration))
    server = answer(plugin, int(os.environ.get("PORT", PORT)))
    say(f"answers /health and /metrics at port {server.server_port}")
    while not end.is_set():
        plugin.look()
        with contextlib.suppress(OSError), open("/run/alive", "w"):  # for the pod's liveness probe
            pass
        end.wait(PERIOD_S)
    plugin.stop()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except offer.UnusableConfiguration as error:
        sys.exit(f"cdi-hook: {error}")
