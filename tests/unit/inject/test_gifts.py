# SPDX-License-Identifier: Apache-2.0
"""gifts: what rules, nodes and binds of an OCI spec let a container open."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from cdi_hook.inject import gifts

if TYPE_CHECKING:
    from pathlib import Path

NONE = {"allow": False, "access": "rwm"}
FUSE = ("c", 10, 229)


def rule(text: str, *, allow: bool = True) -> dict[str, Any]:
    """Return the rule of docker's --device-cgroup-rule."""
    letter, numbers, access = text.split()
    major, minor = (-1 if one == "*" else int(one) for one in numbers.split(":"))
    return {"allow": allow, "type": letter, "major": major, "minor": minor, "access": access}


def opened(*rules: Any, nodes: Any = None, is_root: bool = True, mounts: Any = ()) -> Any:
    oci = {"linux": {"devices": nodes, "resources": {"devices": list(rules)}}, "mounts": list(mounts)}
    return gifts.opened(oci, "/", is_root=is_root)


def node(path: str, numbers: tuple[str, int, int] = FUSE) -> dict[str, Any]:
    return {"path": path, "type": numbers[0], "major": numbers[1], "minor": numbers[2]}


@pytest.mark.parametrize(
    "rules",
    [
        [NONE],
        [NONE, "c *:* m", "b *:* m", "c 1:3 rwm", "c 1:8 rwm", "c 5:2 rwm", "c 136:* rwm", "c 10:200 rwm"],
        [NONE, "c 10:229 m"],
        ["c 10:229 rwm", NONE],
        ["a *:* rwm", NONE],
        [NONE, "c 10:229 rw", {**rule("c 10:229 rwm"), "allow": False}],
        [NONE, "c 10:229 rw", {**rule("c 10:* rwm"), "allow": False}],
        [None, "x", 7, {"type": "p", "allow": True, "access": ""}],
    ],
)  # fmt: skip
def test_nothing_that_not_all_have(rules: list[Any]) -> None:
    """What engines let every container open isn't given, nor is mknod, nor what a later rule takes back."""
    assert opened(*(rule(one) if isinstance(one, str) and " " in one else one for one in rules)) == set()


@pytest.mark.parametrize(
    ("rules", "found"),
    [
        (["c 10:229 rwm"], {FUSE}),
        (["c 10:229 r"], {FUSE}),
        (["c 10:* w"], {("c", 10, None)}),
        (["b 8:0 r", "c *:* rwm"], {("b", 8, 0), ("c", None, None)}),
        (["c *:* rwm", "b *:* r"], {("c", None, None), ("b", None, None)}),
        (["a *:* r"], {("a", None, None)}),
        (["a 10:229 r"], {("a", None, None)}),  # a kernel with cgroup v1 doesn't look at the numbers then
    ],
)
def test_what_rules_allow(rules: list[str], found: set[Any]) -> None:
    """It counts by type and number, and what it covers; a rule without an access is one for all."""
    assert opened(NONE, *map(rule, rules)) == found
    without = [{key: one for key, one in rule(text).items() if key != "access"} for text in ("c 10:229 r",)]
    assert opened(NONE, *without, {"allow": False, "type": "c", "major": 10, "minor": 229}) == {FUSE}


def test_a_hole_in_a_rule_is_none() -> None:
    """With cgroup v1 a rule that forbids some of what another allows does nothing."""
    forbids = rule("c 10:229 rwm", allow=False)
    assert opened(NONE, rule("c 10:* rwm"), forbids) == {("c", 10, None)}
    assert opened(NONE, forbids, rule("c 10:229 rwm")) == {FUSE}  # as docker has it


def test_tun() -> None:
    """A rule for it is some engines' for all; with a node it was given."""
    tun = ("c", 10, 200)
    assert opened(NONE, rule("c 10:200 rwm")) == set()
    assert opened(NONE, rule("c 10:200 rwm"), nodes=[node("/dev/net/tun", tun)]) == {tun}


@pytest.mark.parametrize("rules", [["a *:* rwm"], ["a *:* r", "a *:* w"], ["c *:* rwm", "b *:* rw"]])
def test_every_device(rules: list[str]) -> None:
    """Who may open all is told apart."""
    assert opened(NONE, *map(rule, rules)) is None
    assert opened({"allow": True, "access": "rwm"}) is None
    assert opened(NONE, *map(rule, rules), is_root=False) == set()


@pytest.mark.parametrize("oci", [{}, {"linux": None}, {"linux": [], "mounts": {}}, {"linux": {"resources": 7, "devices": "x"}}, {"mounts": [None, {}, {"type": "bind"}, {"type": "bind", "source": 7}, {"type": "bind", "source": "\0x"}]}])  # fmt: skip
@pytest.mark.parametrize("is_root", [True, False])
def test_odd_specs(oci: dict[str, Any], is_root: bool) -> None:
    """What isn't as it should be gives nothing, and is the runtime's to complain of."""
    assert gifts.opened(oci, "/", is_root=is_root) == set()


def test_nodes_where_no_rules_hold() -> None:
    """In a user namespace a node is one of the host's, with the same path, whatever its numbers say."""
    assert opened(rule("c 1:11 r"), nodes=[node("/dev/fuse")], is_root=False) == {FUSE}
    assert opened(nodes=[node("/dev/fuse")]) == {FUSE}  # podman writes no rules for a user namespace
    assert opened(nodes=[node("/dev/fuse", ("c", 1, 3))], is_root=False) == {FUSE}
    assert opened(nodes=[node("/nonexistent", ("c", 1, 3))], is_root=False) == set()


def bind(source: object, *options: str, type_: str = "bind") -> dict[str, Any]:
    return {"destination": "/x", "type": type_, "source": str(source), "options": list(options)}


def test_binds_where_no_rules_hold(tmp_path: Path) -> None:
    """A node, a link to one, and dirs that show /dev; not what nodev or a plain bind hides, and no files."""

    def found(*mounts: dict[str, Any]) -> Any:
        return opened(is_root=False, mounts=mounts)

    (tmp_path / "link").symlink_to("/dev/fuse")
    (tmp_path / "file").touch()
    for mount in (
        bind("/dev/fuse", "rbind"),
        bind(tmp_path / "link"),
        bind("dev/fuse", "bind", type_="none"),
        bind("/dev/fuse", "nodev", "dev"),
    ):
        assert found(mount) == {FUSE}, mount
    for mount in (
        bind("/dev/fuse", "bind", "nodev"),
        bind(tmp_path, "rbind"),
        bind(tmp_path / "file"),
        bind("/nonexistent"),
        bind("/dev/shm", "rbind"),
        bind("/dev/null"),
        bind("/dev/fuse", type_="tmpfs"),
        bind("/dev", "rbind", "nodev"),
        bind("/", "bind"),
    ):
        assert found(mount) == set(), mount
    assert FUSE in found(bind("/dev", "bind"))
    is_own = os.stat("/").st_dev != os.stat("/dev").st_dev
    for mount in (bind("/", "rbind"), bind("/", "rbind", "nodev"), bind("/../", "rbind")):
        assert (FUSE in found(mount)) or not is_own, mount
