# SPDX-License-Identifier: Apache-2.0
"""An admin's walk: README's commands, and what pods notice of each. The tests build on each other, in this order.

In place of `podman push` images are imported, as there is no registry.
"""

from __future__ import annotations

import collections
import json
import os
import re
import time
from typing import TYPE_CHECKING, Any

import pytest

from tests.machine.machine import BOARD

from .conftest import filled, readme

if TYPE_CHECKING:
    from .node import Kubernetes

IMAGE = "docker.io/library/busybox:1.37"
FUSE = {"cdi.k8s.io/example": "host.local/fuse=fuse"}
OPENS = ": </dev/fuse"
FOREVER = "trap 'exit 0' TERM; while :; do sleep 0.2; done"
CONF = "/etc/cdi-hook/cdi-hook.conf"
HOOK = "/opt/cdi-hook/current/bin/cdi-hook"
CLONE = "/root/packaging/kubernetes"
SCALE = int(os.environ.get("CDI_HOOK_SCALE", "15"))
# What is the node's own; not what kubernetes, containerd and systemd keep of their own accord.
TREE = """cd /; find etc opt -xdev ! -path 'etc/kubernetes*' ! -path etc/machine-id ! -path etc/resolv.conf ! -path etc/.updated \\
    ! -path 'etc/cni*' \\( -type f -printf '%M %u:%g %p ' -exec sha256sum {} ';' -o -printf '%M %u:%g %p -> %l\\n' \\) | sort -k3"""


def container(script: str = FOREVER, name: str = "one", **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "image": IMAGE,
        "command": ["sh", "-c", script],
        **more,
    }


def pod(
    name: str, *containers: dict[str, Any], handler: str = "cdi", annotations: Any = None, **more: Any
) -> Any:
    spec = {"terminationGracePeriodSeconds": 1, "containers": list(containers) or [container()], **more}
    if handler:
        spec["runtimeClassName"] = handler
    metadata = {"name": name, "annotations": FUSE if annotations is None else annotations}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def admin(node: Kubernetes, *blocks: str) -> None:
    """Run README's commands on the node, which has kubectl, but those for which podman is needed."""
    for command in readme(*blocks):
        if not command.startswith("podman "):
            node.do("sh", "-ec", f"cd /root; {command}", timeout=node.timeout)


def edit(node: Kubernetes, path: str, *changes: tuple[str, str]) -> None:
    """Edit a file of the admin's clone."""
    text = node.read(f"{CLONE}/{path}")
    for before, after in changes:
        assert before in text, before
        text = text.replace(before, after)
    node.write(f"{CLONE}/{path}", text)


def use(node: Kubernetes, tag: str) -> None:
    """Write the registry and a tag into the kustomizations."""
    for path in ("kustomization.yaml", "device-plugin/kustomization.yaml"):
        text = re.sub(r'newTag: "[^"]*"', 'newTag: "VERSION"', node.read(f"{CLONE}/{path}"))
        node.write(f"{CLONE}/{path}", filled(text, tag if path == "kustomization.yaml" else "1.0"))


def opens(node: Kubernetes, name: str, of: str = "one") -> bool:
    """Say whether a pod's container can open the device."""
    return node.call("kubectl", "exec", name, "-c", of, "--", "sh", "-c", OPENS).returncode == 0


def restarts(node: Kubernetes, name: str) -> int:
    return int(node.show("pod", name, ".status.containerStatuses[0].restartCount"))


def event(node: Kubernetes, name: str, text: str) -> str:
    """Wait until an event of a pod has a text; return its message."""

    def found() -> list[str]:
        events = json.loads(
            node.kubectl("get", "events", "-o", "json", "--field-selector", f"involvedObject.name={name}")
        )
        return [one["message"] for one in events["items"] if text in one["message"]]

    node.wait(found)
    return found()[0]


def doctor(node: Kubernetes, *arguments: str) -> list[tuple[str, str, str]]:
    """Return what doctor finds: level, fact, fix."""
    found = json.loads(node.call(HOOK, "doctor", "--json", *arguments).stdout)
    return [(one["level"], one["message"], one["fix"]) for one in found["items"]]


