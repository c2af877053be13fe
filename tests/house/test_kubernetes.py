# SPDX-License-Identifier: Apache-2.0
"""packaging/kubernetes: the manifests are valid for Kubernetes, and the handlers are what `configure` writes."""

from __future__ import annotations

import copy
import re
import subprocess
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
import yaml

from cdi_hook.config.settings import KEYS
from cdi_hook.engines import ENGINES
from cdi_hook.engines.edit.config_editor import Request

from .tree import ROOT

if TYPE_CHECKING:
    from pathlib import Path


tomllib = pytest.importorskip("tomllib", reason="Python before 3.11 has no tomllib to read a handler with")

KUBERNETES = ROOT / "packaging/kubernetes"
PREFIXES = next(default for key, default, _ in KEYS if key == "ANNOTATION_PREFIXES")
VERSIONS = ("1.25", "1.28", "1.31", "1.34", "1.37")


def objects(name: str) -> list[dict[str, Any]]:
    """Return the objects of a file of manifests."""
    return list(yaml.safe_load_all((KUBERNETES / name).read_text("utf-8")))


PLUGIN = "device-plugin/"
KUSTOMIZATION = objects("kustomization.yaml")[0]
MANIFESTS = {
    f"{one['kind']} {one['metadata']['name']}": one
    for path in (*sorted(KUBERNETES.glob("*.yaml")), KUBERNETES / PLUGIN / "device-plugin.yaml")
    for one in objects(str(path.relative_to(KUBERNETES)))
    if one["kind"] != "Kustomization"
}
DAEMONSET = MANIFESTS["DaemonSet cdi-hook"]["spec"]["template"]["spec"]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", MANIFESTS)
def test_kubernetes_takes_it(name: str, version: str) -> None:
    """Each object has only fields that Kubernetes has published."""
    assert kubernetes_validate.validate(MANIFESTS[name], version, strict=True) == version


@pytest.mark.parametrize("name", MANIFESTS)
def test_kubernetes_would_have_said_so(name: str) -> None:
    """The check can fail: an unknown field and a wrong type are refused."""
    for key, value in (("handlr", "cdi"), ("metadata", "cdi")):
        broken = {**copy.deepcopy(MANIFESTS[name]), key: value}
        with pytest.raises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


