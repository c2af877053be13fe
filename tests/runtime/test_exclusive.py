# SPDX-License-Identifier: Apache-2.0
"""EXCLUSIVE with real runtimes: each device to one container, as long as that exists, however it ends.

/run is a tmpfs of each test's own, with its leases.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cdi_hook.leases.store import TOKEN

from .lab import ALONE, NATIVE, ROOT, RUNTIMES, STANDARD_PATH, TIMEOUT_S, Lab, why_not

if TYPE_CHECKING:
    from collections.abc import Generator

    from .lab import Bundle

KEY = "cdi.k8s.io/test"
ANY = "v.com/gpu=any"
LEASES = Path("/run/cdi-hook-leases/leases")
MAJOR = 195
KFD = {"path": "/dev/kfd", "type": "c", "major": 235, "minor": 0}
_HOLD = "mount -t tmpfs -o mode=755 none /run; echo; exec sleep infinity"


def gpu(*minors: int) -> list[dict[str, Any]]:
    """Return nodes of GPUs, which no driver has to serve."""
    return [{"path": f"/dev/gpu{one}", "type": "c", "major": MAJOR, "minor": one} for one in minors]


def make_kfd(host: Shared) -> dict[str, Any]:
    """Have the host a /dev/kfd, which no driver has to serve, and return it."""
    script = "mkdir /run/up /run/work; mount -t overlay -o lowerdir=/dev,upperdir=/run/up,workdir=/run/work none /dev"
    mknod = f"mknod /dev/kfd c {KFD['major']} {KFD['minor']}"
    subprocess.run([*host.lab.runtime.prefix[:2], "sh", "-ec", f"{script}; {mknod}"], check=True)
    return KFD


def device(name: object, *nodes: dict[str, Any], **edits: Any) -> dict[str, Any]:
    nodes_too = {"deviceNodes": list(nodes)} if nodes else {}
    return {"name": str(name), "containerEdits": {**nodes_too, **edits}}


class Shared:
    """A host whose GPUs containers share; each GPU has an index and a UUID, and all have a name together."""

    def __init__(self, lab: Lab, run: Path, number: int) -> None:
        self.lab = lab
        self.run = run
        self.conf("v.com/gpu=*")
        self.spec(*(device(one, *gpu(one)) for one in range(number)),
                  *(device(f"GPU-{one:04x}", *gpu(one)) for one in range(number)),
                  device("all", *gpu(*range(number))))  # fmt: skip
        self._made = 0

    def conf(self, exclusive: str, **values: str) -> None:
        """Write a configuration with this EXCLUSIVE."""
        self.lab.configure(EXCLUSIVE=exclusive, LOG=str(self.lab.directory / "own.log"), **values)

    def spec(self, *devices: dict[str, Any], kind: str = "v.com/gpu", **more: Any) -> None:
        """Write the spec of a kind."""
        text = json.dumps({"cdiVersion": "0.6.0", "kind": kind, "devices": list(devices), **more})
        (self.lab.specs / f"{kind.replace('/', '-')}.json").write_text(text)

    def bundle(self, asked: str, script: str = "sleep 1000") -> Bundle:
        """Make a bundle that asks for devices."""
        self._made += 1
        made = self.lab.bundle(script, [asked], name=f"bundle{self._made}")
        made.config["process"]["args"][-1] = script
        made.write()
        return made

    def create(self, bundle: Bundle, container: str = "", *, command: str = "create") -> tuple[str, str]:
        """Create a container; return its id, and what was said against it."""
        container = self.lab.container(container or f"{uuid.uuid4().hex[:12]}-cdi-hook-test")
        done = self.lab.call(command, "--bundle", str(bundle.path), container)
        assert (done.returncode == 0) == (done.stderr == ""), done
        return container, done.stderr.rstrip()

    def got(self, asked: str = ANY) -> tuple[str, str]:
        """Create a container; return its id, and the devices that it got."""
        bundle = self.bundle(asked)
        container, error = self.create(bundle)
        assert error == ""
        return container, bundle.injected()["annotations"][KEY]

    def refused(self, asked: str = ANY) -> str:
        """Fail to create a container; return what was said."""
        _, error = self.create(self.bundle(asked))
        assert error.startswith("CDI device injection failed: "), error
        return error.removeprefix("CDI device injection failed: ")

    def delete(self, container: str) -> None:
        """Delete a container, without cdi-runtime."""
        self.lab.call("delete", "--force", container, program=self.lab.runtime.name)

    def leases(self) -> list[dict[str, Any]]:
        """Return the leases that are kept."""
        file = self.run / LEASES.relative_to("/run")
        found: list[dict[str, Any]] = json.loads(file.read_text())["leases"] if file.exists() else []
        return found

    def age(self) -> None:
        """Have the leases look old enough for an advice to remove a container that wasn't started."""
        file = self.run / LEASES.relative_to("/run")
        tree = json.loads(file.read_text())
        for lease in tree["leases"]:
            lease["since"] -= 61
        file.write_text(json.dumps(tree))

    def log(self) -> list[dict[str, Any]]:
        """Return the lines of LOG."""
        return [json.loads(line) for line in (self.lab.directory / "own.log").read_text().splitlines()]