def errors(node: Kubernetes, *arguments: str) -> list[tuple[str, str]]:
    return [(fact, fix) for level, fact, fix in doctor(node, *arguments) if level == "error"]


def test_install(node: Kubernetes) -> None:
    """The installation restarts the engine once, ends no container, and says once what it does."""
    node.before = node.do("sh", "-c", TREE)
    use(node, "v1")
    edit(node, "install.yaml", ('value: "false"', 'value: "true"'))
    node.apply(pod("survivor", handler="", annotations={}))
    node.runs("survivor")
    main = node.main(node.engine)
    admin(node, "install")
    assert node.main(node.engine) != main
    assert (restarts(node, "survivor"), opens(node, "survivor")) == (0, False)
    log = node.kubectl("-n", "cdi-hook", "logs", "daemonset/cdi-hook", "-c", "install")
    assert log.count("cdi-hook: installed ") == 1
    assert log.count("whoever may create a pod") == 1, log
    pods = node.kubectl(
        "-n",
        "cdi-hook",
        "get",
        "pods",
        "-o",
        "jsonpath={.items[*].status.initContainerStatuses[*].restartCount}",
    )
    assert pods == "0"


def test_readmes_pod(node: Kubernetes) -> None:
    """The example of README has its device."""
    admin(node, "generate", "pod")
    assert re.match(r"c.* 10, 229 .*/dev/fuse", node.kubectl("logs", "cdi-example"))
    node.delete("cdi-example")


def test_every_kind_of_container(node: Kubernetes) -> None:
    """Init containers, sidecars, probes, exec, an ephemeral container: all have it; a container that is resized keeps it."""
    probe = {"exec": {"command": ["sh", "-c", OPENS]}, "periodSeconds": 1, "timeoutSeconds": 30}
    limits = {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "100m", "memory": "32Mi"}}
    policies = [{"resourceName": name, "restartPolicy": "NotRequired"} for name in ("cpu", "memory")]
    inits = [container(f"{OPENS} && echo opened", "init"), container(name="side", restartPolicy="Always")]
    main = container(livenessProbe=probe, readinessProbe=probe, resources=limits, resizePolicy=policies)
    node.apply(pod("every", main, container(name="two"), initContainers=inits))
    node.runs("every")
    assert node.kubectl("logs", "every", "-c", "init") == "opened"
    assert [opens(node, "every", of) for of in ("one", "two", "side")] == [True] * 3
    node.kubectl(
        "debug",
        "every",
        f"--image={IMAGE}",
        "-c",
        "late",
        "--profile=general",
        "--",
        "/bin/busybox",
        "sh",
        "-c",
        f"{OPENS} && echo opened; sleep 1000",
    )
    node.wait(lambda: node.call("kubectl", "logs", "every", "-c", "late").stdout == "opened\n")
    bigger = {"limits": {"cpu": "200m", "memory": "48Mi"}}
    patch = {"spec": {"containers": [{"name": "one", "resources": bigger}]}}
    node.kubectl("patch", "pod", "every", "--subresource", "resize", "-p", json.dumps(patch))
    node.wait(
        lambda: (
            node.show("pod", "every", ".status.containerStatuses[?(@.name=='one')].resources.limits.memory")
            == "48Mi"
        )
    )
    assert (opens(node, "every"), restarts(node, "every")) == (True, 0)
    node.delete("every")


def test_a_container_that_starts_again(node: Kubernetes) -> None:
    """Each restart gives the device anew; a pod without the runtime class, and one that asks for nothing, have none."""
    again = container(f"{OPENS} && echo opened; sleep 1; exit 1")
    node.apply(pod("again", again), pod("plain", handler=""), pod("nothing", annotations={}))
    node.wait(lambda: node.show("pod", "again", ".status.containerStatuses[*].restartCount") not in ("", "0"))
    node.wait(lambda: "opened" in node.kubectl("logs", "again", "--previous"))
    node.runs("plain", "nothing")
    assert [opens(node, name) for name in ("plain", "nothing")] == [False, False]
    node.delete("again")


