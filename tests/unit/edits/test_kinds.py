# SPDX-License-Identifier: Apache-2.0
"""edits: what the recorded answers can't ask. tests/fuzz has what holds for any edits, such as that twice is once."""

from __future__ import annotations

import copy
import os
from typing import TYPE_CHECKING, Any

import pytest

from cdi_hook.edits import editor, kinds, target
from cdi_hook.errors import InjectionError

if TYPE_CHECKING:
    from pathlib import Path


def applied(
    oci: dict[str, Any], wanted: dict[str, Any], *, keep_present: bool = False
) -> list[target.Change]:
    """Apply the edits of one device."""
    return editor.apply(oci, [(("v.com/c=1", "/etc/cdi/v.yaml"), wanted)], keep_present=keep_present)


# An edit of each kind, and what it makes of an empty OCI specification.
RULE = {"allow": True, "type": "c", "major": 1, "minor": 9, "access": "rwm"}
ONE: dict[str, tuple[Any, dict[str, Any]]] = {
    "env": ("A=1", {"process": {"user": {"uid": 0, "gid": 0}, "cwd": "", "env": ["A=1"]}}),
    "deviceNodes": (
        {"path": "/dev/cdi-a", "type": "c", "major": 1, "minor": 9, "uid": 5},
        {
            "linux": {
                "devices": [{"path": "/dev/cdi-a", "type": "c", "major": 1, "minor": 9, "uid": 5}],
                "resources": {"devices": [RULE]},
            }
        },
    ),
    "netDevices": (
        {"hostInterfaceName": "e0", "name": "e1"},
        {"linux": {"netDevices": {"e0": {"name": "e1"}}}},
    ),
    "hooks": (
        {"hookName": "poststop", "path": "/h", "args": ["h", "x"], "timeout": 0},
        {"hooks": {"poststop": [{"path": "/h", "args": ["h", "x"], "timeout": 0}]}},
    ),
    "mounts": (
        {"hostPath": "/a", "containerPath": "/b", "options": ["ro", "bind"]},
        {"mounts": [{"destination": "/b", "source": "/a", "options": ["ro", "bind"]}]},
    ),
    "intelRdt": (
        {"closID": "gold", "schemata": ["L3:0=f"], "enableMonitoring": True},
        {"linux": {"intelRdt": {"closID": "gold", "schemata": ["L3:0=f"], "enableMonitoring": True}}},
    ),
    "additionalGids": (7, {"process": {"user": {"uid": 0, "gid": 0, "additionalGids": [7]}, "cwd": ""}}),
}


def test_what_may_not_be_looked_for_is_not_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what changes need on the host all that is gone counts; a path in a closed dir isn't gone, nor one replaced."""
    mounts = [
        {"hostPath": f"/none/{name}", "containerPath": f"/{name[0]}", "options": ["bind"]}
        for name in ("a", "b", "b2")
    ]
    changes = editor.apply({}, [(("v.com/c=1", "/v.yaml"), {"mounts": mounts})], keep_present=True)
    with pytest.raises(InjectionError, match='the host has no "/none/a" and 1 more, needed') as caught:
        editor.check_host(changes)
    assert caught.value.source == ("v.com/c=1", "/v.yaml")

    def closed(path: str) -> None:
        raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr("posix.stat", closed)
    editor.check_host(changes)


def test_a_dir_that_anybody_may_have_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """NVIDIA's dir in /tmp is mounted only if root made it, and no link leads elsewhere."""
    place = tmp_path / "nvidia-mps"
    monkeypatch.setattr(kinds, "_MPS", str(place))
    mount = {"hostPath": str(place), "containerPath": "/tmp/nvidia-mps", "options": ["rbind"]}
    changes = editor.apply({}, [(("v.com/c=1", "/v.yaml"), {"mounts": [mount]})])
    place.symlink_to("/root")
    with pytest.raises(
        InjectionError, match=f'"{place}" is no dir of root\'s, so anybody may have made it: remove it'
    ):
        editor.check_host(changes)
    place.unlink()
    place.mkdir()
    if os.geteuid() == 0:
        editor.check_host(changes)
        os.chown(place, 4711, 0)
    with pytest.raises(InjectionError, match="is no dir of root's"):
        editor.check_host(changes)