@pytest.fixture
def busybox_lab(
    request: pytest.FixtureRequest,
    verdicts: dict[str, str],
    busybox: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Generator[tuple[Lab, Path]]:
    """A lab whose /run is its own."""
    name = request.param
    if name not in verdicts:
        probe = Lab(tmp_path_factory.mktemp("probe"), {**RUNTIMES, **ALONE}[name], busybox)
        verdicts[name] = why_not(probe)
        probe.close()
    if verdicts[name]:
        pytest.skip(verdicts[name])
    holder = subprocess.Popen(
        ["unshare", "-m", "--propagation", "private", "sh", "-ec", _HOLD],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
    )  # fmt: skip
    with holder:
        assert holder.stdout
        holder.stdout.readline()
        plain = {**RUNTIMES, **ALONE}[name]
        within = ("nsenter", f"--mount=/proc/{holder.pid}/ns/mnt", *plain.prefix)
        lab = Lab(tmp_path_factory.mktemp("lab"), replace(plain, prefix=within), busybox)
        yield lab, Path(f"/proc/{holder.pid}/root/run")
        lab.close()
        holder.kill()


@pytest.fixture
def host(busybox_lab: tuple[Lab, Path]) -> Shared:
    """A host with two GPUs."""
    return Shared(*busybox_lab, number=2)


each_runtime = pytest.mark.parametrize("busybox_lab", NATIVE, indirect=True)
on_runc = pytest.mark.parametrize("busybox_lab", ["runc-v1"], indirect=True)


@each_runtime
def test_any_that_is_free(host: Shared) -> None:
    """Each container gets a device that no other has; the next one hears who has them; a deleted one's is free."""
    first, one = host.got()
    second, other = host.got()
    assert [one, other] == ["v.com/gpu=0", "v.com/gpu=1"]
    assert "remove" not in host.refused()  # somebody may just be starting them
    host.age()
    error = host.refused()
    assert re.fullmatch(
        rf"all 2 devices of v\.com/gpu are in use: 0 by {first} \(since \d\d:\d\d\), "
        rf"1 by {second} \(since \d\d:\d\d\); {first} was created and not started; to remove it, "
        rf"/\S+ --root {host.lab.state_root} delete --force {first}",
        error,
    )  # fmt: skip
    host.delete(first)
    assert host.got()[1] == "v.com/gpu=0"
    assert {one["id"] for one in host.leases()} >= {second}
    assert first not in {one["id"] for one in host.leases()}
    lines = host.log()
    assert lines[0]["devices"] == [{"name": "v.com/gpu=0", "source": f'annotation "{KEY}", as {ANY}'}]
    assert lines[3]["level"] == "ERROR"
    assert second in lines[3]["msg"]


@each_runtime
def test_what_the_container_sees(host: Shared) -> None:
    """It has the nodes of what it was dealt and their names in a variable; its annotations ask for them by name."""
    bundle = host.bundle(f"{ANY}:2", 'echo "$CDI_DEALT"; ls /dev/gpu*')
    container = host.lab.container()
    done = host.lab.call("run", "--bundle", str(bundle.path), container)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "v.com/gpu=0,v.com/gpu=1\n/dev/gpu0\n/dev/gpu1\n"
    annotations = bundle.injected()["annotations"]
    assert annotations[KEY] == "v.com/gpu=0,v.com/gpu=1"
    (lease,) = host.leases()
    assert annotations[TOKEN] == lease["token"]
    assert re.fullmatch("[0-9a-f]{32}", lease["token"])
    assert host.got()[1] == "v.com/gpu=0"  # `run` deleted it


@each_runtime
def test_names_of_one_device(host: Shared) -> None:
    """The index, the UUID, all, and another spec's name are one device, listed in EXCLUSIVE or not."""
    host.conf("v.com/gpu=0 v.com/gpu=1")
    host.spec(device("card0", *gpu(0)), device("card7", *gpu(7)), kind="host.local/dri")
    container, _ = host.got("v.com/gpu=0")
    for name in ("v.com/gpu=0", "v.com/gpu=GPU-0000", "v.com/gpu=all", "host.local/dri=card0"):
        also = "" if name.endswith("=0") else ", which has v.com/gpu=0"
        assert re.match(
            rf"{name} is in use by {container} \(since .....\){also}; asked for by",
            host.refused(name),
        )
    assert host.got("host.local/dri=card7")[1] == "host.local/dri=card7"
    assert host.got("host.local/dri=card7")[1] == "host.local/dri=card7"  # which nobody has for themselves
    host.delete(container)
    other, _ = host.got("host.local/dri=card0")
    assert f"v.com/gpu=0 is in use by {other}" in host.refused("v.com/gpu=0")
    assert host.got("v.com/gpu=GPU-0001")[1] == "v.com/gpu=GPU-0001"


@each_runtime
def test_how_a_container_ends(host: Shared) -> None:
    """Created, running and paused it holds; stopped it doesn't, though nobody has deleted it."""
    host.spec(device(0, *gpu(0)))
    container, _ = host.got()
    host.age()
    assert "was created and not started" in host.refused()
    assert host.lab.call("start", container).returncode == 0
    assert "not started" not in host.refused()
    assert "the only device of v.com/gpu is in use: 0 by" in host.refused()
    assert host.lab.call("pause", container).returncode == 0
    assert "in use" in host.refused()
    assert host.lab.call("resume", container).returncode == 0
    assert host.lab.call("kill", container, "KILL").returncode == 0
    host.lab.wait(container, "stopped")
    assert host.got()[1] == "v.com/gpu=0"


@each_runtime
def test_an_id_used_again_at_once(host: Shared) -> None:
    """The token tells which container has the id now."""
    host.spec(device(0, *gpu(0)), device(1, *gpu(1)))
    container, _ = host.got()
    token = host.leases()[0]["token"]
    for _ in range(3):  # as an engine restarts it
        host.delete(container)
        again = host.bundle(ANY)
        assert host.create(again, container)[1] == ""
        assert again.injected()["annotations"][KEY] == "v.com/gpu=0"
        assert len(host.leases()) == 1
    host.delete(container)
    assert host.create(host.bundle("v.com/gpu=1"), container)[1] == ""
    assert host.got("v.com/gpu=0")[1] == "v.com/gpu=0"
    assert token not in {one["token"] for one in host.leases()}
    assert f"in use by {container}" in host.refused("v.com/gpu=1")


@each_runtime
def test_the_same_id_under_two_roots(host: Shared) -> None:
    """They are two containers, from one bundle too."""
    host.spec(device(0, *gpu(0)))
    container, _ = host.got()
    bundle = host.lab.directory / "bundle1"
    root = host.lab.state_root
    for copy in (bundle, shutil.copytree(bundle, host.lab.directory / "copy", symlinks=True)):
        host.lab.state_root = host.lab.directory / "state2"
        done = host.lab.call("create", "--bundle", str(copy), container)
        host.lab.state_root = root
        assert "v.com/gpu=0 is in use by" in done.stderr, done
        assert done.returncode == 1
    # Nor is a copy under another id.
    done = host.lab.call("create", "--bundle", str(host.lab.directory / "copy"), host.lab.container())
    assert "v.com/gpu=0 is in use by" in done.stderr


@each_runtime
def test_a_second_create_of_a_living_id(host: Shared) -> None:
    """It never takes anything from the first: not with the first's bundle, nor with one of its own."""
    container, one = host.got(ANY)
    assert one == "v.com/gpu=0"
    (before,) = host.leases()
    first = host.lab.directory / "bundle1"
    done = host.lab.call("create", "--bundle", str(first), container)
    assert done.returncode == 1
    assert "exist" in done.stderr
    _, error = host.create(host.bundle("v.com/gpu=1"), container)
    assert "exist" in error
    (lease, _) = host.leases()
    assert (lease["token"], lease["devices"]) == (before["token"], before["devices"])
    assert "v.com/gpu=0 is in use by" in host.refused("v.com/gpu=0")
    assert host.got("v.com/gpu=1")[1] == "v.com/gpu=1"  # the second create's, of which there is no container


@each_runtime
def test_a_spec_generated_again_while_held(host: Shared) -> None:
    """Names may move: the nodes tell."""
    container, _ = host.got("v.com/gpu=0")
    host.spec(device(0, *gpu(1)), device(1, *gpu(0)))
    assert f"v.com/gpu=1 is in use by {container} (since" in host.refused("v.com/gpu=1")
    assert host.got()[1] == "v.com/gpu=0"
    host.spec(device(0, *gpu(1)))
    host.refused()


@each_runtime
def test_slices(host: Shared) -> None:
    """Two MIG slices of one GPU don't conflict; a slice and its GPU do."""
    caps = [
        {"path": f"/dev/nvidia-caps/nvidia-cap{one}", "type": "c", "major": 237, "minor": one}
        for one in range(4)
    ]
    host.spec(
        device("0:0", *gpu(0), *caps[:2]), device("0:1", *gpu(0), *caps[2:]), device("all", *gpu(0), *caps),
        device("0", *gpu(0)),
    )  # fmt: skip
    assert host.got("v.com/gpu=0:1")[1] == "v.com/gpu=0:1"
    assert "in use" in host.refused("v.com/gpu=0")
    assert "in use" in host.refused("v.com/gpu=all")
    assert "in use" in host.refused("v.com/gpu=0:1")
    assert host.got()[1] == "v.com/gpu=0:0"
    assert "in use" in host.refused()


@on_runc
def test_what_all_devices_of_a_spec_have(host: Shared) -> None:
    """As amd-ctk's /dev/kfd: it is in each device, and keeps nobody apart."""
    kfd = make_kfd(host)
    host.spec(device(0, *gpu(0), kfd), device(1, *gpu(1), kfd), device("all", *gpu(0, 1), kfd))
    host.spec(device("kfd", kfd), kind="host.local/other")
    assert [host.got()[1], host.got()[1]] == ["v.com/gpu=0", "v.com/gpu=1"]
    assert "all 2 devices of v.com/gpu are in use" in host.refused()
    assert host.got("host.local/other=kfd")[1] == "host.local/other=kfd"


@on_runc
def test_net_devices_and_edits(host: Shared) -> None:
    """Without nodes a device is told by its edits."""
    host.conf("v.com/seat=*")
    host.spec(
        device("a", env=["SEAT=a"]),
        device("b", env=["SEAT=b"]),
        device("c", env=["SEAT=b"]),
        kind="v.com/seat",
    )
    assert [host.got("v.com/seat=any")[1], host.got("v.com/seat=any")[1]] == ["v.com/seat=a", "v.com/seat=b"]
    assert "v.com/seat=c is in use by" in host.refused("v.com/seat=c")
    assert "all 2 devices of v.com/seat are in use: a by" in host.refused("v.com/seat=any")


@on_runc
@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("v.com/gpu=any:0", '"v.com/gpu=any:0" doesn\'t say how many devices to take; write v.com/gpu=any, or v.com/gpu=any:2 for two'),
        ("v.com/gpu=any:x", '"v.com/gpu=any:x" doesn\'t say how many devices to take; write v.com/gpu=any, or v.com/gpu=any:2 for two'),
        ("v.com/gpu=any:01", '"v.com/gpu=any:01" doesn\'t say how many devices to take; write v.com/gpu=any, or v.com/gpu=any:2 for two'),
        ("v.com/gpu=any:3", "v.com/gpu=any:3 asks for more than v.com/gpu has for this container: 2 devices"),
        ("v.com/gpu=any:1000000008", "v.com/gpu=any:1000000008 asks for more than v.com/gpu has for this container: 2 devices"),
        ("v.com/gpu=1,v.com/gpu=any:2", "v.com/gpu=any:2 asks for more than v.com/gpu has for this container besides those that it also asks for: 1 device"),
        ("v.com/gpu=all,v.com/gpu=any", "v.com/gpu=any asks for more than v.com/gpu has for this container besides those that it also asks for: 0 devices"),
        ("v.com/gpu=any,v.com/gpu=any", '"v.com/gpu=any" is asked for beside "v.com/gpu=any"; write one v.com/gpu=any:N, with N for how many in all'),
        ("v.com/gpu=any,v.com/gpu=any:2", '"v.com/gpu=any:2" is asked for beside "v.com/gpu=any"; write one v.com/gpu=any:N, with N for how many in all'),
    ],
)  # fmt: skip
def test_a_draw_that_can_not_be_made(host: Shared, asked: str, words: str) -> None:
    """It is an error that says what to write, and nothing is taken."""
    assert host.refused(asked) == words
    assert host.leases() == []


