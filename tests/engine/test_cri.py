# SPDX-License-Identifier: Apache-2.0
"""containerd and CRI-O as on a Kubernetes node: pods, and RuntimeClass handlers that use cdi-runtime."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from . import hooks, world
from .box import need
from .containerd import plain
from .cri import Pod, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from .box import Box
    from .containerd import Containerd
    from .crio import Crio

pytestmark = pytest.mark.xdist_group("containerd")
CONF = "/etc/cdi-hook/cdi-hook.conf"
HANDLERS = ("cdi", "cdi-crun")
SEEN = "".join(f"stdout {line}\n" for line in world.SEEN.splitlines())
REQUEST = {world.KEY: world.FUSE}
DISABLED = f"failed to get container spec opts: CDI devices ({world.FUSE}) requested but CDI support is explicitly disabled"
ENABLED = pytest.mark.parametrize("enable_cdi", [False, True], ids=["", "enable_cdi"])


@pytest.fixture(params=["containerd", "crio"])
def engine(
    request: pytest.FixtureRequest, containerds: Callable[..., Containerd], crios: Callable[..., Crio]
) -> Containerd | Crio:
    """Each engine, with its handlers."""
    return containerds() if request.param == "containerd" else crios()


def refusal(pod: Pod, annotations: Mapping[str, str]) -> str:
    """Return the engine's error when a container is created and started."""
    with pytest.raises(Refusal) as refused:
        pod.start(pod.create("true", annotations))
    return str(refused.value)


@pytest.mark.parametrize("handler", HANDLERS)
def test_container_annotation(engine: Containerd | Crio, handler: str) -> None:
    """A container has the device that its annotation names, each part of it once."""
    with Pod(engine, handler) as pod:
        container, log = pod.run(world.LOOK, REQUEST)
        assert log == SEEN
        assert world.injected(engine.config(container)) == world.ONCE
        assert world.hooked(pod.box, container) == 1


@pytest.mark.parametrize("handler", HANDLERS)
def test_life(engine: Containerd | Crio, handler: str) -> None:
    """A pod's container can be joined and limited, and keeps its device."""
    with Pod(engine, handler) as pod:
        container, _ = pod.run(world.LOOK, REQUEST)
        assert pod.exec(container, "sh", "-c", world.LOOK_AGAIN) == (0, world.SEEN_AGAIN, "")
        pod.update(container, 64 << 20)
        assert pod.status(container).resources.linux.memory_limit_in_bytes == 64 << 20
        assert pod.exec(container, "sh", "-c", world.LOOK_AGAIN) == (0, world.SEEN_AGAIN, "")


def test_pod_annotation(engine: Containerd | Crio) -> None:
    """A pod's annotation applies to each of its containers."""
    with Pod(engine, engine.passing, REQUEST) as pod:
        for _ in range(2):
            container, log = pod.run(world.LOOK, {})
            assert log == SEEN
            assert world.hooked(pod.box, container) == 1


def test_sandbox_is_left_alone(containerds: Callable[..., Containerd]) -> None:
    """A pod's annotation isn't applied to the sandbox, which containerd passes it to; CRI-O's pods have none."""
    engine = containerds()
    with Pod(engine, "cdi-pod", REQUEST) as pod:
        sandbox = engine.config(pod.sandbox)
        assert sandbox["annotations"] | REQUEST == sandbox["annotations"]
        assert "/greeting" not in str(sandbox)
        assert world.HOOK not in str(sandbox)
        assert world.hooked(pod.box, pod.sandbox) == 0


def test_pod_annotation_is_not_passed_on(containerds: Callable[..., Containerd]) -> None:
    """If containerd's handler has no pod_annotations, a pod's annotations give no devices."""
    with Pod(containerds(), "cdi", REQUEST) as pod:
        _, log = pod.run("test -e /dev/fuse; echo $?", {})
        assert log == "stdout 1\n"


@pytest.mark.parametrize("case", world.REFUSALS)
def test_refused_pod_annotation(engine: Containerd | Crio, case: str) -> None:
    """A pod's annotation that can't be met stops the pod's containers, and not the sandbox."""
    device, message = world.REFUSALS[case]
    with Pod(engine, engine.passing, {world.KEY: device}) as pod:
        assert refusal(pod, {}) == engine.error.format(message)


# What CRI-O says, whose own CDI comes before us for a container's annotations, except where only we refuse.
CRIO_REFUSALS = {
    "unknown device": "CDI device injection failed: unresolvable CDI devices vendor.com/device=fus",
    "malformed annotation": 'failed to parse CDI device annotations: invalid CDI device name "fuse"',
    "broken spec file": "CDI device injection failed: unresolvable CDI devices broken.com/device=one",
}


@pytest.mark.parametrize("case", world.REFUSALS)
def test_refusal_with_crio(crios: Callable[..., Crio], case: str) -> None:
    """A container's annotation that can't be met stops the container, with CRI-O's words unless only we refuse it."""
    device, message = world.REFUSALS[case]
    engine = crios()
    with Pod(engine) as pod:
        assert refusal(pod, {world.KEY: device}) == CRIO_REFUSALS.get(case, engine.error.format(message))


