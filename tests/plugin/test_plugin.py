# SPDX-License-Identifier: Apache-2.0
"""The plugin's process: what it offers and answers as specs, hardware, kubelets and other plugins change."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import urllib.request
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from .kubelet import Kubelet, wait

if TYPE_CHECKING:
    from .conftest import Node

KIND = "vendor.com/thing"
ONE = {"env": ["THING=1"]}
TWO = {"env": ["THING=2"]}


def test_a_pod_gets_a_device(node: Node) -> None:
    """A device is offered, and allocating it annotates the container."""
    kubelet = node.kubelet()
    node.spec(KIND, {"one": ONE, "two": TWO})
    node.plugin().says(f"{KIND}: one, two\n")
    kubelet.has(KIND, one="Healthy", two="Healthy")
    assert kubelet.endpoints[KIND].options.get_preferred_allocation_available
    answer = kubelet.allocate(KIND, "two", "one")
    expected = {"cdi-hook.local/vendor.com_thing": f"{KIND}=two,{KIND}=one"}
    assert (dict(answer.annotations), list(answer.cdi_devices)) == (expected, [])


def test_an_engines_own_cdi_is_asked(node: Node) -> None:
    """By a setting the kubelet's CDI field asks, and no annotation."""
    node.configure("request: field\ndevices: [{pattern: '*/*=*'}]")
    kubelet = node.kubelet()
    node.spec(KIND, {"one": ONE})
    node.plugin()
    kubelet.has(KIND, one="Healthy")
    answer = kubelet.allocate(KIND, "one")
    assert (dict(answer.annotations), [one.name for one in answer.cdi_devices]) == ({}, [f"{KIND}=one"])


def test_specs_change(node: Node) -> None:
    """Devices and kinds come and go with the specs; a broken spec is named, and hurts no other."""
    kubelet = node.kubelet()
    node.spec(KIND, {"one": ONE})
    plugin = node.plugin()
    kubelet.has(KIND, one="Healthy")
    node.spec(KIND, {"one": ONE, "two": TWO})
    kubelet.has(KIND, one="Healthy", two="Healthy")
    node.spec("other.com/thing", {"x": ONE}, "other.json")
    kubelet.has("other.com/thing", x="Healthy")
    (node.root / "etc/cdi/broken.yaml").write_text("kind: [")
    plugin.says("cdi-hook: /etc/cdi/broken.yaml: ")
    (node.root / "etc/cdi/other.json").unlink()
    kubelet.has("other.com/thing")
    assert kubelet.healths(KIND) == {"one": "Healthy", "two": "Healthy"}
    assert plugin.log.read_text().count("cdi-hook: /etc/cdi/broken.yaml: ") == 1


def test_hardware_changes(node: Node) -> None:
    """A device whose node vanishes is unhealthy and isn't allocated; when it returns, all is well again."""
    kubelet = node.kubelet()
    edits = node.node("/dev/thing0", 0)
    ctl = node.node("/dev/ctl", 9)
    outside = {"deviceNodes": [{"path": "/dev/y", "hostPath": "/opt/y"}]}
    node.spec(KIND, {"one": edits, "two": TWO, "three": outside}, **ctl)
    plugin = node.plugin()
    well = {"one": "Healthy", "three": "Healthy", "two": "Healthy"}
    kubelet.has(KIND, **well)
    os.unlink(node.root / "dev/thing0")
    kubelet.has(KIND, **{**well, "one": "Unhealthy"})
    with pytest.raises(grpc.RpcError) as refused:
        kubelet.allocate(KIND, "one")
    assert refused.value.details() == f"{KIND}=one is no longer on this node"
    plugin.says(f"cdi-hook: refused: {KIND}=one is no longer on this node\n")
    (node.root / "dev/thing0").symlink_to("/dev/null")  # no container can have a link
    assert kubelet.healths(KIND)["one"] == "Unhealthy"
    os.unlink(node.root / "dev/thing0")
    os.mknod(node.root / "dev/thing0", 0o20600, os.makedev(240, 0))
    kubelet.has(KIND, **well)
    os.unlink(node.root / "dev/ctl")  # which all of them need
    kubelet.has(KIND, one="Unhealthy", two="Unhealthy", three="Unhealthy")


def test_an_id_that_nobody_offered(node: Node) -> None:
    """A device that was in the specs, and no longer is, is refused."""
    kubelet = node.kubelet()
    node.spec(KIND, {"one": ONE, "two": TWO})
    node.plugin()
    kubelet.has(KIND, one="Healthy", two="Healthy")
    node.spec(KIND, {"one": ONE})
    kubelet.has(KIND, one="Healthy")
    for gone in ("two", "one::0", "../x"):
        with pytest.raises(grpc.RpcError) as refused:
            kubelet.allocate(KIND, "one", gone)
        assert refused.value.code() == grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("removes", [True, False], ids=["it removes sockets", "it removes none"])
