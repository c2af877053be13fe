# SPDX-License-Identifier: Apache-2.0
"""cdi-hook configure, checked by the engines themselves: they read the files that it writes.

CRI-O reads what is written for it in test_cri.py.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from . import box
from .box import ENGINES_PATH as PATH

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "packaging/bin/cdi-runtime"
BUSYBOX = Path("/bin/busybox")
CRI = "io.containerd.grpc.v1.cri"
CRI_2 = "io.containerd.cri.v1.runtime"

tomllib = pytest.importorskip("tomllib", reason="Python before 3.11 has no tomllib to read a dump with")


def call(*command: str | Path, **environ: str) -> subprocess.CompletedProcess[str]:
    """Run a command without the developer's environment."""
    return subprocess.run(
        command, env={"PATH": PATH, "HOME": "/nonexistent", **environ},
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


def need(name: str) -> None:
    """Skip the test if there is no such program."""
    if not shutil.which(name, path=PATH):
        pytest.skip(f"{name} isn't installed")


def configure(engine: str, file: Path, *more: str) -> None:
    """Run cdi-hook configure with this Python."""
    program = "import sys; sys.path.insert(0, sys.argv.pop(1)); from cdi_hook import cli; cli.run()"
    conf = str(file.with_name("no-cdi-hook.conf"))
    done = call(
        sys.executable,
        "-c",
        program,
        ROOT,
        "configure",
        engine,
        "--file",
        file,
        *more,
        CDI_HOOK_CONFIG=conf,
    )
    said = [line for line in done.stderr.splitlines() if not line.startswith("cdi-hook: note: docker ")]
    assert (done.returncode, said) == (0, [])


DAEMON = '{\n\t"runtimes": {"crun": {"path": "/usr/bin/crun"}},\n\t"default-runtime": "crun",\n\t"log-level": "warn"\n}\n'


@pytest.mark.parametrize("before", [None, "", DAEMON], ids=["no file", "empty", "a file"])
def test_dockerd_validates_it(tmp_path: Path, before: str | None) -> None:
    """dockerd accepts daemon.json with two runtimes of ours, one of them the default, and after their removal."""
    need("dockerd")
    box.need("dockerd", (23, 0), "--validate")
    file = tmp_path / "daemon.json"
    if before is not None:
        file.write_text(before)
    program = tmp_path / "bin/cdi-runtime"
    program.parent.mkdir()
    program.symlink_to(PROGRAM)
    (tmp_path / "bin/cdi-crun").symlink_to("cdi-runtime")
    configure("docker", file, "--path", str(program))
    for more in (("--path", str(program), "--runtime", "crun", "--set-default", "--force"), ("--remove",)):
        configure("docker", file, *more)
        if file.exists():
            done = call("dockerd", "--validate", "--config-file", file)
            assert (done.returncode, done.stderr) == (0, "configuration OK\n")


def test_dockerd_would_have_said_so(tmp_path: Path) -> None:
    """The check can fail: dockerd refuses a runtime that is only a path."""
    need("dockerd")
    file = tmp_path / "daemon.json"
    file.write_text('{"runtimes": {"cdi": "/usr/bin/cdi-runtime"}}')
    assert call("dockerd", "--validate", "--config-file", file).returncode == 1


def dump(file: Path) -> dict[str, Any]:
    """Return the configuration that containerd ends up with."""
    done = call("containerd", "--config", file, "config", "dump")
    said = [line for line in done.stderr.splitlines() if "Configuration migrated from version " not in line]
    assert (done.returncode, said) == (0, [])
    tree: dict[str, Any] = tomllib.loads(done.stdout)
    return tree


def cri(file: Path) -> dict[str, Any]:
    """Return the CRI plugin's part of that configuration."""
    plugin: dict[str, Any] = dump(file)["plugins"][CRI]
    return plugin


def need_containerd(major: int) -> None:
    """Skip the test if there is no containerd of a major version."""
    need("containerd")
    if not re.search(rf" v?{major}\.", call("containerd", "--version").stdout):
        pytest.skip(f"containerd isn't {major}.x")


@pytest.fixture
def containerd_1() -> None:
    """Skip the test if containerd isn't 1.x, whose layout is version 2."""
    need_containerd(1)


BASE = f"""\
version = 2
[plugins."{CRI}"]
  sandbox_image = "mine" # keep
  [plugins."{CRI}".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."{CRI}".containerd.runtimes.runc.options]
      SystemdCgroup = true
"""


@pytest.mark.usefixtures("containerd_1")
def test_containerd_has_its_own_cdi(tmp_path: Path) -> None:
    """--enable-cdi turns on containerd's own CDI, which 1.7 has off."""
    box.need("containerd", (1, 7), "CDI of its own")
    file = tmp_path / "config.toml"
    file.write_text(BASE)
    assert cri(file)["enable_cdi"] is False
    configure("containerd", file, "--enable-cdi")
    assert (cri(file)["enable_cdi"], cri(file)["sandbox_image"]) == (True, "mine")


@pytest.mark.usefixtures("containerd_1")
@pytest.mark.parametrize(
    "before", [None, "version = 2\n", "default"], ids=["no file", "next to nothing", "the default"]
)
def test_containerd_keeps_its_own_runc(tmp_path: Path, before: str | None) -> None:
    """containerd's built-in runtime runc stays beside ours if the file has no runc."""
    file = tmp_path / "config.toml"
    if before == "default":
        before = call("containerd", "config", "default").stdout
    if before is not None:
        file.write_text(before)
    configure("containerd", file)
    runtimes = cri(file)["containerd"]["runtimes"]
    assert sorted(runtimes) == ["cdi", "runc"]
    assert runtimes["runc"]["runtime_type"] == "io.containerd.runc.v2"
    configure("containerd", file, "--remove")
    assert (file.read_text() if file.exists() else None) == before


@pytest.mark.usefixtures("containerd_1")
def test_containerd_1_merges_by_plugin(tmp_path: Path) -> None:
    """Version 2 gets no drop-in, because an imported file's table of a plugin replaces the whole table."""
    file, drop_in = tmp_path / "config.toml", tmp_path / "cdi.toml"
    file.write_text(f'imports = ["{drop_in}"]\n{BASE}')
    drop_in.write_text(
        f'version = 2\n[plugins."{CRI}".containerd.runtimes.cdi]\nruntime_type = "io.containerd.runc.v2"\n'
    )
    plugin = cri(file)
    assert plugin["sandbox_image"] != "mine"
    assert [*plugin["containerd"]["runtimes"]] == ["cdi"]


@pytest.mark.usefixtures("containerd_1")
def test_containerd_1_loses_its_own_runc(tmp_path: Path) -> None:
    """runc is added beside ours, because any entry in the file removes the built-in one."""
    file = tmp_path / "config.toml"
    file.write_text(
        f'version = 2\n[plugins."{CRI}".containerd.runtimes.cdi]\nruntime_type = "io.containerd.runc.v2"\n'
    )
    assert [*cri(file)["containerd"]["runtimes"]] == ["cdi"]


IMPORTS = 'version = 3\nimports = ["conf.d/*.toml"]\n'
# A config.toml of containerd 2, and the file that gets our entry.
BASE_3 = (
    BASE.replace("version = 2", "version = 3")
    .replace(CRI, CRI_2)
    .replace('  sandbox_image = "mine" # keep\n', "")
)
FILES = {
    "containerd 1": (1, BASE, "config.toml"),
    "no file": (2, None, "config.toml"),
    "version 2": (2, BASE, "config.toml"),
    "version 3": (2, BASE_3, "config.toml"),
    "imports": (2, BASE_3.replace("version = 3\n", IMPORTS), "conf.d/99-cdi-hook.toml"),
}


@pytest.mark.parametrize("case", FILES)
def test_containerd_has_the_runtime(tmp_path: Path, case: str) -> None:
    """containerd has our entry with runc's options beside all other settings."""
    major, before, place = FILES[case]
    need_containerd(major)
    plugin = CRI if major == 1 else CRI_2
    file = tmp_path / "config.toml"
    if before is not None:
        file.write_text(before)
    plain = dump(file)
    configure("containerd", file, "--set-default", "--force")
    tree = dump(file)
    assert (tmp_path / place).exists()
    entry = tree["plugins"][plugin]["containerd"]["runtimes"].pop("cdi")
    assert (entry["options"]["BinaryName"], entry["options"].get("SystemdCgroup", False)) == (
        str(PROGRAM), before is not None,
    )  # fmt: skip
    assert (entry["runtime_type"], entry["container_annotations"], entry["pod_annotations"]) == (
        "io.containerd.runc.v2", ["cdi.k8s.io/*", "cdi-hook.local/*"], [],
    )  # fmt: skip
    assert tree["plugins"][plugin]["containerd"].pop("default_runtime_name") == "cdi"
    assert plain["plugins"][plugin]["containerd"].pop("default_runtime_name") == "runc"
    assert tree == plain


# What docker's package containerd.io has in it that isn't a comment.
STOCK = 'disabled_plugins = ["cri"]\n'


@pytest.mark.usefixtures("containerd_1")
def test_dockers_containerd(tmp_path: Path) -> None:
    """containerd takes the file of docker's package, changed as the error says, with our entry in it."""
    file = tmp_path / "config.toml"
    file.write_text(STOCK)
    with pytest.raises(AssertionError):
        configure("containerd", file)
    file.write_text(STOCK.replace('"cri"', "") + "version = 2\n")
    configure("containerd", file)
    assert cri(file)["containerd"]["runtimes"]["cdi"]["options"]["BinaryName"] == str(PROGRAM)


@pytest.fixture
def podman(tmp_path: Path) -> Generator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Return a podman with its own state, and with tmp_path/etc in place of /etc/containers."""
    need("podman")
    if os.geteuid() != 0 or call("unshare", "-m", "true").returncode:
        pytest.skip("mounting over /etc/containers needs root and a mount namespace")
    if not Path("/etc/containers").is_dir():
        pytest.skip("there is no /etc/containers")
    shutil.copytree("/etc/containers", tmp_path / "etc", symlinks=True)
    options: list[str] = []
    for name in ("root", "tmpdir"):
        (tmp_path / name).mkdir()
        options += [f"--{name}", str(tmp_path / name)]
    runroot = tempfile.mkdtemp(prefix="run")  # at most 50 characters
    options += ["--runroot", runroot]
    script = 'mount --bind "$0" /etc/containers; exec podman "$@"'

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return call(
            "unshare", "-m", "--propagation", "private", "sh", "-ec", script, tmp_path / "etc",
            *options, "--cgroup-manager", "cgroupfs", "--events-backend", "file", *arguments,
            PODMAN_IGNORE_CGROUPSV1_WARNING="1", CDI_HOOK_CONFIG=str(tmp_path / "cdi-hook.conf"),
        )  # fmt: skip

    yield run
    shutil.rmtree(runroot)


def test_podman_runs_by_it(tmp_path: Path, podman: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """podman run uses the runtime by name and by default, and after --remove the one it used before."""
    if not BUSYBOX.exists():
        pytest.skip(f"{BUSYBOX} (busybox-static) isn't there")
    programs = tmp_path / "rootfs/bin"
    programs.mkdir(parents=True)
    shutil.copy(BUSYBOX, programs)
    (programs / "true").symlink_to("busybox")
    (tmp_path / "cdi-hook.conf").write_text(f"RUNTIMES=runc\nSPEC_DIRS={tmp_path}/cdi\n")
    asked = ("run", "--rm", "--network", "none", "--annotation", "cdi.k8s.io/a=vendor.com/none=1")
    container = ("--rootfs", str(tmp_path / "rootfs"), "true")
    refusal = "CDI device injection failed: unresolvable CDI devices vendor.com/none=1"
    name = ("info", "--format", "{{.Host.OCIRuntime.Name}}")
    before = podman(*name).stdout
    file = tmp_path / "etc/containers.conf.d/99-cdi-hook.conf"

    configure("podman", file)
    assert podman(*name).stdout == before
    done = podman(*asked, "--runtime", "cdi", *container)
    assert (done.returncode, refusal in done.stderr) == (126, True), done.stderr

    configure("podman", file, "--set-default", "--force")
    assert podman(*name).stdout == "cdi\n"
    done = podman(*asked, *container)
    assert (done.returncode, refusal in done.stderr) == (126, True), done.stderr
    done = podman(*asked[:4], *container)
    assert (done.returncode, done.stderr) == (0, "")

    configure("podman", file, "--remove")
    assert podman(*name).stdout == before
    assert not file.parent.exists()  # configure made it


def test_podman_refuses_what_isnt_there(podman: Callable[..., subprocess.CompletedProcess[str]]) -> None:
    """The check can fail: without our file podman knows no runtime cdi."""
    done = podman("--runtime", "cdi", "info")
    assert done.returncode != 0
    assert json.dumps(done.stderr) != '""'
