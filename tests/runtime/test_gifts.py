# SPDX-License-Identifier: Apache-2.0
"""What an engine itself put into config.json, under EXCLUSIVE and DENY, with real runtimes."""

from __future__ import annotations

import os
import re
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from .test_exclusive import (
    ANY,
    KEY,
    MAJOR,
    Shared,
    busybox_lab,
    create_hooked,
    device,
    each_runtime,
    gpu,
    hooked,
    host,
    make_kfd,
    on_runc,
    said,
    spawn,
)

if TYPE_CHECKING:
    from .lab import Bundle

__all__ = ["busybox_lab", "host"]  # fixtures

FAILED = "CDI device injection failed: "
ZERO = f"the engine, which lets it open c {MAJOR}:0"


def rule(major: int = MAJOR, minor: int = 0, access: str = "rwm") -> dict[str, Any]:
    return {"allow": True, "type": "c", "major": major, "minor": minor, "access": access}


def given(
    host: Shared, *rules: dict[str, Any], asked: str = "", script: str = "sleep 1000", **annotations: str
) -> Bundle:
    """Make a bundle to which an engine has given what these rules allow."""
    bundle = host.bundle(asked or "v.com/x=y", script)
    bundle.config["annotations"] = {**({KEY: asked} if asked else {}), **annotations}
    bundle.config["linux"]["resources"]["devices"] += rules
    bundle.write()
    return bundle


def refused(host: Shared, *rules: dict[str, Any], **more: Any) -> str:
    """Fail to create a container; return what was said."""
    _, error = host.create(given(host, *rules, **more))
    assert error.startswith(FAILED), error
    return error.removeprefix(FAILED)


def got(host: Shared, *rules: dict[str, Any], **more: Any) -> str:
    """Create a container, and return its id."""
    container, error = host.create(given(host, *rules, **more))
    assert error == ""
    return container


@each_runtime
def test_denied(host: Shared) -> None:
    """By any name of the device, by any of its own nodes, read or written; mknod alone is none, nor is another's."""
    host.conf("", DENY="v.com/gpu=GPU-0000")
    conf = host.lab.configuration
    denied = f"is not allowed on this host: DENY=v.com/gpu=GPU-0000 ({conf}:5) refuses v.com/gpu=GPU-0000, which is a name of it"
    assert refused(host, rule()) == f"device v.com/gpu=0 (asked for by {ZERO}) {denied}"
    for one in (rule(access="r"), rule(access="w"), rule(minor=-1), {**rule(), "major": -1, "minor": -1}):
        assert "refuses v.com/gpu=GPU-0000, which" in refused(host, one)
    for one in (rule(access="m"), rule(minor=1), rule(minor=7), rule(10, 229)):
        host.delete(got(host, one))
    host.spec(device("card0", *gpu(0, 5)), kind="host.local/dri")
    host.conf("", DENY="host.local/dri=*")
    for minor in (0, 5):
        assert "host.local/dri=card0" in refused(host, rule(minor=minor))
    (line,) = [one for one in host.log() if f"c {MAJOR}:5" in one["msg"]]
    assert line["level"] == "ERROR"


@on_runc
def test_what_all_together_are(host: Shared) -> None:
    """DENY on all of them isn't about each; who is given all hears of it."""
    host.conf("", DENY="v.com/gpu=all")
    got(host, rule(minor=1))
    assert "refuses v.com/gpu=all, which is a name of it" in refused(host, rule(), rule(minor=1))


