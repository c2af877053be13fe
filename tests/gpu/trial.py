# SPDX-License-Identifier: Apache-2.0
"""Class nvidia on a machine with a GPU, tried by `tests/gpu/run [DIR]`.

DIR has the runtimes to try, runc or crun or both; without it they are looked up on PATH. It takes root,
a GPU with NVIDIA's driver, and Python with PyYAML, of which DIR may have the package too. It needs no
network and no image: the container has this Python, copied, and none of the driver's files.

Each case is a line, and the last line counts them. The exit status is 0 if none failed, 1 if some did,
and 77 if there is no GPU.
"""

from __future__ import annotations

import glob
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TREE = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TREE))
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
RUNTIMES = ("runc", "crun")
NO_GPU = 77
TIMEOUT_S = 120
DEVICE = "nvidia.com/gpu=all"
# What dlopen(3) finds by itself, as old programs such as nvidia-smi name it.
OF_GLIBC = ("libdl.so.2", "libm.so.6", "libpthread.so.0", "librt.so.1", "libutil.so.1")
LEFT_OUT = (
    "__pycache__",
    "dist-packages",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "site-packages",
    "test",
    "tkinter",
)

# Runs in the container: with the driver's API it finds the GPUs, copies data to one and back.
CUDA = """
import ctypes, os
try:
    cuda = ctypes.CDLL("libcuda.so.1")
except OSError as error:
    raise SystemExit(f"no driver: {error}")
def call(name, *arguments):
    status = getattr(cuda, name)(*arguments)
    if status:
        raise SystemExit(f"{name} failed with {status}")
call("cuInit", 0)
count, device, context = ctypes.c_int(), ctypes.c_int(), ctypes.c_void_p()
call("cuDeviceGetCount", ctypes.byref(count))
call("cuDeviceGet", ctypes.byref(device), 0)
call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
call("cuCtxSetCurrent", context)
sent, place = os.urandom(1 << 20), ctypes.c_uint64()
call("cuMemAlloc_v2", ctypes.byref(place), ctypes.c_size_t(len(sent)))
call("cuMemcpyHtoD_v2", place, sent, ctypes.c_size_t(len(sent)))
back = ctypes.create_string_buffer(len(sent))
call("cuMemcpyDtoH_v2", back, place, ctypes.c_size_t(len(sent)))
call("cuMemFree_v2", place)
print(f"{count.value} GPUs, {'the same' if back.raw == sent else 'other'} data came back")
"""
# Runs in the container without an annotation.
NOTHING = """
import ctypes, glob
try:
    ctypes.CDLL("libcuda.so.1")
    print("libcuda.so.1 is there")
except OSError:
    pass
print("nodes:", *glob.glob("/dev/nvidia*"))
"""


class Failure(Exception):
    """A case that failed; the text says why, in one line."""


