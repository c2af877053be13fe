# SPDX-License-Identifier: Apache-2.0
"""doctor.container: what a bundle asks for and was given, what LOG says, and how engines are asked for a container.

The engines here are scripts; tests/engine/test_doctor.py asks the real ones.
"""

from __future__ import annotations

import base64
import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from cdi_hook.doctor.checks import of_container
from cdi_hook.doctor.patient import as_root
from cdi_hook.edits import host_check
from cdi_hook.engines import ENGINES
from cdi_hook.engines.client import KnownContainer
from cdi_hook.engines.containerd import _binary
from cdi_hook.errors import Finding

if TYPE_CHECKING:
    from .conftest import Place

GPU = "vendor.com/gpu=gpu0"
ASK = {"cdi.k8s.io/x": GPU}
WHO = "/T/bundle"
ASKED = f'{WHO} asks for vendor.com/gpu=gpu0 (annotation "cdi.k8s.io/x")'
GIVEN = f"{WHO} was given all of that"


def said(place: Place, name: str = "") -> list[tuple[str, str, str, str]]:
    """Return what is said of a container or of the bundle, as check, level, fact and fix."""
    name = name or f"{place.root}/bundle"
    found, unasked = of_container.find(name)
    findings = [("container", one) for one in unasked]
    for engine, one in found:
        findings += of_container.examine(place.patient(), engine, one)
    here = str(place.root)
    return [
        (check, one.level, one.message.replace(here, "/T"), one.fix.replace(here, "/T"))
        for check, one in findings
    ]


def bundle(place: Place, annotations: dict[str, str], env: tuple[str, ...] = (), **more: Any) -> None:
    """Write a bundle that has these annotations and variables."""
    oci = {"ociVersion": "1.0.2", "annotations": annotations, "process": {"env": list(env)}, **more}
    place.write("bundle/config.json", json.dumps(oci))


def test_given(place: Place) -> None:
    """A bundle that has all that its devices bring was given it."""
    place.spec()
    bundle(place, ASK, ("A=1",))
    expected = [("asked", "ok", ASKED, ""), ("given", "ok", GIVEN, "")]
    assert said(place) == expected
    assert said(place, f"{place.root}/bundle/config.json") == expected


def test_not_given(place: Place) -> None:
    """A bundle that lacks something was not given it, and the command that shows it is there."""
    place.spec()
    bundle(place, ASK)
    fact = f"{WHO} was not given all of that: its config.json lacks 1 change"
    assert said(place)[1] == ("given", "error", fact, "cdi-hook inject --diff /T/bundle")


def test_given_by_a_hook(place: Place) -> None:
    """A bundle that has our hook gets its devices while it is created."""
    place.spec()
    bundle(place, ASK, hooks={"createRuntime": [{"path": "/usr/bin/cdi-hook"}]})
    fact = f"{WHO} is given all of that by its hook createRuntime, while it is created"
    assert said(place)[1] == ("given", "ok", fact, "")


def test_it_cannot_be_given(place: Place) -> None:
    """A device that isn't known, or that the policy refuses, is an error in the words that the runtime has."""
    bundle(place, ASK)
    (_, (check, level, fact, fix)) = said(place)
    assert (check, level, fix) == ("given", "error", "cdi-hook doctor")
    assert fact.startswith(f"{WHO}: unresolvable CDI devices vendor.com/gpu=gpu0 (asked for by annotation ")
    place.spec()
    place.configure(DENY="vendor.com/*")
    assert "is not allowed on this host: DENY=vendor.com/*" in said(place)[1][2]


def test_malformed(place: Place) -> None:
    """A request that can't be understood is an error."""
    bundle(place, {"cdi.k8s.io/x": "gpu0"})
    ((check, level, fact, _),) = said(place)
    assert (check, level) == ("asked", "error")
    assert fact.startswith(f'{WHO}: annotation "cdi.k8s.io/x": invalid CDI device name "gpu0"')


