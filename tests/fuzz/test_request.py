# SPDX-License-Identifier: Apache-2.0
"""request and policy: what a container asks for, whatever its config.json has, and what the host allows of it."""

from __future__ import annotations

import copy
import re
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from cdi_hook.base import log
from cdi_hook.config.settings import Config
from cdi_hook.errors import CDIError, InvalidRequest
from cdi_hook.inject import policy, request
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
        QUALIFIED_NAMES | st.sampled_from(["v.com/c=1", "w.com/c=1"]),
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


RULES = st.fixed_dictionaries(
    {"patterns": st.lists(st.sampled_from(["*", "v.com/*", "v.com/c=1", "*=2"]), min_size=1, max_size=2)},
    optional={
        "from": st.lists(st.sampled_from(["cdi.k8s.io/", "x/", "GPU", "/d"]), max_size=2),
        "namespace": st.lists(st.sampled_from(["ml-*", "?", "*", "prod"]), max_size=2),
    },
)
CLAIMS = st.dictionaries(
    st.sampled_from([key for _, key, _ in request.PODS]), st.sampled_from(["ml-1", "a", "prod", ""])
)


def rule(made: dict[str, list[str]]) -> str:
    """Write a rule as the configuration has it."""
    conditions = [f"{name}={one}" for name in ("from", "namespace") for one in made.get(name, ())]
    return " ".join([*made["patterns"], *conditions])


@given(
    st.dictionaries(
        st.sampled_from(["cdi.k8s.io/a", "cdi.k8s.io/b", "x/a"]), st.sampled_from(["v.com/c=1", "w.com/c=2"])
    ),
    st.lists(st.sampled_from(["GPU=v.com/c=1", "GPU=w.com/c=2", "X=v.com/c=1"]), max_size=2),
    CLAIMS,
    st.sampled_from(["/run/task/k8s.io/id", "/run/id/userdata", "/run/moby/id"]),
    st.lists(RULES, max_size=3),
    st.lists(RULES, max_size=2),
)
def test_nothing_gets_past_a_rules_conditions(
    annotations: dict[str, str], env: list[str], claims: dict[str, str], bundle: str,
    allow: list[dict[str, list[str]]], deny: list[dict[str, list[str]]],
) -> None:  # fmt: skip
    """Every request of a container that passes has a rule of ALLOW that fits it in all, and none of DENY that does."""
    made = settings(
        ANNOTATION_PREFIXES="cdi.k8s.io/ x/", DEVICE_ENV="GPU", DEVICE_MOUNTS="/d", ALLOW="",
        **{f"ALLOW_{number}": rule(one) for number, one in enumerate(allow)},
        **{f"DENY_{number}": rule(one) for number, one in enumerate(deny)},
    )  # fmt: skip
    made.origins.update(dict.fromkeys(made.values, "/c:1"))
    oci = {"annotations": {**annotations, **claims}, "process": {"env": env}}
    wanted = [(value, key.partition("/")[0] + "/") for key, value in annotations.items()]
    wanted += [(one[4:], "GPU") for one in env if one.startswith("GPU")][-1:]
    true = any(mark in f"{bundle}/" for _, key, mark in request.PODS if key in claims)

    def fits(one: dict[str, list[str]], name: str, source: str, spaces: list[bool]) -> bool:
        is_there = matches(name, one["patterns"]) and (not one.get("from") or source in one["from"])
        return is_there and (not one.get("namespace") or spaces == [True] * len(spaces) != [])

    def within(one: dict[str, list[str]]) -> list[bool]:
        return [space != "" and matches(space, one.get("namespace", [])) for space in claims.values()]

    may = all(
        any(fits(one, *request_, within(one) if true else []) for one in allow)
        and not any(fits(one, *request_, [True] if any(within(one)) else []) for one in deny)
        for request_ in wanted
    )
    try:
        policy.check(request.collect(oci, made), made, *request.namespaces(oci, bundle))
    except InvalidRequest:
        assert not may
    else:
        assert may