@on_runc
def test_any_of_a_kind_that_is_not_exclusive(host: Shared) -> None:
    """There is nothing to deal."""
    host.spec(device(0, *gpu(0)), kind="v.com/other")
    host.conf("v.com/gpu=* w.com/e=*")
    conf = host.lab.configuration
    told = f"EXCLUSIVE=v.com/gpu=* w.com/e=*, {conf}:3"
    asked = f'(asked for by annotation "{KEY}") takes a device that is for one container at a time'
    assert host.refused("v.com/other=any") == (
        f'"v.com/other=any" {asked}, and v.com/other isn\'t in {told}; name a device; cdi-hook list shows them'
    )
    host.spec(device(0, path_of_none := {"path": "/dev/cdi-hook-none"}), kind="w.com/lost")
    host.spec(device(1, path_of_none), device(0, *gpu(0)), kind="w.com/part")
    host.conf("v.com/gpu=* w.com/e=* w.com/lost=* w.com/part=1")
    told = f"EXCLUSIVE=v.com/gpu=* w.com/e=* w.com/lost=* w.com/part=1, {conf}:3"
    for name in ("w.com/lost=any", "w.com/part=any"):
        assert host.refused(name) == (
            f'"{name}" {asked}, and this host lacks the nodes of each {name[:-4]} in {told}; '
            "cdi-hook validate says what is missing"
        )
    assert host.refused("w.com/e=any") == (
        f'"w.com/e=any" {asked}, and no spec defines a w.com/e, see {told}; name a device; cdi-hook list shows them'
    )


