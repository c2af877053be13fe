# SPDX-License-Identifier: Apache-2.0
"""A lease ends when nothing of its container can use the device any more, and not before; with real runtimes."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import shutil
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cdi_hook.leases import life
from cdi_hook.leases.store import TOKEN

from . import test_exclusive as exclusive
from .lab import ALONE, NATIVE, TIMEOUT_S
from .test_exclusive import ANY, CDI_HOOK, Shared, device, each_runtime, gpu, on_runc, said

if TYPE_CHECKING:
    from collections.abc import Generator

    from .lab import Lab

busybox_lab = exclusive.busybox_lab  # a fixture

GPU = "v.com/gpu=0"
# Its first thread ends, and another goes on.
_THREADS = """
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>
static void *go_on(void *unused) { for (;;) pause(); return unused; }
int main(void) { pthread_t thread; pthread_create(&thread, 0, go_on, 0); syscall(SYS_exit, 0); return 0; }
"""
each_layout = pytest.mark.parametrize("busybox_lab", [*NATIVE, *ALONE], indirect=True)


@pytest.fixture(scope="module")
def threads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program whose first thread ends."""
    if not shutil.which("cc"):
        pytest.skip("cc isn't installed")
    source = tmp_path_factory.mktemp("threads") / "threads.c"
    source.write_text(_THREADS)
    program = source.with_suffix("")
    subprocess.run(["cc", "-static", "-pthread", "-o", program, source], check=True)
    return program


@pytest.fixture
def host(busybox_lab: tuple[Lab, Path]) -> Generator[Shared]:
    """A host with two GPUs, of whose containers nothing is left in the end."""
    made = Shared(*busybox_lab, number=2)
    yield made
    for container in made.lab.containers:
        end(container)
        find = (
            "find",
            "/sys/fs/cgroup",
            "-depth",
            "-type",
            "d",
            "-name",
            container,
            "-exec",
            "rmdir",
            "{}",
            ";",
        )
        subprocess.run(find, check=False, stderr=subprocess.DEVNULL)


def start(
    host: Shared,
    script: str,
    *,
    has_pids: bool = True,
    cgroup: str = "",
    asked: str = GPU,
    program: Path | None = None,
) -> str:
    """Start a container, by default one that has the GPU; return its id."""
    bundle = host.bundle(asked, script)
    if program:
        shutil.copy(program, bundle.rootfs / "bin/program")
    if not has_pids:
        spaces = bundle.config["linux"]["namespaces"]
        bundle.config["linux"]["namespaces"] = [one for one in spaces if one["type"] != "pid"]
    if cgroup:
        bundle.config["linux"]["cgroupsPath"] = cgroup
    bundle.write()
    container, error = host.create(bundle)
    assert error == ""
    assert host.lab.call("start", container).returncode == 0
    return container


def pids(container: str) -> set[int]:
    """Return the processes in a container's cgroup, of v1 or v2."""
    files = [Path(f"/sys/fs/cgroup/{top}/{container}/cgroup.procs") for top in ("pids", "unified", "")]
    return {int(pid) for file in files if file.exists() for pid in file.read_text().split()}


def end(container: str) -> None:
    """End what is left of a container."""
    limit = time.monotonic() + TIMEOUT_S
    while there := pids(container):
        assert time.monotonic() < limit
        for pid in there:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


@each_layout
def test_a_first_thread_that_ends(host: Shared, threads: Path) -> None:
    """`state` says stopped, and the device isn't free; nor is it once the container is deleted, until all ends."""
    container = start(host, "exec /bin/program", program=threads)
    host.lab.wait(container, "stopped")
    assert f"{GPU} is in use by {container}" in host.refused(GPU)
    (lease,) = host.leases()
    assert lease["cgroup"][3].endswith(f"/{container}")
    host.lab.call("delete", container, program=host.lab.runtime.name)
    assert f"{GPU} is in use by {container}" in host.refused(GPU)
    end(container)
    host.got(GPU)


@each_layout
def test_a_child_that_outlives_its_parent(host: Shared) -> None:
    """Without a pid namespace of its own, the end of a container's first process ends no other."""
    container = start(host, "(exec <&- >&- 2>&-; exec sleep 1000) & exit 0", has_pids=False)
    host.lab.wait(container, "stopped")
    assert f"{GPU} is in use by {container}" in host.refused(GPU)
    assert "remove" not in host.refused(GPU)
    end(container)
    host.got(GPU)


@each_layout
def test_a_child_that_outlives_its_parent_by_the_hook(host: Shared) -> None:
    """The hook learns the cgroup at once: later there is nobody to ask."""
    bundle = exclusive.hooked(host, GPU, "createRuntime")
    bundle.config["process"]["args"][-1] = "(exec <&- >&- 2>&-; exec sleep 1000) & exit 0"
    spaces = bundle.config["linux"]["namespaces"]
    bundle.config["linux"]["namespaces"] = [one for one in spaces if one["type"] != "pid"]
    bundle.write()
    container, error = exclusive.create_hooked(host, bundle)
    assert error == ""
    host.lab.call("start", container, program=host.lab.runtime.name)
    host.lab.wait(container, "stopped")
    assert f"{GPU} is in use by {container}" in host.refused(GPU)
    end(container)
    host.got(GPU)


