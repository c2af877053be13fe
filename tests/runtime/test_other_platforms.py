# SPDX-License-Identifier: Apache-2.0
"""Jetson and WSL in real containers: libraries are found of a driver that has no version for the hook."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.cases.driverroot import make

from .glibc import compile_to, give_glibc
from .lab import NATIVE, ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from .lab import Lab

pytestmark = pytest.mark.parametrize("runtime", NATIVE, indirect=True)

STORE = "usr/lib/wsl/drivers/nv_dispi.inf_amd64_1"
TEGRA = "usr/lib/aarch64-linux-gnu/nvidia"
CSV = "etc/nvidia-container-runtime/host-files-for-container.d"
NODE = {"node": ["c", 1, 3]}


def cuda(path: Path) -> None:
    """Make a library that answers."""
    compile_to(path, "int cuInit(void) { return 42; }", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1")


def show(lab: Lab, root: Path, name: str, script: str) -> str:
    """Make the spec of a root, and return what a container prints that asks for a device of it."""
    program = str(ROOT / "packaging/bin/cdi-hook")
    words = ["generate", "nvidia", "--root", str(root), "--output", str(lab.specs)]
    subprocess.run([program, *words], check=True, env=lab.environ)
    bundle = lab.bundle(script, [f"nvidia.com/gpu={name}"])
    give_glibc(bundle.rootfs)
    for directory in ("etc", "usr/bin"):
        (bundle.rootfs / directory).mkdir(parents=True, exist_ok=True)
    return lab.run(bundle)


def test_wsl(lab: Lab) -> None:
    """On WSL a container has the device, finds the store's libraries, and nvidia-smi by its name."""
    root = lab.directory / "windows"
    make(
        root,
        {
            "dev/dxg": NODE,
            "usr/lib/wsl/lib/libdxcore.so": {"elf": "libdxcore.so"},
            f"{STORE}/nvidia-smi": {"text": "#!/bin/sh\necho smi\n", "mode": 0o755},
        },
    )
    cuda(root / STORE / "libcuda.so.1.1")
    script = "probe libcuda.so.1 cuInit; nvidia-smi; ls /dev/dxg"
    assert show(lab, root, "all", script.replace("ls", "busybox ls")) == "libcuda.so.1 42\nsmi\n/dev/dxg\n"


def test_jetson(lab: Lab) -> None:
    """On a Jetson a container has the nodes that are named, finds the libraries, and links as the host has them."""
    root = lab.directory / "board"
    lines = f"dev, /dev/nvmap\nlib, /{TEGRA}/libcuda.so.1.1\nsym, /{TEGRA}/libcuda.so\n"
    make(
        root,
        {
            "dev/nvmap": NODE,
            "etc/nv_tegra_release": {"text": "# R36\n"},
            f"{CSV}/devices.csv": {"text": lines},
            f"{TEGRA}/libcuda.so": {"link": "libcuda.so.1.1"},
        },
    )
    cuda(root / TEGRA / "libcuda.so.1.1")
    script = f"probe libcuda.so.1 cuInit libcuda.so cuInit; busybox ls /dev/nvmap; busybox readlink /{TEGRA}/libcuda.so"
    expected = "libcuda.so.1 42\nlibcuda.so 42\n/dev/nvmap\nlibcuda.so.1.1\n"
    assert show(lab, root, "0", script) == expected