@pytest.mark.parametrize(
    ("annotations", "env", "fact", "fix"),
    [
        (
            {"cdi.k8s.io": "vendor.com/gpu=gpu0"},
            (),
            'annotation "cdi.k8s.io", which asks for nothing: the key has to begin with cdi.k8s.io/',
            "--annotation cdi.k8s.io/NAME=vendor.com/gpu=gpu0",
        ),
        (
            {"cdi.k8s/x": "vendor.com/gpu=gpu0"},
            (),
            'annotation "cdi.k8s/x", which asks for nothing: the key has to begin with cdi.k8s.io/',
            "--annotation cdi.k8s.io/NAME=vendor.com/gpu=gpu0",
        ),
        (
            {"CDI.k8s.io/x": "vendor.com/gpu= gpu0"},
            (),
            'annotation "CDI.k8s.io/x", which asks for nothing: the key has to begin with cdi.k8s.io/',
            "--annotation 'cdi.k8s.io/NAME=vendor.com/gpu= gpu0'",
        ),
        (
            {"devices": "vendor.com/gpu=gpu0, vendor.com/gpu=gpu1"},
            (),
            'annotation "devices", which asks for nothing: the key has to begin with cdi.k8s.io/',
            "--annotation 'cdi.k8s.io/NAME=vendor.com/gpu=gpu0, vendor.com/gpu=gpu1'",
        ),
        (
            {"cdi.k8s.io": "$(reboot)"},
            (),
            'annotation "cdi.k8s.io", which asks for nothing: the key has to begin with cdi.k8s.io/',
            "--annotation 'cdi.k8s.io/NAME=$(reboot)'",
        ),
        (
            {},
            ("NVIDIA_VISIBLE_DEVICES=all",),
            "variable NVIDIA_VISIBLE_DEVICES=all, which asks for nothing",
            "--annotation cdi.k8s.io/NAME=vendor.com/class=name, or DEVICE_ENV=NVIDIA_VISIBLE_DEVICES in cdi-hook.conf",
        ),
        (
            {},
            ("MINE=vendor.com/gpu=gpu0",),
            "variable MINE=vendor.com/gpu=gpu0, which asks for nothing",
            "--annotation cdi.k8s.io/NAME=vendor.com/class=name, or DEVICE_ENV=MINE in cdi-hook.conf",
        ),
    ],
)
def test_what_only_looks_like_asking(
    place: Place, annotations: dict[str, str], env: tuple[str, ...], fact: str, fix: str
) -> None:
    """A key that is near ours, a value that names devices, and a variable of another runtime are found."""
    bundle(place, annotations, env)
    assert said(place) == [("looks like", "error", f"{WHO} has the {fact}", fix)]


@pytest.mark.parametrize(
    ("annotations", "env"),
    [
        ({"io.kubernetes.cri.container-type": "container", "k8s.io/x": "a=b"}, ()),
        (
            {},
            (
                "NVIDIA_VISIBLE_DEVICES=void",
                "CUDA_VISIBLE_DEVICES=0",
                "PATH=/bin",
                "A=b=c",
                "E=",
                "$(reboot)=vendor.com/gpu=gpu0",
                "CDI_DEALT=vendor.com/gpu=gpu0",
            ),
        ),
    ],
)
def test_what_does_not_look_like_asking(
    place: Place, annotations: dict[str, str], env: tuple[str, ...]
) -> None:
    """Other annotations and variables mean nothing: then the container asks for no device."""
    bundle(place, annotations, env)
    fix = "--annotation cdi.k8s.io/NAME=vendor.com/class=name; cdi-hook list shows the names"
    assert said(place) == [("asked", "error", f"{WHO} asks for no device", fix)]


@pytest.mark.parametrize("more", [{"annotations": []}, {"hooks": 1, "process": []}, {"process": {"env": {}}}])
def test_odd_bundle(place: Place, more: dict[str, Any]) -> None:
    """A config.json with another shape is no reason to fail."""
    place.write("bundle/config.json", json.dumps({"annotations": ASK, **more}))
    assert [line[0] for line in said(place)] in (["asked"], ["asked", "given"])


def test_variable_that_counts(place: Place) -> None:
    """A variable of DEVICE_ENV asks, and one that an image brings is nothing beside a request."""
    place.spec()
    place.configure(DEVICE_ENV="MINE")
    bundle(place, {}, ("MINE=vendor.com/gpu=gpu0", "A=1", "NVIDIA_VISIBLE_DEVICES=all"))
    fact = f"{WHO} asks for vendor.com/gpu=gpu0 (environment variable MINE)"
    assert said(place) == [("asked", "ok", fact, ""), ("given", "ok", GIVEN, "")]