@each_layout
def test_one_that_is_stopped(host: Shared) -> None:
    """Its device is free, whether somebody saw it running or not, before it is deleted."""
    for is_seen in (False, True):
        container = start(host, "sleep 1000")
        if is_seen:
            assert f"{GPU} is in use by {container} (since" in host.refused(GPU)
        assert host.lab.call("kill", container, "KILL").returncode == 0
        host.lab.wait(container, "stopped")
        other, _ = host.got(GPU)
        host.delete(other)


@each_layout
def test_one_that_is_deleted(host: Shared) -> None:
    """Its device is free, whether somebody saw it running or not."""
    for is_seen in (False, True):
        container = start(host, "sleep 1000")
        if is_seen:
            assert f"{GPU} is in use by {container} (since" in host.refused(GPU)
        host.delete(container)
        other, _ = host.got(GPU)
        host.delete(other)


@pytest.mark.parametrize("busybox_lab", ["runsc"], indirect=True)
def test_a_runtime_that_keeps_its_containers_in_another_way(host: Shared) -> None:
    """Of such a one the cgroup is learnt by the pid in its `state`, which may not be in all hierarchies."""
    container, _ = host.got(GPU)
    assert f"{GPU} is in use by {container}" in host.refused(GPU)
    assert host.leases()[0]["cgroup"][3].endswith(f"/{container}")
    host.delete(container)
    host.got(GPU)


@each_layout
def test_a_cgroup_s_path_that_is_used_again(host: Shared) -> None:
    """It is another cgroup then."""
    path = f"/cdi-hook-test-{os.getpid()}"
    container = start(host, "sleep 1000", cgroup=path)
    assert f"{GPU} is in use by {container}" in host.refused(GPU)
    (lease,) = host.leases()
    assert lease["cgroup"][3].endswith(path)
    host.delete(container)
    start(host, "sleep 1000", cgroup=path, asked="v.com/gpu=1")
    host.got(GPU)


@each_layout
def test_a_runtime_that_gives_another_token(host: Shared) -> None:
    """That is no proof: the container may have been made to say so."""
    bundle = host.bundle(GPU)
    container, error = host.create(bundle)
    assert error == ""
    for file in (host.lab.state_root / container).glob("*.json"):
        file.write_text(file.read_text().replace(host.leases()[0]["token"], "forged"))
    assert host.lab.state(container)["annotations"][TOKEN] == "forged"
    assert f"{GPU} is in use by {container}" in host.refused(GPU)
    host.delete(container)
    host.got(GPU)


@each_runtime
def test_a_create_in_a_pid_namespace(host: Shared) -> None:
    """Its processes can be seen from the initial namespace, so that the device is free once all are gone; else nobody can tell."""
    bundle = host.bundle(GPU)
    container = host.lab.container()
    command = host.lab.command("create", "--bundle", str(bundle.path), container)
    prefix = len(host.lab.runtime.prefix)
    command[prefix:prefix] = ["unshare", "-pf", "--mount-proc", "--kill-child"]
    with (bundle.path / "out").open("w") as out:
        subprocess.run(
            command, env=host.lab.environ, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False, timeout=TIMEOUT_S
        )  # fmt: skip
    assert "CDI" not in (bundle.path / "out").read_text()
    (lease,) = host.leases()
    assert lease["creators"][0][2] != life.namespace()
    host.delete(container)
    if life.namespace() == life.INITIAL:
        host.got(GPU)
    else:
        assert "the process that creates it is in another pid namespace" in host.refused(GPU)


@each_runtime
def test_a_container_that_leaves_its_cgroup(host: Shared) -> None:
    """Its runtime says that it runs: the cgroup alone frees nothing."""
    container = start(host, "sleep 1000")
    assert f"{GPU} is in use by {container}" in host.refused(GPU)
    state = host.lab.state(container)
    top = host.leases()[0]["cgroup"][0]
    move = [
        "sh",
        "-ec",
        f"echo {state['pid']} >{top}/cgroup.procs; cat {top}{host.leases()[0]['cgroup'][3]}/cgroup.events",
    ]
    done = subprocess.run([*host.lab.runtime.prefix, *move], check=True, capture_output=True, text=True)
    assert "populated 0" in done.stdout
    assert f"{GPU} is in use by {container}" in host.refused(GPU)


@pytest.mark.parametrize("busybox_lab", ["crun-v2"], indirect=True)
def test_a_container_without_a_cgroup(host: Shared) -> None:
    """It is in its creator's, which tells nothing: while it is stopped, nobody knows what is left of it."""
    host.lab.runtime = replace(host.lab.runtime, options=("--cgroup-manager=disabled",))
    container = start(host, "sleep 1000")
    assert f"{GPU} is in use by {container}" in host.refused(GPU)
    assert "cgroup" not in host.leases()[0] or host.leases()[0]["cgroup"] is None
    assert host.lab.call("kill", container, "KILL").returncode == 0
    host.lab.wait(container, "stopped")
    assert host.refused(GPU).endswith(
        f"whether {container} is gone can't be told: it has stopped, and `ps` says of its processes: "
        f'the container is not using cgroups; if it is, "cdi-hook release {GPU}" frees the device'
    )
    host.delete(container)
    host.got(GPU)


