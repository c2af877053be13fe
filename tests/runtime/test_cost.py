# SPDX-License-Identifier: Apache-2.0
"""What the host pays for what an image, a container's user or a pod's author writes: CPU, memory, lines in LOG."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from cdi_hook.inject import audit, bundle

from .lab import ROOT
from .meter import Meter

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .meter import Cost

# cdi-runtime(8) says about 1 s, which the largest take where nothing else runs; what costs a product takes ten or more.
MOST_CPU_S, MOST_MB = 2, 200
MOST_ASKED = 16384
KEY = "cdi.k8s.io/a"
POD = "io.kubernetes.cri.sandbox-name"
NAMESPACE = "io.kubernetes.cri.sandbox-namespace"
CDI_HOOK = str(ROOT / "packaging/bin/cdi-hook")
GPU0 = {KEY: "vendor.com/gpu=gpu0"}


@pytest.fixture
def meter(tmp_path: Path) -> Meter:
    """A place to measure in."""
    return Meter(tmp_path)


def check(cost: Cost, status: int = 0) -> None:
    """Hold a call to the bounds."""
    assert cost.status == status, cost.stderr
    print(f"{cost.cpu:.2f} s, {cost.memory:.0f} MB")
    assert cost.cpu < MOST_CPU_S
    assert cost.memory < MOST_MB
    lines = cost.log.encode().splitlines()
    assert max((len(line) for line in lines), default=0) < audit.MOST
    assert all(json.loads(line) for line in lines)


def names(count: int, name: str = "g") -> str:
    """Return a request for so many devices."""
    return ",".join(f"vendor.com/gpu={name}{number}" for number in range(count))


def rules(count: int, value: str, key: str = "DENY") -> str:
    """Return so many rules; @ is the number of each."""
    return "".join(f"{key}_{number}='{value.replace('@', str(number))}'\n" for number in range(count))


def known(meter: Meter, count: int = MOST_ASKED, name: str = "g") -> None:
    """Have so many devices, in an index already: what specs cost is the host's matter."""
    meter.spec("gpu", [f"{name}{number}" for number in range(count)])
    assert meter.create({"annotations": {KEY: f"vendor.com/gpu={name}0"}}).status == 0


RULES = {
    "100 rules": (rules(100, "x@.com/* vendor@.com/c=d namespace=ns@") + "ALLOW='vendor.com/*'\n", 6000),
    "1,000 rules": (rules(1000, "vendor.com/gpu=x@ namespace=ns@") + "ALLOW='vendor.com/*'\n", 16000),
    "10,000 rules of namespaces": (
        rules(10000, "vendor.com/* namespace=ns@", "ALLOW") + rules(1, "* namespace=a*b"), MOST_ASKED,
    ),
    "10,000 names": (rules(10000, "vendor.com/gpu=x@"), MOST_ASKED),
    "10,000 beginnings": (rules(10000, "vendor.com/x@*"), MOST_ASKED),
    "10,000 ends": (rules(10000, "vendor.com/gpu=*-@"), MOST_ASKED),
    "10,000 middles": (rules(10000, "*@x*"), MOST_ASKED),
}  # fmt: skip


@pytest.mark.parametrize("what", RULES)
def test_many_rules_and_many_devices(meter: Meter, what: str) -> None:
    """Rules and devices cost their sum, not their product."""
    text, count = RULES[what]
    known(meter, count)
    meter.configure(text)
    bundle_of_cri = meter.directory / "k8s.io" / "id"  # where namespaces count
    bundle_of_cri.mkdir(parents=True)
    meter.bundle = bundle_of_cri
    check(meter.create({"annotations": {KEY: names(count), NAMESPACE: "ns1"}}))


def test_a_claim_that_rules_have_to_match(meter: Meter) -> None:
    """A namespace that is longer than one can be isn't compared with all rules."""
    meter.configure(rules(10000, "* namespace=*@a*b"))
    check(meter.create({"annotations": {**GPU0, NAMESPACE: "a" * 2_000_000}}))


def logged(cost: Cost) -> dict[str, Any]:
    """Return the one line in LOG."""
    line: dict[str, Any] = json.loads(cost.log)
    return line


@pytest.mark.parametrize("length", [300, 50_000])
def test_many_devices_by_a_long_key(meter: Meter, length: int) -> None:
    """LOG says which devices fit into a line, and how many don't."""
    known(meter, 6000)
    cost = meter.create({"annotations": {f"cdi.k8s.io/{'k' * length}": names(6000), POD: "p" * 1_000_000}})
    check(cost)
    line = logged(cost)
    assert len(line["devices"]) > 100
    assert len(line["devices"]) + line["cut"]["devices"] == 6000