@pytest.mark.parametrize("is_member", [False, True])
def test_a_node_that_a_user_cannot_open(
    place: Place, monkeypatch: pytest.MonkeyPatch, is_member: bool
) -> None:
    """What a user can't open, the user's own container can't; one that leaves the user's groups can open less."""
    node = place.write("node", "", 0o660)
    place.spec(deviceNodes=[{"path": node, "type": "c", "major": 1, "minor": 3}])
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(node).st_uid + 1)
    monkeypatch.setattr(os, "getegid", lambda: os.stat(node).st_gid + 1)
    monkeypatch.setattr(os, "getgroups", lambda: [os.stat(node).st_gid] if is_member else [])
    group = host_check.group(os.stat(node).st_gid)
    annotations = {"cdi.k8s.io/a": GPU}
    case = of_container._Case(
        place.patient(), None, KnownContainer("", bundle="it", oci={"annotations": annotations})
    )
    fact = f"it can't open {node}, which is for the group {group}: "
    if not is_member:
        fix = f"sudo usermod -aG {group} $USER; then log in again"
        assert [*case._closed()] == [Finding("error", f"{fact}you aren't in it", fix)]
        return
    fix = "--group-add keep-groups, an option of podman that crun knows"
    assert [*case._closed()] == [Finding("error", f"{fact}you are in it, and the container left it", fix)]
    annotations["run.oci.keep_original_groups"] = "1"
    assert [*case._closed()] == []
    os.chmod(node, 0o600)
    assert [*case._closed()] == [Finding("error", f"it can't open {node}: only root may")]


def test_log(place: Place) -> None:
    """The last lines of LOG about the container are shown, and no others."""
    place.spec()
    log = place.root / "log"
    place.configure(LOG=str(log))
    bundle(place, ASK, ("A=1",))
    lines: list[dict[str, Any]] = [
        {"time": f"T{number}", "level": "INFO", "msg": "CDI devices injected", "container": "bundle",
         "devices": [{"name": "vendor.com/gpu=gpu0", "source": "x"}]}
        for number in range(3)
    ]  # fmt: skip
    lines += [
        {"time": "T3", "level": "ERROR", "msg": "no bundle", "container": "other"},
        {"time": "T4", "level": "ERROR", "msg": "it failed", "container": "bundle"},
    ]
    log.write_text("".join(f"{json.dumps(line)}\n" for line in lines) + '{"container":"bundle"\n')
    assert said(place)[2:] == [
        ("log", "ok", "/T/log, T1: CDI devices injected: vendor.com/gpu=gpu0", ""),
        ("log", "ok", "/T/log, T2: CDI devices injected: vendor.com/gpu=gpu0", ""),
        ("log", "error", "/T/log, T4: it failed", ""),
    ]


def test_log_that_is_a_fifo(place: Place) -> None:
    """A LOG that isn't a file is not waited for."""
    place.spec()
    os.mkfifo(place.root / "log")
    place.configure(LOG=str(place.root / "log"))
    bundle(place, ASK, ("A=1",))
    fix = "sudo cdi-hook doctor /T/bundle"
    assert said(place)[2:] == [("log", "unknown", "LOG=/T/log can't be read: not a regular file", fix)]


def test_no_such_container(place: Place) -> None:
    """A name that nothing knows is an error that says who was asked."""
    place.program("podman", "echo 'Error: no such container x' >&2; exit 125")
    who = "root" if os.geteuid() == 0 else "you"
    fix = "a user's engine and root's don't know each other's containers"
    fact = f'no container and no bundle "x" is known to {who}; asked: podman'
    assert said(place, "x") == [("container", "error", fact, fix)]
    place.program("docker", "echo permission denied while trying to connect >&2; exit 1")
    assert said(place, "x")[0] == (
        "container", "unknown", "only root may ask docker", "sudo cdi-hook doctor x",
    )  # fmt: skip


