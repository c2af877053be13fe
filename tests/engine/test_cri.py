# SPDX-License-Identifier: Apache-2.0
"""containerd as on a Kubernetes node: pods, and RuntimeClass handlers that use cdi-runtime."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from . import world
from .containerd import BUNDLES, ERROR
from .cri import Pod, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from .containerd import Containerd

pytestmark = pytest.mark.xdist_group("containerd")
HANDLERS = ("cdi", "cdi-crun")
SEEN = "".join(f"stdout {line}\n" for line in world.SEEN.splitlines())
REQUEST = {world.KEY: world.FUSE}
TASK = "failed to create containerd task: "
ENABLED = pytest.mark.parametrize("enable_cdi", [False, True], ids=["", "enable_cdi"])


def config(pod: Pod, container: str) -> dict[str, object]:
    """Return the config.json that a container was made from."""
    tree: dict[str, object] = json.loads(pod.box.read(f"{BUNDLES}/k8s.io/{container}/config.json"))
    return tree


@pytest.mark.parametrize("handler", HANDLERS)
def test_container_annotation(containerds: Callable[..., Containerd], handler: str) -> None:
    """A container has the device that its annotation names, each part of it once."""
    with Pod(containerds(), handler) as pod:
        container, log = pod.run(world.LOOK, REQUEST)
        assert log == SEEN
        assert world.injected(config(pod, container)) == world.ONCE
        assert world.hooked(pod.box, container) == 1


def test_life(containerds: Callable[..., Containerd]) -> None:
    """A pod's container can be joined and limited, and keeps its device."""
    with Pod(containerds(), "cdi") as pod:
        container, _ = pod.run(world.LOOK, REQUEST)
        assert pod.exec(container, "sh", "-c", world.LOOK_AGAIN) == (0, world.SEEN_AGAIN, "")
        pod.update(container, 64 << 20)
        assert pod.status(container).resources.linux.memory_limit_in_bytes == 64 << 20
        assert pod.exec(container, "sh", "-c", world.LOOK_AGAIN) == (0, world.SEEN_AGAIN, "")


def test_pod_annotation(containerds: Callable[..., Containerd]) -> None:
    """A pod's annotation applies to each of its containers, and the sandbox is left alone."""
    with Pod(containerds(), "cdi-pod", REQUEST) as pod:
        sandbox = config(pod, pod.sandbox)
        assert sandbox["annotations"] | REQUEST == sandbox["annotations"]  # type: ignore[operator]
        assert "/greeting" not in str(sandbox)
        assert world.HOOK not in str(sandbox)
        for _ in range(2):
            container, log = pod.run(world.LOOK, {})
            assert log == SEEN
            assert world.hooked(pod.box, container) == 1
        assert world.hooked(pod.box, pod.sandbox) == 0


def test_pod_annotation_is_not_passed_on(containerds: Callable[..., Containerd]) -> None:
    """If the handler has no pod_annotations, a pod's annotations give no devices."""
    with Pod(containerds(), "cdi", REQUEST) as pod:
        _, log = pod.run("test -e /dev/fuse; echo $?", {})
        assert log == "stdout 1\n"


def test_refused_pod_annotation(containerds: Callable[..., Containerd]) -> None:
    """A pod's annotation that can't be met stops the pod's containers, and not the sandbox."""
    device, message = world.REFUSALS["malformed annotation"]
    with Pod(containerds(), "cdi-pod", {world.KEY: device}) as pod:
        container = pod.create("true", {})
        with pytest.raises(Refusal) as refused:
            pod.start(container)
        assert str(refused.value) == f"{TASK}{ERROR}{message}: unknown"


@ENABLED
def test_beside_containerd(containerds: Callable[..., Containerd], enable_cdi: bool) -> None:
    """A device that containerd injects too is added once: by an annotation, and by the kubelet's field beside it."""
    with Pod(containerds(enable_cdi=enable_cdi)) as pod:
        for devices in ((), (world.FUSE,)):
            container, log = pod.run(world.LOOK, REQUEST, devices)
            assert log == SEEN
            assert world.injected(config(pod, container)) == world.ONCE
            assert world.hooked(pod.box, container) == 1


