# SPDX-License-Identifier: Apache-2.0
"""policy: what a host allows."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest

from cdi_hook.config.rule import Rule
from cdi_hook.config.settings import Config
from cdi_hook.engines import ENGINES
from cdi_hook.engines.containerd import ContainerdProber
from cdi_hook.errors import CDIError
from cdi_hook.inject import policy, request


def settings(**values: str) -> Config:
    """Make a configuration with these values."""
    made = Config("/etc/cdi-hook/cdi-hook.conf")
    made.values.update(values)
    made.origins.update(dict.fromkeys(values, f"{made.path}:1"))
    return made


CONF = "/etc/cdi-hook/cdi-hook.conf"
ADD = "; whoever runs this host can add v.com/c=1 there"
BUNDLE = "/run/containerd/io.containerd.runtime.v2.task/k8s.io/id"
CRIO = "/run/containers/storage/overlay-containers/id/userdata"
IN = {"io.kubernetes.cri.sandbox-namespace": "ml-1"}
IN_CRIO = {"io.kubernetes.pod.namespace": "ml-1"}


def refusal(oci: dict[str, Any], bundle: str = BUNDLE, **values: str) -> str:
    """Return why a container is refused, without the host, or "" if it isn't."""
    config = settings(**values)
    try:
        policy.check(request.collect(oci, config), config, *request.namespaces(oci, bundle))
    except CDIError as error:
        return str(error).replace(" is not allowed on this host", "").replace(CONF, "@")
    return ""


def asking(name: str = "v.com/c=1", **more: str) -> dict[str, Any]:
    """Return an OCI spec that asks for a device by an annotation."""
    return {"annotations": {"cdi.k8s.io/a": name, **more}}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"ALLOW": "v.com/* w.com/c=?"}, ""),
        ({"DENY": "v.com/c=2 *"}, "DENY=* (@:1) refuses it"),
        ({"ALLOW": "w.com/*"}, "it matches no pattern of ALLOW=w.com/* (@:1)" + ADD),
        ({"ALLOW": ""}, "it matches no pattern of ALLOW= (@:1)" + ADD),
        ({"ALLOW": "v.com/*", "DENY": "*=1"}, "DENY=*=1 (@:1) refuses it"),
        ({"ALLOW_a": "v.com/*"}, ""),
        (
            {"ALLOW": "w.com/*", "ALLOW_a": "v.com/c=2 namespace=a", "DENY_b": "v.com/c=2"},
            "it matches no pattern of ALLOW=w.com/* (@:1) and ALLOW_a=v.com/c=2 namespace=a (@:1)" + ADD,
        ),
        (
            {f"ALLOW_{number}": "w.com/*" for number in range(9)},
            "it matches no pattern of "
            + " and ".join(f"ALLOW_{number}=w.com/* (@:1)" for number in range(5))
            + " and 4 more"
            + ADD,
        ),
        ({"ALLOW": "v.com/*", "DENY_b": "w/* * namespace=ml-?"}, "DENY_b=* namespace=ml-? (@:1) refuses it"),
        ({"ALLOW_a": "* from=cdi.k8s.io/ namespace=x namespace=ml*"}, ""),
        (
            {"ALLOW_a": "w/* * from=cdi.k8s.io/ namespace=x", "ALLOW_b": "v* from=E"},
            "it is allowed only as in ALLOW_a=* from=cdi.k8s.io/ namespace=x (@:1) and ALLOW_b=v* from=E (@:1); "
            'the container is in namespace "ml-1"',
        ),
        ({"ALLOW_b": "* from=E"}, "it is allowed only as in ALLOW_b=* from=E (@:1)"),
        ({"DENY_b": "* from=E"}, ""),
        ({"DENY_b": "* from=cdi.k8s.io/"}, "DENY_b=* from=cdi.k8s.io/ (@:1) refuses it"),
    ],
)
def test_policy(values: dict[str, str], reason: str) -> None:
    """A device that a rule denies, or none allows, is refused with its name and the lines of the configuration."""
    told = refusal(asking(**IN), **values)
    assert told == (f'device v.com/c=1 (asked for by annotation "cdi.k8s.io/a"): {reason}' if reason else "")


