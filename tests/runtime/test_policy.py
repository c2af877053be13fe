# SPDX-License-Identifier: Apache-2.0
"""ALLOW and DENY in every form of the program: a way round one of them is a way round in none."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from .live.hooked import CDI_HOOK, Live

if TYPE_CHECKING:
    from pathlib import Path

    from .lab import Bundle, Lab

pytestmark = pytest.mark.parametrize("runtime", ["runc-v1", "crun-v2"], indirect=True)

FORMS = ("cdi-runtime", "precreate", "createRuntime", "prestart", "inject")
KEY = "cdi.k8s.io/test"
CONTAINERD, CRIO = "io.kubernetes.cri.sandbox-namespace", "io.kubernetes.pod.namespace"
# Where containerd's CRI makes bundles, where CRI-O and podman do, and where docker does.
K8S, USERDATA, DOCKER = "task/k8s.io/id", "overlay-containers/id/userdata", "task/moby/id"
RULES = {
    "DEVICE_ENV": "GPU",
    "ANNOTATION_PREFIXES": "cdi.k8s.io/ pod.example/",
    "ALLOW": "vendor.com/device=free",
    "ALLOW_ml": "vendor.com/device=one from=cdi.k8s.io/ namespace=ml-*",
    "DENY_guests": "* namespace=guests",
}
ASKED = {KEY: "vendor.com/device=one"}
# What a container's user writes beside its true namespace, and where the bundle is.
ALLOWED: dict[str, tuple[dict[str, Any], str]] = {
    "containerd": ({"annotations": {**ASKED, CONTAINERD: "ml-1"}}, K8S),
    "CRI-O": ({"annotations": {**ASKED, CRIO: "ml-1"}}, USERDATA),
    "twice": ({"annotations": {KEY: "vendor.com/device=one,vendor.com/device=one", CONTAINERD: "ml-1"}}, K8S),
    "two annotations": ({"annotations": {**ASKED, "cdi.k8s.io/b": ASKED[KEY], CONTAINERD: "ml-1"}}, K8S),
}
_SANDBOX = {"io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri.sandbox-id": "other"}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no namespace": ({"annotations": ASKED}, K8S),
    "another namespace": ({"annotations": {**ASKED, CONTAINERD: "prod"}}, K8S),
    "another case": ({"annotations": {**ASKED, CONTAINERD: "ML-1"}}, K8S),
    "a device in another case": ({"annotations": {KEY: "vendor.com/device=One", CONTAINERD: "ml-1"}}, K8S),
    "keys in another case": ({"Annotations": {**ASKED, CONTAINERD: "ml-1"}}, K8S),
    "claimed under docker": ({"annotations": {**ASKED, CONTAINERD: "ml-1", CRIO: "ml-1"}}, DOCKER),
    "claimed beside CRI-O's": ({"annotations": {**ASKED, CONTAINERD: "ml-1", CRIO: "prod"}}, USERDATA),
    "claimed beside containerd's": ({"annotations": {**ASKED, CONTAINERD: "prod", CRIO: "ml-1"}}, K8S),
    "a variable": ({"process": {"env": ["GPU=vendor.com/device=one"]}, "annotations": {CONTAINERD: "ml-1"}}, K8S),
    "a variable too": (
        {"process": {"env": ["GPU=vendor.com/device=one"]}, "annotations": {**ASKED, CONTAINERD: "ml-1"}}, K8S,
    ),
    "another prefix": ({"annotations": {"pod.example/a": ASKED[KEY], CONTAINERD: "ml-1"}}, K8S),
    "another prefix too": ({"annotations": {**ASKED, "pod.example/a": ASKED[KEY], CONTAINERD: "ml-1"}}, K8S),
    "denied": ({"annotations": {KEY: "vendor.com/device=free", CONTAINERD: "guests"}}, K8S),
    "denied, beside a claim": (
        {"annotations": {KEY: "vendor.com/device=free", CONTAINERD: "guests", CRIO: "ml-1"}}, K8S,
    ),
}  # fmt: skip


@pytest.fixture
def live(lab: Lab) -> Live:
    """A lab whose spec has two devices, and whose configuration has rules."""
    live = Live(lab)
    for name in ("free", "one"):
        mount = {"hostPath": str(live.data / "file"), "containerPath": "/greeting", "options": ["bind"]}
        lab.spec({"mounts": [mount]}, name=name)
    live.configure(**RULES)
    return live


def container(live: Live, asked: dict[str, Any], where: str, form: str) -> Bundle:
    """Make a bundle there that asks like that, and has the hook if that is the form."""
    bundle = live.lab.bundle("cat /greeting", name=where)
    env = asked.get("process", {}).get("env", ())
    bundle.config["process"]["env"] += env
    bundle.config |= {key: value for key, value in asked.items() if key != "process"}
    if form in ("createRuntime", "prestart"):
        bundle.config["hooks"] = {form: [live.hook(form)]}
    bundle.write()
    return bundle


def outcome(live: Live, bundle: Bundle, form: str) -> tuple[bool, str]:
    """Say whether the container has got the device by this form, and what was said."""
    if form in ("createRuntime", "prestart"):
        completed = live.call("run", bundle)
        return "of the host" in completed.stdout, " ".join(line["msg"] for line in live.logged())
    if form == "cdi-runtime":
        said = live.lab.call("create", "--bundle", str(bundle.path), live.lab.container())
        return "/greeting" in destinations(bundle.config_file), said.stderr
    arguments, place = (
        (["precreate"], bundle.path) if form == "precreate" else (["inject", str(bundle.path)], None)
    )
    with bundle.config_file.open("rb") as stdin:
        done = subprocess.run(
            [CDI_HOOK, *arguments], stdin=stdin, capture_output=True, text=True, cwd=place, check=False,
            env=live.lab.environ,
        )  # fmt: skip
    if form == "precreate" and not done.returncode:
        bundle.config_file.write_text(done.stdout)
    return "/greeting" in destinations(bundle.config_file), done.stderr


def destinations(config: Path) -> list[str]:
    """Return where a config.json mounts something."""
    return [mount["destination"] for mount in json.loads(config.read_text())["mounts"]]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", ALLOWED)
def test_allowed(live: Live, case: str, form: str) -> None:
    """A container in a namespace that may have a device has it, but not by podman's hook: podman has no namespaces."""
    bundle = container(live, *ALLOWED[case], form)
    has_it, said = outcome(live, bundle, form)
    assert (has_it, "in no namespace of Kubernetes" in said) == (
        (False, True) if form == "precreate" else (True, False)
    )


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("case", REFUSED)
def test_refused(live: Live, case: str, form: str) -> None:
    """No other container has it, and the line of the configuration is named, or what can't be a request."""
    bundle = container(live, *REFUSED[case], form)
    has_it, said = outcome(live, bundle, form)
    assert not has_it
    odd = 'the OCI spec has a key "Annotations"'
    conf = live.lab.configuration
    line = 8 if case.startswith("denied") else 6 if case == "a device in another case" else 7
    assert (odd if case == "keys in another case" else f" ({conf}:{line})") in said


@pytest.mark.parametrize("form", FORMS)
def test_a_container_that_claims_to_be_a_sandbox(live: Live, form: str) -> None:
    """It has nothing that it may not have: it is told so where its id is known, and else gets no device."""
    asked = {"annotations": {**ASKED, **_SANDBOX, CONTAINERD: "prod"}}
    has_it, said = outcome(live, container(live, asked, K8S, form), form)
    assert not has_it
    assert (f" ({live.lab.configuration}:7)" in said) == (form not in ("precreate", "inject"))


@pytest.mark.parametrize("form", FORMS)
def test_a_bad_rule_stops_whoever_asks(live: Live, form: str) -> None:
    """A rule with a slip in it is an error with its line; it opens nothing, and closes nothing to who doesn't ask."""
    live.configure(**{**RULES, "ALLOW_ml": "vendor.com/device=one form=cdi.k8s.io/ namespace=ml-*"})
    has_it, said = outcome(live, container(live, *ALLOWED["containerd"], form), form)
    assert (
        has_it,
        f'{live.lab.configuration}:7: ALLOW_ml: "form=cdi.k8s.io/" is no pattern of ' in said,
    ) == (False, True)
