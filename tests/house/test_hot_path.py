# SPDX-License-Identifier: Apache-2.0
"""What a call of the runtime costs, in what doesn't depend on the machine's mood: modules, system calls, instructions.

hot-path.txt has the numbers. A call that costs more than a tenth more fails here.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from .tree import ROOT

if TYPE_CHECKING:
    from pathlib import Path

FILE = ROOT / "tests/house/hot-path.txt"
PYTHON, SHELL = "/usr/bin/python3", "/bin/sh"
MOST = 1.1
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
TINY = {
    "cdiVersion": "0.6.0",
    "kind": "v.com/d",
    "devices": [{"name": "d0", "containerEdits": {"env": ["D=1"]}}],
}
# A fork copies what was counted, so that is written down and set to zero before.
_CALLGRIND = (
    "--tool=callgrind", "--callgrind-out-file=callgrind.%p", "--dump-before=fork", "--dump-before=execve",
    "--trace-children=yes", "--trace-children-skip=*/true,*/python3",
)  # fmt: skip
# What config.json asks for; None where the call doesn't read it.
ASKED = {
    "passed on": None,
    "nothing asked": "",
    "tiny": "v.com/d=d0",
    "H100": "nvidia.com/gpu=all",
    "H100 leased": "nvidia.com/gpu=all",
    "H100 any": "nvidia.com/gpu=any",
}
EXCLUSIVE = ("H100 leased", "H100 any")


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
        for name in ("bundle", "cdi", "etc", "run"):
            (directory / name).mkdir()
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
        (directory / "cdi/nvidia.json").write_text(json.dumps(spec))
        (directory / "cdi/tiny.json").write_text(json.dumps(TINY))
        plain = f"RUNTIMES=/bin/true\nSPEC_DIRS={directory}/cdi\nSPEC_TRUST=none\n"
        (directory / "etc/plain.conf").write_text(plain)
        (directory / "etc/exclusive.conf").write_text(f"{plain}EXCLUSIVE=nvidia.com/gpu=*\n")
        time.sleep(2.1)  # the configuration settles, and so do the specs
        for call in ASKED:
            self.run(call, *self.prepare(call))

    def run(self, call: str, *command: str, **options: Any) -> subprocess.CompletedProcess[Any]:
        """Run a command in the call's environment, with a /run of its own."""
        conf = self.directory / f"etc/{'exclusive' if call in EXCLUSIVE else 'plain'}.conf"
        environ = {"PATH": PATH, "CDI_HOOK_CONFIG": str(conf), "XDG_RUNTIME_DIR": str(self.directory)}
        own = (
            "unshare",
            "--mount",
            SHELL,
            "-ec",
            'mount --bind "$0" /run; exec "$@"',
            str(self.directory / "run"),
        )
        return subprocess.run([*own, *command], env=environ, check=True, **options)

    def prepare(self, call: str) -> list[str]:
        """Have the bundle ask for what the call is about; return the command."""
        runtime = f"{self.directory}/usr/bin/cdi-runtime"
        asked = ASKED[call]
        if asked is None:
            return [SHELL, runtime, "state", "id"]
        plain = json.loads((ROOT / "packaging/demo/config.json").read_text())
        plain["annotations"] = {"cdi.k8s.io/test": asked} if asked else {}
        self.config_json.write_text(json.dumps(plain))
        shutil.rmtree(self.directory / "run/cdi-hook-leases", ignore_errors=True)  # the last one's
        return [SHELL, runtime, "create", "--bundle", str(self.config_json.parent), "id"]

    def system_calls(self, call: str) -> int:
        """Count the system calls of all processes, the runtime's few too."""
        counted = self.directory / "strace"
        strace = ("strace", "-f", "-qq", "-c", "-U", "calls,name", "-o", str(counted))
        self.run(call, *strace, *self.prepare(call))
        return int(counted.read_text().splitlines()[-1].split()[0])

    def instructions(self, call: str) -> int:
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

    def _python(self, call: str, command: list[str]) -> list[str]:
        """Return the command by which the door starts Python for this one, if it does."""
        trace = self.directory / "trace"
        self.run(call, "strace", "-qq", "-s", "99999", "-e", "trace=execve", "-o", str(trace), *command)
        (last,) = [line for line in trace.read_text().splitlines() if f'"{PYTHON}", "-ISB"' in line] or [""]
        return json.loads(last.partition(", ")[2].partition("], ")[0] + "]") if last else []

    def modules(self, call: str) -> int:
        """Count the modules that are there when the runtime takes over, beyond those of an empty Python."""
        python = self._python(call, self.prepare(call))
        if not python:
            return 0
        program = (
            "import posix, sys; posix.execv = lambda *_: posix._exit(posix.write(1, b'%d' % len(sys.modules)) and 0); "
            "del sys.argv[0]; __file__ = sys.argv[0]; exec(compile(open(__file__).read(), __file__, 'exec'))"
        )
        self.prepare(call)
        found = self.run(call, PYTHON, "-ISB", "-c", program, *python[2:], capture_output=True)
        empty = [PYTHON, "-ISB", "-c", "import posix, sys; print(len(sys.modules))"]
        return int(found.stdout) - int(subprocess.run(empty, check=True, capture_output=True).stdout)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Host:
    """A host."""
    for tool in ("strace", "valgrind"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} isn't installed")
    version = subprocess.run([PYTHON, "-V"], check=True, capture_output=True, text=True).stdout.split()[1]
    if not version.startswith("3.13.") or not os.path.realpath(SHELL).endswith("/dash"):
        pytest.skip("hot-path.txt is of Python 3.13 and dash")
    return Host(tmp_path_factory.mktemp("hot"))


@pytest.mark.xdist_group("hot path")
@pytest.mark.parametrize("measure", ["modules", "system-calls", "instructions"])
@pytest.mark.parametrize("call", ASKED)
def test_a_call_costs_what_it_did(host: Host, call: str, measure: str) -> None:
    """No kind of call costs a tenth more than hot-path.txt says."""
    measured = getattr(host, measure.replace("-", "_"))(call)
    expected = numbers()[call, measure]
    assert measured <= expected * MOST, (
        f"{call}: {measured} {measure}, {expected} in {FILE.name}. "
        "If that is worth it, write the new number there, with the reason behind it"
    )


@pytest.mark.xdist_group("hot path")
def test_a_lease_costs_little(host: Host) -> None:
    """A create that takes a lease costs at most 1.15 of one that takes none: Python's part alone, without a runtime."""
    assert host.instructions("H100 leased") <= 1.15 * host.instructions("H100")


def test_the_file_has_all_calls() -> None:
    """hot-path.txt has a number for each measure of each call, and no others."""
    measures = ("modules", "system-calls", "instructions")
    assert set(numbers()) == {(call, measure) for call in ASKED for measure in measures}


if __name__ == "__main__":  # print the lines for hot-path.txt
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as name:
        made = Host(Path(name))
        for one in ASKED:
            for what in ("modules", "system-calls", "instructions"):
                print(f"{one:<14} {what:<13} {getattr(made, what.replace('-', '_'))(one)}", file=sys.stdout)
