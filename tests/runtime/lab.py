# SPDX-License-Identifier: Apache-2.0
"""One test's sealed corner of the machine: cdi-runtime, its configuration, specs, bundles, containers.

Nothing of the developer's environment gets in. A test's containers and its index under
/run/cdi-hook are removed. The machine's own mounts are never changed: a cgroup layout
that it doesn't have is mounted in a mount namespace of the one process that needs it.
A container's stdin isn't /dev/null, because runsc of 2022, run by root, makes nobody
the owner of its stdin.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cdi_hook.specs.versions import USABLE
from tests.engine.box import ENGINES_PATH, LAYOUT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).resolve().parents[2]
# The cdi-runtime to test: the tree's, or an installed one.
CDI_RUNTIME = Path(os.environ.get("CDI_RUNTIME", ROOT / "packaging/bin/cdi-runtime"))
STANDARD_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
INDEX_DIR = Path("/run/cdi-hook")
TIMEOUT_S = 20

Completed = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Runtime:
    """A real runtime, in a cgroup layout."""

    name: str
    prefix: tuple[str, ...] = ()  # the command that creates the layout
    options: tuple[str, ...] = ()

    @property
    def is_native(self) -> bool:
        """Whether its containers run on this kernel, and not on a kernel of its own as gVisor's do."""
        return self.name != "runsc"


# This machine's own layout, if that has v1's devices controller: the hybrid layout.
_UNIFIED = (
    "unshare", "-m", "--propagation", "private", "sh", "-ec",
    'umount -R /sys/fs/cgroup; mount -t cgroup2 none /sys/fs/cgroup; exec "$@"', "sh",
)  # fmt: skip
RUNTIMES = {
    "runc-v1": Runtime("runc"),
    "runc-v2": Runtime("runc", _UNIFIED),
    "crun-v2": Runtime("crun", _UNIFIED),
    "runsc": Runtime("runsc", options=("--network=none",)),
}
# The hybrid layout without its v2: for what is told by cgroups.
ALONE = {
    "runc-v1-alone": Runtime(
        "runc",
        ("unshare", "-m", "--propagation", "private", "sh", "-ec",
         'umount /sys/fs/cgroup/unified; exec "$@"', "sh"),
    )
}  # fmt: skip
NATIVE = [name for name, runtime in RUNTIMES.items() if runtime.is_native]

BUSYBOX = Path("/bin/busybox")
APPLETS = ("sh", "id", "ls", "stat", "cat", "sleep", "readlink", "true")

# A character device that no default configuration lets a container open, and
# whose driver does nothing when it is opened.
DEVICE = Path("/dev/fuse")


def default_config() -> dict[str, Any]:
    """Return what `runc spec` writes, without parts that tests don't need; /dev/fuse is there, but has no rule."""
    capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
    sets = ("bounding", "effective", "permitted")
    mount_options = ["nosuid", "noexec", "nodev"]
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": [f"PATH={STANDARD_PATH}", "TERM=xterm"],
            "cwd": "/",
            "capabilities": dict.fromkeys(sets, capabilities),
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": False},
        "hostname": "lab",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {
                "destination": "/dev",
                "type": "tmpfs",
                "source": "tmpfs",
                "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
            },
            {
                "destination": "/dev/pts",
                "type": "devpts",
                "source": "devpts",
                "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"],
            },
            {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": [*mount_options, "ro"]},
        ],
        "linux": {
            "devices": [{"path": str(DEVICE), "type": "c", "major": 10, "minor": 229, "fileMode": 0o600}],
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
            "namespaces": [{"type": name} for name in ("pid", "network", "ipc", "uts", "mount")],
        },
        "x-nobody-knows": {"kept": [1.50, "as it is"]},
    }


def indexes(directory: Path) -> list[Path]:
    """Return the compiled indexes of spec dirs under a directory."""
    name = str(directory).strip("/").replace("/", "-")
    return [path for path in INDEX_DIR.glob("*") if path.name.startswith(f"{name}-")]