@on_runc
def test_conditions(host: Shared) -> None:
    """from=engine is a source; other sources don't count, nor does ALLOW without it."""
    host.conf("", DENY="v.com/gpu=* from=cdi.k8s.io/", ALLOW="host.local/x=*")
    got(host, rule())
    host.conf("", DENY="v.com/gpu=0 from=engine", ALLOW="v.com/gpu=*")
    assert f"DENY=v.com/gpu=0 from=engine ({host.lab.configuration}:5) refuses it" in refused(host, rule())
    host.delete(got(host, asked="v.com/gpu=0"))
    host.conf("", ALLOW="*", ALLOW_engine="v.com/gpu=GPU-0001 from=engine")
    got(host, rule(minor=1))
    got(host, asked="v.com/gpu=0")
    assert refused(host, rule()) == (
        f"device v.com/gpu=0 (asked for by {ZERO}) is not allowed on this host: it matches no pattern of "
        f"ALLOW_engine=v.com/gpu=GPU-0001 from=engine ({host.lab.configuration}:6); whoever runs this host can add v.com/gpu=0 there"
    )
    host.conf("", DENY="v.com/gpu=* namespace=guests")
    got(host, rule(), **{"io.kubernetes.cri.sandbox-namespace": "ml"})
    assert "namespace=guests" in refused(host, rule(), **{"io.kubernetes.cri.sandbox-namespace": "guests"})


@each_runtime
def test_exclusive(host: Shared) -> None:
    """It is leased, so that others are refused, or refused with its holder; `any` doesn't take it."""
    container = got(host, rule())
    assert host.leases()[0]["devices"] == [["v.com/gpu=0", [f"c {MAJOR}:0"], []]]
    for name in ("v.com/gpu=0", "v.com/gpu=GPU-0000", "v.com/gpu=all"):
        assert f"{name} is in use by {container}" in host.refused(name)
    assert re.fullmatch(
        rf"v\.com/gpu=0 is in use by {container} \(since \d\d:\d\d\); asked for by {ZERO}",
        refused(host, rule()),
    )
    other, name = host.got(ANY)
    assert name == "v.com/gpu=1"
    assert f"is in use by {other}" in refused(host, rule(minor=1))
    assert f"is in use by {container}" in refused(host, rule(minor=-1))
    host.delete(container)
    host.delete(other)
    both = given(host, rule(), asked=ANY)
    assert host.create(both)[1] == ""
    assert both.injected()["annotations"][KEY] == "v.com/gpu=1"
    first, *_ = host.log()
    assert first["msg"] == "CDI devices given by the engine"
    assert first["devices"] == [{"name": "v.com/gpu=0", "source": ZERO}]
    last = host.log()[-1]
    assert last["devices"] == [
        {"name": "v.com/gpu=0", "source": ZERO},
        {"name": "v.com/gpu=1", "source": f'annotation "{KEY}", as {ANY}'},
    ]


@on_runc
def test_common_nodes_are_not_given(host: Shared) -> None:
    """Who may open what all of a driver's devices need has none of them."""
    kfd = make_kfd(host)
    host.spec(device(0, *gpu(0), kfd), device(1, *gpu(1), kfd))
    rules = rule(kfd["major"], kfd["minor"])
    got(host, rules)
    got(host, rules)
    container = got(host, rules, rule())
    assert "v.com/gpu=0 is in use by" in refused(host, rules, rule())
    assert host.got()[1] == "v.com/gpu=1"
    assert host.leases()[0]["id"] == container


@each_runtime
def test_given_and_asked_for(host: Shared) -> None:
    """A device that was asked for isn't judged twice, nor by what our own injection left in config.json."""
    host.spec(device(0, *gpu(0)), device(1, *gpu(1)), containerEdits={"deviceNodes": gpu(9)})
    host.spec(device(9, *gpu(9)), kind="w.com/own")
    host.conf("v.com/gpu=*", DENY="w.com/own=* * from=engine")
    bundle = given(host, rule(), asked="v.com/gpu=0")
    container, error = host.create(bundle)
    assert error == ""
    assert "w.com/own=9 (asked for by the engine" in refused(host, rule(minor=9))
    host.delete(container)
    assert host.create(bundle, container)[1] == ""  # as it is now
    assert f"is in use by {container}" in host.refused("v.com/gpu=0")
    host.conf("v.com/gpu=*")
    bundle = given(host, rule(minor=1), x="y")
    for _ in range(2):
        host.delete(container)
        assert host.create(bundle, container)[1] == ""
    assert len(host.leases()) == 1