@on_runc
def test_a_device_that_is_called_any(host: Shared) -> None:
    """A spec that defines one keeps it."""
    host.spec(device("any", *gpu(0)), device("any:2", *gpu(1)), device(2, *gpu(2)))
    container, name = host.got()
    assert name == ANY
    assert f"v.com/gpu=any is in use by {container}" in host.refused()
    assert host.got("v.com/gpu=any:2")[1] == "v.com/gpu=any:2"
    assert host.got("v.com/gpu=any:1")[1] == "v.com/gpu=2"


@on_runc
def test_any_and_a_name(host: Shared) -> None:
    """What is asked for by name isn't dealt too, in the same container; several annotations are one request."""
    bundle = host.bundle("v.com/gpu=GPU-0000,v.com/gpu=any")
    bundle.config["annotations"]["cdi.k8s.io/other"] = "v.com/gpu=GPU-0000"
    bundle.write()
    assert host.create(bundle)[1] == ""
    annotations = bundle.injected()["annotations"]
    assert annotations[KEY] == "v.com/gpu=GPU-0000,v.com/gpu=1"
    assert annotations["cdi.k8s.io/other"] == "v.com/gpu=GPU-0000"
    assert bundle.injected()["process"]["env"][-1] == "CDI_DEALT=v.com/gpu=1"
    assert len(host.leases()) == 1


@on_runc
def test_who_has_the_others(host: Shared) -> None:
    """What the container asks for by name too isn't counted as in use, nor as what it could have."""
    host.spec(*(device(one, *gpu(one)) for one in range(4)))
    container, _ = host.got("v.com/gpu=1")
    assert host.refused("v.com/gpu=any:4").startswith(
        f"v.com/gpu=any:4 asks for 4, and of the 4 devices 1 is in use: 1 by {container} ("
    )
    assert host.refused("v.com/gpu=0,v.com/gpu=any:3").startswith(
        f"v.com/gpu=any:3 asks for 3, and of the 3 devices besides those that it also asks for 1 is in use: 1 by {container} ("
    )
    host.got("v.com/gpu=any:2")
    assert host.refused("v.com/gpu=3,v.com/gpu=any").startswith(
        "all 3 devices of v.com/gpu besides those that it also asks for are in use: 0 by "
    )


@on_runc
def test_a_default_kind(host: Shared) -> None:
    """A short `any` is one of that kind; in a variable, whose text the container's command may read, it isn't."""
    host.conf("v.com/gpu=*", DEFAULT_KIND="v.com/gpu", DEVICE_ENV="GPUS")
    assert host.got("any")[1] == "v.com/gpu=0"
    bundle = host.bundle("v.com/gpu=1")
    bundle.config["annotations"] = {}
    bundle.config["process"]["env"].append("GPUS=any")
    bundle.write()
    assert (
        "(asked for by environment variable GPUS) isn't in an annotation; ask for it by one"
        in host.create(bundle)[1]
    )