@pytest.mark.parametrize("character", ["k", "\x01", "\U0001f600"])
def test_long_texts(meter: Meter, character: str) -> None:
    """Of each text that somebody chose LOG has the beginning, and says that there was more."""
    key = f"cdi.k8s.io/{character * 200_000}"
    annotations = {key: GPU0[KEY], POD: character * 20_000, NAMESPACE: character * 20_000}
    cost = meter.create({"annotations": annotations}, character * 30_000)
    check(cost)
    line = logged(cost)
    texts = (line["container"], line["pod"], line["namespace"], line["devices"][0]["source"])
    assert [text[-3:] for text in texts] == ["..."] * 4
    check(meter.create({"annotations": {key: "x"}}, character * 30_000), 1)


MISSPELT: dict[str, Callable[[], dict[str, str]]] = {
    "commas": lambda: {"cdi.k8s/a": "," * (bundle.MOST - 100)},
    "names of another form": lambda: {"cdi.k8s/a": "v/c=/," * (bundle.MOST // 6 - 100)},
    "keys": lambda: {f"cdi.k8s.iox/{number}": "v/c=/," * 16 for number in range(bundle.MOST // 130)},
}


@pytest.mark.parametrize("what", MISSPELT)
def test_keys_that_are_not_quite_right(meter: Meter, what: str) -> None:
    """What is looked for below misspelt keys has an end."""
    check(meter.create({"annotations": MISSPELT[what]()}))


def test_names_that_nobody_knows(meter: Meter) -> None:
    """A misspelt name isn't compared with all that are known."""
    known(meter, name="g" * 60)
    check(meter.create({"annotations": {KEY: names(MOST_ASKED, "g" * 62)}}), 1)


def test_names_that_two_files_define(meter: Meter) -> None:
    """Nor is each conflict with all others."""
    known(meter)
    (meter.specs / "two.json").write_bytes((meter.specs / "gpu.json").read_bytes())
    asked = {"annotations": {KEY: names(MOST_ASKED)}}
    meter.create(asked)  # the index is made: what specs cost is the host's matter
    check(meter.create(asked), 1)


# JSON that is large in memory, or takes long, for its size.
DEAR = (
    "[],",
    "[" * 10 + "]" * 10 + ",",
    "{},",
    '{"":0},',
    '{"":{"":[]}},',
    "1e5,",
    "-0,",
    '"ab",',
    "9" * 4300 + ",",
)
PLACES = {
    "anywhere": ('"x":[', "]"),
    "mounts": ('"Annotations":{},"Mounts":[', "]"),
    "hooks": ('"hooks":{"createContainer":[', "]}"),
    "device rules": ('"linux":{"resources":{"devices":[', "]}}"),
}
MAY_BE = {"anywhere": DEAR, "mounts": DEAR, "hooks": ("{},", '{"":0},'), "device rules": ("{},", '{"":0},')}


def filled(place: str, item: str, size: int) -> str:
    """Return a config.json of a size, full of an item at a place."""
    start, end = PLACES[place]
    text = f'{{"annotations":{json.dumps(GPU0)},{start}'
    return text + (item * ((size - len(text) - len(end)) // len(item)))[:-1] + end + "}"


@pytest.mark.parametrize("size", [bundle.MOST, 16 << 20])
@pytest.mark.parametrize(("place", "item"), [(place, item) for place in PLACES for item in MAY_BE[place]])
def test_a_dear_config_json(meter: Meter, place: str, item: str, size: int) -> None:
    """Whatever is in a config.json, and whether or not it is too large."""
    edits = {"hooks": [{"hookName": "createContainer", "path": "/bin/true"}]} if place == "hooks" else {}
    edits = {"deviceNodes": [{"path": "/dev/null"}]} if place == "device rules" else edits
    meter.spec("gpu", ["gpu0"], **edits)
    check(meter.create(filled(place, item, size)), int(size > bundle.MOST or place == "mounts"))


@pytest.mark.parametrize("size", [bundle.MOST, 16 << 20])
@pytest.mark.parametrize("command", ["precreate", "inject"])
def test_a_dear_stdin(meter: Meter, command: str, size: int) -> None:
    """The same on stdin."""
    cost = meter.call(CDI_HOOK, command, stdin=filled("anywhere", DEAR[1], size))
    check(cost, {"precreate": 3, "inject": 1}[command] if size > bundle.MOST else 0)


def test_mounts_that_are_moved(meter: Meter) -> None:
    """Many mounts that have to come into another order."""
    meter.spec("gpu", ["gpu0"], mounts=[{"hostPath": "/", "containerPath": "/x", "options": ["bind"]}])
    mounts = [{"destination": "/a" * (80 - number // 100)} for number in range(8000)]
    check(meter.create({"annotations": GPU0, "mounts": mounts}))
