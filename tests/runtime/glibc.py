# SPDX-License-Identifier: Apache-2.0
"""A driver's libraries that can be loaded, and a container in which a program loads them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cases.driverroot import make

VERSION = "580.159.04"
LIB = "usr/local/nvidia/lib64"
LINKER = Path("/lib64/ld-linux-x86-64.so.2")
_LIBRARY = "int {name}(void) {{ return {answer}; }}"
# Loads each library that it is given, and prints what the function of that name answers.
_PROBE = r"""
#include <dlfcn.h>
#include <stdio.h>
int main(int count, char **words) {
    for (int i = 1; i + 1 < count; i += 2) {
        void *library = dlopen(words[i], RTLD_NOW);
        int (*function)(void) = library ? (int (*)(void))dlsym(library, words[i + 1]) : 0;
        if (function) printf("%s %d\n", words[i], function());
        else printf("%s\n", dlerror());
    }
    return 0;
}
"""


def compile_to(path: Path, text: str, *options: str) -> Path:
    compiler = shutil.which("cc")
    if not compiler:
        pytest.skip("cc isn't installed")
    path.parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([compiler, "-x", "c", "-", "-o", path, *options], check=True, input=text, text=True)
    return path


def driver_root(root: Path, *gpus: str) -> Path:
    """Make a root with a driver whose libraries answer, and GPUs with these UUIDs: each node is /dev/null's."""
    files = {
        f"{LIB}/libcuda.so.1": {"link": f"libcuda.so.{VERSION}"},
        f"{LIB}/libcuda.so": {"link": "libcuda.so.1"},
        "usr/bin/nvidia-smi": {"text": "#!/bin/sh\necho smi\n", "mode": 0o755},
        "dev/nvidiactl": {"node": ["c", 1, 3]},
        "dev/nvidia-uvm": {"node": ["c", 1, 3]},
    }
    for minor, uuid in enumerate(gpus):
        files[f"dev/nvidia{minor}"] = {"node": ["c", 1, 3]}
        files[f"proc/driver/nvidia/gpus/0000:0{minor}:00.0/information"] = {
            "text": f"GPU UUID: \t {uuid}\nDevice Minor: \t {minor}\n"
        }
    make(root, files)
    for name, function, answer in (("cuda", "cuInit", 42), ("nvidia-ml", "nvmlInit", 7)):
        options = ("-shared", "-fPIC", f"-Wl,-soname,lib{name}.so.1")
        text = _LIBRARY.format(name=function, answer=answer)
        compile_to(root / LIB / f"lib{name}.so.{VERSION}", text, *options)
    return root


def give_glibc(rootfs: Path) -> None:
    """Give a container the C library, and the program `probe` that loads others."""
    if not LINKER.exists():
        pytest.skip(f"there is no {LINKER}")
    for path in (LINKER, Path("/lib/x86_64-linux-gnu/libc.so.6")):
        target = rootfs / str(path)[1:]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    compile_to(rootfs / "bin/probe", _PROBE)