@on_runc
def test_the_policy_of_any(host: Shared) -> None:
    """Only what the rules allow is dealt; DENY of one name of a device, or of a part, denies all of its names."""
    host.conf("v.com/gpu=*", DENY="v.com/gpu=GPU-0000")
    denied = "DENY=v.com/gpu=GPU-0000 ({conf}:5) refuses v.com/gpu=GPU-0000, which is a name of it"
    denied = denied.format(conf=host.lab.configuration)
    assert denied in host.refused("v.com/gpu=0")
    assert denied in host.refused("v.com/gpu=all")
    container, name = host.got()
    assert name == "v.com/gpu=1"
    assert f"the only device of v.com/gpu is in use: 1 by {container}" in host.refused()
    host.delete(container)
    host.conf("v.com/gpu=*", ALLOW="v.com/gpu=GPU-0001")
    assert host.got()[1] == "v.com/gpu=GPU-0001"
    assert "it matches no pattern of ALLOW" in host.refused("v.com/gpu=1")
    host.conf("v.com/gpu=*", DENY="v.com/gpu=*-*", ALLOW="v.com/gpu=*")
    assert "this container may have no device of v.com/gpu: device v.com/gpu=0" in host.refused()
    for pattern in ("v.com/gpu=any", "v.com/gpu=any:1"):
        host.conf("v.com/gpu=*", DENY=pattern)
        denied = f"DENY={pattern} ({host.lab.configuration}:5) refuses {pattern}, which is a name of it"
        assert host.refused("v.com/gpu=any:1").endswith(denied)
    host.conf("v.com/gpu=*", ALLOW=ANY)
    assert f"it matches no pattern of ALLOW={ANY} (" in host.refused()
    host.conf("v.com/gpu=*", DENY="v.com/gpu=all")
    assert host.got()[1] == "v.com/gpu=0"


@on_runc
def test_a_sandbox_takes_none(host: Shared) -> None:
    """A pod's sandbox has its containers' annotations."""
    bundle = host.bundle(ANY)
    container = "cdi-hook-test-sandbox"
    bundle.config["annotations"] |= {
        "io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri.sandbox-id": container,
    }  # fmt: skip
    bundle.write()
    assert host.create(bundle, container)[1] == ""
    assert host.leases() == []


@on_runc
def test_an_image_s_token(host: Shared) -> None:
    """An annotation of a container's own choice isn't a lease, and takes nobody's."""
    container, _ = host.got()
    token = host.leases()[0]["token"]
    for mine in (token, "x", 7):
        bundle = host.bundle("v.com/gpu=0")
        bundle.config["annotations"][TOKEN] = mine
        bundle.write()
        assert f"v.com/gpu=0 is in use by {container}" in host.create(bundle)[1]
    bundle = host.bundle("v.com/gpu=1")
    bundle.config["annotations"][TOKEN] = token
    bundle.write()
    assert host.create(bundle)[1] == ""
    assert bundle.injected()["annotations"][TOKEN] != token


@on_runc
def test_a_forged_token(host: Shared) -> None:
    """runc takes the annotation "cdi-hook.lease=1" for cdi-hook's own: such keys are refused."""
    for key in (f"{TOKEN}=1", f"{TOKEN}=", f"{TOKEN}.x"):
        bundle = host.bundle("v.com/gpu=0")
        bundle.config["annotations"][key] = "x"
        bundle.write()
        _, error = host.create(bundle)
        assert error == (
            f'CDI device injection failed: the annotation "{key}" is refused: '
            "keys with cdi-hook.lease are cdi-hook's own; leave it out"
        )
    assert host.leases() == []
    bundle = host.bundle("")  # which has no lease
    del bundle.config["annotations"]["cdi.k8s.io/test"]
    bundle.config["annotations"][f"{TOKEN}=1"] = "x"
    bundle.write()
    assert host.create(bundle)[1] == ""


@on_runc
def test_no_file_without_exclusive(host: Shared) -> None:
    """Nothing of it is made, or looked at, unless the configuration has EXCLUSIVE."""
    host.lab.configure()
    assert host.got("v.com/gpu=0")[1] == "v.com/gpu=0"
    assert host.got("v.com/gpu=0")[1] == "v.com/gpu=0"
    assert not (host.run / "cdi-hook-leases").exists()
    error = host.refused()
    assert error.startswith("unresolvable CDI devices v.com/gpu=any (asked for by")
    assert '; "any" takes a free device only of a kind that EXCLUSIVE in the configuration has; ' in error


@on_runc
def test_leases_that_can_not_be_kept(host: Shared) -> None:
    """A damaged file, a dir of others, no place: the container doesn't start, and hears why."""
    host.got()
    file = host.run / "cdi-hook-leases/leases"
    whole = file.read_bytes()
    file.write_bytes(whole[:40])
    assert host.refused().startswith(f'"{LEASES}" is damaged (')
    file.write_bytes(whole)
    assert host.got()[1] == "v.com/gpu=1"
    file.parent.chmod(0o755)
    assert host.refused("v.com/gpu=0").startswith('"/run/cdi-hook-leases" is no place for leases')
    shutil.rmtree(file.parent)
    file.parent.symlink_to("/tmp")
    assert host.refused("v.com/gpu=0").startswith('there is no place for leases: "/run/cdi-hook-leases"')


def spawn(host: Shared, bundle: Bundle, container: str) -> subprocess.Popen[str]:
    command = host.lab.command("create", "--bundle", str(bundle.path), host.lab.container(container))
    with (bundle.path / "out").open("w") as out:
        return subprocess.Popen(
            command, env=host.lab.environ, cwd=host.lab.directory, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            text=True,
        )  # fmt: skip