@pytest.mark.parametrize("handler", ["", "other"])
def test_crio(place: Place, monkeypatch: pytest.MonkeyPatch, handler: str) -> None:
    """A container of CRI-O is asked for by crictl: its OCI spec, and the runtime of its pod, or else the default one."""
    pod = {"info": {"runtimeSpec": {"annotations": {"io.kubernetes.cri-o.RuntimeHandler": handler}}}}
    inspect = {
        "status": {"id": "abc", "labels": {"io.kubernetes.pod.name": "web"}},
        "info": {"sandboxID": "pod1", "runtimeSpec": {"annotations": ASK, "process": {"env": []}}},
    }
    place.program(
        "crictl",
        f"""case $* in
*" ps --all --output=json --label=io.kubernetes.pod.namespace=ml-a --label=io.kubernetes.pod.name=web")
    echo '{{"containers": [{{"id": "abc"}}]}}' ;;
*" ps "*) echo '{{"containers": []}}' ;;
*" inspectp "*) echo '{json.dumps(pod)}' ;;
*) echo '{json.dumps(inspect)}' ;;
esac""",
    )
    place.program("crio", "")
    place.spec()
    monkeypatch.setattr(ENGINES["crio"], "file", f"{place.root}/etc/crio/crio.conf.d/99-cdi-hook.conf")
    text = '[crio.runtime]\ndefault_runtime = "runc"\n[crio.runtime.runtimes.runc]\nruntime_path = "/usr/sbin/runc"\n'
    text += '[crio.runtime.runtimes.other]\nruntime_path = "/usr/sbin/other"\n'
    fix = as_root("cdi-hook", "configure", "crio", "--reload")
    place.write("etc/crio/crio.conf", text)
    who, name = "crio's container abc", handler or "runc"
    assert said(place, "abc") == [
        ("asked", "ok", f'{who} asks for vendor.com/gpu=gpu0 (annotation "cdi.k8s.io/x")', ""),
        ("given", "ok", f"{who} isn't running; cdi-runtime could give it all of that", ""),
        (
            "runtime",
            "error",
            f"{who} was created with the runtime {name} (/usr/sbin/{name}), which isn't cdi-runtime",
            fix,
        ),
    ]
    place.write(
        "etc/crio/crio.conf", f'{text}[crio.runtime.runtimes.cdi]\nruntime_path = "/usr/bin/cdi-runtime"\n'
    )
    assert said(place, "abc")[2][3] == "create the pod again with runtimeClassName: cdi"
    assert said(place, "ml-a/web") == said(place, "abc")
    assert said(place, "ml-b/web")[0][1] == "error"
    (place.programs / "crictl").unlink()
    assert said(place, "abc")[0][:3] == (
        "container",
        "unknown",
        "crio can't be asked: crictl isn't installed, and nothing else asks CRI-O for a container",
    )


POD = {"io.kubernetes.cri.sandbox-name": "web", "io.kubernetes.cri.sandbox-namespace": "ml-a"}


@pytest.mark.parametrize("state", ["running", "stopped", "claimed"])
@pytest.mark.parametrize("namespace", ["ml-a", "ml-b"])
def test_a_rule_for_a_namespace(place: Place, state: str, namespace: str) -> None:
    """A rule with namespace= counts for a pod's container, also one that has ended; not for one that only claims so."""
    place.spec()
    place.configure(ALLOW_ml=f"vendor.com/* namespace={namespace}")
    oci = {"annotations": {**ASK, **POD}, "process": {"env": ["A=1"]}}
    made = place.write("k8s.io/abc/config.json", json.dumps(oci)) if state == "running" else "/"
    known = KnownContainer(
        "abc", "cdi", "/usr/bin/cdi-runtime", os.path.dirname(made).rstrip("/"), oci, is_running=state == "running",
        client="" if state == "claimed" else "pod",
    )  # fmt: skip
    given = [
        one
        for check, one in of_container.examine(place.patient(), ENGINES["containerd"], known)
        if check == "given"
    ]
    is_allowed = state != "claimed" and namespace == "ml-a"
    assert [one.level for one in given] == ["ok" if is_allowed else "error"]
    assert ("is not allowed on this host" in given[0].message) is not is_allowed


