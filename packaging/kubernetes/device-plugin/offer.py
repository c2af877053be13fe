# SPDX-License-Identifier: Apache-2.0
"""What a node offers: the devices of its CDI specs, by kind, as devices.yaml wants them.

Nothing here knows Kubernetes' API; plugin.py tells the kubelet.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import re
import stat
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

import cdi_hook

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

# Kinds whose names are the resources of other plugins. The kubelet believes whoever registers last.
OTHERS = (
    "amd.com/gpu", "gpu.intel.com/i915", "gpu.intel.com/xe", "habana.ai/gaudi", "nvidia.com/gpu", "rdma/hca",
)  # fmt: skip
ANNOTATION, FIELD = "annotation", "field"
MOST_SHARES = 1000
_KEYS = {"request", "devices"}
_ENTRY_KEYS = {"pattern", "shares"}
# What Kubernetes takes as a resource's name; a CDI kind may have capitals and "_" in its vendor.
_RESOURCE = re.compile(
    r"(?=.{1,253}/)[a-z0-9]([a-z0-9.-]*[a-z0-9])?/[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?", re.ASCII
)
_MINOR = re.compile(r"^Device Minor:\s*(\d+)$", re.MULTILINE)


class UnusableConfiguration(Exception):
    """What is wrong with devices.yaml, in one line."""


@dataclass(frozen=True)
class Wish:
    """An entry of devices.yaml: a pattern of qualified names, and how many containers may have one device."""

    pattern: str
    shares: int = 1

    def is_for(self, kind: str, name: str) -> bool:
        """Say whether it offers a device. A kind that another plugin may own has to be spelt out."""
        is_named = self.pattern.partition("=")[0] == kind
        return (is_named or kind not in OTHERS) and fnmatch.fnmatchcase(f"{kind}={name}", self.pattern)


@dataclass(frozen=True)
class Configuration:
    """devices.yaml: what is offered, and how cdi-runtime (or an engine's own CDI) is asked for it."""

    wishes: Sequence[Wish]
    request: str = ANNOTATION

    def wish(self, kind: str, name: str) -> Wish | None:
        """Return the first entry for a device."""
        return next((one for one in self.wishes if one.is_for(kind, name)), None)


@dataclass(frozen=True)
class Device:
    """A device that is offered: its name, its ids, whether its nodes are there, its NUMA nodes."""

    name: str
    ids: Sequence[str]
    is_there: bool
    numa: Sequence[int]


def read(path: str) -> Configuration:
    """Read devices.yaml; raises UnusableConfiguration."""
    try:
        with open(path, encoding="utf-8") as file:
            data = yaml.safe_load(file)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UnusableConfiguration(f"{path}: {' '.join(str(error).split())}") from error
    _check(
        isinstance(data, dict) and set(data) <= _KEYS,
        path,
        f"it has other keys than {', '.join(sorted(_KEYS))}",
    )
    request = data.get("request", ANNOTATION)
    _check(request in (ANNOTATION, FIELD), path, f"request is {ANNOTATION} or {FIELD}, not {request!r}")
    entries = data.get("devices")
    _check(isinstance(entries, list) and entries != [], path, "devices has to be a list with an entry")
    return Configuration([_wish(one, f"{path}: devices[{at}]") for at, one in enumerate(entries)], request)


def _wish(entry: Any, where: str) -> Wish:
    keys = ", ".join(sorted(_ENTRY_KEYS))
    _check(isinstance(entry, dict) and set(entry) <= _ENTRY_KEYS, where, f"it has other keys than {keys}")
    pattern, shares = entry.get("pattern"), entry.get("shares", 1)
    is_pattern = isinstance(pattern, str) and re.fullmatch(r"[^/=\s]+/[^/=\s]+=\S+", pattern)
    _check(bool(is_pattern), where, f"pattern is as vendor.com/class=name, * for any text, not {pattern!r}")
    is_count = type(shares) is int and 1 <= shares <= MOST_SHARES
    _check(is_count, where, f"shares is a number from 1 to {MOST_SHARES}, not {shares!r}")
    return Wish(pattern, shares)


def _check(is_right: bool, where: str, wrong: str) -> None:
    if not is_right:
        raise UnusableConfiguration(f"{where}: {wrong}")


class Node:
    """A node, whose root dir is ``root`` here: its specs in /etc/cdi and /run/cdi, its /dev and /sys."""

    def __init__(self, root: str, configuration: Configuration) -> None:
        self._root = root
        self._configuration = configuration
        dirs = [f"{root}/etc/cdi", f"{root}/run/cdi"]
        self._cache = cdi_hook.Cache(dirs, strict=os.geteuid() == 0)

    def errors(self) -> list[str]:
        """Return what is wrong with the specs, one line each."""
        root = self._root
        found = [f"{path}: {one}" for path, lines in self._cache.errors.items() for one in lines]
        return [" ".join(one.replace(f"{root}/", "/").split()) for one in found]

    def kinds(self) -> tuple[dict[str, list[Device]], list[str]]:
        """Return what is offered by kind, and which kinds can't be, with the reason.

        Of the names of one device the first in natural order counts; "all" and other names for several
        devices together are none.
        """
        of_kind: dict[str, list[cdi_hook.Device]] = {}
        for device in self._cache.by_name().values():
            if device.name != "all" and self._configuration.wish(device.spec.kind, device.name):
                of_kind.setdefault(device.spec.kind, []).append(device)
        refused = [
            f"{kind} isn't offered: no resource of Kubernetes can have that name"
            for kind in of_kind
            if not _may_be(kind)
        ]
        return {
            kind: self._devices(kind, of_kind[kind]) for kind in sorted(of_kind) if _may_be(kind)
        }, refused

    def _devices(self, kind: str, named: list[cdi_hook.Device]) -> list[Device]:
        several = cdi_hook.distinct_devices((one for one in named if "::" not in one.name), self._root)
        return [self._device(kind, device) for device in several]

    def _device(self, kind: str, device: cdi_hook.Device) -> Device:
        wish = self._configuration.wish(kind, device.name)
        shares = wish.shares if wish else 1
        ids = [device.name] if shares == 1 else [f"{device.name}::{number}" for number in range(shares)]
        parts = (device.container_edits, device.spec.container_edits)
        nodes = [_path(node) for part in parts for node in part.get("deviceNodes") or ()]
        return Device(device.name, ids, all(map(self._is_there, nodes)), self._numa(device))

    def _is_there(self, path: str) -> bool:
        """Say whether a device node is there. Only those below /dev can be seen here."""
        if not os.path.normpath(path).startswith("/dev/"):
            return True
        try:
            mode = os.lstat(f"{self._root}{path}").st_mode
        except OSError:
            return False
        return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode))

    def _numa(self, device: cdi_hook.Device) -> list[int]:
        """Return the NUMA nodes that a device's hardware is at, as sysfs has them."""
        edits = device.container_edits
        places = [self._of_node(_path(node)) for node in edits.get("deviceNodes") or ()]
        names = [str(one.get("hostInterfaceName")) for one in edits.get("netDevices") or ()]
        places += [f"{self._root}/sys/class/net/{name}/device" for name in names if "/" not in name]
        return sorted({number for place in places if place for number in _numa_above(place)})

    def _of_node(self, path: str) -> str:
        """Return the dir in sysfs of a device node, "" if it has none."""
        try:
            status = os.stat(f"{self._root}{path}")
        except OSError:
            return ""
        major, minor = os.major(status.st_rdev), os.minor(status.st_rdev)
        place = f"{self._root}/sys/dev/{'block' if stat.S_ISBLK(status.st_mode) else 'char'}/{major}:{minor}"
        if not os.path.exists(place) and re.fullmatch(r"/dev/nvidia\d+", path):
            return self._of_nvidia(minor)
        return place

    def _of_nvidia(self, minor: int) -> str:
        """Return the dir in sysfs of one of NVIDIA's GPUs, whose driver tells sysfs nothing of its nodes."""
        for path in glob.glob(f"{glob.escape(self._root)}/proc/driver/nvidia/gpus/*/information"):
            with open(path, encoding="utf-8", errors="replace") as file:
                found = _MINOR.search(file.read(1 << 16))
            if found and int(found[1]) == minor:
                return f"{self._root}/sys/bus/pci/devices/{os.path.basename(os.path.dirname(path))}"
        return ""


