# SPDX-License-Identifier: Apache-2.0
"""same: which names stand for the same device."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from cdi_hook.errors import InjectionError
from cdi_hook.generate import classes
from cdi_hook.generate.classes import amd, infiniband, nvidia, vfio
from cdi_hook.leases import same

if TYPE_CHECKING:
    from pathlib import Path

    from cdi_hook.leases.same import Hardware


def node(path: str, major: int, minor: int, type_: str = "c") -> dict[str, Any]:
    return {"path": path, "type": type_, "major": major, "minor": minor}


def device(*nodes: dict[str, Any], name: str = "v.com/d=one", **edits: Any) -> Hardware:
    return same.of_edits(name, {**({"deviceNodes": list(nodes)} if nodes else {}), **edits})


GPU = node("/dev/nvidia0", 195, 0)
OTHER = node("/dev/nvidia1", 195, 1)
CARD = node("/dev/dri/card1", 226, 1)
KFD = node("/dev/kfd", 235, 0)


def slice_of(*minors: int, gpu: dict[str, Any] = GPU) -> Hardware:
    """Return what a MIG slice stands for, with these capability nodes."""
    return device(gpu, *(node(f"/dev/nvidia-caps/nvidia-cap{one}", 237, one) for one in minors))


def test_a_node_is_told_by_its_numbers() -> None:
    """A spec's own numbers count, else the host's; a net device has its name; u is c, and b isn't."""
    null = os.stat("/dev/null").st_rdev
    assert device(GPU).keys == {"c 195:0"}
    assert device(node("/dev/x", 195, 0, "u")).keys == {"c 195:0"}
    assert device(node("/dev/x", 195, 0, "b")).keys == {"b 195:0"}
    assert device({"path": "/dev/other", "hostPath": "/dev/null"}).keys == {
        f"c {os.major(null)}:{os.minor(null)}"
    }
    assert device(netDevices=[{"hostInterfaceName": "eth7", "name": "e"}]).keys == {"net eth7"}


def test_a_node_that_is_gone_is_an_error() -> None:
    """Else its device would get no lease, and be injected if the node comes back a moment later."""
    with pytest.raises(InjectionError, match='failed to stat CDI host device "/nonexistent/x"'):
        device({"path": "/nonexistent/x"})


def test_without_nodes_equal_edits_are_the_same(tmp_path: Path) -> None:
    """The order of keys tells nothing, nor what proves a device; a FIFO isn't a device."""
    one = device(env=["A=1"], hooks=[{"hookName": "prestart", "path": "/bin/true"}])
    other = device(hooks=[{"path": "/bin/true", "hookName": "prestart"}], env=["A=1"], proof="x")
    assert same.conflict(one, other)
    assert not same.conflict(one, device(env=["A=2"]))
    assert not same.conflict(device(env=["A=1" * 300]), device(env=["A=1" * 301]))
    assert len(next(iter(device(env=["A=1" * 300]).keys))) < 100
    os.mkfifo(tmp_path / "fifo")
    assert next(iter(device({"path": str(tmp_path / "fifo")}).keys)).startswith("edits ")


@pytest.mark.parametrize(
    ("one", "other", "is_conflict"),
    [
        (device(GPU), device(GPU), True),  # the index and the UUID
        (device(GPU), device(OTHER), False),
        (device(GPU), device(GPU, OTHER), True),  # "all"
        (device(GPU, CARD), device(CARD), True),  # dri
        (slice_of(1, 2), slice_of(3, 4), False),
        (slice_of(1, 2), slice_of(1, 3), False),  # two compute instances of one GPU instance
        (slice_of(1, 2), slice_of(1, 2), True),
        (slice_of(1, 2), device(GPU), True),
        (slice_of(1, 2), slice_of(1, 2, 3, 4), True),  # all of its slices
        (slice_of(1, 2), slice_of(1, 2, gpu=OTHER), True),  # they share the capabilities
        (slice_of(1, 2), slice_of(3, 4, gpu=OTHER), False),
    ],
)
def test_conflict(one: Hardware, other: Hardware, is_conflict: bool) -> None:
    """Two names conflict if they share a node, unless each has a capability node that the other lacks."""
    assert same.conflict(one, other) is is_conflict
    assert same.conflict(other, one) is is_conflict


def test_a_capability_s_node_may_be_below_a_driver_s_root() -> None:
    """The dir of the node on the host tells; a part of its name doesn't."""
    path = "/run/nvidia/driver/dev/nvidia-caps/nvidia-cap1"
    assert device({**node("/dev/x", 237, 1), "hostPath": path}).capabilities == {"c 237:1"}
    assert device(node("/dev/nvidia-caps-imex-channels/channel0", 240, 0)).capabilities == set()