def test_only_containerd(containerds: Callable[..., Containerd]) -> None:
    """A device that the kubelet requests only by its field is injected by containerd alone."""
    with Pod(containerds(enable_cdi=True)) as pod:
        container, log = pod.run(world.LOOK, {}, [world.FUSE])
        assert log == SEEN
        assert world.injected(config(pod, container)) == world.ONCE


@pytest.mark.parametrize("case", world.REFUSALS)
@pytest.mark.parametrize("handler", HANDLERS)
def test_refusal(containerds: Callable[..., Containerd], handler: str, case: str) -> None:
    """The kubelet gets the message that says why the container fails, and the container's status keeps it."""
    device, message = world.REFUSALS[case]
    with Pod(containerds(), handler) as pod:
        container = pod.create("true", {world.KEY: device})
        with pytest.raises(Refusal) as refused:
            pod.start(container)
        status = pod.status(container)
    assert str(refused.value) == f"{TASK}{ERROR}{message}: unknown"
    assert (status.reason, status.exit_code) == ("StartError", 128)
    assert status.message == f"{TASK}{ERROR}{message}: unknown"


@pytest.fixture
def rules(containerds: Callable[..., Containerd]) -> Generator[None]:
    """A configuration by which pods in one namespace may have the device by their annotations."""
    box, conf = containerds().box, "/etc/cdi-hook/cdi-hook.conf"
    before = box.read(conf)
    box.write(conf, f'ALLOW_ml="{world.FUSE} from=cdi.k8s.io/ namespace=ml-*"\n')
    yield
    box.write(conf, before)


@pytest.mark.usefixtures("rules")
@pytest.mark.parametrize("handler", ["cdi-pod", "cdi-all"])
def test_pods_of_a_namespace_may_have_a_device(containerds: Callable[..., Containerd], handler: str) -> None:
    """A pod's annotations give it the device in the namespace that may have it, and in no other, whatever it claims."""
    keys = ("io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace")
    with Pod(containerds(), handler, REQUEST, namespace="ml-1") as pod:
        assert pod.run(world.LOOK, {})[1] == SEEN
    with Pod(containerds(), handler, {**REQUEST, **dict.fromkeys(keys, "ml-1")}, namespace="guests") as pod:
        container = pod.create("true", {})
        with pytest.raises(Refusal) as refused:
            pod.start(container)
    claimed = ' and "ml-1"' if handler == "cdi-all" else ""
    assert str(refused.value) == (
        f'{TASK}{ERROR}{world.FAILED}device {world.FUSE} (asked for by annotation "{world.KEY}") is not allowed on this '
        f"host: it is allowed only as in ALLOW_ml={world.FUSE} from=cdi.k8s.io/ namespace=ml-* "
        f'(/etc/cdi-hook/cdi-hook.conf:1); the container is in namespace "guests"{claimed}: unknown'
    )
    claim = [f"--annotation={key}=ml-1" for key in keys]
    done = containerds().run(f"claims-{handler}", *claim, script="true")
    assert (done.returncode, "the container is in no namespace of Kubernetes" in done.stderr) == (1, True)


@pytest.mark.parametrize("case", ["unknown device", "malformed annotation"])
def test_refusal_of_a_sandbox(containerds: Callable[..., Containerd], case: str) -> None:
    """If stderr can't be written to, as in a sandbox, the message is still passed on."""
    device, message = world.REFUSALS[case]
    with pytest.raises(Refusal) as refused, Pod(containerds(), "cdi-sandboxes", {world.KEY: device}):
        pass
    assert str(refused.value) == f"{TASK}{ERROR}{message}: unknown"


def test_sandbox_with_a_device(containerds: Callable[..., Containerd]) -> None:
    """With SANDBOXES=inject, a sandbox has the device."""
    with Pod(containerds(), "cdi-sandboxes", REQUEST) as pod:
        assert world.injected(config(pod, pod.sandbox)) == world.ONCE