def plain(output: str) -> str:
    """Return a container's output without the number of the line, which newer shells of busybox say."""
    return re.sub(r"^sh: line \d+: ", "sh: ", output, flags=re.MULTILINE)


class Bundle:
    """A bundle with busybox in it, and its config.json as a runtime sees it."""

    def __init__(self, directory: Path, busybox: Path, config: dict[str, Any]) -> None:
        self.path = directory
        self.config_file = directory / "config.json"
        self.rootfs = directory / "rootfs"
        programs = self.rootfs / "bin"
        programs.mkdir(parents=True)
        directory.chmod(0o700)
        os.link(busybox, programs / "busybox")
        for applet in APPLETS:
            (programs / applet).symlink_to("busybox")
        self.config = config
        self.write()

    def write(self) -> None:
        """Write a new config.json, as an engine does before each create."""
        self.config_file.write_text(json.dumps(self.config, indent="\t"), "utf-8")

    def injected(self) -> dict[str, Any]:
        """Return the present config.json."""
        tree: dict[str, Any] = json.loads(self.config_file.read_text("utf-8"))
        return tree

    def identity(self) -> tuple[bytes, int, int, int, list[str]]:
        """Return everything that a write to the bundle would change."""
        status = self.config_file.stat()
        names = sorted(os.listdir(self.path))
        return self.config_file.read_bytes(), status.st_ino, status.st_mtime_ns, status.st_ctime_ns, names