def containerd(place: Place, monkeypatch: pytest.MonkeyPatch, handler: str, **annotations: str) -> None:
    """Have a containerd with one pod's container, of a handler; the pod has the annotations."""

    def metadata(kind: str, data: Any) -> Any:
        value = base64.b64encode(json.dumps({"Metadata": data}).encode()).decode()
        return {f"io.cri-containerd.{kind}.metadata": {"value": value}}

    options = b"\x32\x14/usr/bin/cdi-runtime" if handler == "cdi" else b"\x32\x04runc"
    container = {
        "Runtime": {
            "Name": "io.containerd.runc.v2",
            "Options": {"value": base64.b64encode(options).decode()},
        },
        "Spec": {"annotations": POD},
        "Extensions": metadata("container", {"SandboxID": "box1", "Config": {}}),
    }
    of_pod = metadata("sandbox", {"RuntimeHandler": handler, "Config": {"annotations": annotations}})
    labels = 'labels."io.kubernetes.pod.namespace"==ml-a,labels."io.kubernetes.pod.name"==web'
    script = f"""shift 4
case $* in
"containers info box1") echo '{json.dumps({"Extensions": of_pod})}' ;;
"containers info abc") echo '{json.dumps(container)}' ;;
'containers ls -q {labels}' | 'containers ls -q {labels},labels."io.kubernetes.container.name"==one') echo abc ;;
esac"""
    place.program("ctr", script)
    place.program("containerd", "")
    place.write("containerd.sock", "")
    monkeypatch.setattr(ENGINES["containerd"].prober, "socket", f"{place.root}/containerd.sock")
    monkeypatch.setattr(ENGINES["containerd"], "file", f"{place.root}/config.toml")
    place.write("config.toml", CONTAINERD)


CONTAINERD = """version = 2
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.cdi]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.cdi.options]
BinaryName = "/usr/bin/cdi-runtime"
"""


def test_a_pod_is_found_by_its_name(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pod's containers are known as NAMESPACE/POD, one of them as NAMESPACE/POD/CONTAINER."""
    containerd(place, monkeypatch, "cdi")
    for name in ("ml-a/web", "ml-a/web/one"):
        assert said(place, name)[0][2] == "containerd's container abc asks for no device"
    fix = "kubectl -n ml-b describe pod web says on which node it is, and what went wrong"
    assert said(place, "ml-b/web")[0][3] == fix
    for name in ("ml-a/web/one/two", "ml-a/we b", 'ml-a/x"==y', "../web"):
        assert said(place, name)[0][1:2] == ("error",)


@pytest.mark.parametrize(
    ("handler", "annotations", "fact", "fix"),
    [
        (
            "cdi",
            {},
            "asks for no device",
            "resources {limits: {vendor.com/class: 1}} where a device plugin offers it, or "
            'annotations: {cdi.k8s.io/NAME: "vendor.com/class=name"}; cdi-hook list shows the names',
        ),
        (
            "cdi",
            {"cdi.k8s/x": GPU},
            'has the annotation "cdi.k8s/x", which asks for nothing: the key has to begin with cdi.k8s.io/',
            f'annotations: {{cdi.k8s.io/NAME: "{GPU}"}}',
        ),
        (
            "runc",
            ASK,
            f"gets nothing by its pod's annotation cdi.k8s.io/x={GPU}: containerd doesn't pass it on",
            "create the pod again with runtimeClassName: cdi",
        ),
        (
            "cdi",
            ASK,
            f"gets nothing by its pod's annotation cdi.k8s.io/x={GPU}: containerd doesn't pass it on",
            "cdi-hook configure containerd --pod-annotations --reload",
        ),
    ],
)
def test_what_fixes_a_pod(
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
    handler: str,
    annotations: dict[str, str],
    fact: str,
    fix: str,
) -> None:
    """A pod's mistake has a fix in the words of Kubernetes."""
    containerd(place, monkeypatch, handler, **annotations)
    found = [(*one[:3], one[3].removeprefix("sudo ")) for one in said(place, "ml-a/web") if one[1] == "error"]
    assert found[0][2:] == (f"containerd's container abc {fact}", fix)
    if handler == "runc":
        assert [one[3] for one in found] == [fix, fix]


@pytest.mark.parametrize(
    ("options", "program"),
    [
        (b"\x32\x14/usr/bin/cdi-runtime", "/usr/bin/cdi-runtime"),
        (b"\x08\x01\x2a\x03abc\x32\x04runc\x48\x01", "runc"),
        (b"\x2a\x80\x01" + b"x" * 128 + b"\x32\x04crun", "crun"),
        (b"\x48\x01", "runc"),
        (b"", "runc"),
        (b"\x2a", ""),
        (b"\x32\x02\xff\xff", ""),
    ],
)
def test_options_of_a_shim(options: bytes, program: str) -> None:
    """BinaryName is found in the shim's options as protobuf, wherever it stands; what is damaged says nothing."""
    assert _binary(base64.b64encode(options).decode()) == program
