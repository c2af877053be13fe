# SPDX-License-Identifier: Apache-2.0
"""audit: the lines in LOG, and what they tell."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from cdi_hook.edits import editor
from cdi_hook.inject import audit, request
from cdi_hook.inject.pipeline import Host
from cdi_hook.inject.request import Facts

if TYPE_CHECKING:
    from pathlib import Path


def made(directory: Path, configuration: str = "") -> Host:
    """Make a host with that configuration, in the middle of a call."""
    conf = directory / "conf"
    conf.write_text(f"LOG={directory}/log\n{configuration}")
    host = Host({b"CDI_HOOK_CONFIG": bytes(conf)})
    host.call = Facts("id", "/bundle")
    host.call.oci = {"annotations": {"cdi.k8s.io/a": "v.com/c=1"}}
    host.call.request = request.collect(host.call.oci, host.settings)
    part = {"env": ["A=1", "B=2"], "mounts": [{"hostPath": "/h", "containerPath": "/c"}]}
    host.call.changes = editor.apply({}, [(("v.com/c=1", "/etc/cdi/v.yaml"), part)])
    return host


def test_both_writers_have_the_same_fields(tmp_path: Path) -> None:
    """A line that python-json-logger writes has the fields, in the order and with the values, of ours."""
    fields = audit.about(made(tmp_path).call, 0.0) | {"errors": 'a "b"\nc', "pod": "\u2603"}
    ours, theirs = (
        json.loads(make("warning", "what\nhappened", fields)) for make in (audit.line, audit._formatted)
    )
    assert abs(int(ours.pop("time")[-3:-1]) - int(theirs.pop("time")[-3:-1])) in (0, 1, 59)
    assert list(ours.items()) == list(theirs.items())
    assert set(ours) >= {"level", "msg", "container", "bundle", "devices", "specs", "changes", "ms", "errors"}


def test_what_a_line_tells(tmp_path: Path) -> None:
    """Devices have their source, spec files are named once, changes are counted by kind."""
    fields = audit.about(made(tmp_path).call, 0.0)
    assert fields.pop("ms") > 0
    assert fields == {
        "container": "id",
        "bundle": "/bundle",
        "devices": [{"name": "v.com/c=1", "source": 'annotation "cdi.k8s.io/a"'}],
        "specs": ["/etc/cdi/v.yaml"],
        "changes": {"env": 2, "mounts": 1},
    }


@pytest.mark.parametrize(
    ("annotations", "root", "engine"),
    [
        ({}, "/run/docker/runtime-runc/moby", "docker"),
        ({}, "/run/containerd/runc/default", "containerd"),
        ({"io.kubernetes.cri.container-type": "container"}, "/run/containerd/runc/k8s.io", "containerd"),
        ({"io.container.manager": "cri-o"}, "/run/runc", "crio"),
        (
            {"io.container.manager": "cri-o", "io.kubernetes.cri.container-type": "container"},
            "/run/runc",
            "crio",
        ),
        ({"io.container.manager": "cri-o"}, "/run/containerd/runc/k8s.io", "containerd"),
        ({"io.container.manager": "libpod"}, "", "podman"),
        ({"io.container.manager": "other"}, "/run/crun", None),
        (["no", "object"], "", None),
    ],
)
def test_the_engine_where_it_can_be_told(
    tmp_path: Path, annotations: Any, root: str, engine: str | None
) -> None:
    """Annotations or the runtime's --root tell which engine it was; else no field claims to know."""
    host = made(tmp_path)
    host.call.oci, host.call.root = {"annotations": annotations}, root
    assert audit.about(host.call, host.start).get("engine") == engine


@pytest.mark.parametrize("prefix", ["io.kubernetes.cri.sandbox-", "io.kubernetes.pod."])
def test_the_pod_under_cri(tmp_path: Path, prefix: str) -> None:
    """Under CRI the line names the pod and its namespace, as containerd and CRI-O annotate them."""
    host = made(tmp_path)
    host.call.oci = {"annotations": {f"{prefix}name": "web", f"{prefix}namespace": "shop"}}
    fields = audit.about(host.call, host.start)
    assert (fields["pod"], fields["namespace"]) == ("web", "shop")