@each_runtime
def test_a_create_that_is_killed(host: Shared) -> None:
    """Whenever a create is killed, the device is the container's if there is one, and else free."""
    host.spec(device(0, *gpu(0)))
    seen = set()
    for number in range(12):
        bundle = host.bundle(ANY)
        process = spawn(host, bundle, f"cdi-hook-test-killed-{os.getpid()}-{number}")
        end = time.monotonic() + 0.03 + number * 0.02
        while time.monotonic() < end and process.poll() is None:
            time.sleep(0.002)
        process.kill()
        process.wait()
        container = f"cdi-hook-test-killed-{os.getpid()}-{number}"
        time.sleep(0.05)
        is_there = host.lab.state(container).get("status") not in (None, "stopped")
        other = host.bundle(ANY)
        name, error = host.create(other)
        seen.add(is_there)
        assert (error != "") == is_there, (number, is_there, error, host.lab.state(container))
        host.delete(container)
        host.delete(name)
    assert False in seen


@pytest.mark.parametrize(
    ("busybox_lab", "turn"),
    [*(("runc-v1", turn) for turn in range(10)), ("runc-v2", 0), ("crun-v2", 0)],
    indirect=["busybox_lab"],
)
def test_fifty_at_once_for_eight(busybox_lab: tuple[Lab, Path], turn: int) -> None:
    """Eight get one each, and no two the same; the others are refused."""
    host = Shared(*busybox_lab, number=8)
    bundles = [host.bundle(ANY, "true") for _ in range(50)]
    names = [f"cdi-hook-test-{os.getpid()}-{turn}-{one}" for one in range(50)]
    crowd = [spawn(host, bundle, name) for bundle, name in zip(bundles, names)]
    statuses = [process.wait(6 * TIMEOUT_S) for process in crowd]
    said = [(bundle.path / "out").read_text() for bundle in bundles]
    got = [one.injected()["annotations"][KEY] for one, status in zip(bundles, statuses) if status == 0]
    assert sorted(got) == [f"v.com/gpu={one}" for one in range(8)], said
    refused = [text for text, status in zip(said, statuses) if status != 0]
    assert len(refused) == 42
    assert all("all 8 devices of v.com/gpu are in use: 0 by" in text for text in refused), refused
    assert not any("remove" in text or "can't be told" in text for text in refused), refused


@each_runtime
def test_creates_that_end_while_others_ask(host: Shared) -> None:
    """No device is with two containers that live at a time, however they come and go."""
    host.spec(device(0, *gpu(0)), device(1, *gpu(1)))
    script = 'for n in 1 2 3 4 5; do "$@" run --bundle "$0" "${0##*/}-$n" >>"$0/out" 2>&1; done'
    crowd = []
    held = host.lab.directory / "held"
    held.mkdir()
    body = "mkdir /held/$CDI_DEALT 2>/dev/null || { echo TWICE; exit 1; }; sleep 0.1; rmdir /held/$CDI_DEALT; echo one"
    for _ in range(6):
        bundle = host.bundle(ANY, body.replace("$CDI_DEALT", "${CDI_DEALT#*/}"))
        bundle.config["mounts"].append({"destination": "/held", "source": str(held), "options": ["bind"]})
        os.symlink("busybox", bundle.rootfs / "bin/mkdir")
        os.symlink("busybox", bundle.rootfs / "bin/rmdir")
        bundle.write()
        # An engine writes config.json anew each time.
        fresh = 'cp "$0/fresh" "$0/config.json"; '
        shutil.copy(bundle.config_file, bundle.path / "fresh")
        command = host.lab.command()
        crowd.append(subprocess.Popen(
            ["sh", "-c", script.replace('"$@"', fresh + '"$@"'), str(bundle.path), *command],
            env=host.lab.environ, cwd=host.lab.directory, stdin=subprocess.DEVNULL,
        ))  # fmt: skip
    assert [one.wait(6 * TIMEOUT_S) for one in crowd]
    said = "".join((host.lab.directory / f"bundle{one + 1}/out").read_text() for one in range(6))
    assert "TWICE" not in said
    lines = said.splitlines()
    assert lines.count("one") >= 5, said
    assert all(line == "one" or "in use" in line for line in lines), said


@each_runtime
def test_a_restore_asks_by_name(host: Shared) -> None:
    """The bundle has the name that was dealt; another container with the device is in the way, and then none is."""
    container, _ = host.got()
    host.delete(container)
    other, _ = host.got("v.com/gpu=0")
    bundle = str(host.lab.directory / "bundle1")
    restore = ("restore", "--image-path", str(host.lab.directory), "--bundle", bundle, container)
    assert f"v.com/gpu=0 is in use by {other}" in host.lab.call(*restore).stderr
    host.delete(other)
    error = host.lab.call(*restore).stderr  # without an image that is the runtime's own
    assert error
    assert "CDI" not in error


@each_runtime
def test_checkpoint_and_restore(host: Shared) -> None:
    """A restore asks by name, and gets its device back if nobody has it."""
    if not shutil.which("criu"):
        pytest.skip("criu isn't installed")
    # criu can't dump what is open outside of the container.
    container, error = host.create(host.bundle(ANY, "exec <&- >&- 2>&-; while :; do sleep 1; done"))
    assert error == ""
    assert host.lab.call("start", container).returncode == 0
    image = str(host.lab.directory / "image")
    # crun would have criu restore what a hybrid hierarchy has in v1, which fails.
    ignore = ("--manage-cgroups-mode", "ignore") if host.lab.runtime.name == "crun" else ()
    done = host.lab.call("checkpoint", *ignore, "--image-path", image, "--work-path", image, container)
    if done.returncode:
        pytest.skip(f"criu can't checkpoint here: {' '.join(done.stderr[-200:].split())}")
    bundle = host.lab.directory / "bundle1"
    restore = ("restore", "--detach", *ignore, "--image-path", image, "--bundle", str(bundle), container)
    other, name = host.got("v.com/gpu=0")
    assert name == "v.com/gpu=0"
    assert f"v.com/gpu=0 is in use by {other}" in host.lab.call(*restore).stderr
    host.delete(other)
    done = host.lab.call(*restore)
    assert done.returncode == 0, done.stderr
    assert f"v.com/gpu=0 is in use by {container}" in host.refused("v.com/gpu=0")