def call(
    command: Sequence[str | Path], environ: Mapping[str, str] | None = None, prefix: Sequence[str] = ()
) -> str:
    """Run a command and return its output; raises Failure."""
    words = [*prefix, *map(str, command)]
    try:
        done = subprocess.run(
            words, input="", capture_output=True, text=True, env=environ, timeout=TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failure(str(error)) from error
    if done.returncode:
        said = " ".join(f"{done.stdout} {done.stderr}".split())[-2000:]
        raise Failure(f"{command[0]} exited with {done.returncode}: {said}")
    return done.stdout


def gpus(root: str = "/") -> list[str]:
    """Return the GPUs that the driver has, or else their nodes."""
    found = glob.glob(os.path.join(root, "proc/driver/nvidia/gpus/*/information"))
    return found or glob.glob(os.path.join(root, "dev/nvidia[0-9]*"))


class Trial:
    """Our programs, a spec, and bundles, in a dir of their own; ``root`` is where the driver is."""

    def __init__(self, work: str | Path, directory: str = "", root: str = "/") -> None:
        self.work = Path(work)
        self.directory = directory
        self.root = root
        self.specs = self.work / "cdi"
        self.spec: dict[str, Any] = {}
        self.cdi_hook, self.cdi_runtime = self.work / "bin/cdi-hook", self.work / "bin/cdi-runtime"
        self.conf = self.work / "cdi-hook.conf"
        self.environ = {"PATH": PATH, "CDI_HOOK_CONFIG": str(self.conf)}
        self.passed = self.failed = 0

    def install(self) -> None:
        """Copy our programs beside this Python, with PyYAML."""
        packages = self.work / "lib/python3/site-packages"
        shutil.copytree(TREE / "cdi_hook", packages / "cdi_hook", ignore=shutil.ignore_patterns(*LEFT_OUT))
        found = importlib.util.find_spec("yaml")
        yaml = Path(found.origin).parent if found and found.origin else Path(self.directory, "yaml")
        if not yaml.is_dir():
            raise Failure("this Python has no PyYAML: put its package, the dir yaml, into the runtimes' dir")
        shutil.copytree(yaml, packages / "yaml", ignore=shutil.ignore_patterns(*LEFT_OUT))
        programs = self.work / "bin"
        programs.mkdir()
        for name in ("cdi-hook", "cdi-runtime"):
            shutil.copy(TREE / "packaging/bin" / name, programs)
        (programs / "python3").symlink_to(os.path.realpath(sys.executable))
        self.specs.mkdir()

    def generate(self) -> None:
        """Make the spec."""
        where = ["--root", self.root] if self.root != "/" else []
        call([self.cdi_hook, "generate", "nvidia", "--output", self.specs, *where], environ=self.environ)
        said = call([self.cdi_hook, "generate", "nvidia", "--json", *where], environ=self.environ)
        self.spec = json.loads(said)["items"][0]

    def compare(self, tool: str) -> None:
        """Compare the spec with nvidia-ctk's."""
        theirs = json.loads(call([tool, "cdi", "generate", "--format", "json"]))
        ours, other = given(self.spec), given(theirs)
        missing = {what: sorted(other[what] - ours[what]) for what in other if other[what] - ours[what]}
        if missing:
            raise Failure(f"nvidia-ctk's spec has what ours hasn't: {json.dumps(missing)}")

    def configure(self, runtime: str) -> None:
        """Write the configuration for a runtime."""
        text = f"RUNTIMES={runtime}\nSPEC_DIRS={self.specs}\nSPEC_TRUST=none\nHOOK_UNSUPPORTED=warn\n"
        self.conf.write_text(text)

    def make_rootfs(self, rootfs: Path) -> str:
        """Make a root filesystem with this Python and the libraries that it has loaded; return Python's path."""
        import ctypes  # noqa: F401 # so that its libraries are loaded

        with open("/proc/self/maps", encoding="utf-8") as lines:
            files = {line.split(maxsplit=5)[5].strip() for line in lines if len(line.split(maxsplit=5)) == 6}
        files = {path for path in files if ".so" in path and os.path.isfile(path)}
        beside = {
            os.path.join(os.path.dirname(path), name)
            for path in files
            for name in OF_GLIBC
            if "libc.so" in path
        }
        python = os.path.realpath(sys.executable)
        for path in sorted(files | {python} | {path for path in beside if os.path.exists(path)}):
            copy(path, rootfs)
        linker = f"/lib64/ld-linux-{platform.machine().replace('_', '-')}.so.2"
        linker = linker if os.path.exists(linker) else f"/lib/ld-linux-{platform.machine()}.so.1"
        copy(linker, rootfs)
        for name in ("stdlib", "platstdlib"):
            source = sysconfig.get_path(name)
            target = Path(f"{rootfs}{source}")
            if not target.exists() or not (target / "os.py").exists():
                ignore = shutil.ignore_patterns(*LEFT_OUT)
                shutil.copytree(source, target, ignore=ignore, dirs_exist_ok=True, symlinks=True)
        for name in ("proc", "dev", "sys", "etc", "tmp", "run"):
            (rootfs / name).mkdir(exist_ok=True)
        (rootfs / "cuda.py").write_text(CUDA)
        (rootfs / "nothing.py").write_text(NOTHING)
        return python

    def run(self, runtime: str, form: str, arguments: Sequence[str]) -> str:
        """Run a container that asks for all GPUs in a form, or for none ("none"); return its output."""
        with tempfile.TemporaryDirectory(dir=self.work) as name:
            bundle = Path(name)
            python = self.make_rootfs(bundle / "rootfs")
            args = [python, "-I", "-S", *arguments[1:]] if arguments[0] == "python3" else list(arguments)
            config = configuration(args)
            if form != "none":
                config["annotations"] = {"cdi.k8s.io/gpu": DEVICE}
            if form == "createRuntime":
                environ = [f"{key}={value}" for key, value in self.environ.items()]
                hook = {"path": str(self.cdi_hook), "args": ["cdi-hook", "createRuntime"], "env": environ}
                config["hooks"] = {"createRuntime": [hook]}
            (bundle / "config.json").write_text(json.dumps(config))
            program = runtime if form == "createRuntime" else self.cdi_runtime
            self.configure(runtime)
            words = [program, "--root", self.work / "state", "run", "--bundle", bundle, f"gpu-{os.getpid()}"]
            return call(words, environ=self.environ, prefix=layout(runtime))

    def case(self, name: str, function: Callable[..., None], *arguments: str) -> None:
        """Do one case and print its line."""
        try:
            function(*arguments)
        except Failure as failure:
            self.failed += 1
            print(f"FAILED  {name}: {failure}", flush=True)
        else:
            self.passed += 1
            print(f"passed  {name}", flush=True)

    def program(self, name: str) -> tuple[str, str]:
        """Return a program of the driver: its path on the host, and in a container."""
        for mount in self.spec.get("containerEdits", {}).get("mounts", ()):
            if os.path.basename(mount["containerPath"]) == name:
                return mount["hostPath"], mount["containerPath"]
        raise Failure(f"the spec mounts no {name}")

    def shows(self, runtime: str, form: str) -> None:
        """nvidia-smi shows in a container what it shows on the host."""
        on_host, inside = self.program("nvidia-smi")
        expected, shown = call([on_host, "-L"]), self.run(runtime, form, [inside, "-L"])
        if expected != shown:
            raise Failure(f"nvidia-smi -L shows {shown!r} in the container, and {expected!r} on the host")

    def computes(self, runtime: str, form: str) -> None:
        """A program that uses the driver's API works in a container."""
        said = self.run(runtime, form, ["python3", "/cuda.py"])
        expected = f"{len(gpus(self.root))} GPUs, the same data came back\n"
        if said != expected and not (
            "MIG" in call([self.program("nvidia-smi")[0], "-L"]) and "the same" in said
        ):
            raise Failure(f"the program said {said!r}, not {expected!r}")

    def has_nothing(self, runtime: str) -> None:
        """A container that asks for nothing has no GPU."""
        said = self.run(runtime, "none", ["python3", "/nothing.py"])
        if said != "nodes:\n":
            raise Failure(f"without the annotation: {said!r}")

    def all(self, runtimes: Sequence[str]) -> int:
        """Do all cases with runtimes; return the exit status."""
        self.case("our programs beside this Python", self.install)
        if not self.failed:
            self.case("cdi-hook generate nvidia", self.generate)
        tool = shutil.which("nvidia-ctk")
        if self.spec and tool:
            self.case("the spec has what nvidia-ctk's has", self.compare, tool)
        elif self.spec:
            print("left out  the spec beside nvidia-ctk's: nvidia-ctk isn't installed", flush=True)
        for runtime in runtimes if self.spec else ():
            name = os.path.basename(runtime)
            for form in ("runtime", "createRuntime"):
                self.case(f"{name}, {form}: nvidia-smi -L", self.shows, runtime, form)
                self.case(f"{name}, {form}: the driver's API", self.computes, runtime, form)
            self.case(f"{name}, without the annotation: no GPU", self.has_nothing, runtime)
        print(f"{self.passed} passed, {self.failed} failed", flush=True)
        return 1 if self.failed or not self.spec else 0


def given(spec: Mapping[str, Any]) -> dict[str, set[Any]]:
    """Return what a spec gives: names, and mounts, nodes and links of the whole."""
    every = [spec["containerEdits"], *(device["containerEdits"] for device in spec["devices"])]
    words = [word for edits in every for hook in edits.get("hooks", ()) for word in hook.get("args", ())]
    return {
        "devices": {device["name"] for device in spec["devices"] if not device["name"].startswith("MIG-")},
        "mounts": {
            (each["hostPath"], each["containerPath"]) for edits in every for each in edits.get("mounts", ())
        },
        "nodes": {(each["path"],) for edits in every for each in edits.get("deviceNodes", ())},
        "links": {tuple(word.split("::")) for word in words if "::" in word and "/by-path/" not in word},
    }


def copy(path: str, rootfs: Path) -> None:
    """Copy a file to the same path below rootfs, and a library to the name by which it is loaded too."""
    from cdi_hook.libraries import elf

    target = Path(f"{rootfs}{path}")
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        shutil.copy(path, target)
    with open(path, "rb") as stream:
        read = elf.library(stream.fileno())
    if read and read[1] and not (target.parent / read[1]).exists():
        (target.parent / read[1]).symlink_to(target.name)


def configuration(args: Sequence[str]) -> dict[str, Any]:
    """Return a config.json."""
    options = ["nosuid", "noexec", "nodev"]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": args,
            "env": [f"PATH={PATH}"],
            "cwd": "/",
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs"},
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*options, "ro"]},
            {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "nodev"]},
        ],
        "linux": {
            "namespaces": [{"type": name} for name in ("pid", "ipc", "uts", "mount", "network")],
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        },
    }


def layout(runtime: str) -> Sequence[str]:
    """Return a command before a runtime's: crun takes only cgroup v2, mounted for this call alone if need be."""
    if os.path.basename(runtime) != "crun" or os.path.exists("/sys/fs/cgroup/cgroup.controllers"):
        return ()
    mount = 'umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; exec "$@"'
    return ("unshare", "-m", "--propagation", "private", "sh", "-ec", mount, "sh")


def main(arguments: Sequence[str]) -> int:
    """Run as the program."""
    if not gpus():
        print("there is no NVIDIA GPU here: /proc/driver/nvidia/gpus is empty, and there is no /dev/nvidia0")
        return NO_GPU
    directory = os.path.abspath(arguments[0]) if arguments else ""
    path = directory or PATH
    runtimes = [found for found in (shutil.which(name, path=path) for name in RUNTIMES) if found]
    if not runtimes or os.geteuid() != 0:
        print(f"it takes root, and runc or crun in {path}; usage: tests/gpu/run [DIR]")
        return 1
    with tempfile.TemporaryDirectory(prefix="cdi-hook-gpu-") as work:
        os.chmod(work, 0o755)
        return Trial(work, directory).all(runtimes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
