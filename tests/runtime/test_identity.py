# SPDX-License-Identifier: Apache-2.0
"""Which device a rule or a lease is about, whatever a device is called and specs and configuration say later."""

from __future__ import annotations

import pytest

from .test_exclusive import ANY, Shared, busybox_lab, device, each_runtime, gpu, host, make_kfd, on_runc, said

__all__ = ["busybox_lab", "host"]  # fixtures

FUSE = {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}
TUN = {"path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200}
TIMES = 50


def kit(host: Shared) -> None:
    """Have a spec of which all devices have the first GPU's node."""
    host.spec(device("a", *gpu(0), FUSE), device("b", *gpu(0), TUN), kind="w.com/kit")


@on_runc
@pytest.mark.parametrize("asked", ["v.com/gpu=0", "v.com/gpu=GPU-0000", "v.com/gpu=all"])
@pytest.mark.parametrize("first", ["v.com/gpu=GPU-0000", "w.com/kit=a", "w.com/kit=b"])
def test_a_gpu_beside_a_kit(host: Shared, first: str, asked: str) -> None:
    """A spec of which all devices have the GPU's node doesn't make that node nobody's."""
    kit(host)
    container, _ = host.got(first)
    for name in (asked, "w.com/kit=a", "w.com/kit=b"):
        assert f"{name} is in use by {container}" in host.refused(name)
    assert host.got()[1] == "v.com/gpu=1"


@on_runc
def test_fifty_attacks_by_a_kit(host: Shared) -> None:
    """A container of the kit, a dead one too, doesn't let others have what somebody has."""
    kit(host)
    container, _ = host.got("w.com/kit=a")
    host.delete(container)
    container, _ = host.got("v.com/gpu=0")
    names = ("v.com/gpu=0", "v.com/gpu=GPU-0000", "v.com/gpu=all", "w.com/kit=a", "w.com/kit=b")
    for turn in range(TIMES):
        name = names[turn % len(names)]
        assert f"{name} is in use by {container}" in host.refused(name), turn


@on_runc
def test_fifty_attacks_by_parts(host: Shared) -> None:
    """Two parts and the whole of a GPU in one spec don't make its node nobody's either."""
    host.spec(
        device("part", *gpu(0), FUSE),
        device("rest", *gpu(0), TUN),
        device("whole", *gpu(0), FUSE, TUN),
        kind="w.com/kit",
    )
    container, _ = host.got("w.com/kit=part")
    names = ("v.com/gpu=0", "v.com/gpu=GPU-0000", "v.com/gpu=all", "w.com/kit=rest", "w.com/kit=whole")
    for turn in range(TIMES):
        name = names[turn % len(names)]
        assert f"{name} is in use by {container}" in host.refused(name), turn


@on_runc
def test_two_amd_gpus_beside_a_spec_of_kfd(host: Shared) -> None:
    """What controls all of a driver's devices keeps nobody apart, though a spec has it as a device."""
    kfd = make_kfd(host)
    host.spec(device(0, *gpu(0), kfd), device(1, *gpu(1), kfd))
    host.spec(device("kfd", kfd), device("fuse", FUSE), kind="w.com/kit")
    assert [host.got()[1], host.got()[1]] == ["v.com/gpu=0", "v.com/gpu=1"]
    assert "all 2 devices of v.com/gpu are in use" in host.refused()
    assert host.got("w.com/kit=kfd")[1] == "w.com/kit=kfd"


@each_runtime
def test_an_exclusive_device_that_lost_a_node(host: Shared) -> None:
    """By another name, which EXCLUSIVE doesn't list, it is refused as before: 50 of 50 times."""
    host.conf("v.com/gpu=0")
    mate = host.run / "mate"
    mate.symlink_to("/dev/fuse")
    node = {"path": "/dev/mate", "hostPath": "/dev/fuse", "type": "c"}
    host.spec(device(0, *gpu(0), node), device("GPU-0000", *gpu(0)))
    container, _ = host.got("v.com/gpu=0")
    host.spec(device(0, *gpu(0), {**node, "hostPath": "/nonexistent/mate"}), device("GPU-0000", *gpu(0)))
    assert "in use by" in said(host, "list").splitlines()[0]
    for turn in range(TIMES if host.lab.runtime.name == "runc" else 1):
        assert f"v.com/gpu=GPU-0000 is in use by {container}" in host.refused("v.com/gpu=GPU-0000"), turn
    host.delete(container)
    other, _ = host.got("v.com/gpu=GPU-0000")  # and it is exclusive itself
    assert f"v.com/gpu=GPU-0000 is in use by {other}" in host.refused("v.com/gpu=GPU-0000")


@each_runtime
@pytest.mark.parametrize("change", ["spec", "kit", "EXCLUSIVE"])
def test_a_lease_outlives_what_it_was_taken_for(host: Shared, change: str) -> None:
    """Its keys count, whatever specs and EXCLUSIVE say now; without the container the device is nobody's."""
    card = "host.local/dri=card0"
    host.spec(device("card0", *gpu(0)), device("card7", *gpu(7)), kind="host.local/dri")
    host.conf("v.com/gpu=*")
    container, _ = host.got("v.com/gpu=0")
    if change == "EXCLUSIVE":
        host.conf("other.com/thing=*")
    else:
        (host.lab.specs / "v.com-gpu.json").unlink()
    asked = [card]
    if change == "kit":  # whose word would make the node common
        (host.lab.specs / "host.local-dri.json").unlink()
        kit(host)
        asked = ["w.com/kit=a", "w.com/kit=b"]
    for turn in range(TIMES if host.lab.runtime.name == "runc" else 2):
        name = asked[turn % len(asked)]
        assert f"{name} is in use by {container} (since" in host.refused(name), turn
        assert len(host.leases()) == 1
    if change == "spec":
        error = said(host, "inject", "--device", card, str(host.bundle("v.com/x=y").path), fails=True)
        assert f"{card} is for one container at a time" in error
        assert host.got("host.local/dri=card7")[1] == "host.local/dri=card7"
    host.delete(container)
    host.got(asked[0])
    host.got(asked[0])  # which isn't exclusive now, so that no lease was taken
    if change == "spec":
        assert said(host, "inject", "--device", card, str(host.bundle("v.com/x=y").path)) == ""


@on_runc
@pytest.mark.parametrize("exclusive", ["", "v.com/gpu=*"])
def test_a_denied_device_by_another_name(host: Shared, exclusive: str) -> None:
    """DENY on one name denies all names of the device and of what has it, also after a node of it is gone."""
    host.conf(exclusive, DENY="v.com/gpu=GPU-0000")
    host.spec(device("card0", *gpu(0)), device("card1", *gpu(1)), kind="host.local/dri")
    refuses = f"DENY=v.com/gpu=GPU-0000 ({host.lab.configuration}:5) refuses"
    gone = {"path": "/dev/x", "hostPath": "/nonexistent/x", "type": "c"}
    for nodes in (gpu(0), [*gpu(0), gone]):
        host.spec(
            device("GPU-0000", *nodes), device(0, *gpu(0)), device(1, *gpu(1)), device("all", *gpu(0, 1))
        )
        if gone not in nodes:
            assert f"{refuses} it" in host.refused("v.com/gpu=GPU-0000")
        for turn in range(TIMES):
            name = ("v.com/gpu=0", "host.local/dri=card0", "v.com/gpu=all")[turn % 3]
            assert f"{refuses} v.com/gpu=GPU-0000, which is a name of it" in host.refused(name), turn
        for name in ("v.com/gpu=1", "host.local/dri=card1"):
            host.delete(host.got(name)[0])
    assert "c 195:0" not in str(host.leases())


@on_runc
def test_all_that_is_denied_isn_t_its_last(host: Shared) -> None:
    """When a GPU falls off the bus, the other one isn't all of them."""
    host.conf("", DENY="v.com/gpu=all")
    lost = {"path": "/dev/gpu1", "hostPath": "/nonexistent/gpu1"}
    host.spec(device(0, *gpu(0)), device(1, lost), device("all", *gpu(0), lost))
    assert host.got("v.com/gpu=0")[1] == "v.com/gpu=0"


@on_runc
def test_any_is_no_device_that_lost_a_node(host: Shared) -> None:
    """It could not be injected."""
    lost = {"path": "/dev/x", "hostPath": "/nonexistent/x"}
    host.spec(device(0, *gpu(0), lost), device(1, *gpu(1)))
    assert host.got(ANY)[1] == "v.com/gpu=1"
    assert "the only device of v.com/gpu is in use" in host.refused(ANY)
    assert 'failed to stat CDI host device "/nonexistent/x"' in host.refused("v.com/gpu=0")