def test_hook_with_crio(crios: Callable[..., Crio]) -> None:
    """With hooks_dir, every container of CRI-O gets its devices, whatever its runtime."""
    engine = crios("createRuntime")
    with Pod(engine, "runc", {world.KEY: hooks.LIVE}) as pod:
        container, log = pod.run(hooks.LOOK_LIVE, {})
        assert log == "".join(f"stdout {line}\n" for line in hooks.SEEN_LIVE.splitlines())
        assert world.hooked(pod.box, container) == 1


@ENABLED
def test_beside_containerd(containerds: Callable[..., Containerd], enable_cdi: bool) -> None:
    """A device that containerd injects too is added once: by an annotation, and by the kubelet's field beside it."""
    engine = containerds(enable_cdi=enable_cdi)
    with Pod(engine) as pod:
        for devices in ((), (world.FUSE,)):
            refused = ""
            try:
                container, log = pod.run(world.LOOK, REQUEST, devices)
            except Refusal as error:
                refused = str(error)
            if refused:  # the field, by containerd 2 where its CDI is off; 1.7 then ignores it
                assert (refused, enable_cdi, devices) == (DISABLED, False, (world.FUSE,))
                continue
            assert log == SEEN
            assert world.injected(engine.config(container)) == world.ONCE
            assert world.hooked(pod.box, container) == 1


def test_only_containerd(containerds: Callable[..., Containerd]) -> None:
    """A device that the kubelet requests only by its field is injected by containerd alone."""
    need("containerd", (1, 7), "CDI of its own")
    engine = containerds(enable_cdi=True)
    with Pod(engine) as pod:
        container, log = pod.run(world.LOOK, {}, [world.FUSE])
        assert log == SEEN
        assert world.injected(engine.config(container)) == world.ONCE


@pytest.mark.parametrize("case", world.REFUSALS)
@pytest.mark.parametrize("handler", HANDLERS)
def test_refusal(containerds: Callable[..., Containerd], handler: str, case: str) -> None:
    """The kubelet gets the message that says why the container fails, and the container's status keeps it."""
    device, message = world.REFUSALS[case]
    engine = containerds()
    with Pod(engine, handler) as pod:
        container = pod.create("true", {world.KEY: device})
        with pytest.raises(Refusal) as refused:
            pod.start(container)
        status = pod.status(container)
    assert str(refused.value) == engine.error.format(message)
    assert (status.reason, status.exit_code) == ("StartError", 128)
    assert plain(status.message) == engine.error.format(message)


@contextlib.contextmanager
def rules(box: Box) -> Iterator[None]:
    """Have a configuration by which pods in one namespace may have the device by their annotations."""
    before = box.read(CONF)
    box.write(CONF, f'ALLOW_ml="{world.FUSE} from=cdi.k8s.io/ namespace=ml-*"\n')
    yield
    box.write(CONF, before)


KEYS = ("io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace")


def refused_by_rules(engine: Containerd | Crio, handler: str, namespaces: str) -> None:
    """Run pods whose annotations ask for the device: in the namespace that may have it, and in another, which claims to be that."""
    with Pod(engine, handler, REQUEST, namespace="ml-1") as pod:
        assert pod.run(world.LOOK, {})[1] == SEEN
    with Pod(engine, handler, {**REQUEST, **dict.fromkeys(KEYS, "ml-1")}, namespace="guests") as pod:
        assert refusal(pod, {}) == engine.error.format(
            f'{world.FAILED}device {world.FUSE} (asked for by annotation "{world.KEY}") is not allowed on this '
            f"host: it is allowed only as in ALLOW_ml={world.FUSE} from=cdi.k8s.io/ namespace=ml-* "
            f"({CONF}:1); the container is in namespace {namespaces}"
        )


@pytest.mark.parametrize(
    ("handler", "namespaces"), [("cdi-pod", '"guests"'), ("cdi-all", '"guests" and "ml-1"')]
)
def test_pods_of_a_namespace_may_have_a_device(
    containerds: Callable[..., Containerd], handler: str, namespaces: str
) -> None:
    """A pod's annotations give it the device in the namespace that may have it, and in no other, whatever it claims."""
    engine = containerds()
    claim = [f"--annotation={key}=ml-1" for key in KEYS]
    with rules(engine.box):
        refused_by_rules(engine, handler, namespaces)
        done = engine.run(f"claims-{handler}", *claim, script="true")
    assert (done.returncode, "the container is in no namespace of Kubernetes" in done.stderr) == (1, True)


def test_pods_of_a_namespace_with_crio(crios: Callable[..., Crio]) -> None:
    """The same holds with CRI-O, which passes on what a pod claims in the name of containerd."""
    engine = crios()
    with rules(engine.box):
        refused_by_rules(engine, "cdi", '"ml-1" and "guests"')


@pytest.mark.parametrize("case", ["unknown device", "malformed annotation"])
def test_refusal_of_a_sandbox(containerds: Callable[..., Containerd], case: str) -> None:
    """If stderr can't be written to, as in a sandbox, the message is still passed on."""
    device, message = world.REFUSALS[case]
    engine = containerds()
    with pytest.raises(Refusal) as refused, Pod(engine, "cdi-sandboxes", {world.KEY: device}):
        pass
    assert str(refused.value) == engine.error.format(message)


def test_sandbox_with_a_device(containerds: Callable[..., Containerd]) -> None:
    """With SANDBOXES=inject, a sandbox has the device."""
    engine = containerds()
    with Pod(engine, "cdi-sandboxes", REQUEST) as pod:
        assert world.injected(engine.config(pod.sandbox)) == world.ONCE
