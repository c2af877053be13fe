# SPDX-License-Identifier: Apache-2.0
"""Class nvidia in real containers: the spec's own hook makes the linker find the driver's libraries."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest
import yaml

from .glibc import LIB, driver_root, give_glibc
from .lab import NATIVE, ROOT
from .live.hooked import Live, unshare_users

if TYPE_CHECKING:
    from pathlib import Path

    from .lab import Bundle, Lab

pytestmark = pytest.mark.parametrize("runtime", NATIVE, indirect=True)

UUID = "GPU-00000001-0000-0000-0000-000000000000"
LOAD = "probe libcuda.so.1 cuInit libcuda.so cuInit libnvidia-ml.so.1 nvmlInit"
LOADED = "libcuda.so.1 42\nlibcuda.so 42\nlibnvidia-ml.so.1 7\n"
SHOW = f"{LOAD}; nvidia-smi; ls /dev | $B grep nvidia; readlink /{LIB}/libcuda.so; readlink /{LIB}/libnvidia-ml.so.1"
SHOWN = f"{LOADED}smi\nnvidia-uvm\nnvidia0\nnvidiactl\nlibcuda.so.1\nlibnvidia-ml.so.580.159.04\n"
NOT_THERE = "libcuda.so.1: cannot open shared object file: No such file or directory\n"


@pytest.fixture
def driver(lab: Lab) -> Path:
    """A driver's root, with the spec that `cdi-hook generate` makes of it among the lab's."""
    root = driver_root(lab.directory / "driver", UUID)
    ours = lab.directory / "ours"  # root of a user namespace may not get to the tree
    for name in ("packaging/bin", "cdi_hook"):
        shutil.copytree(ROOT / name, ours / name)
    words = ["generate", "nvidia", "--root", str(root), "--output", str(lab.specs)]
    command = [str(ours / "packaging/bin/cdi-hook"), *words]
    subprocess.run(command, check=True, env=lab.environ)
    return root


def bundle(lab: Lab, script: str = SHOW, device: str = UUID) -> Bundle:
    """Make a bundle with a C library, whose container asks for a GPU."""
    made = lab.bundle(script.replace("$B", "busybox"), [f"nvidia.com/gpu={device}"] if device else [])
    give_glibc(made.rootfs)
    for name in ("etc", "usr/bin"):
        (made.rootfs / name).mkdir(parents=True, exist_ok=True)
    return made


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("device", ["0", UUID, "all"])
def test_libraries_are_found(lab: Lab, device: str) -> None:
    """A container that asks for a GPU by any of its names can load the driver's libraries; one that doesn't, can't."""
    assert lab.run(bundle(lab, device=device)) == SHOWN
    made = lab.bundle("probe libcuda.so.1 cuInit; ls /dev | busybox grep nvidia", name="without")
    give_glibc(made.rootfs)
    completed = lab.call("run", "--bundle", str(made.path), lab.container())
    assert completed.stdout == NOT_THERE


@pytest.mark.usefixtures("driver")
def test_started_again(lab: Lab) -> None:
    """A rootfs in which a container ran before serves the next one, and keeps what the hook made as it was."""
    made = bundle(lab)
    assert lab.run(made) == SHOWN
    kept = {path: path.lstat().st_mtime_ns for path in (made.rootfs / "etc/ld.so.conf.d").iterdir()}
    made.write()
    assert lab.run(made) == SHOWN
    assert {path: path.lstat().st_mtime_ns for path in kept} == kept


@pytest.mark.usefixtures("driver")
def test_read_only(lab: Lab) -> None:
    """A container whose rootfs is read-only gets the links and the cache too."""
    made = bundle(lab)
    made.config["root"]["readonly"] = True
    made.write()
    assert lab.run(made) == SHOWN


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("stage", ["createRuntime", "prestart"])
@pytest.mark.parametrize("userns", [False, True], ids=["", "userns"])
def test_injected_live(lab: Lab, stage: str, userns: bool) -> None:
    """Injection into a container that is being created runs the hook likewise, in a user namespace too."""
    live = Live(lab)
    live.configure(HOOK_UNSUPPORTED="warn")  # the spec's variables come too late
    made = bundle(lab)
    made.config["hooks"] = {stage: [live.hook(stage)]}
    if userns:
        unshare_users(made)
    made.write()
    assert live.call("run", made).stdout == SHOWN


@pytest.mark.usefixtures("driver")
def test_in_a_user_namespace(lab: Lab) -> None:
    """In a user namespace whose root may not read the bundle, the hook finds the rootfs all the same."""
    (path,) = lab.specs.iterdir()
    spec = yaml.safe_load(path.read_text("utf-8"))
    del spec["containerEdits"]["deviceNodes"]  # runc would bind nodes of this machine, which has no GPU
    for device in spec["devices"]:
        device["containerEdits"] = {"env": ["GPU=here"]}
    path.write_text(yaml.safe_dump(spec), "utf-8")
    made = bundle(lab, LOAD)
    unshare_users(made)
    made.write()
    made.config_file.chmod(0o600)
    assert lab.run(made) == LOADED


@pytest.mark.usefixtures("driver")
def test_links_of_the_image(lab: Lab) -> None:
    """An image whose dirs are links to dirs of the host gets everything inside its own root."""
    made = bundle(lab, LOAD)
    outside = lab.directory / "outside"
    outside.mkdir()
    made.rootfs.joinpath("etc").rmdir()
    made.rootfs.joinpath("etc").symlink_to(outside)
    inside = made.rootfs / str(outside)[1:]
    inside.mkdir(parents=True)
    assert lab.run(made) == LOADED
    assert list(outside.iterdir()) == []
    assert (inside / "ld.so.cache").exists()


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize("option", ["ro", "rw"])
@pytest.mark.parametrize("stage", ["", "createRuntime"])
def test_a_volume_over_the_rootfs(lab: Lab, stage: str, option: str) -> None:
    """A volume that a link of the image brings over the rootfs, as crun does, stays as it is; nothing starts."""
    made = bundle(lab)
    volume = lab.directory / "volume"
    (volume / LIB).mkdir(parents=True)
    (volume / LIB / "libcuda.so").write_text("precious")
    (made.rootfs / "data").symlink_to("/")
    mount = {"destination": "/data", "type": "bind", "source": str(volume), "options": ["rbind", option]}
    made.config["mounts"].append(mount)
    if stage:
        live = Live(lab)
        live.configure(HOOK_UNSUPPORTED="warn")
        made.config["hooks"] = {stage: [live.hook(stage)]}
    made.write()
    done = live.call("run", made) if stage else lab.call("run", "--bundle", str(made.path), lab.container())
    assert done.returncode != 0
    shown = {str(path.relative_to(volume)) for path in volume.rglob("*") if not path.is_dir()}
    assert shown == {f"{LIB}/libcuda.so"}
    assert (volume / LIB / "libcuda.so").read_text() == "precious"


@pytest.mark.usefixtures("driver")
def test_what_cannot_be_made(lab: Lab) -> None:
    """A container that can't get a link doesn't start, and with runc the message names the link."""
    made = bundle(lab)
    (made.rootfs / LIB / "libcuda.so").mkdir(parents=True)
    completed = lab.call("run", "--bundle", str(made.path), lab.container())
    assert completed.returncode != 0
    if lab.runtime.name == "runc":
        assert json.dumps(f'can\'t make "/{LIB}/libcuda.so" a link')[1:-1] in completed.stderr
