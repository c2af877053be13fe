# SPDX-License-Identifier: Apache-2.0
"""What NVIDIA's driver needs in a container: its compatibility libraries, its profile, its parameters."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from cdi_hook.container.rootfs import Rootfs
from cdi_hook.libraries import nvidia_needs
from tests.elffile import library

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

COMPAT = "usr/local/cuda-12.9/compat"
PROFILE = "etc/nvidia/nvidia-application-profiles-rc.d/10-container.conf"


@contextmanager
def rootfs(path: Path) -> Generator[Rootfs]:
    descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY)
    yield Rootfs(descriptor, owns=True)
    os.close(descriptor)


def image(root: Path, version: str, majors: list[int] | str | None) -> Path:
    """Make an image with compatibility libraries that say which drivers they are for."""
    note = None
    if majors is not None:
        text = majors if isinstance(majors, str) else json.dumps({"Format": 1, "Driver": majors})
        note = (".note.cuda.fwd_compatibility", "NVIDIA Corporation", text.encode())
    (root / COMPAT).mkdir(parents=True)
    (root / "usr/local/cuda").symlink_to("cuda-12.9")
    (root / COMPAT / f"libcuda.so.{version}").write_bytes(library("libcuda.so.1", note=note))
    (root / COMPAT / "libcuda.so.1").symlink_to(f"libcuda.so.{version}")
    return root


@pytest.mark.parametrize(
    ("version", "majors", "host", "fits"),
    [
        ("575.57.08", [535, 550, 570], "570.86.15", True),
        ("575.57.08", [535, 550], "570.86.15", False),  # not made for that driver
        ("570.10.01", [570], "570.86.15", False),  # older than the driver
        ("570.86.15", [570], "570.86.15", False),
        ("575.57.08", "no JSON", "570.86.15", False),
        ("575.57.08", None, "570.86.15", True),  # older libraries say nothing
        ("570.99.08", None, "570.86.15", False),
        ("575.57.x", None, "570.86.15", False),
        ("575.57.08", None, "unknown", False),
    ],
)
def test_compatibility(
    tmp_path: Path, version: str, majors: list[int] | str | None, host: str, fits: bool
) -> None:
    """An image's newer libraries are used if they were made for the host's driver."""
    with rootfs(image(tmp_path, version, majors)) as root:
        assert nvidia_needs.compatible(root, host) == ([f"/{COMPAT}"] if fits else [])


def test_no_compatibility_libraries(tmp_path: Path) -> None:
    """An image that has none, or two versions of them, has no such dir."""
    with rootfs(tmp_path) as root:
        assert nvidia_needs.compatible(root, "570.1") == []
        image(tmp_path, "575.57.08", None)
        (tmp_path / COMPAT / "libcuda.so.576.1").write_bytes(library("libcuda.so.1"))
        assert nvidia_needs.compatible(root, "570.1") == []


def test_profile(tmp_path: Path) -> None:
    """The profile has a bit for each GPU's node, by its minor number, and nobody may change it."""
    if os.geteuid() != 0:
        pytest.skip("only root can make device nodes")
    (tmp_path / "dev").mkdir()
    for name, minor in (
        ("nvidia0", 0),
        ("nvidia12", 12),
        ("nvidia70", 70),
        ("nvidia-uvm", 1),
        ("nvidiactl", 255),
    ):
        os.mknod(tmp_path / "dev" / name, stat.S_IFCHR | 0o666, os.makedev(195, minor))
    (tmp_path / "dev/nvidia5").write_text("no device")
    (tmp_path / "dev/nvidia6").symlink_to("nowhere")
    with rootfs(tmp_path) as root:
        nvidia_needs.limit_gpus(root)
    assert json.loads((tmp_path / PROFILE).read_text().replace("0x1001", "4097")) == {
        "profiles": [{"name": "_container_", "settings": ["EGLVisibleDGPUDevices", 4097]}],
        "rules": [{"pattern": [], "profile": "_container_"}],
    }
    assert stat.S_IMODE((tmp_path / PROFILE).stat().st_mode) == 0o444


def test_no_profile_without_gpus(tmp_path: Path) -> None:
    """A container without GPUs gets no profile."""
    with rootfs(tmp_path) as root:
        nvidia_needs.limit_gpus(root)
    assert os.listdir(tmp_path) == []


def test_hiding_a_file_of_procfs(tmp_path: Path) -> None:
    """A file in the container's procfs says something else, read-only, and nothing else is changed or left."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    (tmp_path / "proc").mkdir()
    program = (
        "import os, sys; from cdi_hook.libraries import nvidia_needs; from cdi_hook.container.rootfs import Rootfs; "
        "root = Rootfs(os.open(sys.argv[1], os.O_PATH), owns=True); nvidia_needs.hide(root, '/proc/version', 'hidden\\n'); "
        "nvidia_needs.hide(root, '/proc/no/such/file', 'x')"
    )
    script = (
        'mount -t proc proc "$1/proc"; "$2" -c "$3" "$1"; cat "$1/proc/version"; '
        'grep -c "$1" /proc/self/mountinfo; test -e "$1/proc/self/status" && echo there; '
        '(echo x >"$1/proc/version") 2>/dev/null || echo read-only'
    )
    command = ["unshare", "-m", "--propagation", "private", "sh", "-ec", script, "sh"]
    done = subprocess.run(
        [*command, str(tmp_path), sys.executable, program], check=True, capture_output=True, text=True
    )
    assert done.stdout == "hidden\n2\nthere\nread-only\n"