@pytest.mark.parametrize("name", kinds.KINDS)
def test_one_edit(name: str) -> None:
    """Each kind of edit becomes what the OCI specification has for it."""
    edit, expected = ONE[name]
    oci: dict[str, Any] = {}
    changes = applied(oci, {name: [edit] if kinds.KINDS[name].is_list else edit})
    assert oci == expected
    assert {change.kind for change in changes} == {name}


def test_a_later_deny_makes_a_rule_count_again() -> None:
    """A rule that is there but taken back by a later one is added; one that still holds isn't."""
    rule = {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rwm"}
    deny = {"allow": False, "access": "rwm"}
    wanted = {"deviceNodes": [{"path": "/dev/null", "type": "c", "major": 1, "minor": 3}]}
    for before, after in (([deny, rule], [deny, rule]), ([rule, deny], [rule, deny, rule])):
        oci: dict[str, Any] = {"linux": {"resources": {"devices": list(before)}}}
        applied(oci, wanted, keep_present=True)
        assert oci["linux"]["resources"]["devices"] == after


@pytest.mark.parametrize("count", range(5))
def test_a_device_that_is_there_many_times_is_there_once(count: int) -> None:
    """Of the entries that an OCI spec has for a path, ours is left, and a second injection has nothing to do."""
    node = {"path": "/dev/cdi-a", "type": "c", "major": 1, "minor": 9}
    oci: dict[str, Any] = {"linux": {"devices": [{"path": "/dev/cdi-a"} for _ in range(count)]}}
    assert applied(oci, {"deviceNodes": [node]}, keep_present=True)
    assert oci["linux"]["devices"] == [node]
    assert applied(oci, {"deviceNodes": [node]}, keep_present=True) == []


def test_the_same_hook_of_two_devices_is_kept_twice_and_completed() -> None:
    """As many copies as were asked for, however many are there already."""
    hook = {"hookName": "prestart", "path": "/h"}
    for there in range(4):
        oci: dict[str, Any] = {"hooks": {"prestart": [{"path": "/h"}] * there}}
        applied(oci, {"hooks": [hook, hook]}, keep_present=True)
        assert len(oci["hooks"]["prestart"]) == max(2, there)


@pytest.mark.parametrize(
    ("oci", "message"),
    [
        ({"process": []}, "the OCI spec's .process is not an object"),
        ({"process": {"env": "A=1"}}, "the OCI spec's .process.env is not a list"),
        ({"process": {"env": [1]}}, "the OCI spec's .process.env has an item that is not a string"),
        ({"process": {"user": {"uid": "0"}}},
         "the OCI spec's .process.user.uid is not a number from 0 to 4294967295"),
        ({"process": {"user": {"uid": -1}}},
         "the OCI spec's .process.user.uid is not a number from 0 to 4294967295"),
        ({"process": {"user": {"gid": 1 << 32}}},
         "the OCI spec's .process.user.gid is not a number from 0 to 4294967295"),
        ({"mounts": [None]}, "the OCI spec's .mounts has an item that is not an object"),
        ({"mounts": [{"destination": 5}]}, "the OCI spec's .mounts has an item whose destination is not a string"),
        ({"linux": {"devices": {}}}, "the OCI spec's .linux.devices is not a list"),
        ({"mounts": [{"destination": "/a"}] * 8193}, "the OCI spec's .mounts has more than 8192 items"),
        ({"hooks": {"prestart": {}}}, "the OCI spec's .hooks.prestart is not a list"),
        ({"hooks": {"poststop": [[]]}}, "the OCI spec's .hooks.poststop has an item that is not an object"),
        ({"linux": {"resources": {"devices": [1]}}},
         "the OCI spec's .linux.resources.devices has an item that is not an object"),
    ],
)  # fmt: skip
def test_an_oci_spec_of_another_shape_is_refused_untouched(oci: dict[str, Any], message: str) -> None:
    """What isn't as the OCI specification has it is named, and left alone."""
    before = copy.deepcopy(oci)
    with pytest.raises(InjectionError) as caught:
        applied(oci, {"env": ["A=1"]})
    assert (str(caught.value), oci) == (message, before)


def test_a_failed_injection_leaves_all_as_it_was() -> None:
    """A device that the host lacks fails before the first edit."""
    oci: dict[str, Any] = {"process": {"env": []}}
    with pytest.raises(InjectionError) as caught:
        applied(oci, {"env": ["A=1"], "deviceNodes": [{"path": "/dev/none-such"}]})
    message = 'failed to stat CDI host device "/dev/none-such": no such file or directory'
    assert (str(caught.value), oci) == (message, {"process": {"env": []}})


@pytest.mark.parametrize("there", [None, {}, {"env": []}, {"env": None}, {"env": kinds.HOOK_ENV}])
def test_a_hook_that_an_image_could_take_over(there: dict[str, Any] | None) -> None:
    """A createContainer hook without variables gets some, one that the engine has injected too; twice is once.

    The reference's own way of injecting leaves it as it is, and so are other hooks.
    """
    hook = {"path": "/h", "args": ["h"], "timeout": 1}
    oci: dict[str, Any] = {} if there is None else {"hooks": {"createContainer": [{**hook, **there}]}}
    stages = ("createContainer", "createRuntime")
    wanted = {"hooks": [{"hookName": stage, **hook} for stage in stages]}
    for changed in (True, False):
        assert bool(applied(oci, wanted, keep_present=True)) == changed
        assert oci["hooks"] == {
            "createContainer": [{**hook, "env": kinds.HOOK_ENV}],
            "createRuntime": [hook],
        }
    oci = {}
    applied(oci, wanted)
    assert oci["hooks"] == {stage: [hook] for stage in stages}


def test_a_hook_that_an_engine_has_injected_for_more_devices() -> None:
    """Where the engine has injected it more often than is asked for, each gets variables; another hook doesn't."""
    hook, other = {"path": "/h"}, {"path": "/other"}
    oci: dict[str, Any] = {"hooks": {"createContainer": [dict(hook), dict(other), dict(hook)]}}
    wanted = {"hooks": [{"hookName": "createContainer", **hook}]}
    assert len(applied(oci, wanted, keep_present=True)) == 2
    with_env = {**hook, "env": kinds.HOOK_ENV}
    assert oci["hooks"]["createContainer"] == [with_env, other, with_env]


def test_an_unknown_hook_is_an_error() -> None:
    """Edits that nobody has validated put nothing into .hooks that no runtime knows."""
    oci: dict[str, Any] = {}
    with pytest.raises(InjectionError) as caught:
        applied(oci, {"env": ["A=1"], "hooks": [{"hookName": "preStart", "path": "/h"}]})
    assert (str(caught.value), oci) == ('unknown hook name "preStart"', {})


def test_edits_that_lack_a_field_have_the_reference_s_empty_one() -> None:
    """What nobody has validated is applied as the reference decodes it."""
    oci: dict[str, Any] = {}
    applied(oci, {"mounts": [{}], "hooks": [{"hookName": "prestart"}], "netDevices": [{}]})
    assert oci == {
        "mounts": [{"destination": "", "source": ""}],
        "hooks": {"prestart": [{"path": ""}]},
        "linux": {"netDevices": {"": {"name": ""}}},
    }


def test_a_list_may_be_as_long_as_the_bound() -> None:
    """The bound itself isn't too many."""
    oci = {"mounts": [{"destination": "/a"}] * 8192}
    assert len(applied(oci, {"env": ["A=1"]})) == 3


def steps(changes: list[target.Change]) -> list[tuple[str, target.Place, Any, Any]]:
    """Return what a test compares of changes."""
    return [(one.op, one.place, one.value, one.was) for one in changes]


def test_the_steps_of_a_mount_that_replaces_one_and_moves_another() -> None:
    """A mount that goes, those that move, and the one that comes are a step each, in a patch's order."""
    old, deep, proc = (
        {"destination": "/b", "source": "/old"},
        {"destination": "/x/y"},
        {"destination": "/proc"},
    )
    oci = {"mounts": [deep, old, proc]}
    changes = applied(oci, {"mounts": [{"hostPath": "/new", "containerPath": "/b", "options": ["bind"]}]})
    new = {"destination": "/b", "source": "/new", "options": ["bind"]}
    assert oci == {"mounts": [proc, new, deep]}
    assert steps(changes) == [
        ("remove", ("mounts", 1), None, old),
        ("move", ("mounts", 0), None, proc),
        ("add", ("mounts", 1), new, None),
    ]
    assert changes[1].origin == ("mounts", 1)
    assert {one.kind for one in changes} == {"mounts"}
    assert [one.sources for one in changes] == [[("v.com/c=1", "/etc/cdi/v.yaml")]] * 3
    assert [one.is_put for one in changes] == [False, False, True]


def test_mounts_that_are_there_stay() -> None:
    """Of two mounts, one that is there stays, and the other is still added."""
    there = {"destination": "/a", "source": "/a", "options": ["bind"]}
    wanted = [{"hostPath": path, "containerPath": path, "options": ["bind"]} for path in ("/a", "/c")]
    oci = {"mounts": [there]}
    assert [one.op for one in applied(oci, {"mounts": wanted}, keep_present=True)] == ["add"]
    assert oci["mounts"] == [there, {"destination": "/c", "source": "/c", "options": ["bind"]}]
    oci = {"mounts": [there]}
    assert [one.op for one in applied(oci, {"mounts": wanted})] == ["remove", "add", "add"]


def test_net_devices_come_in_the_order_in_which_they_are_first_asked_for() -> None:
    """The last of a host's device wins, at the place of the first."""
    wanted = [
        {"hostInterfaceName": host, "name": name} for host, name in (("a", "1"), ("b", "2"), ("a", "3"))
    ]
    oci: dict[str, Any] = {}
    applied(oci, {"netDevices": wanted})
    assert list(oci["linux"]["netDevices"].items()) == [("a", {"name": "3"}), ("b", {"name": "2"})]


@pytest.mark.parametrize("args", [["a"], ["a", "b"]])
def test_a_hook_that_is_there_stays_if_it_is_the_same(args: list[str]) -> None:
    """A hook is the same if all of it is, its list of arguments too."""
    oci: dict[str, Any] = {"hooks": {"prestart": [{"path": "/h", "args": ["a"]}], "poststop": None}}
    wanted = {"hooks": [{"hookName": "prestart", "path": "/h", "args": args}]}
    assert len(applied(oci, wanted, keep_present=True)) == len(args) - 1
    assert len(applied(oci, wanted)) == 1


@pytest.mark.parametrize(
    ("mount", "options"),
    [
        ({"options": ["bind"]}, ["bind", "idmap"]),
        ({"options": ["ro", "rbind"]}, ["ro", "rbind", "ridmap"]),
        ({"options": ["bind", "ridmap"]}, ["bind", "ridmap"]),
        ({"options": ["bind", "idmap"]}, ["bind", "idmap"]),
        ({"options": ["rbind", "bind"]}, ["rbind", "bind", "idmap"]),
        ({"type": "bind"}, ["idmap"]),
        ({"type": "rbind"}, None),
        ({"type": "tmpfs", "options": ["ro"]}, ["ro"]),
    ],
)
def test_ids_are_mapped_where_the_container_has_a_user_namespace(
    mount: dict[str, Any], options: list[str] | None
) -> None:
    """A bind mount gets idmap or ridmap, unless it says itself which, or is none."""
    oci: dict[str, Any] = {"linux": {"namespaces": [{"type": "user"}]}}
    applied(oci, {"mounts": [{"hostPath": "/a", "containerPath": "/b", **mount}]})
    assert oci["mounts"][0].get("options") == options


@pytest.mark.parametrize(
    ("mount", "message"),
    [
        ({"options": ["bind"]}, 'the host has no "/none/a"'),
        ({"options": ["rbind"]}, 'the host has no "/none/a"'),
        ({"type": "bind"}, 'the host has no "/none/a"'),
        ({"options": ["ro"]}, '"options: [bind]" is missing for the mount of "/none/a" at "/b"'),
        ({"type": "tmpfs"}, ""),
    ],
)
def test_what_hinders_a_mount(mount: dict[str, Any], message: str) -> None:
    """A bind mount needs its source, and a mount of no type needs to be one."""
    changes = applied({}, {"mounts": [{"hostPath": "/none/a", "containerPath": "/b", **mount}]})
    if not message:
        editor.check_host(changes)
        return
    with pytest.raises(InjectionError) as caught:
        editor.check_host(changes)
    assert str(caught.value) == f"{message}, needed by the spec's mounts"


NULL = {"path": "/dev/null", "type": "c", "major": 1, "minor": 3}


@pytest.mark.parametrize(
    ("node", "device"),
    [
        ({"path": "/dev/null"}, {**NULL, "fileMode": 0o666}),
        ({"path": "/dev/null", "fileMode": 0o600}, {**NULL, "fileMode": 0o600}),
        ({"path": "/dev/a", "hostPath": "/dev/null"}, {**NULL, "path": "/dev/a", "fileMode": 0o666}),
        ({"path": "/dev/null", "major": 9, "minor": 8}, {**NULL, "major": 9, "minor": 8, "fileMode": 0o666}),
        ({"path": "/dev/null", "type": "c", "minor": 8}, {**NULL, "fileMode": 0o666}),
        (
            {"path": "/none/pipe", "type": "p"},
            {"path": "/none/pipe", "type": "p", "major": 0, "minor": 0},
        ),
        (
            {"path": "/none/b", "type": "b", "major": 7, "fileMode": 0o640},
            {"path": "/none/b", "type": "b", "major": 7, "minor": 0, "fileMode": 0o640},
        ),
    ],
)
def test_a_node_is_completed_from_the_host_s(node: dict[str, Any], device: dict[str, Any]) -> None:
    """What the spec says of a node stays, and the rest is the host's; a complete one needs none there."""
    oci: dict[str, Any] = {}
    applied(oci, {"deviceNodes": [node]})
    assert oci["linux"]["devices"] == [device]


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({}, 'failed to stat CDI host device "": no such file or directory'),
        ({"path": "/dev/\0"}, 'failed to stat CDI host device "/dev/\\x00": invalid argument'),
        ({"path": "/dev"}, 'failed to stat CDI host device "/dev": not a device node'),
        ({"path": "/none/c", "type": "c", "minor": 3}, 'failed to stat CDI host device "/none/c": no such file or directory'),
        ({"path": "/a", "hostPath": "/dev/null", "type": "b"}, 'CDI device ("/a", "/dev/null"), host type mismatch (b, c)'),
        ({"path": "/dev/null", "type": "p", "major": 0}, None),
    ],
)  # fmt: skip
def test_a_node_that_can_t_be_completed(node: dict[str, Any], message: str | None) -> None:
    """The host's node is named, and what is wrong with it; a pipe needs no node, whatever is there."""
    if message is None:
        applied({}, {"deviceNodes": [node]})
        return
    with pytest.raises(InjectionError) as caught:
        applied({}, {"deviceNodes": [node]})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("user", "owner"),
    [
        ({"uid": 1, "gid": 2}, {"uid": 1, "gid": 2}),
        ({"uid": 0, "gid": 7}, {"gid": 7}),
        ({}, {}),
    ],
)
def test_a_node_belongs_to_the_container_s_user(user: dict[str, int], owner: dict[str, int]) -> None:
    """Unless the spec says whose it is, a node is the container's user's, and root's without one."""
    oci: dict[str, Any] = {"process": {"user": user}}
    applied(
        oci, {"deviceNodes": [{"path": "/dev/null"}, {"path": "/dev/b", "hostPath": "/dev/null", "uid": 5}]}
    )
    first, second = oci["linux"]["devices"]
    assert first == {**NULL, "fileMode": 0o666, **owner}
    assert second == {**NULL, "path": "/dev/b", "fileMode": 0o666, **owner, "uid": 5}


