# SPDX-License-Identifier: Apache-2.0
"""What a call of the runtime costs, in what doesn't depend on the machine's mood.

hot-path.txt has the numbers: modules, processes, system calls, instructions. A call that costs 3 % more than
its number fails here.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
import yaml

from .tree import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

FILE = ROOT / "tests/house/hot-path.txt"
PYTHON, SHELL = "/usr/bin/python3", "/bin/sh"
MEASURES = ("modules", "processes", "system-calls", "instructions")
MOST = 1.03
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TINY = {
    "cdiVersion": "0.6.0",
    "kind": "vendor.com/device",
    "devices": [{"name": "d0", "containerEdits": {"env": ["D=1"]}}],
}
# A fork copies what was counted, so that is written down and set to zero before.
_CALLGRIND = (
    "--tool=callgrind", "--callgrind-out-file=callgrind.%p", "--dump-before=fork", "--dump-before=execve",
    "--trace-children=yes", "--trace-children-skip=*/true,*/python3",
)  # fmt: skip


class Call(NamedTuple):
    """A call of the runtime.

    ``asked`` is what config.json asks for, None where the call doesn't read it. ``mounts`` is a script that
    makes mounts as a distribution does. Without ``has_index`` the specs are read.
    """

    asked: str | None
    conf: str = "plain"
    mounts: str = ""
    has_index: bool = True


_TINY, _H100 = "vendor.com/device=d0", "nvidia.com/gpu"
CALLS = {
    "passed on": Call(None),
    "nothing asked": Call(""),
    "tiny": Call(_TINY),
    "tiny, own /var": Call(_TINY, mounts="mount --bind /var /var"),
    "tiny, image": Call(_TINY, conf="image", mounts="mount -o ro $here/etc.loop /etc"),
    "cold, JSON": Call(_TINY, conf="json", has_index=False),
    "cold, YAML": Call(_TINY, conf="yaml", has_index=False),
    "H100": Call(f"{_H100}=all"),
    "H100 leased": Call(f"{_H100}=all", conf="exclusive"),
    "H100 any": Call(f"{_H100}=any", conf="exclusive"),
}
# What distributions set up, beside the calls above: a mount of its own for a dir, or a read-only one.
MOUNTS = {
    "/etc": "mount --bind /etc /etc",
    "/run": "mount --bind /run /run",
    "/usr, read-only": "mount --bind /usr /usr; mount -o remount,bind,ro /usr",
    "/var": "mount --bind /var /var",
    "all of them": "mount --bind /etc /etc; mount --bind /run /run; mount --bind /usr /usr; mount --bind /var /var",
    "an overlay of /etc": "mount -t overlay -o lowerdir=$here/lower:/etc none /etc",
}


def numbers() -> dict[tuple[str, str], int]:
    """Return the numbers in the file, by call and measure."""
    found = {}
    for line in FILE.read_text("utf-8").splitlines():
        words = line.partition("#")[0].split()
        if words:
            *call, measure, number = words
            found[" ".join(call), measure] = int(number)
    return found


class Host:
    """The tree installed, with a runtime that does nothing, specs, and a bundle."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config_json = directory / "bundle/config.json"
        for name in ("bundle", "etc", "lower", "run/cdi", "run/json", "run/yaml"):
            (directory / name).mkdir(parents=True)
        make = [
            "make",
            "-s",
            "-C",
            str(ROOT),
            "install",
            f"PREFIX={directory}/usr",
            f"SYSCONFDIR={directory}/none",
        ]
        subprocess.run(make, check=True)
        spec = yaml.safe_load((ROOT / "tests/cases/data/nvidia-h100.yaml").read_text())
        for edits in (spec["containerEdits"], *(device["containerEdits"] for device in spec["devices"])):
            for node in edits["deviceNodes"]:
                node["type"] = "c"  # then no node of this machine is needed
            for mount in edits.get("mounts", ()):
                mount["hostPath"] = "/bin/true"  # which is there
            for hook in edits.get("hooks", ()):
                hook["path"] = "/bin/true"
        (directory / "run/cdi/nvidia.json").write_text(json.dumps(spec))
        for name in ("cdi", "json"):
            (directory / f"run/{name}/tiny.json").write_text(json.dumps(TINY))
        (directory / "run/yaml/tiny.yaml").write_text(yaml.safe_dump(TINY))
        self._make_image()
        plain = "RUNTIMES=/bin/true\nSPEC_TRUST=none\n"
        for name, more in (
            ("plain", "SPEC_DIRS=/var/run/cdi\n"),
            ("image", "SPEC_DIRS=/etc/cdi\n"),
            ("json", "SPEC_DIRS=/var/run/json\n"),
            ("yaml", "SPEC_DIRS=/var/run/yaml\n"),
            ("exclusive", "SPEC_DIRS=/var/run/cdi\nEXCLUSIVE=nvidia.com/gpu=*\n"),
        ):
            (directory / f"etc/{name}.conf").write_text(f"{plain}{more}")
        time.sleep(2.1)  # the configuration settles, and so do the specs

    def _make_image(self) -> None:
        """Make an image of /etc with a spec, as distributions have that are images."""
        etc = self.directory / "image"
        (etc / "cdi").mkdir(parents=True)
        (etc / "cdi/tiny.json").write_text(json.dumps(TINY))
        for name in ("ld.so.cache", "passwd", "group"):
            shutil.copy2(f"/etc/{name}", etc)
        subprocess.run(["mksquashfs", etc, f"{etc.parent}/etc.image", "-quiet", "-no-progress"], check=True)

    def run(self, call: Call, *command: str, **options: Any) -> subprocess.CompletedProcess[Any]:
        """Run a command in the call's environment, with a /run of its own and the call's mounts."""
        conf = self.directory / f"etc/{call.conf}.conf"
        environ = {"PATH": PATH, "CDI_HOOK_CONFIG": str(conf), "XDG_RUNTIME_DIR": str(self.directory)}
        script = f'here=$0; mount --bind "$here/run" /run; {call.mounts or ":"}; exec "$@"'
        own = ("unshare", "--mount", SHELL, "-ec", script, str(self.directory))
        return subprocess.run([*own, *command], env=environ, check=True, **options)

    def prepare(self, call: Call) -> list[str]:
        """Have the bundle ask for what the call is about; return the command."""
        runtime = f"{self.directory}/usr/bin/cdi-runtime"
        if call.asked is None:
            return [SHELL, runtime, "state", "id"]
        plain = json.loads((ROOT / "packaging/demo/config.json").read_text())
        plain["annotations"] = {"cdi.k8s.io/test": call.asked} if call.asked else {}
        self.config_json.write_text(json.dumps(plain))
        shutil.rmtree(self.directory / "run/cdi-hook-leases", ignore_errors=True)  # the last one's
        for index in () if call.has_index else (self.directory / "run/cdi-hook").glob(f"*-{call.conf}.index"):
            index.unlink()
        return [SHELL, runtime, "create", "--bundle", str(self.config_json.parent), "id"]

    def processes(self, call: Call) -> int:
        """Count the processes, the runtime's with them."""
        trace = self.directory / "trace"
        self.run(call, "strace", "-f", "-qq", "-e", "trace=exit_group", "-o", str(trace), *self.prepare(call))
        return len({line.split()[0] for line in trace.read_text().splitlines()})

    def system_calls(self, call: Call) -> int:
        """Count the system calls of all processes, the runtime's few too."""
        counted = self.directory / "strace"
        strace = ("strace", "-f", "-qq", "-c", "-U", "calls,name", "-o", str(counted))
        self.run(call, *strace, *self.prepare(call))
        return int(counted.read_text().splitlines()[-1].split()[0])

    def instructions(self, call: Call) -> int:
        """Count the instructions of all processes of the call but the runtime's, in user space."""
        total = 0
        command = self.prepare(call)
        # Python is counted apart, because valgrind writes over what a process has before it execs.
        for traced in (command, self._python(call, command)):
            if traced:
                self.prepare(call)  # the last one injected
                self.run(call, "valgrind", *_CALLGRIND, *traced, cwd=self.directory, capture_output=True)
                for path in self.directory.glob("callgrind.*"):
                    for line in path.read_text().splitlines():
                        total += int(line.split()[1]) if line.startswith("totals:") else 0
                    path.unlink()
        return total

    def _python(self, call: Call, command: list[str]) -> list[str]:
        """Return the command by which the door starts Python for this one, if it does."""
        trace = self.directory / "trace"
        self.run(call, "strace", "-qq", "-s", "99999", "-e", "trace=execve", "-o", str(trace), *command)
        (last,) = [line for line in trace.read_text().splitlines() if f'"{PYTHON}", "-ISB"' in line] or [""]
        return json.loads(last.partition(", ")[2].partition("], ")[0] + "]") if last else []

    def modules(self, call: Call) -> int:
        """Count the modules that were executed when the runtime takes over, beyond those of an empty Python."""
        python = self._python(call, self.prepare(call))
        if not python:
            return 0
        program = (
            "import posix, sys; count = lambda: sum(type(one).__name__ != '_Rare' for one in sys.modules.values()); "
            "posix.execv = lambda *_: posix._exit(posix.write(1, b'%d' % count()) and 0); "
            "del sys.argv[0]; __file__ = sys.argv[0]; exec(compile(open(__file__).read(), __file__, 'exec'))"
        )
        self.prepare(call)
        found = self.run(call, PYTHON, "-ISB", "-c", program, *python[2:], capture_output=True)
        empty = [PYTHON, "-ISB", "-c", "import posix, sys; print(len(sys.modules))"]
        return int(found.stdout) - int(subprocess.run(empty, check=True, capture_output=True).stdout)