class Lab:
    """cdi-runtime with a configuration, a spec dir and an environment of its own, for one runtime."""

    def __init__(self, directory: Path, runtime: Runtime, busybox: Path) -> None:
        self.directory = directory
        self.runtime = runtime
        self.busybox = busybox
        self.specs = directory / "cdi"
        self.configuration = directory / "cdi-hook.conf"
        self.log = directory / "runtime.log"
        self.state_root = directory / "state"
        self.environ: dict[str, str] = {"PATH": ENGINES_PATH, "CDI_HOOK_CONFIG": str(self.configuration)}
        for variable, name in (("HOME", "home"), ("XDG_CONFIG_HOME", "config"), ("XDG_RUNTIME_DIR", "run")):
            (directory / name).mkdir(mode=0o700)
            self.environ[variable] = str(directory / name)
        self.specs.mkdir()
        self.configure()
        self.containers: list[str] = []

    def configure(self, **values: str) -> None:
        """Write the configuration: this runtime, this spec dir, and the given settings."""
        values = {"RUNTIMES": self.runtime.name, "SPEC_DIRS": str(self.specs), **values}
        text = "".join(f"{key}='{value}'\n" for key, value in values.items())
        self.configuration.write_text(text, "utf-8")

    def spec(self, container_edits: dict[str, Any], *, name: str = "one", **of_all: Any) -> str:
        """Write a CDI spec of one device; return the device's qualified name."""
        device = {"name": name, "containerEdits": container_edits}
        spec: dict[str, Any] = {"cdiVersion": USABLE[-1], "kind": "vendor.com/device", "devices": [device]}
        if of_all:
            spec["containerEdits"] = of_all
        (self.specs / f"{name}.json").write_text(json.dumps(spec), "utf-8")
        return f"vendor.com/device={name}"

    def bundle(self, script: str = "true", devices: Sequence[str] = (), name: str = "bundle") -> Bundle:
        """Make a bundle whose container runs a shell script and asks for devices.

        Its stdout and stderr are one output, because a runtime may forward two in any order.
        """
        config = default_config()
        config["process"]["args"] = ["sh", "-c", f"exec 2>&1; {script}"]
        config["annotations"] = {"org.example.keep": "this"}
        if devices:
            config["annotations"]["cdi.k8s.io/test"] = ",".join(devices)
        return Bundle(self.directory / name, self.busybox, config)

    def container(self, container: str = "") -> str:
        """Return the id of a container to create, which is deleted at the end in any case."""
        container = container or f"cdi-hook-test-{uuid.uuid4().hex[:12]}"
        self.containers.append(container)
        return container

    def command(self, *arguments: str, program: str | Path = CDI_RUNTIME) -> list[str]:
        """Return the command line of a runtime call."""
        general = ("--root", str(self.state_root), *self.runtime.options)
        return [*self.runtime.prefix, str(program), *general, *arguments]

    def call(
        self, *arguments: str, program: str | Path = CDI_RUNTIME, environ: Mapping[str, str] | None = None
    ) -> Completed:
        """Call the runtime through cdi-runtime.

        Its output goes to files: a container keeps stdout open after create, and
        a pipe's reader would wait for its end.
        """
        command = self.command(*arguments, program=program)
        environ = self.environ if environ is None else environ
        out, err = (self.directory / name for name in ("stdout", "stderr"))
        with out.open("wb+", buffering=0) as stdout, err.open("wb+", buffering=0) as stderr:
            completed = subprocess.run(
                command, env=environ, cwd=self.directory, timeout=TIMEOUT_S, check=False,
                input=b"", stdout=stdout, stderr=stderr,
            )  # fmt: skip
            return subprocess.CompletedProcess(
                completed.args, completed.returncode, plain(out.read_text("utf-8")), err.read_text("utf-8")
            )

    def run(
        self, bundle: Bundle, *options: str, in_bundle: bool = False, program: str | Path = CDI_RUNTIME
    ) -> str:
        """Run a container to its end, from its bundle's dir or with --bundle; return its output."""
        place = () if in_bundle else ("--bundle", str(bundle.path))
        command = self.command("run", *place, *options, self.container(), program=program)
        completed = subprocess.run(
            command, env=self.environ, cwd=bundle.path if in_bundle else self.directory, timeout=TIMEOUT_S, check=False,
            input="", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert completed.returncode == 0, completed.stdout
        return plain(completed.stdout)

    def create(self, bundle: Bundle, *options: str) -> str:
        """Create a container, which must succeed and print nothing; return its id."""
        container = self.container()
        completed = self.call("create", "--bundle", str(bundle.path), *options, container)
        assert (completed.returncode, completed.stdout, completed.stderr) == (0, "", "")
        return container

    def state(self, container: str) -> dict[str, Any]:
        """Return a container's state, or {} if there is no such container."""
        completed = self.call("state", container)
        state: dict[str, Any] = json.loads(completed.stdout) if completed.returncode == 0 else {}
        return state

    def wait(self, container: str, status: str) -> None:
        """Wait until a container has a status."""
        end = time.monotonic() + TIMEOUT_S
        while self.state(container)["status"] != status:
            assert time.monotonic() < end, f"{container} doesn't become {status}: {self.state(container)}"
            time.sleep(0.01)

    def close(self) -> None:
        """Delete the remaining containers, with the real runtime."""
        for container in self.containers if self.state_root.exists() else ():
            subprocess.run(
                self.command("delete", "--force", container, program=self.runtime.name),
                env=self.environ, cwd=self.directory, timeout=TIMEOUT_S, check=False,
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip


def why_not(lab: Lab) -> str:
    """Return why a runtime can't run a container here, or ""."""
    if not shutil.which(lab.runtime.name, path=ENGINES_PATH):
        return f"{lab.runtime.name} isn't installed"
    if lab.runtime.is_native and lab.runtime.prefix != _UNIFIED and LAYOUT != "v1":
        return "this machine has no devices controller of cgroup v1"
    bundle = lab.bundle("echo it works")
    command = lab.command("run", "--bundle", str(bundle.path), lab.container(), program=lab.runtime.name)
    completed = subprocess.run(
        command, env=lab.environ, cwd=lab.directory, timeout=TIMEOUT_S, check=False,
        input="", stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if completed.stdout != "it works\n":
        who = f"{lab.runtime.name} can't run a container here"
        without = ", which needs root" if os.geteuid() != 0 else ""
        return f"{who}{without}: {' '.join(completed.stdout.split())}"
    return ""
