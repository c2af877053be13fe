# SPDX-License-Identifier: Apache-2.0
"""edits, and cli.patch: container edits of any kind into any OCI spec."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from cdi_hook.base import json_text
from cdi_hook.cli import patch
from cdi_hook.edits import editor, kinds, target
from cdi_hook.errors import InjectionError

from .strategies import CONTAINER_EDITS, EDITS, JSON, OCI_SPECS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdi_hook.edits.target import Part

SOURCE = ("v.com/c=1", "/etc/cdi/v.yaml")


def applied(
    oci: dict[str, Any], wanted: dict[str, Any], *, keep_present: bool = False
) -> list[target.Change]:
    """Apply the edits of one device."""
    return editor.apply(oci, [(SOURCE, wanted)], keep_present=keep_present)


def hooks_without_env(oci: dict[str, Any]) -> Any:
    """Return the hooks; one that had no variables has got ours if it is a createContainer hook."""
    hooks = copy.deepcopy(oci.get("hooks"))
    for hook in (hooks or {}).get("createContainer") or ():
        if hook.get("env") in ([], None, kinds.HOOK_ENV):
            hook.pop("env", None)
    return hooks


@given(OCI_SPECS, CONTAINER_EDITS)
def test_applying_twice_changes_nothing(oci: dict[str, Any], wanted: dict[str, Any]) -> None:
    """What a second injection leaves is, to the order of every list, what the first one left."""
    applied(oci, wanted, keep_present=True)
    once = copy.deepcopy(oci)
    applied(oci, wanted, keep_present=True)
    assert oci == once


@given(OCI_SPECS, CONTAINER_EDITS)
def test_what_an_engine_has_injected_stays_as_it_is(oci: dict[str, Any], wanted: dict[str, Any]) -> None:
    """After the reference's own way of injecting, nothing is added twice: no hook, no device, no env, no mount."""
    applied(oci, wanted)
    injected = copy.deepcopy(oci)
    applied(oci, wanted, keep_present=True)
    assert hooks_without_env(oci) == hooks_without_env(injected)
    for name in ("process", "linux", "mounts"):
        assert len(str(oci.get(name))) <= len(str(injected.get(name)))


@given(OCI_SPECS, CONTAINER_EDITS)
def test_no_hook_of_a_spec_gets_the_containers_variables(oci: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Each createContainer hook that a spec asks for has variables, whether the engine has injected it or we."""
    for at_first in (False, True):
        injected = copy.deepcopy(oci)
        if at_first:
            applied(injected, wanted)
        applied(injected, wanted, keep_present=True)
        asked = [hook["path"] for hook in wanted.get("hooks") or () if kinds.is_exposed(hook)]
        there = [
            hook for hook in (injected.get("hooks") or {}).get("createContainer") or () if hook.get("env")
        ]
        assert {*asked} <= {hook["path"] for hook in there}


@given(OCI_SPECS, CONTAINER_EDITS)
def test_keeping_what_is_present_adds_the_same_otherwise(oci: dict[str, Any], wanted: dict[str, Any]) -> None:
    """On an OCI spec that has none of it, both ways of injecting give the same container."""
    oci = {"x-unknown": oci["x-unknown"]}
    other = copy.deepcopy(oci)
    applied(oci, wanted)
    applied(other, wanted, keep_present=True)
    assert {mount["destination"]: mount for mount in oci.get("mounts", ())} == {
        mount["destination"]: mount for mount in other.get("mounts", ())
    }
    assert oci.get("process") == other.get("process")
    assert hooks_without_env(oci) == hooks_without_env(other)
    assert oci.get("linux", {}).get("devices") == other.get("linux", {}).get("devices")


@given(OCI_SPECS, CONTAINER_EDITS)
def test_unknown_fields_and_their_order_survive(oci: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Keys that were there are there, in their order, before any new ones; the edits are not changed."""
    keys, unknown, given_edits = list(oci), copy.deepcopy(oci["x-unknown"]), copy.deepcopy(wanted)
    applied(oci, wanted, keep_present=True)
    assert list(oci)[: len(keys)] == keys
    assert oci["x-unknown"] == unknown
    assert wanted == given_edits


def patched(tree: Any, changes: Sequence[dict[str, Any]]) -> Any:
    """Apply a JSON Patch as RFC 6902 has it, and hold each change to its ``was``."""
    tree = copy.deepcopy(tree)
    for change in changes:
        parent, name = _find(tree, change["path"])
        if change["op"] == "move":
            origin, old = _find(tree, change["from"])
            assert json_text.dumps(origin[old]) == json_text.dumps(change["was"])
            value = origin.pop(old)
            parent.insert(name, value)
        elif change["op"] == "add" and isinstance(parent, list):
            assert 0 <= name <= len(parent)
            parent.insert(name, copy.deepcopy(change["value"]))
        elif change["op"] == "add":
            assert name not in parent
            parent[name] = copy.deepcopy(change["value"])
        else:
            assert json_text.dumps(parent[name]) == json_text.dumps(change["was"])
            if change["op"] == "remove":
                del parent[name]
            else:
                assert change["op"] == "replace"
                parent[name] = copy.deepcopy(change["value"])
    return tree


def _find(tree: Any, pointer: str) -> tuple[Any, Any]:
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]
    for part in parts[:-1]:
        tree = tree[int(part)] if isinstance(tree, list) else tree[part]
    return tree, int(parts[-1]) if isinstance(tree, list) else parts[-1]


