# SPDX-License-Identifier: Apache-2.0
"""tests/gpu/run without a GPU: it says so, and its cases work with a driver whose API is a few lines of C."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.cases.driverroot import make
from tests.gpu.trial import Trial
from tests.runtime.glibc import LIB, VERSION, compile_to

PROGRAM = Path(__file__).with_name("run")
API = r"""
#include <stdlib.h>
#include <string.h>
int cuInit(unsigned flags) { return flags; }
int cuDeviceGetCount(int *count) { *count = 1; return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return 0; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = &device; return 0; }
int cuCtxSetCurrent(void *context) { return !context; }
int cuMemAlloc_v2(unsigned long long *place, size_t size) { return !(*place = (unsigned long long)malloc(size)); }
int cuMemcpyHtoD_v2(unsigned long long place, const void *data, size_t size) { return !memcpy((void *)place, data, size); }
int cuMemcpyDtoH_v2(void *data, unsigned long long place, size_t size) { return !memcpy(data, (void *)place, size); }
int cuMemFree_v2(unsigned long long place) { free((void *)place); return 0; }
"""
SMI = '#include <stdio.h>\nint main(void) { return puts("GPU 0: NVIDIA H100 (UUID: GPU-0)") < 0; }'


def test_without_gpu() -> None:
    """On a machine without a GPU it says so in a line, and exits with 77."""
    if glob.glob("/dev/nvidia[0-9]*"):
        pytest.skip("this machine has a GPU: call tests/gpu/run")
    done = subprocess.run([PROGRAM], capture_output=True, text=True, check=False)
    line = "there is no NVIDIA GPU here: /proc/driver/nvidia/gpus is empty, and there is no /dev/nvidia0\n"
    assert (done.returncode, done.stdout, done.stderr) == (77, line, "")


@pytest.fixture
def trial(tmp_path: Path) -> Trial:
    """A trial with a driver of ours, whose only GPU is /dev/null."""
    if os.geteuid() != 0:
        pytest.skip("only root can make device nodes")
    driver = tmp_path / "driver"
    information = "GPU UUID: \t GPU-00000001-0000-0000-0000-000000000000\nDevice Minor: \t 0\n"
    nodes = {f"dev/{name}": {"node": ["c", 1, 3]} for name in ("nvidia0", "nvidiactl", "nvidia-uvm")}
    make(driver, {**nodes, "proc/driver/nvidia/gpus/0000:01:00.0/information": {"text": information}})
    compile_to(driver / f"{LIB}/libcuda.so.{VERSION}", API, "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1")
    compile_to(driver / "usr/bin/nvidia-smi", SMI)
    work = tmp_path / "work"
    work.mkdir()
    return Trial(work, root=str(driver))


def test_all_cases(trial: Trial, capsys: pytest.CaptureFixture[str]) -> None:
    """With runc and crun, every case passes, each with a line."""
    runtimes = [path for path in map(shutil.which, ("runc", "crun")) if path]
    if len(runtimes) < 2:
        pytest.skip("runc or crun isn't installed")
    status = trial.all(runtimes)
    lines = [line for line in capsys.readouterr().out.splitlines() if "nvidia-ctk" not in line]
    for line in lines:
        if "setrlimit (RLIM_MEMLOCK): Operation not permitted" in line:  # crun 1.8 without CAP_SYS_RESOURCE
            pytest.skip(f"crun can't run a container here: {line}")
    cases = [
        f"{runtime}, {case}"
        for runtime in ("runc", "crun")
        for case in (
            "runtime: nvidia-smi -L",
            "runtime: the driver's API",
            "createRuntime: nvidia-smi -L",
            "createRuntime: the driver's API",
            "without the annotation: no GPU",
        )
    ]
    assert lines == [
        "passed  our programs beside this Python",
        "passed  cdi-hook generate nvidia",
        *(f"passed  {case}" for case in cases),
        "12 passed, 0 failed",
    ]
    assert status == 0


def test_a_driver_that_fails(trial: Trial, capsys: pytest.CaptureFixture[str]) -> None:
    """A case that fails says why, and the exit status tells."""
    runc = shutil.which("runc")
    if not runc:
        pytest.skip("runc isn't installed")
    text = API.replace("return flags;", "return 999;")
    options = ("-shared", "-fPIC", "-Wl,-soname,libcuda.so.1")
    compile_to(Path(trial.root) / f"{LIB}/libcuda.so.{VERSION}", text, *options)
    assert trial.all([runc]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("FAILED")] == [
        line for line in lines if "the driver's API" in line
    ]
    assert "cuInit failed with 999" in "".join(lines)
    assert lines[-1] == "5 passed, 2 failed"