def test_nodes_that_are_there_are_replaced_in_their_place() -> None:
    """With what is there kept, one like ours stays, another of its path is replaced, and more of them go."""
    ours, other = {**NULL, "fileMode": 0o666}, {**NULL, "minor": 9}
    zero = {"path": "/dev/zero", "type": "c", "major": 1, "minor": 5, "fileMode": 0o666}
    wanted = {"deviceNodes": [{"path": "/dev/null"}, {"path": "/dev/zero"}]}
    oci: dict[str, Any] = {"linux": {"devices": [ours]}}
    changes = applied(oci, wanted, keep_present=True)
    assert oci["linux"]["devices"] == [ours, zero]
    assert [one.place[1] for one in changes] == [
        "devices",
        "resources",
        "resources",
        "resources",
        "resources",
    ]
    assert changes[-1].edit == {"path": "/dev/zero"}
    oci = {"linux": {"devices": [other, {"path": "/dev/x"}, other, other]}}
    changes = applied(oci, wanted, keep_present=True)
    assert oci["linux"]["devices"] == [{"path": "/dev/x"}, ours, zero]
    assert [one.op for one in changes][:4] == ["remove", "remove", "replace", "add"]
    assert {source for one in changes for source in one.sources} == {("v.com/c=1", "/etc/cdi/v.yaml")}
    assert applied(oci, wanted, keep_present=True) == []
    oci = {"linux": {"devices": [other, other]}}
    changes = applied(oci, {"deviceNodes": [{"path": "/dev/null"}]})
    assert [one.op for one in changes][:2] == ["remove", "replace"]
    assert oci["linux"]["devices"] == [ours]


