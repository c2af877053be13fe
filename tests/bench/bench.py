# SPDX-License-Identifier: Apache-2.0
"""What the shim itself costs, in ratios to floors measured in the same run (`make bench`).

Every round runs each case once, so that a busy moment hits all of them alike;
the least of all rounds counts. The real runtime is a stub that does nothing.
Options: the number of rounds.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

HERE = Path(__file__).parent
TREE = HERE.parent.parent
H100 = HERE.parent / "cases" / "data" / "nvidia-h100.yaml"
PEER = shutil.which("nvidia-container-runtime")


class Case:
    """A command to time, with a bundle to put back before each run."""

    def __init__(
        self, name: str, command: list[str], directory: Path, config: Path | None = None, oci: str = ""
    ) -> None:
        self.name = name
        self.command = command
        self.directory = directory
        self.oci = oci
        self.times: list[float] = []
        # what containerd gives a runtime, without the developer's own variables
        self.environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        if config:
            self.environment["CDI_HOOK_CONFIG"] = str(config)

    def run(self) -> None:
        """Run once and note the time, in ms."""
        if self.oci:
            (self.directory / "config.json").write_text(self.oci)
        start = time.perf_counter()
        pid = os.posix_spawn(self.command[0], self.command, self.environment)
        _, status = os.waitpid(pid, 0)
        self.times.append((time.perf_counter() - start) * 1000)
        if status:
            sys.exit(f"{self.name}: {self.command} failed with status {status}")

    @property
    def best(self) -> float:
        """The least time of all rounds, in ms."""
        return min(self.times)


def script(path: Path, text: str) -> str:
    """Make an executable file."""
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


def configuration(directory: Path, name: str, stub: str, specs: dict[str, str]) -> Path:
    """Make a spec dir and a configuration that names it."""
    spec_dir = directory / name
    spec_dir.mkdir()
    for file, text in specs.items():
        (spec_dir / file).write_text(text)
    config = directory / f"{name}.conf"
    config.write_text(f"RUNTIMES={stub}\nSPEC_DIRS={spec_dir}\n")
    return config


def many_devices() -> dict[str, str]:
    """10,000 devices in 100 files."""
    return {
        f"vendor{file}.json": json.dumps(
            {
                "cdiVersion": "0.6.0",
                "kind": f"vendor{file}.com/device",
                "devices": [
                    {"name": f"d{number}", "containerEdits": {"env": [f"D={number}"]}}
                    for number in range(100)
                ],
            }
        )
        for file in range(100)
    }


def cases(directory: Path) -> dict[str, Case]:
    """Make all that is measured."""
    stub = str(directory / "stub")
    subprocess.run(["cc", "-O2", "-static", "-o", stub, str(HERE / "stub.c")], check=True)
    bundle = directory / "bundle"
    bundle.mkdir()
    (bundle / "config.json").write_text("")
    plain = json.loads((TREE / "packaging/demo/config.json").read_text())
    plain.pop("annotations", None)

    def asking(*names: str) -> str:
        return json.dumps({**plain, "annotations": {"cdi.k8s.io/bench": ",".join(names)}})

    # The bench's machine may have no GPU: with the type given, no host node is needed.
    spec = yaml.safe_load(H100.read_text())
    for edits in (spec["containerEdits"], *(device["containerEdits"] for device in spec["devices"])):
        for node in edits["deviceNodes"]:
            node["type"] = "c"
    typed = yaml.safe_dump(spec, sort_keys=False)
    tiny = many_devices()["vendor0.json"]
    one = json.loads(tiny)
    one["devices"] = one["devices"][:1]
    h100 = configuration(directory, "h100", stub, {"nvidia.yaml": typed})
    single = configuration(directory, "single", stub, {"vendor0.json": json.dumps(one)})
    many = configuration(directory, "many", stub, many_devices())
    shim = str(directory / "usr/bin/cdi-runtime")
    create = ["create", "--bundle", str(bundle), "--pid-file", str(directory / "pid"), "bench"]
    door = script(directory / "door", f'#!/bin/sh\nexec {stub} "$@"\n')
    grep = script(
        directory / "grep", f'#!/bin/sh\ngrep -q cdi.k8s.io/ {bundle}/config.json\nexec {stub} "$@"\n'
    )
    found = {
        "exec": Case("a program that does nothing", [stub, "state", "bench"], bundle),
        "door": Case("sh that only execs it", [door, "state", "bench"], bundle),
        "grep": Case("the same with one grep", [grep, *create], bundle, None, json.dumps(plain)),
        "python": Case("python3 -IS, empty", ["/usr/bin/python3", "-IS", "-c", ""], bundle),
        "state": Case("cdi-runtime state", [shim, "state", "bench"], bundle, h100),
        "idle": Case("cdi-runtime create, nothing asked", [shim, *create], bundle, h100, json.dumps(plain)),
        "h100": Case("cdi-runtime create, H100", [shim, *create], bundle, h100, asking("nvidia.com/gpu=all")),
        "one": Case(
            "create, 1 device known", [shim, *create], bundle, single, asking("vendor0.com/device=d0")
        ),
        "many": Case(
            "create, 10,000 devices in 100 files",
            [shim, *create],
            bundle,
            many,
            asking("vendor0.com/device=d0"),
        ),
    }
    if PEER:
        found |= peer(directory, stub, bundle, typed, json.dumps(plain), asking("nvidia.com/gpu=all"), create)
    return found


def peer(
    directory: Path, stub: str, bundle: Path, spec: str, idle: str, h100: str, create: list[str]
) -> dict[str, Case]:
    """Make the same cases for nvidia-container-runtime, with a configuration of its own."""
    assert PEER
    home = directory / "peer"
    (home / "nvidia-container-runtime").mkdir(parents=True)
    (home / "cdi").mkdir()
    (home / "cdi" / "nvidia.yaml").write_text(spec)
    (home / "nvidia-container-runtime" / "config.toml").write_text(
        f'[nvidia-container-runtime]\nruntimes = ["{stub}"]\nmode = "cdi"\n'
        f'[nvidia-container-runtime.modes.cdi]\nspec-dirs = ["{home}/cdi"]\n'
        'annotation-prefixes = ["cdi.k8s.io/"]\n'
    )
    made = {
        "peer state": Case(f"{PEER} state", [PEER, "state", "bench"], bundle),
        "peer idle": Case(f"{PEER} create, nothing asked", [PEER, *create], bundle, None, idle),
        "peer h100": Case(f"{PEER} create, H100", [PEER, *create], bundle, None, h100),
    }
    for case in made.values():
        case.environment["XDG_CONFIG_HOME"] = str(home)
    return made


# What to reach: a case, what it may cost, times which floor.
GOALS = (("state", 1.5, "door"), ("idle", 1.5, "grep"), ("h100", 1.6, "python"), ("many", 1.3, "one"))


def main() -> None:
    """Measure and print."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory(prefix="cdi-hook-bench-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        subprocess.run(
            [
                "make",
                "-s",
                "-C",
                str(TREE),
                "install",
                f"PREFIX={directory}/usr",
                f"SYSCONFDIR={directory}/etc",
            ],
            check=True,
        )
        measured = cases(directory)
        time.sleep(0.1)  # the specs settle: a fresh one isn't indexed
        for case in measured.values():
            case.run()
            case.times.clear()
        for _ in range(rounds):
            for case in measured.values():
                case.run()
        print(f"least of {rounds} rounds, ms")
        for case in measured.values():
            print(f"  {case.best:7.2f}  {case.name}")
        print("ratios (to reach)")
        for one, limit, floor in GOALS:
            ratio = measured[one].best / measured[floor].best
            verdict = "" if ratio <= limit else "   MISSED"
            print(f"  {ratio:7.2f}  {measured[one].name} / {measured[floor].name} ({limit}){verdict}")
    for path in Path("/run/cdi-hook").glob(f"*{directory.name}-*.index"):
        path.unlink()


if __name__ == "__main__":
    main()