@pytest.mark.parametrize(
    "state",
    [one.prober.states[0] for one in ENGINES.values() if issubclass(one.prober, ContainerdProber)],
)
def test_a_namespace_is_believed_under_every_containerd(state: str) -> None:
    """Where a containerd makes the bundles of pods an annotation of the namespace counts, and beside that it doesn't."""
    bundles = f"{state}/io.containerd.runtime.v2.task"
    assert refusal(asking(**IN), f"{bundles}/k8s.io/id", ALLOW="v.com/* namespace=ml-1") == ""
    for other in ("moby/id", "k8s.io.x/id"):
        told = refusal(asking(**IN), f"{bundles}/{other}", ALLOW="v.com/* namespace=ml-1")
        assert told.endswith("the container is in no namespace of Kubernetes")


SOURCES = {"DEVICE_ENV": "E", "DEVICE_MOUNTS": "/d/", "ANNOTATION_PREFIXES": "cdi.k8s.io/ pod.x/"}
BY_ENV: dict[str, Any] = {"process": {"env": ["E=v.com/c=1"]}}
BY_MOUNT: dict[str, Any] = {"mounts": [{"destination": "/d/v.com/c/1"}]}
BY_POD: dict[str, Any] = {"annotations": {"pod.x/a": "v.com/c=1"}}


@pytest.mark.parametrize(
    ("source", "oci"),
    [("cdi.k8s.io/", asking()), ("pod.x/", BY_POD), ("E", BY_ENV), ("/d/", BY_MOUNT)],
)
def test_each_request_must_be_allowed_by_its_own_source(source: str, oci: dict[str, Any]) -> None:
    """A rule about one source is for none of the others, and a device that two ask for must be allowed to both."""
    assert refusal(oci, **SOURCES, ALLOW_a=f"* from={source}") == ""
    assert "(@:1) refuses it" in refusal(oci, **SOURCES, DENY_a=f"* from={source}")
    for other in (asking(), BY_POD, BY_ENV, BY_MOUNT):
        if other != oci:
            annotations: dict[str, str] = {**oci.get("annotations", {}), **other.get("annotations", {})}
            both: dict[str, Any] = {**oci, **other, "annotations": annotations}
            assert "it is allowed only as in" in refusal(other, **SOURCES, ALLOW_a=f"* from={source}")
            assert "it is allowed only as in" in refusal(both, **SOURCES, ALLOW_a=f"* from={source}")
            assert "(@:1) refuses it" in refusal(both, **SOURCES, DENY_a=f"* from={source}")
            assert refusal(other, **SOURCES, DENY_a=f"* from={source}") == ""


@pytest.mark.parametrize(
    ("oci", "bundle"),
    [
        (asking(**IN), BUNDLE),
        (asking(**IN_CRIO), CRIO),
        (asking(**IN, **IN_CRIO), BUNDLE),
    ],
)
def test_a_namespace_that_a_cri_engine_says(oci: dict[str, Any], bundle: str) -> None:
    """What containerd and CRI-O say counts."""
    assert refusal(oci, bundle, ALLOW_a="* namespace=ml-*") == ""
    assert refusal(oci, bundle, DENY_a="* namespace=ml-*") != ""
    assert refusal(oci, bundle, DENY_a="* namespace=guests") == ""


