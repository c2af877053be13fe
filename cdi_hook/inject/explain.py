# SPDX-License-Identifier: Apache-2.0
"""What people are told of a request that failed, and of spec files that don't count. Cold."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from cdi_hook.base import files, programs, volumes, words
from cdi_hook.edits import host_check
from cdi_hook.errors import HostMismatch, InjectionError, UnresolvableDevices
from cdi_hook.generate import renewal
from cdi_hook.inject.request import asked
from cdi_hook.leases import choice

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cdi_hook.catalog.inventory import Inventory
    from cdi_hook.catalog.registry import Registry
    from cdi_hook.errors import Finding
    from cdi_hook.inject.request import DeviceRequest

NEXT = '"cdi-hook list" shows the known devices, "cdi-hook validate" what is wrong with specs'
GENERATE = "if the host's devices or drivers have changed, generate that spec again"
MISNAMED = " isn't read, because its name ends neither in .json nor in .yaml"
_SHOWN = 5  # of each kind of thing
NO_SPEC = (
    '"cdi-hook generate" shows what this host has, '
    '"cdi-hook generate CLASS --output /etc/cdi" makes a spec of it'
)


def misnamed(spec_dirs: Sequence[str]) -> list[tuple[str, str]]:
    """Return the files of the spec dirs that are no specs only because of their names, and better names."""
    found = []
    for directory in spec_dirs:
        if volumes.is_silent(directory):
            continue
        try:
            names = sorted(os.listdir(directory))
        except OSError:
            continue
        for name in names:
            stem, dot, extension = name.rpartition(".")
            if dot and extension.lower() in ("yml", "yaml", "json") and extension not in ("yaml", "json"):
                right = f"{stem}.{'json' if extension.lower() == 'json' else 'yaml'}"
                found.append((f"{directory}/{name}", f"{directory}/{right}"))
    return found


def overlooked(spec_dirs: Sequence[str]) -> list[str]:
    """Return what to do with such files."""
    return [f"{path}{MISNAMED}: {shlex.join(('mv', path, right))}" for path, right in misnamed(spec_dirs)]


def complete(error: InjectionError | UnresolvableDevices, request: DeviceRequest, registry: Registry) -> None:
    """Give an error its device, what asked for that, the spec that defines it, and the fix."""
    if isinstance(error, UnresolvableDevices):
        _complete_unresolvable(error, request, registry)
        return
    device, path = error.source or (None, "")
    if isinstance(error, HostMismatch):
        advice = host_check.path_advice(error.node)
        error.cause, error.fix = advice or error.cause, "" if advice else _restore(error)
    if not path:
        error.about = asked(request.device_ids[:_SHOWN], request)
    elif device is None:
        error.about = f"it is for all devices of {path}, {asked(request.device_ids[:_SHOWN], request)}"
    else:
        error.about = f"device {device} ({asked([device], request)}) is defined by {path}"


def _restore(error: HostMismatch) -> str:
    """Return how the host comes to have again what a spec says."""
    device, path = error.source or (None, "")
    class_ = renewal.class_of(device or "")
    is_gone = error.node and files.is_gone(error.node)
    command = renewal.command(path, class_) if class_ and is_gone else ""
    if not command:
        return GENERATE
    return programs.advice(
        "it was there when the spec was made: plug it in, or load its driver; or make the spec of what is "
        f'there now: "{command}"'
    )


def _complete_unresolvable(error: UnresolvableDevices, request: DeviceRequest, registry: Registry) -> None:
    shown = error.names[:_SHOWN]
    error.cause = f"unresolvable CDI devices {words.some(error.names)} ({asked(shown, request)})"
    dirs = ", ".join(map(files.clean, registry.spec_dirs))
    found = registry.inventory()
    known, problems = list(found.devices), found.for_everybody
    names = dict.fromkeys(error.names)

    def is_conflict(one: Finding) -> bool:
        return one.kind == "conflict" and one.device in names

    conflicts = {one.device: one for several in problems.values() for one in several if is_conflict(one)}
    unknown = [name for name in names if name not in conflicts]
    parts = [words.some(map(str, conflicts.values()), separator=" | ")] if conflicts else []
    if unknown:
        which = words.some(unknown) if conflicts else "it" if len(unknown) == 1 else "them"
        parts.append(f"no usable CDI spec in {dirs or 'SPEC_DIRS, which is empty,'} defines {which}")
    if any(map(choice.may_be_draw, shown)):
        parts.append('"any" takes a free device only of a kind that EXCLUSIVE in the configuration has')
    refused = {
        path: f"{path}: {others[0]}"
        for path, several in problems.items()
        if (others := [one for one in several if not is_conflict(one)])
    }
    theirs = [refused.pop(path) for path in list(refused) if _is_of(path, shown)]
    if theirs:
        parts.append(f"refused: {words.some(theirs, separator=' | ')}")
    unspecified = of_host(unknown[:_SHOWN], found)
    parts += unspecified.values()
    makers = {name: made for name in unknown[:_SHOWN] if (made := maker(name, known))}
    strange = [name for name in unknown[:_SHOWN] if name not in unspecified and name not in makers]
    near = {close: None for name in strange for close in words.near(name, known, 3)}
    if near:
        parts.append(f"did you mean {' or '.join(list(near)[:_SHOWN])}?")
    elif strange:
        parts.append(f"known devices: {words.some(known)}" if known else "no device is known")
    parts += dict.fromkeys(makers.values())
    if refused:
        parts.append(f"{'also ' if theirs else ''}refused: {words.some(refused.values(), separator=' | ')}")
    elif unknown and not known and not makers:
        parts.append(NO_SPEC)
    lost = overlooked(registry.spec_dirs)
    if lost:
        parts.append(words.some(lost, separator=" | "))
    error.about, error.fix = programs.advice("; ".join(parts)), programs.advice(NEXT)


def maker(name: str, known: Iterable[str]) -> str:
    """Return what makes the first spec of a kind that `cdi-hook generate` knows, "" for others."""
    kind, class_ = name.partition("=")[0], renewal.class_of(name)
    if not class_ or any(one.startswith(f"{kind}=") for one in known):
        return ""
    return f'"cdi-hook generate {class_} --output /etc/cdi" makes the spec of {kind}'


def of_host(names: Iterable[str], known: Inventory) -> dict[str, str]:
    """Say of which of these devices that no spec has the host has them, and what adds each to its spec."""
    now: dict[str, set[str]] = {}  # by class: an image may name several of one
    said = {}
    for name in names:
        kind = name.partition("=")[0]
        specs = {place.spec for device, place in known.devices.items() if device.startswith(f"{kind}=")}
        class_ = renewal.class_of(name) if specs else ""
        if class_ and class_ not in now:
            now[class_] = renewal.names_now(class_)
        if class_ and name in now[class_]:
            path = min(specs)
            command = renewal.command(path, class_)
            how = f'"{command}" adds it' if command else "add it there"
            said[name] = f"this host has {name}, but {path} doesn't: {how}"
    return said


def _is_of(path: str, names: list[str]) -> bool:
    """Say whether a file, valid or not, mentions the vendor of one of the devices."""
    if volumes.is_silent(path):
        return False
    try:
        data = files.read(path)
    except OSError:
        return False
    return any(name.partition("/")[0].encode() in data for name in names)
