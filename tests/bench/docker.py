# SPDX-License-Identifier: Apache-2.0
"""`docker run` with the plain runtime and with ours, in a box as tests/engine's, for each of dockerd's environments."""

from __future__ import annotations

import json
import os
import random
import shutil
import sys
from typing import TYPE_CHECKING

from tests.engine import image
from tests.engine.box import LAYOUTS, STANDARD_PATH, Box, why_not

from .cases import ENVIRONMENTS, OURS, PEER, Environment
from .measuring import WARM_UP, Samples, compiled, install, peer, peer_configuration, progress

if TYPE_CHECKING:
    from pathlib import Path

PLAIN, OWN = "plain", "docker's own CDI"
ARCHIVE = "/run/board/image.tar"
KEY, DEVICE = "cdi.k8s.io/bench", "bench.com/device=null"
SPEC = {
    "cdiVersion": "0.6.0",
    "kind": "bench.com/device",
    "devices": [
        {
            "name": "null",
            "containerEdits": {
                "env": ["CDI_BENCH=1"],
                "deviceNodes": [{"path": "/dev/cdi-bench", "hostPath": "/dev/null"}],
                "mounts": [
                    {"hostPath": "/etc/hostname", "containerPath": "/cdi-bench", "options": ["bind", "ro"]}
                ],
            },
        }
    ],
}
DAEMON = {
    "runtimes": {OURS: {"path": f"/usr/bin/{OURS}"}, PEER: {"path": peer() or PEER}},
    "default-runtime": OURS,
    "features": {"cdi": True},
    # A box has no network to be set up.
    "bridge": "none",
    "iptables": False,
    "ip6tables": False,
}
# What a container has with the device, and without.
_LOOK = "test -c /dev/cdi-bench -a -f /cdi-bench"
NOTHING, ONE = "docker run, nothing asked", "docker run, a device"
# Case, who, options.
RUNS = (
    (NOTHING, PLAIN, ("--runtime", "runc")),
    (NOTHING, OURS, ()),
    (ONE, OWN, ("--runtime", "runc", "--device", DEVICE)),
    (ONE, OURS, ("--annotation", f"{KEY}={DEVICE}")),
    (NOTHING, PEER, ("--runtime", PEER)),
    (ONE, PEER, ("--runtime", PEER, "--annotation", f"{KEY}={DEVICE}")),
)


def missing() -> str:
    """Return why docker can't be measured, "" if it can."""
    for program in ("dockerd", "docker"):
        if not shutil.which(program, path=STANDARD_PATH):
            return f"{program} isn't installed"
    if not image.BUSYBOX.exists():
        return f"{image.BUSYBOX} (busybox-static) isn't there"
    return "" if _layout() else why_not(LAYOUTS[0])


def _layout() -> str:
    return next((layout for layout in LAYOUTS if not why_not(layout)), "")


def measure(rounds: int, directory: Path) -> dict[tuple[str, str, str], Samples]:
    """Return what each `docker run` took, by dockerd's environment, case and who."""
    installed = directory / "installed"
    install(f"DESTDIR={installed}")
    start = compiled(directory, "start")
    image.make(directory / "image.tar", os.uname().machine)
    found: dict[tuple[str, str, str], Samples] = {}
    for environment in ENVIRONMENTS:
        box = Box(directory, _layout(), installed)
        try:
            _start(box, environment, (directory / "image.tar").read_bytes())
            for case, who, samples in _measure(box, start, rounds, environment.name):
                found[environment.name, case, who] = samples
        finally:
            box.close()
    return found


def _start(box: Box, environment: Environment, archive: bytes) -> None:
    box.write(ARCHIVE, archive)
    box.write("/etc/cdi/bench.json", json.dumps(SPEC))
    box.write(f"/etc/{PEER}/config.toml", peer_configuration("/etc/cdi"))
    box.write("/etc/docker/daemon.json", json.dumps(DAEMON))
    variables = [f"{key}={value}" for key, value in environment.variables.items()]
    box.daemon("env", "-i", f"PATH={STANDARD_PATH}", *variables, "dockerd", ready=("docker", "version"))
    box.do("docker", "load", "-i", ARCHIVE)


def _measure(box: Box, start: str, rounds: int, title: str) -> list[tuple[str, str, Samples]]:
    runs = [(case, who, options, Samples()) for case, who, options in RUNS if who != PEER or peer()]
    for case, _, options, _ in runs:
        for _ in range(WARM_UP):
            seen = box.call(
                "docker", "run", "--rm", "--network", "none", *options, image.NAME, "sh", "-c", _LOOK
            )
            if (seen.returncode == 0) != (case == ONE):
                sys.exit(f"bench: {case}, {options}: {seen}")
    chance = random.Random(0)
    for number in range(rounds):
        chance.shuffle(runs)
        for _, _, options, samples in runs:
            command = ("docker", "run", "--rm", "--network", "none", *options, image.NAME, "true")
            if not samples.add(box.do(start, "/dev/stdout", *command)):
                sys.exit(f"bench: {' '.join(command)} failed")
        progress(f"docker, {title}: {number + 1} of {rounds}")
    return [(case, who, samples) for case, who, _, samples in runs]