SIGNS = {"add": "+", "remove": "-", "replace": "~", "move": ">"}

many = st.lists(CONTAINER_EDITS, max_size=4).map(
    lambda found: [((f"v.com/c={n}", f"/etc/cdi/{n % 2}.yaml"), part) for n, part in enumerate(found)]
)


@given(before=OCI_SPECS, asked=many)
def test_the_patch_is_the_injection(before: dict[str, Any], asked: list[Part]) -> None:
    """The changes, applied, are the injection to the byte; none exactly when nothing changed; all are traced."""
    before, after = (json_text.loads(json_text.dumps(before)) for _ in range(2))  # with nothing in common
    untouched = json_text.dumps([before, asked])
    changes = editor.apply(after, asked, keep_present=True)
    assert json_text.dumps([before, asked]) == untouched
    operations = json_text.loads(json_text.dumps([patch.operation(change) for change in changes]))
    assert json_text.dumps(patched(before, operations)) == json_text.dumps(after)
    assert bool(changes) == (json_text.dumps(before) != json_text.dumps(after))
    known = [source for source, _ in asked]
    for change in changes:
        assert change.sources
        assert all(source in known for source in change.sources)
        assert patch.line(change).startswith(f"{SIGNS[change.op]} .")


@given(OCI_SPECS, many, st.booleans())
def test_parts_that_are_merged_do_the_same(
    oci: dict[str, Any], asked: list[Part], keep_present: bool
) -> None:
    """One containerEdits object made of several does what they do, to the byte; they stay as they were."""
    given_parts, other = copy.deepcopy(asked), copy.deepcopy(oci)
    merged = kinds.merge(part for _, part in asked)
    editor.apply(oci, asked, keep_present=keep_present)
    editor.apply(other, [(SOURCE, merged)], keep_present=keep_present)
    assert json_text.dumps(oci) == json_text.dumps(other)
    assert asked == given_parts


@st.composite
def misshapen(draw: st.DrawFn) -> dict[str, Any]:
    """Draw an OCI spec that has anything in a place that edits touch, or above."""
    oci = draw(OCI_SPECS)
    kind = kinds.KINDS[draw(st.sampled_from([*EDITS]))]
    place = draw(st.sampled_from(kind.touches))[0]
    node: Any = oci
    for name in place[: draw(st.integers(1, len(place))) - 1]:
        node = node.setdefault(name, {}) if isinstance(node, dict) else {}
        node = {} if node is None else node
    if isinstance(node, dict):
        there = draw(
            JSON | st.lists(JSON, max_size=3) | st.dictionaries(st.sampled_from(["uid", "gid", "x"]), JSON)
        )
        node[place[-1]] = there
    return oci


@given(
    misshapen() | st.dictionaries(st.sampled_from(["process", "linux", "mounts", "hooks"]), JSON),
    CONTAINER_EDITS,
)
def test_any_oci_spec_is_edited_or_refused(oci: dict[str, Any], wanted: dict[str, Any]) -> None:
    """An OCI spec of whatever shape is edited so that a second time changes nothing, or refused and left as it was."""
    before = copy.deepcopy(oci)
    try:
        applied(oci, wanted, keep_present=True)
    except InjectionError:
        assert oci == before
    else:
        assert applied(oci, wanted, keep_present=True) == []