@pytest.mark.parametrize(
    ("level", "least", "is_written"),
    [
        ("info", "info", True),
        ("info", "warning", False),
        ("error", "error", True),
        ("warning", "info", True),
    ],
)
def test_the_level_decides(tmp_path: Path, level: str, least: str, is_written: bool) -> None:
    """Lines below LOG_LEVEL aren't written."""
    host = made(tmp_path, f"LOG_LEVEL={least}\n")
    assert audit.write(host.settings, host.call, host.start, level, "m")
    assert (tmp_path / "log").exists() is is_written


@pytest.mark.parametrize(
    ("bundle", "pod"), [("/task/k8s.io/id", "web"), ("/id/userdata", "own"), ("/b", "web")]
)
def test_the_pod_that_another_engines_annotation_claims(tmp_path: Path, bundle: str, pod: str) -> None:
    """A pod that its user calls otherwise by another engine's annotations keeps the name that its engine says."""
    host = made(tmp_path)
    host.call.bundle = bundle
    host.call.oci = {"annotations": {}}
    for prefix, name in (("io.kubernetes.cri.sandbox-", "web"), ("io.kubernetes.pod.", "own")):
        host.call.oci["annotations"] |= {f"{prefix}name": name, f"{prefix}namespace": f"of-{name}"}
    fields = audit.about(host.call, host.start)
    assert (fields["pod"], fields["namespace"]) == (pod, f"of-{pod}")


def test_what_a_container_can_claim(tmp_path: Path) -> None:
    """Of a pod's name that isn't text nothing is written, and of a long one the beginning."""
    for name, written in ((["a"], None), ("x" * 1_000_000, "x" * 253 + "...")):
        host = Host({b"CDI_HOOK_CONFIG": str(tmp_path / "none").encode()})
        host.call.oci = {"annotations": {"io.kubernetes.cri.sandbox-name": name}}
        assert audit.about(host.call, host.start).get("pod") == written


@pytest.mark.parametrize("level", ["info", "error"])  # ours, and python-json-logger's
@pytest.mark.parametrize("character", ["e", "\x01", "\u20ac", "\U0001f600"])
def test_no_line_is_longer_than_it_may_be(tmp_path: Path, level: str, character: str) -> None:
    """A line that would be is as long as it may be, whole devices are left out of it, and it says how many."""
    host = made(tmp_path)
    origins = {f"v.com/c={number}": character * 1000 for number in range(1000)}
    host.call.request = request.DeviceRequest(list(origins), origins=origins)
    host.call.container = host.call.bundle = character * 10_000
    assert audit.write(host.settings, host.call, host.start, level, character * 10_000, character * 100_000)
    written = (tmp_path / "log").read_bytes()
    line = json.loads(written)
    assert audit.MOST - 8192 < len(written) < audit.MOST
    assert line["devices"][0] == {"name": "v.com/c=0", "source": f"{character * 400}..."}
    assert line["cut"] == {"devices": 1000 - len(line["devices"]), "specs": 1}
    assert {line[name][-4:] for name in ("msg", "container", "bundle", "errors")} == {f"{character}..."}


def test_a_link_in_the_place_of_the_log(tmp_path: Path) -> None:
    """A link, which others may make where logs are, isn't followed."""
    log, victim, conf = tmp_path / "log", tmp_path / "victim", tmp_path / "conf"
    log.symlink_to(victim)
    conf.write_text(f"LOG={log}\n")
    host = Host({b"CDI_HOOK_CONFIG": str(conf).encode()})
    assert not audit.write(host.settings, host.call, host.start, "error", "message")
    assert not victim.exists()


def test_who_may_read_it(tmp_path: Path) -> None:
    """LOG is made so that its owner's group may read it and others may not; one that is there keeps its mode."""
    host, log = made(tmp_path), tmp_path / "log"
    before = os.umask(0)
    try:
        assert host.log("info", "a")
        assert log.stat().st_mode & 0o7777 == 0o640
        log.chmod(0o604)
        assert host.log("error", "b")
        assert log.stat().st_mode & 0o7777 == 0o604
    finally:
        os.umask(before)