def test_what_pods_are_told(node: Kubernetes) -> None:
    """A device that isn't known is named in the pod's event, with a command that the node has; doctor knows mistakes."""
    key = {"cdi.k8s/x": "host.local/fuse=fuse"}
    node.apply(
        pod("unknown", annotations={"cdi.k8s.io/x": "host.local/fuse=fuze"}),
        pod("misspelt", annotations=key),
        pod("right"),
    )
    message = event(node, "unknown", "CDI device injection failed")
    assert "unresolvable CDI devices host.local/fuse=fuze" in message
    program = re.search(r'"(\S+) list" shows the known devices', message)
    assert program
    node.do(program[1], "list")
    node.runs("misspelt", "right")
    assert errors(node, "default/right") == []
    why = {
        "containerd": "gets nothing by its pod's annotation cdi.k8s.io/example=host.local/fuse=fuse: containerd doesn't pass it on",
        "crio": "was created with the runtime runc, which isn't cdi-runtime",
    }
    found = [fix for fact, fix in errors(node, "default/plain") if fact.endswith(why[node.engine])]
    assert found == ["create the pod again with runtimeClassName: cdi"]
    ((fact, fix),) = errors(node, "default/misspelt")
    assert 'has the annotation "cdi.k8s/x", which asks for nothing' in fact
    assert fix == 'annotations: {cdi.k8s.io/NAME: "host.local/fuse=fuse"}'
    ((fact, fix),) = errors(node, "default/nothing/one")
    assert fact.endswith("asks for no device")
    assert fix.endswith(f"{HOOK} list shows the names")
    ((fact, fix),) = errors(node, "default/nobody")
    assert fix == "kubectl -n default describe pod nobody says on which node it is, and what went wrong"
    node.delete("unknown", "misspelt", "right", "plain", "nothing")


def test_rules(node: Kubernetes) -> None:
    """A rule for a namespace: a pod there has its device and doctor says so; elsewhere the refusal names the rule."""
    node.write(CONF, 'ALLOW_ml="host.local/fuse=* namespace=ml-*"\n')
    node.kubectl("create", "namespace", "ml-a")
    # the second claims another namespace
    forged = {**FUSE, "io.kubernetes.cri.sandbox-namespace": "ml-a", "io.kubernetes.pod.namespace": "ml-a"}
    inside = pod("inside")
    inside["metadata"]["namespace"] = "ml-a"
    node.apply(inside, pod("outside"), pod("forged", annotations=forged))
    node.wait_for("condition=Ready", "pod/inside", namespace="ml-a")
    for name in ("outside", "forged"):
        assert f"ALLOW_ml=host.local/fuse=* namespace=ml-* ({CONF}:1)" in event(
            node, name, "is not allowed on this host"
        )
    assert errors(node, "ml-a/inside") == []
    refusals = [fact for fact, _ in errors(node, "default/outside")]
    known = "is not allowed on this host" if node.engine == "containerd" else "no container and no bundle"
    assert any(known in fact for fact in refusals)  # CRI-O keeps no container that couldn't be created
    node.kubectl("delete", "namespace", "ml-a")
    node.delete("outside", "forged")
    node.do("rm", CONF)


def test_generate(node: Kubernetes) -> None:
    """GENERATE in the node's file makes specs at once, by the node's own units; so do devices that come and go."""
    node.write(CONF, "GENERATE=fuse\n")
    node.wait(lambda: "host.local/fuse" in node.read("/run/cdi/host.local-fuse.yaml"))
    assert (
        node.do("systemctl", "is-enabled", "cdi-hook-generate.service", "cdi-hook-generate.path").split()
        == ["enabled"] * 2
    )
    if node.has_events:
        spec = "/run/cdi/host.local-watchdog.yaml"
        node.write(CONF, "GENERATE='fuse watchdog'\n")
        node.do("modprobe", "softdog")
        node.wait(lambda: "watchdog0" in node.read(spec))
        node.do("modprobe", "--remove", "softdog")
        node.wait(lambda: "watchdog0" not in node.read(spec))