def test_a_kubelet_starts_again(node: Node, removes: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new kubelet knows the same devices; also one whose socket has the inode that the old one's had."""
    kubelet = node.kubelet()
    node.spec(KIND, {"one": ONE})
    node.plugin()
    kubelet.has(KIND, one="Healthy")
    kubelet.stop()
    if not removes:
        monkeypatch.setattr(type(node.plugins), "glob", lambda *_: ())
    kubelet = node.kubelet()
    monkeypatch.undo()
    kubelet.has(KIND, one="Healthy")
    assert len(kubelet.requests) == 1


def test_it_starts_before_the_kubelet(node: Node) -> None:
    """Without a kubelet it waits, and says so once."""
    node.spec(KIND, {"one": ONE})
    plugin = node.plugin()
    plugin.says("the kubelet isn't there: waiting for it")
    kubelet = node.kubelet()
    kubelet.has(KIND, one="Healthy")
    assert plugin.log.read_text().count("waiting") == 1


def test_an_instance_is_replaced(node: Node) -> None:
    """An upgrade takes over, whether the former instance ends before, after, or by a kill; no socket is left."""
    kubelet = node.kubelet()
    node.spec(KIND, {"one": ONE})
    former = node.plugin()
    kubelet.has(KIND, one="Healthy")
    newer = node.plugin()
    wait(lambda: len(kubelet.requests) == 2)
    kubelet.has(KIND, one="Healthy")
    assert former.end() == 0
    assert (kubelet.healths(KIND), len(node.sockets())) == ({"one": "Healthy"}, 1)
    newer.process.send_signal(signal.SIGKILL)
    newer.process.wait()
    wait(lambda: kubelet.healths(KIND) == {})
    last = node.plugin()
    kubelet.has(KIND, one="Healthy")
    assert len(node.sockets()) == 1
    assert last.end() == 0
    assert node.sockets() == []


def others(kubelet: Kubelet, node: Node, resource: str, *ids: str) -> grpc.Server:
    """Run and register another vendor's plugin for a resource."""
    from concurrent import futures

    api: Any = kubelet.api
    services: Any = kubelet.services

    class Other(services.DevicePluginServicer):  # type: ignore[misc] # generated code has no types
        def GetDevicePluginOptions(self, _request: Any, _context: Any) -> Any:  # noqa: N802 # the API's name
            return api.DevicePluginOptions()

        def ListAndWatch(self, _request: Any, context: Any) -> Any:  # noqa: N802
            ended = threading.Event()
            context.add_callback(ended.set)
            yield api.ListAndWatchResponse(devices=[api.Device(ID=one, health="Healthy") for one in ids])
            ended.wait()

    server = grpc.server(futures.ThreadPoolExecutor())
    services.add_DevicePluginServicer_to_server(Other(), server)
    server.add_insecure_port(f"unix://{node.plugins}/other.sock")
    server.start()
    with grpc.insecure_channel(f"unix://{node.plugins}/kubelet.sock") as channel:
        request = api.RegisterRequest(version="v1beta1", endpoint="other.sock", resource_name=resource)
        services.RegistrationStub(channel).Register(request)
    return server


def test_another_plugin_owns_the_name(node: Node) -> None:
    """A resource that another plugin offers is left to it, as long as it does, also when it comes later."""
    kubelet = node.kubelet()
    other = others(kubelet, node, KIND, "GPU-1")
    kubelet.has(KIND, **{"GPU-1": "Healthy"})
    node.spec(KIND, {"one": ONE})
    plugin = node.plugin()
    plugin.says("another device plugin offers this resource: not registered while it does")
    assert len(kubelet.requests) == 1
    other.stop(None).wait()
    kubelet.has(KIND, one="Healthy")
    other = others(kubelet, node, KIND, "GPU-1")
    kubelet.has(KIND, **{"GPU-1": "Healthy"})
    plugin.says("it may have another plugin for this resource")
    wait(lambda: plugin.log.read_text().count("another device plugin offers") == 2)
    assert kubelet.healths(KIND) == {"GPU-1": "Healthy"}
    other.stop(None).wait()


def test_a_vendors_kind_has_to_be_named(node: Node) -> None:
    """nvidia.com/gpu isn't offered by a pattern for all kinds, and is by its own name."""
    kubelet = node.kubelet()
    node.spec("nvidia.com/gpu", {"0": ONE}, "nvidia.json")
    node.spec(KIND, {"one": ONE})
    node.plugin()
    kubelet.has(KIND, one="Healthy")
    assert list(kubelet.endpoints) == [KIND]
    node.configure("devices: [{pattern: 'nvidia.com/gpu=*'}]")
    node.plugin()
    kubelet.has("nvidia.com/gpu", **{"0": "Healthy"})


def test_shares(node: Node) -> None:
    """A device with shares has an id for each; a container with two of one device's shares has it once."""
    node.configure("devices: [{pattern: '*/*=one', shares: 2}, {pattern: '*/*=*'}]")
    kubelet = node.kubelet()
    node.spec(KIND, {"one": ONE, "two": TWO})
    node.plugin()
    kubelet.has(KIND, **{"one::0": "Healthy", "one::1": "Healthy", "two": "Healthy"})
    annotations = dict(kubelet.allocate(KIND, "one::1", "one::0", "two").annotations)
    assert list(annotations.values()) == [f"{KIND}=one,{KIND}=two"]
    assert kubelet.prefer(KIND, ["one::0", "one::1", "two"], [], 2) == ["one::0", "two"]


def test_topology_and_preference(node: Node) -> None:
    """A device has the NUMA node of its hardware, and a container's devices are on one where that can be."""
    kubelet = node.kubelet()
    node.spec(KIND, {f"gpu{at}": node.node(f"/dev/gpu{at}", at, at % 2) for at in range(4)} | {"none": ONE})
    node.plugin()
    wait(lambda: len(kubelet.healths(KIND)) == 5)
    devices = kubelet.endpoints[KIND].devices
    numa = {key: [each.ID for each in one.topology.nodes] for key, one in devices.items()}
    assert numa == {"gpu0": [0], "gpu1": [1], "gpu2": [0], "gpu3": [1], "none": []}
    free = list(numa)
    assert kubelet.prefer(KIND, free, [], 2) == ["gpu0", "gpu2"]
    assert kubelet.prefer(KIND, free, ["gpu3"], 2) == ["gpu3", "gpu1"]
    assert kubelet.prefer(KIND, ["gpu0", "gpu1", "gpu3"], [], 2) == ["gpu1", "gpu3"]
    assert sorted(kubelet.prefer(KIND, free, [], 5)) == sorted(free)


def test_health_and_metrics(node: Node) -> None:
    """Both are answered, also while somebody holds a connection open and says nothing."""
    kubelet = node.kubelet()
    node.spec(KIND, {"one": ONE})
    plugin = node.plugin()
    kubelet.has(KIND, one="Healthy")
    kubelet.allocate(KIND, "one")
    with pytest.raises(grpc.RpcError):
        kubelet.allocate(KIND, "two")
    port = int(plugin.log.read_text().partition("at port ")[2].partition("\n")[0])
    with socket.create_connection(("127.0.0.1", port)):
        texts = {}
        for path in ("health", "metrics"):
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=10) as answer:
                texts[path] = answer.read().decode()
    assert texts["health"] == ""
    values = [line for line in texts["metrics"].splitlines() if not line.startswith("#")]
    assert values == [
        f'cdi_device_plugin_devices{{resource="{KIND}",health="Healthy"}} 1',
        f'cdi_device_plugin_devices{{resource="{KIND}",health="Unhealthy"}} 0',
        f'cdi_device_plugin_allocations_total{{resource="{KIND}"}} 1',
        f'cdi_device_plugin_refusals_total{{resource="{KIND}"}} 1',
        f'cdi_device_plugin_registrations_total{{resource="{KIND}"}} 1',
    ]
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/x", timeout=10)
    refused.value.close()


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "it has other keys than devices, request"),
        ("device: []", "it has other keys than devices, request"),
        ("devices: []", "devices has to be a list with an entry"),
        ("request: x\ndevices: [{pattern: 'a/b=*'}]", "request is annotation or field, not 'x'"),
        (
            "devices: [{pattern: 'a/b'}]",
            "devices[0]: pattern is as vendor.com/class=name, * for any text, not 'a/b'",
        ),
        ("devices: [{pattern: 'a/b=*', shares: 0}]", "devices[0]: shares is a number from 1 to 1000, not 0"),
        (
            "devices: [{pattern: 'a/b=*', shares: true}]",
            "devices[0]: shares is a number from 1 to 1000, not True",
        ),
        ("devices: [{pattern: 'a/b=*', share: 2}]", "devices[0]: it has other keys than pattern, shares"),
        ("devices: [", "while parsing a flow node"),
    ],
)
def test_a_configuration_that_is_wrong(node: Node, text: str, wrong: str) -> None:
    """It ends with one line that names the file and what is wrong."""
    node.configure(text)
    plugin = node.plugin()
    assert plugin.process.wait(timeout=20) == 1
    *_, line = plugin.log.read_text().splitlines()
    assert line.startswith(f"cdi-hook: {node.root}/devices.yaml: {wrong}")


def test_a_checkpoint_that_is_nonsense(node: Node) -> None:
    """Whatever the kubelet's file has, the plugin registers."""
    node.spec(KIND, {"one": ONE})
    kubelet = node.kubelet()
    for text in ("", "[]", json.dumps({"Data": {"RegisteredDevices": {KIND: None}}}), '{"Data": 1}'):
        (node.plugins / "kubelet_internal_checkpoint").write_text(text)
        plugin = node.plugin()
        wait(lambda: len(kubelet.requests) >= len(node.instances))
        kubelet.has(KIND, one="Healthy")
        plugin.end()


def test_a_kind_that_cannot_be_a_resource(node: Node) -> None:
    """A vendor with a capital or an underscore is valid in CDI, and none in Kubernetes: that is said."""
    node.spec("Vendor_x.com/thing", {"one": ONE})
    plugin = node.plugin()
    plugin.says("Vendor_x.com/thing isn't offered: no resource of Kubernetes can have that name")