@each_runtime
def test_both_forms(host: Shared) -> None:
    """The hook finds the lease that the runtime took for what the engine gave, and takes one itself."""

    def prepared(*stages: str) -> Bundle:
        bundle = hooked(host, ANY, *stages)
        bundle.config["annotations"] = {}
        bundle.config["linux"]["resources"]["devices"].append(rule())
        bundle.write()
        return bundle

    container, error = host.create(prepared("createRuntime", "prestart"))
    assert (error, len(host.leases())) == ("", 1), host.log()
    assert f"is in use by {container}" in create_hooked(host, prepared("createRuntime"))[1]
    host.delete(container)
    container, error = create_hooked(host, prepared("createRuntime"))
    assert error == ""
    assert host.leases()[0]["state"] == []
    assert f"is in use by {container}" in refused(host, rule())
    host.conf("", DENY="v.com/gpu=*")
    _, error = create_hooked(host, prepared("createRuntime"))
    assert f"device v.com/gpu=0 (asked for by {ZERO}) is not allowed" in error


@on_runc
def test_forms_without_a_container(host: Shared) -> None:
    """inject and precreate refuse what is denied, and what they can't take a lease for."""
    bundle = given(host, rule())
    before = bundle.identity()
    oci = bundle.config_file.read_text()
    told = (
        f"v.com/gpu=0 is for one container at a time (EXCLUSIVE=v.com/gpu=*, {host.lab.configuration}:3), and"
    )
    assert f"{FAILED}{told} cdi-hook inject takes no lease" in said(
        host, "inject", str(bundle.path), fails=True
    )
    assert f"{FAILED}{told} podman's precreate hooks" in said(host, "precreate", stdin=oci, fails=True)
    host.conf("", DENY="v.com/gpu=0")
    for command in (("inject", str(bundle.path)), ("precreate",)):
        assert f"(asked for by {ZERO}) is not allowed" in said(host, *command, stdin=oci, fails=True)
    assert bundle.identity() == before
    plain = given(host).config_file.read_text()
    assert said(host, "precreate", stdin=plain) == plain


@each_runtime
@pytest.mark.parametrize(
    "all_of", [[{"allow": True, "access": "rwm"}], [{**rule(-1, -1), "type": one} for one in "bc"]]
)
def test_every_device_of_the_host(host: Shared, all_of: list[dict[str, Any]]) -> None:
    """Who may have all is as good as root: it isn't judged, and LOG says so."""
    host.conf("v.com/gpu=*", DENY="v.com/gpu=0")
    got(host, *all_of)
    assert host.leases() == []
    assert [line["msg"] for line in host.log()] == [
        "the container may open every device of this host, so EXCLUSIVE and DENY don't judge its engine's"
    ]
    assert "DENY=v.com/gpu=0" in refused(host, *all_of, asked="v.com/gpu=0")


@each_runtime
def test_a_lease_of_which_no_spec_knows(host: Shared) -> None:
    """It keeps the device from those to whom an engine gives it."""
    container, _ = host.got("v.com/gpu=0")
    (host.lab.specs / "v.com-gpu.json").unlink()
    assert f"v.com/gpu=0 is in use by {container}" in refused(host, rule())
    got(host, rule(minor=1))
    host.delete(container)
    host.delete(got(host, rule()))