@pytest.mark.parametrize(
    ("oci", "bundle", "where"),
    [
        (asking(), BUNDLE, "no namespace of Kubernetes"),
        (asking(**IN), "/run/docker/containerd/daemon/io.containerd.runtime.v2.task/moby/id", "no namespace of Kubernetes"),
        (asking(**IN), "/run/containerd/io.containerd.runtime.v2.task/default/id", "no namespace of Kubernetes"),
        (asking(**IN), "", "no namespace of Kubernetes"),
        (asking(**IN), CRIO, "no namespace of Kubernetes"),
        (asking(**IN_CRIO), BUNDLE, "no namespace of Kubernetes"),
        (asking(**{**IN, "io.kubernetes.pod.namespace": "guests"}), CRIO, 'namespace "ml-1" and "guests"'),
        (asking(**{**IN_CRIO, "io.kubernetes.cri.sandbox-namespace": "guests"}), BUNDLE, 'namespace "guests" and "ml-1"'),
        (asking(**{"io.kubernetes.cri.sandbox-namespace": "ML-1"}), BUNDLE, 'namespace "ML-1"'),
        (asking(**{"io.kubernetes.cri.sandbox-namespace": ""}), BUNDLE, 'namespace ""'),
        (asking(**{"io.kubernetes.cri.sandbox-namespace": 5}), BUNDLE, 'namespace ""'),  # type: ignore[arg-type]
    ],
)  # fmt: skip
def test_a_namespace_that_is_only_claimed(oci: dict[str, Any], bundle: str, where: str) -> None:
    """A claim that no CRI engine can have made allows nothing, nor does one beside the truth."""
    rule = {"ALLOW_a": "* namespace=ml-?"}
    assert refusal(oci, bundle, **rule).endswith(
        f"it is allowed only as in ALLOW_a=* namespace=ml-? (@:1); the container is in {where}"
    )
    if where.count('"') == 4:
        assert refusal(oci, bundle, DENY_a="* namespace=guests") != ""
    assert refusal(asking(**{"io.kubernetes.cri.sandbox-namespace": ""}), ALLOW_a="* namespace=*") != ""


@pytest.mark.parametrize(
    "name",
    [
        "V.com/c=1",
        "v.com/C=1",
        "v.com/c=1\u200b",
        " v.com/c=1",
        "v.com//c=1",
        "v.com/c=1,",
        "v.com/c==1",
        "v.com/c=1\n",
    ],
)
def test_a_name_written_otherwise_is_no_way_round(name: str) -> None:
    """Another case is another device, which no spec of the denied one defines; other spellings are no names."""
    try:
        names = request.collect(asking(name), settings(DENY="v.com/c=1")).device_ids
    except CDIError:
        names = []
    assert "v.com/c=1" not in names
    assert refusal(asking("v.com/c=2,v.com/c=2,v.com/c=1"), DENY="v.com/c=1") != ""
    assert refusal(asking("1"), DENY="v.com/c=1", DEFAULT_KIND="v.com/c") != ""


def test_a_person_at_the_command_line_is_no_source() -> None:
    """A device that --device names is denied and allowed by its name alone."""
    for values, is_allowed in (
        ({"ALLOW_a": "*"}, True),
        ({"ALLOW_a": "* from=cdi.k8s.io/"}, False),
        ({"DENY_a": "* from=cdi.k8s.io/"}, True),
        ({"DENY_a": "*"}, False),
    ):
        config = settings(**values)
        try:
            policy.check(request.named(["v.com/c=1"], config), config, [], False)
        except CDIError:
            assert not is_allowed
        else:
            assert is_allowed


def test_the_first_rule_that_fits_is_found() -> None:
    """Whichever part of a pattern is looked for, the rules found are those that a comparison with all finds."""
    draw = random.Random(1)

    def drawn(letters: str, most: int) -> str:
        return "".join(draw.choices(letters, k=draw.randint(1, most)))

    for _ in range(3000):
        rules = [Rule("DENY", " ".join(f"*{drawn('ab*?=', 5)}" for _ in range(3)), "") for _ in range(5)]
        for rule in rules:
            rule.patterns = [pattern[1:] for pattern in rule.patterns]
        patterns, name = policy.Patterns(rules), drawn("ab=", 8)
        expected = [rule for rule in rules if any(regular(one).fullmatch(name) for one in rule.patterns)]
        assert patterns.find(name) is (expected[0] if expected else None), (
            name,
            [rule.patterns for rule in rules],
        )


def regular(pattern: str) -> re.Pattern[str]:
    """Return a pattern as a regular expression."""
    return re.compile(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), re.DOTALL)
