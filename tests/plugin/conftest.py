# SPDX-License-Identifier: Apache-2.0
"""Fixtures: the API's modules, a node below a dir of the test's own, and the plugin on it as a process."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from grpc_tools import protoc

from tests.house.tree import ROOT

from .kubelet import Kubelet, wait

if TYPE_CHECKING:
    from collections.abc import Generator

SOURCE = ROOT / "packaging/kubernetes/device-plugin"
DEVICES = "devices: [{pattern: '*/*=*'}]"


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The dir of the modules that the Containerfile makes of the plugin's proto file."""
    directory = tmp_path_factory.mktemp("made")
    arguments = ["protoc", f"-I{SOURCE}", f"--python_out={directory}", f"--grpc_python_out={directory}"]
    assert protoc.main([*arguments, str(SOURCE / "deviceplugin.proto")]) == 0
    return directory


@pytest.fixture(scope="session")
def modules(made: Path) -> Generator[tuple[Any, Any]]:
    """These modules."""
    sys.path.insert(0, str(made))
    import deviceplugin_pb2
    import deviceplugin_pb2_grpc

    yield deviceplugin_pb2, deviceplugin_pb2_grpc
    sys.path.remove(str(made))


class Instance:
    """The plugin's process, as its pod runs it."""

    def __init__(self, node: Node, made: Path) -> None:
        environ = {"PATH": "/usr/bin", "PYTHONPATH": f"{made}:{ROOT}", "PORT": "0"}
        self.log = node.root / f"log{len(node.instances)}"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-u", SOURCE / "plugin.py", f"{node.root}/", node.root / "devices.yaml"],
                env=environ, stdout=log, stderr=log,
            )  # fmt: skip

    def says(self, text: str) -> None:
        """Wait until its log has a text."""
        wait(lambda: text in self.log.read_text() or self.process.poll() is not None)
        assert text in self.log.read_text(), self.log.read_text()

    def end(self) -> int:
        """Stop it as a pod's end does; return its exit status."""
        self.process.terminate()
        return self.process.wait(timeout=20)


class Node:
    """A node whose root dir is below a dir of the test's own."""

    def __init__(self, root: Path, made: Path, modules: tuple[Any, Any]) -> None:
        self.root = root
        self._made, self._modules = made, modules
        self.instances: list[Instance] = []
        self.kubelets: list[Kubelet] = []
        self.plugins = root / "var/lib/kubelet/device-plugins"
        for directory in (self.plugins, root / "etc/cdi", root / "run/cdi", root / "dev"):
            directory.mkdir(mode=0o755, parents=True)
        self.configure(DEVICES)

    def configure(self, text: str) -> None:
        """Write devices.yaml."""
        (self.root / "devices.yaml").write_text(text)

    def spec(self, kind: str, devices: dict[str, Any], name: str = "spec.json", **common: Any) -> Path:
        """Write a spec: by device name its edits."""
        path = self.root / "etc/cdi" / name
        data = {
            "cdiVersion": "1.1.0", "kind": kind, "containerEdits": common,
            "devices": [{"name": key, "containerEdits": edits} for key, edits in devices.items()],
        }  # fmt: skip
        new = path.with_suffix(".new")
        new.write_text(json.dumps(data))
        new.replace(path)
        return path

    def node(self, path: str, minor: int, numa: int | None = None) -> dict[str, Any]:
        """Make a device node below /dev, at a NUMA node; return the edits of a device that is that node."""
        if os.geteuid() != 0:
            pytest.skip("only root makes device nodes")
        os.mknod(self.root / path.lstrip("/"), stat.S_IFCHR | 0o600, os.makedev(240, minor))
        if numa is not None:
            device = self.root / f"sys/devices/pci0000:00/0000:00:{minor:02x}.0"
            (device / "class/x").mkdir(parents=True)
            (device / "numa_node").write_text(f"{numa}\n")
            link = self.root / f"sys/dev/char/240:{minor}"
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(device / "class/x")
        return {"deviceNodes": [{"path": path}]}

    def kubelet(self) -> Kubelet:
        """Start a kubelet."""
        self.kubelets.append(Kubelet(self.plugins, *self._modules))
        return self.kubelets[-1]

    def plugin(self) -> Instance:
        """Start the plugin."""
        self.instances.append(Instance(self, self._made))
        return self.instances[-1]

    def sockets(self) -> list[str]:
        """Return the names of the plugins' sockets."""
        return sorted(path.name for path in self.plugins.glob("*.sock") if path.name != "kubelet.sock")

    def close(self) -> None:
        """End what runs."""
        for one in self.instances:
            one.process.kill()
            one.process.wait()
        for kubelet in self.kubelets:
            kubelet.stop()


@pytest.fixture
def node(made: Path, modules: tuple[Any, Any]) -> Generator[Node]:
    """A node with no spec. Its dir has a short name: a socket's path has 107 bytes at most."""
    with tempfile.TemporaryDirectory(prefix="node") as directory:
        place = Node(Path(directory), made, modules)
        yield place
        place.close()