@on_runc
def test_the_runtime_is_gone(host: Shared) -> None:
    """A runtime that doesn't answer holds a device, and people hear how to go on."""
    container, _ = host.got("v.com/gpu=0")
    file = host.run / "cdi-hook-leases/leases"
    tree = json.loads(file.read_text())
    tree["leases"][0]["state"][0] = "/nonexistent/runc"
    file.write_text(json.dumps(tree))
    assert "can't be told" not in host.refused("v.com/gpu=0")  # its cgroup has processes
    host.delete(container)
    assert host.refused("v.com/gpu=0").endswith(
        f"whether {container} is gone can't be told: can't run /nonexistent/runc: does not exist; "
        'if it is, "cdi-hook release v.com/gpu=0" frees the device'
    )


@on_runc
def test_how_often_runtimes_are_asked(host: Shared) -> None:
    """Once for each holder in the way whose cgroup has no processes, and not at all where none is."""
    runtime, asked = host.lab.directory / "runtime", host.lab.directory / "asked"
    runtime.write_text(
        f'#!/bin/sh\ncase " $* " in *" state "*) echo "$*" >>{asked} ;; esac\nexec {shutil.which("runc")} "$@"\n'
    )
    runtime.chmod(0o755)
    host.conf("v.com/gpu=*", RUNTIMES=str(runtime))

    def count() -> int:
        number = len(asked.read_text().splitlines()) if asked.exists() else 0
        asked.unlink(missing_ok=True)
        return number

    first, _ = host.got()
    host.got()
    assert count() == 0
    host.refused()
    assert count() == 0
    host.delete(first)
    host.got("v.com/gpu=GPU-0000")
    assert count() == 1
    host.refused("v.com/gpu=all")
    assert count() == 0


@on_runc
def test_a_clock_that_jumps(host: Shared) -> None:
    """Nothing but what is shown depends on it."""
    container, _ = host.got("v.com/gpu=0")
    file = host.run / "cdi-hook-leases/leases"
    for since in (0, 4e9, -1):
        tree = json.loads(file.read_text())
        tree["leases"][0]["since"] = since
        file.write_text(json.dumps(tree))
        assert f"v.com/gpu=0 is in use by {container} (since " in host.refused("v.com/gpu=0")
    host.delete(container)
    host.got("v.com/gpu=0")


@on_runc
def test_ten_thousand_leases(host: Shared) -> None:
    """They are no hindrance, and not asked for."""
    host.got("v.com/gpu=0")
    file = host.run / "cdi-hook-leases/leases"
    (lease,) = json.loads(file.read_text())["leases"]
    many = [
        {**lease, "id": f"{one}", "devices": [[f"w.com/d={one}", [f"c 9:{one}"], []]]}
        for one in range(10_000)
    ]
    file.write_text(json.dumps({"format": 1, "leases": [*many, lease]}))
    start = time.monotonic()
    assert host.got()[1] == "v.com/gpu=1"
    assert time.monotonic() - start < 5
    assert len(host.leases()) == 10_002


CDI_HOOK = ROOT / "packaging/bin/cdi-hook"


def said(host: Shared, *arguments: str, stdin: str = "", fails: bool = False) -> str:
    """Run cdi-hook on the host; return what it prints."""
    done = subprocess.run(
        [*host.lab.runtime.prefix, CDI_HOOK, *arguments], env=host.lab.environ, cwd=host.lab.directory, input=stdin, text=True,
        timeout=TIMEOUT_S, capture_output=True, check=False,
    )  # fmt: skip
    assert (done.returncode != 0) == fails, done
    return done.stderr if fails else done.stdout


@on_runc
def test_what_people_see(host: Shared) -> None:
    """list, show and doctor say who has which device, by all of its names; one that was deleted has none."""
    container, _ = host.got("v.com/gpu=GPU-0001")
    other, _ = host.got()
    host.delete(other)
    spec = host.lab.specs / "v.com-gpu.json"
    lines = said(host, "list").splitlines()
    pattern = rf"v\.com/gpu=(1|GPU-0001|all) +{spec}  in use by {container} \(since \d\d:\d\d\)"
    assert [bool(re.fullmatch(pattern, line)) for line in lines] == [False, True, False, True, True]
    assert lines[0] == f"v.com/gpu=0         {spec}"
    assert "user" in json.loads(said(host, "list", "--json"))["items"][1]["holder"]
    shown = json.loads(said(host, "list", "--json"))["items"]
    holder = shown[1]["holder"]
    assert (holder["container"], holder["engine"]) == (container, None)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", holder["since"])
    assert [one["holder"] for one in shown] == [None, holder, None, holder, holder]
    assert f"\n  in use by {container} (since " in said(host, "show", "v.com/gpu=1")
    assert json.loads(said(host, "show", "--json", "v.com/gpu=1"))["items"][0]["holder"] == holder
    done = subprocess.run(
        [*host.lab.runtime.prefix[:2], CDI_HOOK, "doctor"], env=host.lab.environ, capture_output=True, text=True,
        check=False, timeout=3 * TIMEOUT_S,
    )  # fmt: skip
    assert (
        "ok       EXCLUSIVE=v.com/gpu=*: 1 lease; it doesn't see containers from before it was set, nor those "
        "that another runtime runs\n" in done.stdout
    )
    (host.run / "cdi-hook-leases/leases").write_text("{")
    done = subprocess.run(
        [*host.lab.runtime.prefix[:2], CDI_HOOK, "doctor"], env=host.lab.environ, capture_output=True, text=True,
        check=False, timeout=3 * TIMEOUT_S,
    )  # fmt: skip
    assert f'error    "{LEASES}" is damaged (' in done.stdout
    assert "stop the containers that have one, then remove that file" in done.stdout


