# SPDX-License-Identifier: Apache-2.0
"""What is measured: environments, sets of spec files, and cases. All of it is data; nothing is run here."""

from __future__ import annotations

import copy
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Callable

TREE = Path(__file__).resolve().parents[2]
H100_SPEC = TREE / "tests/cases/data/nvidia-h100.yaml"
PLAIN_OCI = TREE / "packaging/demo/config.json"

# In every device: what a container's config.json shows once it was injected.
MARK = "CDI_BENCH="


@dataclass(frozen=True)
class Environment:
    """The variables that a runtime is called with, besides PATH and the one that names its configuration."""

    name: str
    what: str
    variables: dict[str, str]


def _filler(size: int) -> dict[str, str]:
    """Return variables of about this many bytes together, 100 each."""
    return {f"VARIABLE_{number:04}": "x" * 85 for number in range(size // 100)}


# Whoever started dockerd from a shell, in another dir than a container's bundle.
_PERSON = {
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "LOGNAME": "root",
    "OLDPWD": "/usr",
    "PWD": "/usr/share",
    "SHELL": "/bin/bash",
    "SHLVL": "1",
    "TERM": "xterm-256color",
    "USER": "root",
}
ENVIRONMENTS = (
    Environment("an engine's", "PATH alone", {}),
    Environment("a person's", "4 KB, OLDPWD, PWD of another dir", {**_PERSON, **_filler(3900)}),
    Environment("64 KB", "650 variables", _filler(65536)),
)


def devices(count: int, files: int) -> dict[str, str]:
    """Return spec files that define so many devices together: vendor0.com/device=d0 is always one."""
    each = count // files
    return {
        f"vendor{file}.json": json.dumps(
            {
                "cdiVersion": "0.6.0",
                "kind": f"vendor{file}.com/device",
                "devices": [
                    {"name": f"d{number}", "containerEdits": {"env": [f"{MARK}{file}", f"D{number}=1"]}}
                    for number in range(each)
                ],
            }
        )
        for file in range(files)
    }


def _h100() -> dict[str, Any]:
    """Return a real H100's spec, changed so that its host paths needn't be on this machine."""
    spec: dict[str, Any] = yaml.safe_load(H100_SPEC.read_text("utf-8"))
    spec["containerEdits"]["env"].append(f"{MARK}1")
    for edits in (spec["containerEdits"], *(device["containerEdits"] for device in spec["devices"])):
        for node in edits["deviceNodes"]:
            node["type"] = "c"
        for mount in edits.get("mounts", ()):
            mount["hostPath"] = "/bin/true"
        for hook in edits.get("hooks", ()):
            hook["path"] = "/bin/true"
    return spec


def _gpus(count: int) -> dict[str, Any]:
    """Return the same spec with more GPUs."""
    spec = _h100()
    one = spec["devices"][0]
    spec["devices"] = [copy.deepcopy(one) for _ in range(count)]
    for number, device in enumerate(spec["devices"]):
        device["name"] = str(number)
        node = device["containerEdits"]["deviceNodes"][0]
        node |= {"path": f"/dev/nvidia{number}", "minor": number}
    return spec


def _as_yaml(spec: dict[str, Any]) -> dict[str, str]:
    return {"nvidia.yaml": yaml.safe_dump(spec, sort_keys=False)}


DEVICE_COUNTS = (1, 10, 100, 1_000, 10_000)
FILE_COUNTS = (1, 10, 100, 1_000)
MOST = DEVICE_COUNTS[-1]

# Sets of spec files, each a spec dir: what makes its files, by name.
SPECS: dict[str, Callable[[], dict[str, str]]] = {
    "h100": lambda: _as_yaml(_h100()),
    "gpus": lambda: _as_yaml(_gpus(8)),
    **{f"{count}-1": functools.partial(devices, count, 1) for count in DEVICE_COUNTS},
    **{f"{MOST}-{files}": functools.partial(devices, MOST, files) for files in FILE_COUNTS},
}
TINY = "1-1"

OURS, PEER, FLOOR = "cdi-runtime", "nvidia-container-runtime", "floor"
BOTH = (OURS, PEER)


@dataclass(frozen=True)
class Case:
    """A call of a runtime."""

    name: str
    # Who is measured: OURS and PEER, or one of the floors' programs.
    who: tuple[str, ...] = BOTH
    command: str = "create"
    specs: str = TINY
    asked: tuple[str, ...] = ()
    # How long config.json is, in bytes.
    size: int = 3_000
    # Without the index: removed before each run.
    cold: bool = False
    # Further lines of the configuration; None: there is no configuration.
    settings: str | None = ""
    # Where the bundle is; else in a tmpfs, as containerd's, docker's and CRI-O's are.
    on_disk: bool = False
    # It runs once in so many rounds.
    every: int = 1


_ONE = ("vendor0.com/device=d0",)
_ALL = ("nvidia.com/gpu=all",)
_EIGHT = tuple(f"nvidia.com/gpu={number}" for number in range(8))
SIZES = {"3 KB": 3_000, "30 KB": 30_000, "300 KB": 300_000, "3 MB": 3_000_000}
ASKED_COUNTS = (1, 10, 100, 1_000)
SELDOM, RARELY = 10, 25


def devices_name(count: int, files: int) -> str:
    """Return the name of the case with so many devices in so many files."""
    return "tiny" if count == 1 else f"1 of {count:,} devices in {files:,} file{'s' * (files > 1)}"


def size_name(size: str, *, asks: bool) -> str:
    """Return the name of the case with a config.json of this size."""
    base = "tiny" if asks else "nothing asked"
    return base if SIZES[size] == Case.size else f"{base}, config.json of {size}"


def asked_name(count: int) -> str:
    """Return the name of the case that asks for so many devices at once."""
    return f"{count:,} of 1,000 devices asked for at once"


FLOORS = (
    Case("exec", ("stub",), "state"),
    Case("script", ("script",), "state"),
    Case("script and grep", ("grep",)),
    Case("python3 -IS", ("python",)),
)
MAIN = (
    Case("passed on", command="state"),
    Case("passed on, no configuration", (OURS,), command="state", settings=None),
    Case("nothing asked"),
    Case("tiny", asked=_ONE),
    Case("tiny, the bundle on a disk", asked=_ONE, on_disk=True),
    Case("H100", specs="h100", asked=_ALL),
    Case("8 GPUs", specs="gpus", asked=_EIGHT),
    # A goal is about this one, so it runs as often as the tiny one; the peer is slow here.
    Case(devices_name(MOST, 100), (OURS,), specs=f"{MOST}-100", asked=_ONE),
    Case(devices_name(MOST, 100), (PEER,), specs=f"{MOST}-100", asked=_ONE, every=SELDOM),
    Case("tiny, LOG", (OURS,), asked=_ONE, settings="LOG={log}"),
    Case("tiny, cold", (OURS,), asked=_ONE, cold=True, every=SELDOM),
    Case("H100, cold", (OURS,), specs="h100", asked=_ALL, cold=True, every=SELDOM),
    Case("8 GPUs, cold", (OURS,), specs="gpus", asked=_EIGHT, cold=True, every=SELDOM),
)
_COUNTS = [(count, 1) for count in DEVICE_COUNTS] + [(MOST, files) for files in FILE_COUNTS]
GROWTH = (
    Case(
        f"{devices_name(MOST, 100)}, cold", (OURS,), specs=f"{MOST}-100", asked=_ONE, cold=True, every=RARELY
    ),
    *(
        Case(devices_name(count, files), specs=f"{count}-{files}", asked=_ONE, every=SELDOM)
        for count, files in dict.fromkeys(_COUNTS)
        if count > 1 and (count, files) != (MOST, 100)
    ),
    *(
        Case(size_name(size, asks=asks), asked=_ONE if asks else (), size=SIZES[size], every=SELDOM)
        for asks in (False, True)
        for size in SIZES
        if SIZES[size] != Case.size
    ),
    *(
        Case(
            asked_name(count),
            specs="1000-1",
            asked=tuple(f"vendor0.com/device=d{number}" for number in range(count)),
            every=SELDOM,
        )
        for count in ASKED_COUNTS
    ),
)
CASES = (*FLOORS, *MAIN, *GROWTH)


@dataclass(frozen=True)
class Series:
    """Cases that differ in one number."""

    title: str
    axis: str
    # The number, and the case's name.
    points: tuple[tuple[int, str], ...]


SERIES = (
    Series(
        "With more devices on the host",
        "devices defined, in one file",
        tuple((count, devices_name(count, 1)) for count in DEVICE_COUNTS),
    ),
    Series(
        "With a larger config.json",
        "KB of config.json",
        tuple((SIZES[size] // 1000, size_name(size, asks=True)) for size in SIZES),
    ),
    Series(
        "With more devices in the container, of 1,000 on the host",
        "devices asked for",
        tuple((count, asked_name(count)) for count in ASKED_COUNTS),
    ),
)
# What containers ask for whose lives are told, and what makes up a life: a create, and so many commands passed on.
ASKED = ("nothing asked", "tiny", "H100", "8 GPUs")
LIVES = {"docker run --rm": 3, "podman run --rm": 2, "docker, with a stop": 5, "podman, with a stop": 4}
LIFE = "docker run --rm"  # the one that goals and pictures are about


def oci(asked: tuple[str, ...], size: int) -> str:
    """Return a config.json, in one line as engines write it, filled up with variables of the container."""
    document = json.loads(PLAIN_OCI.read_text("utf-8"))
    del document["annotations"]
    if asked:
        document["annotations"] = {"cdi.k8s.io/bench": ",".join(asked)}
    missing = size - len(json.dumps(document))
    document["process"]["env"] += [f"FILLER_{number:06}={'x' * 82}" for number in range(missing // 100)]
    return json.dumps(document)