def test_rules_are_added_once_more_unless_what_is_there_is_kept() -> None:
    """A rule that is there is added again, as the reference does; with what is there kept it isn't."""
    rule = {**RULE, "minor": 3}
    oci = {"linux": {"resources": {"devices": [rule]}}}
    applied(oci, {"deviceNodes": [{"path": "/dev/null"}]}, keep_present=True)
    assert oci["linux"]["resources"]["devices"] == [rule]
    applied(oci, {"deviceNodes": [{"path": "/dev/null"}]})
    assert oci["linux"]["resources"]["devices"] == [rule, rule]


def test_variables_come_where_their_name_is_or_where_it_is_first_asked_for() -> None:
    """A variable replaces one of its name in its place; a new one comes where its name is first asked for."""
    oci: dict[str, Any] = {"process": {"env": ["A=x=y", "PATH=/bin"]}}
    parts = [
        (("v.com/c=1", "/v.yaml"), {"env": ["B=1", "C=1", "A=new=z"]}),
        (("v.com/c=2", "/v.yaml"), {"env": ["B=2", "C=1"]}),
    ]
    changes = editor.apply(oci, parts)
    assert oci["process"]["env"] == ["A=new=z", "PATH=/bin", "B=2", "C=1"]
    one, two = ("v.com/c=1", "/v.yaml"), ("v.com/c=2", "/v.yaml")
    assert {str(change.value): change.sources for change in changes} == {
        "B=2": [two], "C=1": [one, two], "A=new=z": [one],
    }  # fmt: skip


def test_an_unknown_kind_is_an_error() -> None:
    """Edits of a kind that nobody knows are named."""
    with pytest.raises(InjectionError) as caught:
        applied({}, {"cats": ["a"]})
    assert str(caught.value) == 'unknown kind of container edits "cats"'


@pytest.mark.parametrize(
    ("destination", "depth"),
    [
        ("/", 1),
        ("/a", 1),
        ("/a/b", 2),
        ("a/b", 1),
        ("", 0),
        ("//a//b", 2),
        ("/a/./b", 2),
        ("/a/../b", 1),
        ("/a/", 1),
    ],
)
def test_depth(destination: str, depth: int) -> None:
    """The depth of a mount is that of its cleaned destination."""
    assert kinds._depth({"destination": destination}) == depth