@on_runc
def test_a_container_that_doctor_looks_at(host: Shared) -> None:
    """It says what the container of a bundle holds, takes no lease, and refuses nothing."""
    container = "bundle1"
    bundle = host.bundle(ANY)
    assert host.create(bundle, container)[1] == ""
    before = host.leases()
    text = said(host, "doctor", str(bundle.path))
    assert f"no other container may have v.com/gpu=0, which {bundle.path} holds (EXCLUSIVE)" in text
    assert f"{bundle.path} was given all of that" in text
    assert host.leases() == before


@on_runc
def test_forms_that_take_no_lease(host: Shared) -> None:
    """inject and podman's precreate hook refuse exclusive devices, by each of their names, and say why."""
    conf = host.lab.configuration
    for name in (ANY, "v.com/gpu=0"):
        told = f"{name} is for one container at a time (EXCLUSIVE=v.com/gpu=*, {conf}:3), and"
        bundle = host.bundle(name)
        before = bundle.identity()
        assert said(host, "inject", str(bundle.path), fails=True) == (
            f"cdi-hook: CDI device injection failed: {told} cdi-hook inject takes no lease, because it starts no container\n"
        )
        assert bundle.identity() == before
        oci = bundle.config_file.read_text()
        assert said(host, "precreate", stdin=oci, fails=True) == (
            f"CDI device injection failed: {told} podman's precreate hooks aren't told the container's id: use cdi-runtime\n"
        )
    assert "takes no lease" in said(host, "inject", "--device", "v.com/gpu=all", str(bundle.path), fails=True)
    assert host.leases() == []


def hooked(host: Shared, asked: str, *stages: str) -> Bundle:
    """Make a bundle with cdi-hook as its hooks."""
    bundle = host.bundle(asked)
    environ = [f"PATH={STANDARD_PATH}", f"CDI_HOOK_CONFIG={host.lab.configuration}"]
    bundle.config["hooks"] = {
        stage: [{"path": str(CDI_HOOK), "args": ["cdi-hook", stage], "env": environ, "timeout": 20}] for stage in stages
    }  # fmt: skip
    bundle.write()
    return bundle


def create_hooked(host: Shared, bundle: Bundle, container: str = "") -> tuple[str, str]:
    """Create a container by the runtime itself; return its id, and what the hook said against it."""
    log = host.lab.directory / "own.log"
    log.unlink(missing_ok=True)
    container = host.lab.container(container or f"{uuid.uuid4().hex[:12]}-cdi-hook-test")
    done = host.lab.call("create", "--bundle", str(bundle.path), container, program=host.lab.runtime.name)
    errors = [line["msg"] for line in host.log() if line["level"] == "ERROR"]
    assert bool(errors) == (done.returncode != 0), (done, errors)
    return container, "".join(errors)


@each_runtime
def test_the_hook_s_leases(host: Shared) -> None:
    """A lease by the createRuntime hook lasts as long as the container's process; the runtime isn't asked."""
    bundle = hooked(host, ANY, "createRuntime")
    first, error = create_hooked(host, bundle)
    assert error == ""
    assert bundle.injected()["annotations"][KEY] == "v.com/gpu=0"
    second, error = create_hooked(host, hooked(host, ANY, "createRuntime", "prestart"))
    assert error == ""
    assert [one["devices"][0][0] for one in host.leases()] == ["v.com/gpu=0", "v.com/gpu=1"]
    assert [one["state"] for one in host.leases()] == [[], []]
    _, error = create_hooked(host, hooked(host, ANY, "createRuntime"))
    assert f"all 2 devices of v.com/gpu are in use: 0 by {first} (since " in error
    assert f"v.com/gpu=1 is in use by {second} (since " in host.refused("v.com/gpu=1")
    host.lab.call("kill", first, "KILL", program=host.lab.runtime.name)
    host.lab.wait(first, "stopped")
    assert create_hooked(host, hooked(host, "v.com/gpu=0", "createRuntime"))[1] == ""


@each_runtime
def test_both_forms_for_one_container(host: Shared) -> None:
    """The hook after the runtime finds the runtime's lease, and neither refuses the other."""
    bundle = hooked(host, ANY, "createRuntime", "prestart")
    container, error = host.create(bundle)
    assert error == "", host.log()
    (lease,) = host.leases()
    assert lease["devices"] == [["v.com/gpu=0", [f"c {MAJOR}:0"], []]]
    assert lease["state"][-2:] == ["state", container]
    # A copy of its bundle has the token too, and is of another container.
    root, host.lab.state_root = host.lab.state_root, host.lab.directory / "state2"
    copy = host.bundle(ANY)
    copy.config = bundle.injected()
    copy.config["linux"]["cgroupsPath"] = f"/copy-{container}"
    copy.write()
    _, error = create_hooked(host, copy, container)
    host.lab.state_root = root
    assert f"v.com/gpu=0 is in use by {container}" in error
    host.delete(container)
    assert host.got("v.com/gpu=0")[1] == "v.com/gpu=0"


@on_runc
def test_two_passes(host: Shared) -> None:
    """A bundle that has its lease isn't refused because of that, whoever calls again."""
    bundle = host.bundle(ANY)
    container = host.lab.container()
    for _ in range(2):
        process = spawn(host, bundle, container)
        process.wait(TIMEOUT_S)
        host.delete(container)
    assert (bundle.path / "out").read_text() == ""
    assert [one["devices"] for one in host.leases()] == [[["v.com/gpu=0", [f"c {MAJOR}:0"], []]]]