def test_nvidia(node: Kubernetes) -> None:
    """A spec of NVIDIA's driver names the hook by the path that it has on the node, and a pod gets the GPU by it."""
    node.do(HOOK, "generate", "nvidia", "--root", f"{BOARD}/driver", "--output", "/etc/cdi")
    assert f"path: {HOOK}\n" in node.read("/etc/cdi/nvidia.com-gpu.yaml")
    look = "ls -d /dev/nvidia0 /usr/local/nvidia/lib64/libcuda.so.1 && /usr/bin/nvidia-smi"
    node.apply(
        pod("gpu", container(look), restartPolicy="Never", annotations={"cdi.k8s.io/x": "nvidia.com/gpu=0"})
    )
    node.wait_for("jsonpath={.status.phase}=Succeeded", "pod/gpu")
    assert node.kubectl("logs", "gpu").split() == [
        "/dev/nvidia0",
        "/usr/local/nvidia/lib64/libcuda.so.1",
        "smi",
    ]
    node.delete("gpu")
    node.do("rm", "/etc/cdi/nvidia.com-gpu.yaml")


def offered(node: Kubernetes, resource: str = "host.local/fuse") -> str:
    """Return how many devices of a resource the node has for pods."""
    found = json.loads(node.kubectl("get", "node", "node1", "-o", "json"))
    return str(found["status"]["allocatable"].get(resource, ""))


def asking(name: str, number: int = 1, handler: str = "cdi") -> Any:
    return pod(
        name, container(resources={"limits": {"host.local/fuse": number}}), handler=handler, annotations={}
    )


def test_plugin(node: Kubernetes) -> None:
    """The plugin offers what specs define; a pod has what it asks for, and no more than there is."""
    edit(
        node,
        "device-plugin/devices.yaml",
        (
            '  - pattern: "*/*=*"\n',
            '  - {pattern: "host.local/fuse=*", shares: 2}\n  - pattern: "test.local/*=*"\n',
        ),
    )
    admin(node, "plugin")
    node.wait(lambda: offered(node) == "2")
    node.apply(asking("wants"), asking("wants-more", 2))
    node.runs("wants")
    assert opens(node, "wants")
    event(node, "wants-more", "Insufficient host.local/fuse")
    node.apply(asking("wants-too"))
    node.runs("wants-too")
    assert opens(node, "wants-too")
    node.delete("wants-more", "wants-too")


def test_plugin_and_kubelet_start_again(node: Kubernetes) -> None:
    """After each restart new pods have devices, and those that run keep theirs."""
    for what in ("kubelet", "plugin", node.engine, "kubelet"):
        if what == "plugin":
            node.kubectl("-n", "cdi-hook-device-plugin", "delete", "pod", "--all", "--wait")
        else:
            node.do("systemctl", "restart", what)
        node.wait(node.is_ready)
        node.kubectl("-n", "cdi-hook-device-plugin", "rollout", "status", "daemonset/cdi-hook-device-plugin")
        time.sleep(3)
        node.wait(lambda: offered(node) == "2")
        node.wait(lambda: _runs_once(node, "later"))
        assert (opens(node, "wants"), restarts(node, "wants")) == (True, 0), what


def _runs_once(node: Kubernetes, name: str) -> bool:
    """Say whether a pod that asks for a device has it; one that came too early for the plugin is made again."""
    node.apply(asking(name))
    within = f"--timeout={node.timeout // 12}s"
    waited = node.call("kubectl", "wait", "--for=condition=Ready", within, f"pod/{name}")
    has = waited.returncode == 0 and opens(node, name)
    node.delete(name)
    return has


def test_hardware_vanishes(node: Kubernetes) -> None:
    """A device whose node is gone is no longer offered, and is again when it is back."""
    thing = {"name": "one", "containerEdits": {"deviceNodes": [{"path": "/dev/thing"}]}}
    node.do("mknod", "/dev/thing", "c", "1", "3")
    node.write(
        "/etc/cdi/thing.json",
        json.dumps({"cdiVersion": "0.6.0", "kind": "test.local/thing", "devices": [thing]}),
    )
    node.wait(lambda: offered(node, "test.local/thing") == "1")
    node.do("rm", "/dev/thing")
    node.wait(lambda: offered(node, "test.local/thing") == "0")
    node.do("mknod", "/dev/thing", "c", "1", "3")
    node.wait(lambda: offered(node, "test.local/thing") == "1")
    node.do("rm", "/dev/thing", "/etc/cdi/thing.json")
    node.wait(lambda: offered(node, "test.local/thing") == "0")


