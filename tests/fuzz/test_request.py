# SPDX-License-Identifier: Apache-2.0
"""request and policy: what a container asks for, whatever its config.json has, and what the host allows of it."""

from __future__ import annotations

import copy
import re
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from cdi_hook import log, policy, request
from cdi_hook.config import Config
from cdi_hook.errors import CDIError, InvalidRequest
from cdi_hook.names import is_qualified_name

from .strategies import JSON, NEAR_NAMES, QUALIFIED_NAMES

FEW_NAMES = st.sampled_from(["v.com/c=1", "v.com/c=2", "w.com/c=1", "gpu0"])
VALUES = st.lists(FEW_NAMES, min_size=1, max_size=3).map(",".join) | NEAR_NAMES | JSON


def settings(**values: str) -> Config:
    """Make a configuration with these values."""
    made = Config("/c")
    made.values.update(values)
    return made


SETTINGS = st.sampled_from(
    [
        settings(),
        settings(DEFAULT_KIND="v.com/c", DEVICE_ENV="GPU X"),
        settings(ANNOTATION_PREFIXES="cdi.k8s.io/ x/", DEVICE_MOUNTS="/d/"),
        settings(SANDBOXES="inject", DEVICE_ENV="GPU", DEVICE_MOUNTS="/d"),
    ]
)


def cased(name: str) -> st.SearchStrategy[str]:
    """Return ways to write a name that encoding/json takes for it."""
    return st.sampled_from([name, name, name, name.upper(), name.title(), name.replace("s", "\u017f")])


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    """Draw an OCI spec that may ask, by any source, under keys in any case, and may claim to be a sandbox."""
    keys = st.sampled_from(["cdi.k8s.io/a", "cdi.k8s.io/b", "x/y", "cdi.k8s.io", "CDI.k8s.io/a"])
    marks = st.sampled_from([*request.SANDBOX_ANNOTATIONS])
    made: dict[str, Any] = {}
    for name in draw(
        st.lists(st.sampled_from(["annotations", "process", "mounts", "annotations"]), max_size=4)
    ):
        there: Any = draw(st.dictionaries(keys, VALUES, max_size=2))
        if name == "process":
            env = st.builds("{}={}".format, st.sampled_from(["GPU", "X", "gpu"]), FEW_NAMES | st.just("none"))
            there = {draw(cased("env")): draw(st.lists(env | JSON, max_size=2))}
        elif name == "mounts":
            places = st.builds("/d/{}".format, st.sampled_from(["v.com/c/1", "1", "a//b", "/v.com/c/1"]))
            there = [{draw(cased("destination")): draw(places | JSON)}]
        elif draw(st.integers(0, 4)) == 0:
            key, key_of_id = draw(marks)
            there.update({key: draw(st.sampled_from(["sandbox", "container"])), key_of_id: "id"})
        made[draw(cased(name))] = draw(JSON) if draw(st.integers(0, 9)) == 0 else there
    return made


def by_go(node: Any) -> Any:
    """Read a tree as encoding/json does into structs: keys without regard to case, the last counts; maps are kept."""
    if not isinstance(node, dict):
        return node
    read: dict[str, Any] = {}
    known = ("annotations", "process", "env", "mounts", "destination")
    for key, there in node.items():
        name = next((one for one in known if one == key.casefold()), key)
        value = by_go(there) if name == "process" else there
        if name == "mounts" and isinstance(there, list):
            value = [by_go(one) for one in there]
        if name == "annotations" and isinstance(there, dict) and isinstance(read.get(name), dict):
            value = read[name] | there
        read[name] = value
    return read


def asked(oci: Any, settings: Config, container: str) -> list[str] | None:
    """Return what is asked for, None if it is refused."""
    try:
        return request.collect(oci, settings, container).device_ids
    except CDIError as error:
        assert log.plain(str(error)).isprintable()
        return None


@given(
    specs() | st.dictionaries(st.sampled_from(["annotations", "process", "mounts"]), JSON),
    SETTINGS,
    st.sampled_from(["", "id", "x"]),
)
@example({"Annotations": {"cdi.k8s.io/a": "v.com/c=1"}}, settings(), "id")
@example({"annotations": {"cdi.k8s.io/a": "v.com/c=1"}, "ANNOTATIONS": {}}, settings(), "id")
def test_a_request_is_found_by_any_reading_or_refused(
    oci: dict[str, Any], settings: Config, container: str
) -> None:
    """The request is valid names, each once and with its origin; runc's reading of the keys never finds more than that."""
    before = copy.deepcopy(oci)
    found = asked(oci, settings, container)
    assert oci == before
    if found is None:
        return
    assert all(map(is_qualified_name, found))
    assert len({*found}) == len(found)
    assert request.collect(oci, settings, container).origins.keys() == {*found}
    assert asked(by_go(oci), settings, container) == found


@given(specs(), SETTINGS)
def test_a_claim_to_be_a_sandbox_needs_the_containers_id(oci: dict[str, Any], settings: Config) -> None:
    """A container that doesn't name its own id is never left alone as a sandbox, whatever it says."""
    inject = copy.copy(settings)
    inject.values = {**settings.values, "SANDBOXES": "inject"}
    assert asked(oci, settings, "another") == asked(oci, inject, "another")


PATTERNS = st.lists(
    st.builds(
        lambda name, end: name[:end] + "*" * (end < len(name)),
        QUALIFIED_NAMES | FEW_NAMES,
        st.integers(0, 14),
    )
    | st.sampled_from(["*", "v.com/*", "*=1", "?.com/c=1"]),
    max_size=3,
)


def matches(name: str, patterns: list[str]) -> bool:
    """Say whether one of these patterns matches."""
    expressions = [re.escape(one).replace(r"\*", ".*").replace(r"\?", ".") for one in patterns]
    return any(re.fullmatch(one, name) for one in expressions)


@given(
    st.lists(QUALIFIED_NAMES | st.sampled_from(["v.com/c=1", "v.com/c=2"]), max_size=3, unique=True),
    PATTERNS,
    PATTERNS,
)
def test_nothing_gets_past_allow_and_deny(names: list[str], allow: list[str], deny: list[str]) -> None:
    """A request passes exactly when ALLOW matches all of its devices and DENY none; else the first that may not be had is named."""
    made = settings(ALLOW=" ".join(allow), DENY=" ".join(deny))
    wanted = request.DeviceRequest(names, origins=dict.fromkeys(names, "a test"))
    refused = [name for name in names if matches(name, deny) or not matches(name, allow)]
    try:
        policy.check(wanted, made)
    except InvalidRequest as error:
        assert refused
        assert str(error).startswith(
            f"device {refused[0]} (asked for by a test) is not allowed on this host: "
        )
    else:
        assert not refused