def _may_be(kind: str) -> bool:
    return bool(_RESOURCE.fullmatch(kind)) and "kubernetes.io/" not in kind


def _path(node: dict[str, Any]) -> str:
    return str(node.get("hostPath") or node["path"])


def _natural(name: str) -> list[tuple[int, str]]:
    """Return what sorts names as people do: gpu2 before gpu10, numbers before letters."""
    return [(int(one), "") if one.isdecimal() else (1 << 62, one) for one in re.split(r"(\d+)", name) if one]


def _numa_above(place: str) -> Iterable[int]:
    """Yield the NUMA node of the first device from a dir upwards that has one."""
    path = os.path.realpath(place)
    while os.path.basename(path) not in ("", "devices", "sys"):
        try:
            with open(f"{path}/numa_node", encoding="ascii") as file:
                number = int(file.read(32))
        except (OSError, ValueError):
            path = os.path.dirname(path)
            continue
        if number >= 0:
            yield number
        return


def prefer(
    devices: Sequence[Device], available: Collection[str], must: Sequence[str], size: int
) -> list[str]:
    """Return which ids a container should get: different devices, on one NUMA node, those the most free.

    ``available`` and ``must`` are ids, as in the API; ``must`` are among those returned.
    """
    owner = {one: device for device in devices for one in device.ids}
    chosen = [one for one in must if one in owner][:size]
    left = [one for one in available if one in owner and one not in chosen]
    while left and len(chosen) < size:
        had = Counter(owner[one].name for one in chosen)
        free = Counter(owner[one].name for one in left)
        near = {number for one in chosen for number in owner[one].numa}
        room = Counter(number for device in devices if free[device.name] for number in device.numa)

        def cost(one: str) -> tuple[int, bool, int, int, list[tuple[int, str]]]:
            device = owner[one]
            is_far = bool(near) and not near & set(device.numa)  # noqa: B023
            # nothing is chosen yet: begin where there is room for the others
            lack = 0 if near else size - min(size, max((room[one] for one in device.numa), default=0))  # noqa: B023
            return had[device.name], is_far, lack, -free[device.name], _natural(one)  # noqa: B023

        best = min(left, key=cost)
        chosen.append(best)
        left.remove(best)
    return chosen