@each_runtime
@pytest.mark.parametrize("conf", [{"DENY": "*"}, {"exclusive": "*"}, {"ALLOW": "x.com/y=z from=engine"}])
@pytest.mark.parametrize("state", ["plain", "broken specs", "damaged leases", "a bad line", "no index"])
def test_a_container_that_has_no_device_starts(host: Shared, conf: dict[str, str], state: str) -> None:
    """Under any pattern, and whatever is wrong with specs, leases or the configuration."""
    rest = {key: value for key, value in conf.items() if key != "exclusive"}
    host.conf(conf.get("exclusive", ""), **rest)
    host.spec(
        device(0, *gpu(0)), device("null", {"path": "/dev/null"}), device("gone", {"path": "/nonexistent"})
    )
    if state == "broken specs":
        for name in ("v.com-gpu", "broken"):
            (host.lab.specs / f"{name}.json").write_text('{"cdiVersion": "0.6.0", "kind": "v.com/')
    elif state == "damaged leases":
        (host.run / "cdi-hook-leases").mkdir(mode=0o700)
        (host.run / "cdi-hook-leases/leases").write_text("{")
    elif state == "a bad line":
        host.conf(conf.get("exclusive", ""), **rest, NONSENSE="1")
    elif state == "no index":
        host.lab.specs.rmdir() if not list(host.lab.specs.iterdir()) else None
        (host.run / "cdi-hook").write_text("")
    usual = [rule(1, 3), rule(5, 2), rule(136, -1), rule(10, 200), rule(-1, -1, "m")]
    bundle = given(host, *usual, rule(189, 7))
    before = bundle.identity()
    assert host.create(bundle)[1] == ""
    assert bundle.identity() == before
    if state == "damaged leases" and "exclusive" in conf:
        assert "is damaged" in refused(host, rule())


@on_runc
def test_a_bad_line_and_a_device(host: Shared) -> None:
    """Who was given a device hears of it."""
    host.conf("", DENY="v.com/gpu=1", NONSENSE="1")
    assert "the configuration can't be used: " in refused(host, rule())


@on_runc
@pytest.mark.parametrize("key", ["DENY", "DENY_ml", "EXCLUSIVE"])
def test_a_rule_that_can_not_be_read(host: Shared, key: str) -> None:
    """Nobody can tell what it is about: who was given a device hears of it, and nobody else."""
    host.lab.configure(**{key: "v.com/gpu=[1]"})
    assert f":3: {key}: " in refused(host, rule())
    host.delete(got(host))


@on_runc
def test_specs_that_can_not_be_read(host: Shared) -> None:
    """An error while judging doesn't stop a container; it is told."""
    host.conf("", DENY="v.com/gpu=*")
    spec = (host.lab.specs / "v.com-gpu.json").rename(host.lab.specs / "v.yaml")
    spec.write_text(f"# YAML\n{spec.read_text()}")
    yaml = "mount -t tmpfs none /usr/lib/python3/dist-packages"
    subprocess.run([*host.lab.runtime.prefix[:2], "sh", "-ec", yaml], check=True)
    bundle = given(host, rule())
    container = host.lab.container()
    log = host.lab.directory / "log.json"
    done = host.lab.call(
        "--log", str(log), "--log-format", "json", "create", "--bundle", str(bundle.path), container
    )
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = host.log()
    assert line["level"] == "WARNING"
    assert line["msg"].startswith(
        "what the engine gave to the container can't be judged: No module named 'yaml'"
    )
    assert "can't be judged" in log.read_text()


@on_runc
def test_a_crowd(host: Shared) -> None:
    """Of 20 creates at once that an engine gave one device, one has it."""
    bundles = [given(host, rule()) for _ in range(20)]
    crowd = [spawn(host, bundle, f"cdi-hook-test-{os.getpid()}-{bundle.path.name}") for bundle in bundles]
    assert sorted(process.wait(60) for process in crowd) == [0, *[1] * 19]
    said = [text for bundle in bundles if (text := (bundle.path / "out").read_text())]
    assert all("v.com/gpu=0 is in use by" in text for text in said), said


@on_runc
def test_the_door(host: Shared) -> None:
    """Python looks at each create of such a host, also by the lines that are kept, and at none of another."""
    for exclusive, is_refused in (("v.com/gpu=*", True), ("", False)):
        host.conf(exclusive)
        first, *bundles = [given(host, rule()) for _ in range(3)]
        container, _ = host.create(first)
        time.sleep(2.1)
        for bundle in bundles:
            assert bool(host.create(bundle)[1]) == is_refused
        kept = list((host.run / "cdi-hook/conf").rglob("cdi-hook.conf"))
        assert [("cdi_odd='1'" in one.read_text()) for one in kept] == [is_refused]
        host.delete(container)