def test_the_engines_own_cdi(node: Kubernetes) -> None:
    """With `request: field` a pod without runtime class has its device, where the engine has CDI of its own."""
    if node.engine == "containerd" and "version = 2" in node.read("/etc/containerd/config.toml").splitlines():
        pytest.skip("containerd 1.7 has its own CDI off")
    edit(node, "device-plugin/devices.yaml", ("request: annotation", "request: field"))
    admin(node, "plugin")
    node.wait(lambda: offered(node) == "2")
    node.apply(asking("field", handler=""))
    node.runs("field")
    assert opens(node, "field")
    node.delete("field")
    edit(node, "device-plugin/devices.yaml", ("request: field", "request: annotation"))
    admin(node, "plugin")
    node.wait(lambda: offered(node) == "2")


def test_drain_and_reboot(node: Kubernetes) -> None:
    """After a drain, and after a reboot, pods have their devices again: those of annotations, and of the plugin."""
    deployment = {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "stays"},
        "spec": {
            "replicas": 2, "selector": {"matchLabels": {"app": "stays"}},
            "template": {"metadata": {"labels": {"app": "stays"}, "annotations": FUSE}, "spec": pod("x")["spec"]},
        },
    }  # fmt: skip
    node.apply(deployment)
    node.rolled_out("stays")
    node.kubectl("drain", "node1", "--ignore-daemonsets", "--force", f"--timeout={node.timeout}s")
    node.kubectl("uncordon", "node1")
    node.rolled_out("stays")
    node.apply(asking("wants"))
    node.runs("wants")
    node.reboot()
    node.wait(lambda: offered(node) == "2")
    node.rolled_out("stays")
    node.wait(lambda: _runs_once(node, "after"))
    (first, *_) = node.kubectl(
        "get", "pods", "-l", "app=stays", "-o", "jsonpath={.items[*].metadata.name}"
    ).split()
    node.wait(lambda: opens(node, first))
    assert node.read("/run/cdi/host.local-fuse.yaml")  # GENERATE, at boot
    node.kubectl("delete", "deployment", "stays", "--wait")
    node.delete("--all")


def many(node: Kubernetes, name: str, handler: str, replicas: int) -> float:
    """Start so many pods at once; return the s until all are ready."""
    spec = pod("x", container(f"{OPENS if handler else ':'} || exit 1; exec sleep 100000"), handler=handler)[
        "spec"
    ]
    spec["terminationGracePeriodSeconds"] = 0
    start = time.monotonic()
    node.apply({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}}, "progressDeadlineSeconds": 900,
            "template": {"metadata": {"labels": {"app": name}, "annotations": FUSE if handler else {}}, "spec": spec},
        },
    })  # fmt: skip
    return start


def end(node: Kubernetes, *names: str) -> None:
    node.kubectl("delete", "deployment", *names)
    for name in names:
        node.wait(lambda: node.kubectl("get", "pods", "-l", f"app={name}", "-o", "name") == "")  # noqa: B023


def test_upgrade_while_pods_start(node: Kubernetes) -> None:
    """Another version comes while many pods start: none of them misses it, and the engine isn't restarted."""
    main = node.main(node.engine)
    first = node.do("readlink", "/opt/cdi-hook/current")
    many(node, "many", "cdi", SCALE)
    use(node, "1.0")
    admin(node, "install")
    node.rolled_out("many")
    assert node.main(node.engine) == main
    assert node.do("readlink", "/opt/cdi-hook/current") != first
    found = json.loads(node.kubectl("get", "pods", "-l", "app=many", "-o", "json"))["items"]
    assert len(found) == SCALE
    end(node, "many")