def cpu(host: Shared, asked: str) -> tuple[float, str]:
    """Fail to create a container; return the CPU that it took, in s, and what was said."""
    bundle = host.bundle(asked)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    _, error = host.create(bundle)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, error


@on_runc
def test_what_a_refusal_costs(host: Shared) -> None:
    """No program is started for a container whose cgroup has processes, not even the first time."""
    runtime, asked = host.lab.directory / "runtime", host.lab.directory / "asked"
    runtime.write_text(f'#!/bin/sh\necho "$*" >>{asked}\nexec {shutil.which("runc")} "$@"\n')
    runtime.chmod(0o755)
    host.conf("v.com/gpu=*", RUNTIMES=str(runtime))
    host.spec(*(device(one, *gpu(one)) for one in range(64)))
    for _ in range(64):
        host.got()
    asked.unlink()
    costs = []
    for name in (ANY, "v.com/gpu=63", ANY):
        cost, error = cpu(host, name)
        assert "in use" in error
        costs.append(cost)
    assert not asked.exists()
    assert min(costs) <= 0.2, costs


@on_runc
def test_a_thousand_that_are_dead(host: Shared) -> None:
    """The runtime is asked once which containers it has, and then they are no more."""
    container, _ = host.got(GPU)
    host.delete(container)
    file = host.run / "cdi-hook-leases/leases"
    (lease,) = host.leases()
    command = lease["state"][:-1]
    dead = [
        {**lease, "token": str(one), "id": f"{one}", "state": [*command, f"{one}"]} for one in range(1000)
    ]
    file.write_text(json.dumps({"format": 1, "leases": dead}))
    container, _ = host.got(GPU)
    assert [one["id"] for one in host.leases()] == [container]
    file.write_text(json.dumps({"format": 1, "leases": [*dead, *host.leases()]}))
    assert f"{GPU} is in use by {container}" in host.refused(GPU)  # it keeps what it found out
    assert [one["id"] for one in host.leases()] == [container]


@on_runc
def test_sixteen_thousand_draws(host: Shared) -> None:
    """What whoever creates a container may write has a bound."""
    cost, error = cpu(host, ",".join(f"v.com/gpu=any:{one}" for one in range(1, 16_001)))
    assert '"v.com/gpu=any:2" is asked for beside "v.com/gpu=any:1"' in error
    assert cost < 1
    host.spec(*(device(one, *gpu(one)) for one in range(2000)))
    cost, error = cpu(host, "v.com/gpu=any:16000")
    assert "v.com/gpu=any:16000 asks for more than v.com/gpu has for this container: 2000 devices" in error
    assert cost < 3  # most of it is to read the spec


@on_runc
def test_list_and_a_runtime_that_hangs(host: Shared) -> None:
    """It is waited for 2 s in all, and named."""
    runtime = host.lab.directory / "runtime"
    runtime.write_text(f'#!/bin/sh\nexec {shutil.which("runc")} "$@"\n')
    runtime.chmod(0o755)
    host.conf("v.com/gpu=*", RUNTIMES=str(runtime))
    first, _ = host.got()
    second, _ = host.got()
    host.delete(first)
    host.delete(second)
    runtime.write_text("#!/bin/sh\nexec sleep 100\n")
    start = time.monotonic()
    done = subprocess.run(
        [*host.lab.runtime.prefix[:2], CDI_HOOK, "list"], env=host.lab.environ, capture_output=True, text=True,
        check=False, timeout=TIMEOUT_S,
    )  # fmt: skip
    assert 2 <= time.monotonic() - start < 6
    lines = done.stderr.splitlines()
    who = "cdi-hook: warning: whether these containers are gone can't be told"
    state = f"{runtime} --root {host.lab.state_root} state {first}"
    assert lines == [
        f"{who}: {first}: {state} took longer than 2 s",
        f"{who}: {second}: there was no time left to ask its runtime",
    ]
    assert done.stdout.count("in use by") == 5


@on_runc
def test_release_and_wait(host: Shared) -> None:
    """Who has a device hears what else has it; a script waits until it is free."""
    container, _ = host.got(GPU)
    assert "0 by" not in said(host, "wait", ANY, "--timeout", "0")
    assert f"{GPU} is in use by {container}" in said(host, "wait", GPU, "--timeout", "0", fails=True)
    assert '"v.com/gpu=0" is in use; stop the container' in said(host, "release", GPU, fails=True)
    within = host.lab.runtime.prefix[:2]
    with subprocess.Popen([*within, CDI_HOOK, "wait", GPU], env=host.lab.environ) as waiting:
        time.sleep(1)
        assert waiting.poll() is None
        host.delete(container)
        assert waiting.wait(TIMEOUT_S) == 0
    container, _ = host.got(GPU)
    assert said(host, "release", "--force", "v.com/gpu=GPU-0000").startswith(container)
    host.got(GPU)