def measured(host: Host, call: Call, measure: str) -> int:
    """Return what a call costs in one of MEASURES."""
    return int(getattr(host, measure.replace("-", "_"))(call))


@contextlib.contextmanager
def made() -> Iterator[Host]:
    """Make a host in a dir whose path has always the same length, which a shell's instructions depend on."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:  # a new one
        host = Host(Path(directory))
        # One device for all calls: an index is about the device of a dir, and tests beside this one take others.
        attach = ["losetup", "--find", "--show", "--read-only", f"{directory}/etc.image"]
        loop = subprocess.run(attach, check=True, capture_output=True, text=True).stdout.strip()
        try:
            Path(directory, "etc.loop").symlink_to(loop)
            for call in CALLS.values():
                host.run(call, *host.prepare(call))
            yield host
        finally:
            subprocess.run(["losetup", "--detach", loop], check=True)


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    """A host."""
    for tool in ("strace", "valgrind", "mksquashfs"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} isn't installed")
    version = subprocess.run([PYTHON, "-V"], check=True, capture_output=True, text=True).stdout.split()[1]
    if not version.startswith("3.13.") or not os.path.realpath(SHELL).endswith("/dash"):
        pytest.skip("hot-path.txt is of Python 3.13 and dash")
    with made() as host:
        yield host


@pytest.mark.xdist_group("hot path")
@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("call", CALLS)
def test_a_call_costs_what_it_did(host: Host, call: str, measure: str) -> None:
    """No kind of call costs 3 % more than hot-path.txt says."""
    cost = measured(host, CALLS[call], measure)
    expected = numbers()[call, measure]
    assert cost <= expected * MOST, (
        f"{call}: {cost} {measure}, {expected} in {FILE.name}. "
        "If that is worth it, write the new number there, with the reason behind it"
    )


@pytest.mark.xdist_group("hot path")
@pytest.mark.parametrize("mounts", MOUNTS)
def test_no_mount_of_a_distribution_is_dear(host: Host, mounts: str) -> None:
    """Where distributions mount parts of the system, a create costs at most 1.05 of one where all is one."""
    plain = CALLS["tiny"]
    call = plain._replace(mounts=MOUNTS[mounts])
    for measure in MEASURES:
        assert measured(host, call, measure) <= 1.05 * measured(host, plain, measure), measure


@pytest.mark.xdist_group("hot path")
def test_a_lease_costs_little(host: Host) -> None:
    """A create that takes a lease costs at most 1.16 of one that takes none: Python's part alone, without a runtime."""
    assert host.instructions(CALLS["H100 leased"]) <= 1.16 * host.instructions(CALLS["H100"])


def test_the_file_has_all_calls() -> None:
    """hot-path.txt has a number for each measure of each call, and no others."""
    assert set(numbers()) == {(call, measure) for call in CALLS for measure in MEASURES}


if __name__ == "__main__":  # print the lines for hot-path.txt
    with made() as one:
        for which, call in CALLS.items():
            for measure in MEASURES:
                print(f"{which:<14} {measure:<13} {measured(one, call, measure)}", flush=True)
