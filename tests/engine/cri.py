# SPDX-License-Identifier: Apache-2.0
"""A client of the container runtime interface that works as the kubelet does: gRPC at the engine's socket."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import grpc
from cri_api.v1 import api_pb2, api_pb2_grpc
from typing_extensions import Self

from . import image
from .containerd import plain
from .podman import without_warning

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .containerd import Containerd
    from .crio import Crio

TIMEOUT_S = 30
LOGS = "/run/board/logs"


class Refusal(Exception):
    """The error that the engine answered with."""

    def __init__(self, error: grpc.RpcError) -> None:
        super().__init__(plain(without_warning(error.details())).rstrip("\n"))


class Pod:
    """A pod: entering makes its sandbox, leaving removes the sandbox and the containers in it."""

    def __init__(
        self,
        engine: Containerd | Crio,
        handler: str = "cdi",
        annotations: Mapping[str, str] | None = None,
        *,
        privileged: bool = False,
        namespace: str = "default",
    ) -> None:
        self.box = engine.box
        self._handler = handler
        # Any process in a box gives access to the box's sockets from outside.
        self._channel = grpc.insecure_channel(f"unix:///proc/{self.box.pid}/root/{engine.socket}")
        self._stub = api_pb2_grpc.RuntimeServiceStub(self._channel)  # type: ignore[no-untyped-call] # generated
        self.name = uuid.uuid4().hex[:12]
        # It uses the host's network, so no network plugin is needed; a privileged pod also uses the host's processes.
        namespaces = api_pb2.NamespaceOption(
            network=api_pb2.NODE, pid=api_pb2.NODE if privileged else api_pb2.CONTAINER
        )
        self._security: dict[str, Any] = {"namespace_options": namespaces, "privileged": privileged}
        security = api_pb2.LinuxSandboxSecurityContext(**self._security)
        # CRI-O makes annotations of a container's labels.
        self._labels = {"io.kubernetes.pod.name": self.name, "io.kubernetes.pod.namespace": namespace}
        self._config = api_pb2.PodSandboxConfig(
            metadata=api_pb2.PodSandboxMetadata(name=self.name, uid=self.name, namespace=namespace),
            labels=self._labels,
            annotations=annotations or {},
            linux=api_pb2.LinuxPodSandboxConfig(security_context=security),
            log_directory=LOGS,
        )
        self.sandbox = ""

    def __enter__(self) -> Self:
        request = api_pb2.RunPodSandboxRequest(config=self._config, runtime_handler=self._handler)
        try:
            self.sandbox = self._stub.RunPodSandbox(request, timeout=TIMEOUT_S).pod_sandbox_id
        except grpc.RpcError as error:
            self._channel.close()
            raise Refusal(error) from None
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._stub.StopPodSandbox(
                api_pb2.StopPodSandboxRequest(pod_sandbox_id=self.sandbox), timeout=TIMEOUT_S
            )
            self._stub.RemovePodSandbox(
                api_pb2.RemovePodSandboxRequest(pod_sandbox_id=self.sandbox), timeout=TIMEOUT_S
            )
        finally:
            self._channel.close()

    def create(
        self,
        script: str,
        annotations: Mapping[str, str],
        devices: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        mounts: Mapping[str, str] | None = None,
        of: str = image.NAME,
        nodes: Sequence[str] = (),
    ) -> str:
        """Create a container, with its devices also in the kubelet's own field, and return its id.

        ``nodes`` are those of the host that a device plugin gives it.
        """
        name = uuid.uuid4().hex[:12]
        config = api_pb2.ContainerConfig(
            metadata=api_pb2.ContainerMetadata(name=name),
            image=api_pb2.ImageSpec(image=of, user_specified_image=of),
            command=["/bin/sh", "-c", script],
            labels=self._labels,
            annotations=annotations,
            devices=[api_pb2.Device(container_path=path, host_path=path, permissions="rw") for path in nodes],
            CDI_devices=[api_pb2.CDIDevice(name=device) for device in devices],
            envs=[api_pb2.KeyValue(key=key, value=value) for key, value in (environ or {}).items()],
            mounts=[
                api_pb2.Mount(host_path=source, container_path=path, readonly=True)
                for path, source in (mounts or {}).items()
            ],
            linux=api_pb2.LinuxContainerConfig(
                security_context=api_pb2.LinuxContainerSecurityContext(**self._security)
            ),
            log_path=f"{name}.log",
        )
        request = api_pb2.CreateContainerRequest(
            pod_sandbox_id=self.sandbox, config=config, sandbox_config=self._config
        )
        try:
            container: str = self._stub.CreateContainer(request, timeout=TIMEOUT_S).container_id
        except grpc.RpcError as error:
            raise Refusal(error) from None
        return container

    def start(self, container: str) -> None:
        """Start a container."""
        request = api_pb2.StartContainerRequest(container_id=container)
        try:
            self._stub.StartContainer(request, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            raise Refusal(error) from None

    def status(self, container: str) -> api_pb2.ContainerStatus:
        """Return a container's status."""
        request = api_pb2.ContainerStatusRequest(container_id=container)
        status: api_pb2.ContainerStatus = self._stub.ContainerStatus(request, timeout=TIMEOUT_S).status
        return status

    def run(
        self, script: str, annotations: Mapping[str, str], devices: Sequence[str] = ()
    ) -> tuple[str, str]:
        """Run a container until it sleeps; return its id and its log, as (stream, line) pairs."""
        container = self.create(f"{script}; echo end; exec sleep 1000", annotations, devices)
        self.start(container)
        end = "stdout end\n"
        self.box.wait(lambda: self.log(container).endswith(end))
        return container, self.log(container).removesuffix(end)

    def log(self, container: str) -> str:
        """Return a container's log as (stream, text) pairs, one for each line."""
        path: str = self.status(container).log_path
        log, begun = "", False
        for line in self.box.read(path).splitlines():
            _, stream, tag, text = line.split(" ", 3)
            log += text if begun else f"{stream} {text}"
            begun = tag == "P"  # a part of a line
            log += "" if begun else "\n"
        return log

    def exec(self, container: str, *command: str) -> tuple[int, str, str]:
        """Run a process in a container; return its exit status and output."""
        request = api_pb2.ExecSyncRequest(container_id=container, cmd=command, timeout=TIMEOUT_S)
        answer = self._stub.ExecSync(request, timeout=TIMEOUT_S)
        return answer.exit_code, answer.stdout.decode(), answer.stderr.decode()

    def update(self, container: str, memory: int) -> None:
        """Limit a container's memory, in bytes."""
        limits = api_pb2.LinuxContainerResources(memory_limit_in_bytes=memory)
        request = api_pb2.UpdateContainerResourcesRequest(container_id=container, linux=limits)
        self._stub.UpdateContainerResources(request, timeout=TIMEOUT_S)