def test_what_each_device_of_a_spec_has_does_not_count() -> None:
    """amd-ctk's specs give /dev/kfd to each device, as its own."""
    one, other = [device(CARD, KFD), device(node("/dev/dri/card2", 226, 2), KFD)]
    everything = device(CARD, node("/dev/dri/card2", 226, 2), KFD)
    ignored = same.common([[one, other, everything]])
    assert ignored == {"c 235:0"}
    assert same.conflict(one, other)
    assert not same.conflict(one, other, ignored)
    assert same.conflict(one, everything, ignored)
    # One GPU with two names: what they share is all that they have.
    assert same.common([[one, one]]) == set()
    # Slices of one GPU: it is that which tells them from nothing but the GPU.
    assert same.common([[slice_of(1, 2), slice_of(3, 4)]]) == set()


def test_one_spec_s_word_is_not_another_s() -> None:
    """A node that tells a device of any spec counts; a spec's parts and their whole don't change that."""
    fuse, tun = node("/dev/fuse", 10, 229), node("/dev/net/tun", 10, 200)
    kit = [device(GPU, fuse), device(GPU, tun)]
    assert same.common([kit]) == {"c 195:0"}
    for gpus in ([device(GPU)], [device(GPU), device(OTHER), device(GPU, OTHER)], [device(GPU, CARD)]):
        assert same.common([kit, gpus]) == set()
        assert same.common([[*kit, device(GPU, fuse, tun)], gpus]) == set()
    assert same.common([kit], [device(GPU)]) == set()  # a lease of a kind that no spec has
    assert same.common([[device(CARD, KFD), device(OTHER, KFD)], [device(KFD), device(fuse)]]) == set()


def test_control_nodes_are_common(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a spec makes of them; the host says which these are, and no spec."""
    null, zero = (
        f"c {os.major(number)}:{os.minor(number)}" for number in map(rdev, ("/dev/null", "/dev/zero"))
    )
    monkeypatch.setattr(same, "CONTROL", ("/dev/null", "/nonexistent/kfd"))
    kit = [
        device({"path": "/nonexistent/kfd", "hostPath": "/dev/zero"}, GPU),
        device({"path": "/dev/zero"}, CARD),
    ]
    assert same.common(
        [[device({"path": "/dev/null"}), device(GPU)], kit, [device({"path": "/dev/zero"})]]
    ) == {null}
    assert same.common([kit]) == {null, zero}


def rdev(path: str) -> int:
    return os.stat(path).st_rdev


def test_control_nodes_are_those_of_generated_specs() -> None:
    """CONTROL has what the classes give to all of their devices."""
    said = {
        *nvidia._CONTROL,
        amd._KFD,
        *vfio.SHARED,
        infiniband._MANAGER,
    }
    for name in classes.CLASSES:
        said.update(vars(classes.get(name)).get("_shared", ()))
    assert set(same.CONTROL) == said


def test_what_is_gone_keeps_nobody_apart() -> None:
    """Beside it the rest of the device counts, and what all have is still common."""
    gone = same.of_edits("v.com/d=1", {"deviceNodes": [{"path": "/nonexistent/x"}, KFD]}, strict=False)
    assert gone.keys == {"gone /nonexistent/x", "c 235:0"}
    common = same.common([[device(CARD, KFD), gone]])
    assert common == {"gone /nonexistent/x", "c 235:0"}
    whole = same.of_edits("v.com/d=1", {"deviceNodes": [{"path": "/nonexistent/x"}, GPU]}, strict=False)
    assert same.is_part(whole, device(GPU), same.common([[whole]]))


def test_unions_and_parts() -> None:
    """A union is several others together; a name of the same device isn't one, nor is a larger one."""
    one, other, both, uuid = device(GPU), device(OTHER), device(GPU, OTHER), device(GPU)
    assert same.is_union(both, [one, other, both, uuid])
    assert not same.is_union(one, [one, other, both, uuid])
    assert not same.is_union(both, [one, both])
    assert not same.is_union(slice_of(1, 2), [slice_of(1, 2), device(GPU)])
    assert same.is_part(one, both)
    assert same.is_part(one, uuid)
    assert not same.is_part(both, one)
    assert not same.is_part(device(KFD), device(CARD, KFD), frozenset({"c 235:0"}))


def test_the_edits_are_left_alone() -> None:
    """Nothing of a spec's edits is changed by looking at them."""
    edits = {"deviceNodes": [{"path": "/dev/null"}], "env": ["A=1"]}
    before = json.dumps(edits)
    same.of_edits("v.com/d=1", edits)
    assert json.dumps(edits) == before