def test_a_node_with_many_pods(node: Kubernetes) -> None:
    """As many pods with a device as without: none is lost, and afterwards nothing is left; the figures are printed."""
    figures = {}
    for name, handler in (("runc", ""), ("cdi", "cdi")):
        before = cpu(node)
        start = many(node, name, handler, SCALE)
        node.rolled_out(name)
        figures[name] = round(time.monotonic() - start, 1), round(cpu(node) - before, 1)
        end(node, name)
    print(f"\n{SCALE} pods, s until all were ready and s of the node's CPU: {figures}")
    node.wait(
        lambda: (
            int(node.do("sh", "-c", "ls /run/containerd/io.containerd.runtime.v2.task/k8s.io | wc -l")) < 10
        )
    )
    left = node.do(
        "sh", "-c", "find /run/cdi-hook* -type f | sort; findmnt -rno TARGET | grep -c cdi-hook || :"
    )
    assert "tmp" not in left, left


STATE = """find /run /tmp /opt/cdi-hook /var/lib/cdi-hook -xdev ! -path '/run/containerd*' ! -path '/run/systemd*' \\
    ! -path '/run/udev*' ! -path '/run/log*' 2>/dev/null | sort; findmnt -rno TARGET | grep -v /run/containerd | sort"""
MANY = """i=0; while [ $i -lt "$1" ]; do
    ctr -n k8s.io run --rm --runc-binary /opt/cdi-hook/current/bin/cdi-runtime \\
        --annotation cdi.k8s.io/x=host.local/fuse=fuse "$2" row$i test -c /dev/fuse || exit
    i=$((i + 1))
done"""


def test_creates_in_a_row(node: Kubernetes) -> None:
    """Nine times as many containers one after another leave no file, no mount, and no process behind."""
    if node.engine == "crio":
        pytest.skip("CRI-O has no client but the kubelet")

    def state() -> list[str]:
        processes = node.do("sh", "-c", "ps -e -o comm= | grep 'runc\\|cdi-\\|python' || :")
        return [*node.do("sh", "-c", STATE).splitlines(), *processes.splitlines()]

    node.do("sh", "-c", MANY, "sh", "1", IMAGE)
    before = state()
    start = time.monotonic()
    node.do("sh", "-c", MANY, "sh", str(SCALE * 9), IMAGE, timeout=3000)
    print(f"\n{SCALE * 9} containers in a row: {time.monotonic() - start:.1f} s")
    new = collections.Counter(state()) - collections.Counter(
        before
    )  # the last test's pods may still be ending
    assert not new


def cpu(node: Kubernetes) -> float:
    """Return the s of CPU that the node has used."""
    found = node.call(
        "sh",
        "-c",
        "cat /sys/fs/cgroup/cpuacct/cpuacct.usage 2>/dev/null || sed -n 's/usage_usec \\(.*\\)/\\1000/p' /sys/fs/cgroup/cpu.stat",
    )
    return int(found.stdout) / 1e9


def test_removal(node: Kubernetes) -> None:
    """A removal waits for the pods that use it, names them, and then leaves the node as it was."""
    node.apply(pod("holds"))
    node.runs("holds")
    *commands, last, namespace = readme("remove")
    for command in commands:
        node.do("sh", "-ec", f"cd /root; {command}")

    def log() -> str:
        return node.call("kubectl", "-n", "cdi-hook", "logs", "daemonset/cdi-hook", "-c", "install").stdout

    node.wait(lambda: "not removed while there are containers of default/holds" in log())
    assert opens(node, "holds")
    node.delete("holds")
    node.do("sh", "-ec", last, timeout=node.timeout)
    assert log().rstrip().endswith("cdi-hook: removed")
    node.do("sh", "-ec", namespace, timeout=node.timeout)
    assert node.read("/run/cdi/host.local-fuse.yaml") == ""
    node.do("rm", "-r", "/etc/cdi", "/etc/cdi-hook")  # the admin's own
    after = node.do("sh", "-c", TREE)
    assert after.splitlines() == node.before.splitlines()
    assert node.call("test", "-e", "/run/cdi-hook").returncode == 1