def test_kustomization_has_all_but_the_example() -> None:
    """`kubectl apply -k` finds its files, all except the example, and sets the image that the DaemonSet names."""
    others = {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml", "pod.yaml"}
    assert KUSTOMIZATION["resources"] == sorted(others)
    (image,) = KUSTOMIZATION["images"]
    for one in (*DAEMONSET["initContainers"], *DAEMONSET["containers"]):
        assert one["image"] == image["name"]
    # for the administrator to fill in: a release changes only the files that CONTRIBUTING names
    assert (image["newName"], image["newTag"]) == ("REGISTRY/cdi-hook-installer", "VERSION")


def test_objects_fit_together() -> None:
    """The example's runtime class is there, and the DaemonSet's account and namespace."""
    assert f"RuntimeClass {MANIFESTS['Pod cdi-example']['spec']['runtimeClassName']}" in MANIFESTS
    assert f"ServiceAccount {DAEMONSET['serviceAccountName']}" in MANIFESTS
    spaces = {one["metadata"]["namespace"] for one in MANIFESTS.values() if "namespace" in one["metadata"]}
    # each part has one of its own: `kubectl delete -k` of the plugin must not take the installer away
    assert sorted(spaces) == ["cdi-hook", "cdi-hook-device-plugin"]
    assert all(f"Namespace {space}" in MANIFESTS for space in spaces)


def test_only_the_installation_has_rights() -> None:
    """What waits when the node is done has no rights, and nothing of the pod is mounted from the node."""
    (install,), (wait,) = DAEMONSET["initContainers"], DAEMONSET["containers"]
    assert install["securityContext"] == {"privileged": True}
    assert wait["securityContext"] == {
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "runAsNonRoot": True,
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert "volumes" not in DAEMONSET


def test_the_plugin_has_no_rights() -> None:
    """The device plugin's pod has no capability and no token, and writes only where the kubelet looks for plugins."""
    spec = MANIFESTS["DaemonSet cdi-hook-device-plugin"]["spec"]
    pod = spec["template"]["spec"]
    assert spec["updateStrategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 1}
    assert (pod["automountServiceAccountToken"], pod["priorityClassName"]) == (False, "system-node-critical")
    assert pod["tolerations"] == [{"operator": "Exists"}]
    assert not {"hostPID", "hostNetwork", "hostIPC"} & set(pod)
    (plugin,) = pod["containers"]
    assert plugin["securityContext"] == {
        "runAsUser": 0,  # only root may enter the kubelet's dir
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    of_host = {one["name"]: one["hostPath"]["path"] for one in pod["volumes"] if "hostPath" in one}
    writes = [one["name"] for one in plugin["volumeMounts"] if not one.get("readOnly")]
    assert [of_host[name] for name in writes if name in of_host] == ["/var/lib/kubelet/device-plugins"]
    assert sorted(of_host.values()) == [
        "/dev", "/etc/cdi", "/proc/driver", "/run/cdi", "/sys", "/var/lib/kubelet/device-plugins",
    ]  # fmt: skip
    below = plugin["args"][0]
    mounts = {one["name"]: one["mountPath"] for one in plugin["volumeMounts"]}
    assert all(mounts[name] == below + path for name, path in of_host.items())


def test_the_plugins_kustomization_has_its_parts() -> None:
    """It finds its files, names the image and the ConfigMap as the DaemonSet does, and its tag is a text."""
    (kustomization,) = objects(f"{PLUGIN}kustomization.yaml")
    pod = MANIFESTS["DaemonSet cdi-hook-device-plugin"]["spec"]["template"]["spec"]
    assert kustomization["resources"] == ["device-plugin.yaml"]
    (image,), (plugin,) = kustomization["images"], pod["containers"]
    assert plugin["image"] == image["name"]
    assert (image["newName"], image["newTag"]) == ("REGISTRY/cdi-hook-device-plugin", "VERSION")
    (made,) = kustomization["configMapGenerator"]
    (volume,) = [one for one in pod["volumes"] if "configMap" in one]
    assert volume["configMap"]["name"] == made["name"]
    assert f"/etc/cdi-hook/{made['files'][0]}" == plugin["args"][1]
    for name in ("kustomization.yaml", f"{PLUGIN}kustomization.yaml"):
        assert 'newTag: "VERSION"' in (KUBERNETES / name).read_text("utf-8")


def test_readme_says_what_it_allows_first() -> None:
    """Who may have what comes before the first command that gives it, and a removal before what leaves all behind."""
    text = (KUBERNETES / "README.md").read_text("utf-8")
    assert text.index("## Who may have which device") < text.index("kubectl apply")
    assert text.index("ACTION=remove") > text.index("`kubectl delete -k` alone leaves")
    assert "ACTION=remove" in (KUBERNETES / "install.yaml").read_text("utf-8")


def test_script_knows_what_the_manifest_sets() -> None:
    """The DaemonSet sets only variables that install.sh reads, and its image starts that script."""
    script = (KUBERNETES / "install.sh").read_text("utf-8")
    (container,) = DAEMONSET["initContainers"]
    read = set(re.findall(r"\$\{([A-Z_]+):", script))
    assert {one["name"] for one in container["env"]} < read
    containerfile = (KUBERNETES / "Containerfile").read_text("utf-8")
    assert "COPY packaging/kubernetes/install.sh /install.sh" in containerfile.splitlines()
    assert 'ENTRYPOINT ["/bin/sh", "/install.sh"]' in containerfile.splitlines()


@pytest.mark.parametrize(
    ("name", "engine", "before"),
    [
        ("containerd-1.toml", "containerd", "version = 2\n"),
        ("containerd-2.toml", "containerd", "version = 3\n"),
        ("crio.toml", "crio", ""),
    ],
)
def test_handler_is_what_configure_writes(name: str, engine: str, before: str) -> None:
    """A handler's file has what `cdi-hook configure` adds beside a runc that uses systemd's cgroups."""
    request = Request("/usr/bin/cdi-runtime", annotations=tuple(f"{one}*" for one in PREFIXES.split()))
    written = tomllib.loads(ENGINES[engine].edit(before).add(request).text)
    handler = tomllib.loads((KUBERNETES / "handler" / name).read_text("utf-8"))
    for plugin in handler.get("plugins", {}).values():
        for runtime in plugin["containerd"]["runtimes"].values():
            assert runtime["options"].pop("SystemdCgroup") is True
            if not runtime["options"]:
                del runtime["options"]
    assert handler == written


SHIM = "containerd-shim-runc-v2 -namespace {} -id 0123 -address {}"
SOCKETS = {"rancher": "/run/k3s/containerd/containerd.sock", "here": "/run/containerd/containerd.sock"}


@pytest.mark.parametrize(
    ("parent", "engine"),
    [
        ("/usr/bin/" + SHIM.format("k8s.io", SOCKETS["here"]), "containerd"),
        ("/usr/local/bin/" + SHIM.format("k8s.io", SOCKETS["here"]), "containerd"),
        ("/usr/bin/conmon -b /run/x -r /usr/bin/crun", "crio"),
        ("/usr/libexec/crio/conmonrs --runtime /usr/libexec/crio/crun", "crio"),
        ("/var/lib/rancher/k3s/data/0123/bin/" + SHIM.format("k8s.io", SOCKETS["rancher"]), "k3s"),
        ("/var/lib/rancher/rke2/data/v1.34/bin/" + SHIM.format("k8s.io", SOCKETS["rancher"]), "rke2"),
        (
            "/snap/microk8s/8000/bin/"
            + SHIM.format("k8s.io", "/var/snap/microk8s/common/run/containerd.sock"),
            "microk8s",
        ),
        ("/usr/bin/" + SHIM.format("moby", SOCKETS["here"]), ""),  # docker, by cri-dockerd
        ("/data/k3s/bin/" + SHIM.format("k8s.io", SOCKETS["rancher"]), ""),
        ("/var/lib/k0s/bin/" + SHIM.format("k8s.io", "/run/k0s/containerd.sock"), ""),
        ("/usr/sbin/sshd", ""),
    ],
)
def test_engine_is_found_by_what_runs_the_pod(tmp_path: Path, parent: str, engine: str) -> None:
    """The script's parent says which engine this is; if it doesn't, the error names it and what to set."""
    script = (KUBERNETES / "install.sh").read_text("utf-8")
    functions = re.findall(
        r"^(?:say\(\) .*\n|(?:die|find_engine)\(\) \{\n(?:.*\n)*?\}\n)", script, re.MULTILINE
    )
    assert len(functions) == 3
    part = tmp_path / "part.sh"
    part.write_text("".join(functions) + "find_engine\n")
    name, *arguments = parent.split()
    done = subprocess.run(
        [name, "-c", 'busybox sh "$0"; exit $?', part, *arguments],
        executable="/bin/sh", capture_output=True, text=True, check=False, timeout=10,
    )  # fmt: skip
    if engine:
        assert (done.returncode, done.stdout, done.stderr) == (0, f"{engine}\n", "")
    else:
        assert (done.returncode, done.stdout) == (1, "")
        said, _, step = done.stderr.partition(": set ENGINE to ")
        assert said.startswith(f"cdi-hook: can't tell this node's engine by what runs this pod, {name} -c ")
        assert step == "containerd, crio, k3s, rke2 or microk8s, and CONFIG to its configuration\n"
