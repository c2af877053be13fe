# SPDX-License-Identifier: Apache-2.0
"""What an engine's own command line says: of its daemon, and of a container."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cdi_hook.base import programs
from cdi_hook.base.process import ask
from cdi_hook.errors import CDIError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Unreachable(CDIError):
    """An engine that can't be asked; the message is its own, or says why it wasn't asked."""

    @property
    def is_forbidden(self) -> bool:
        """Whether another user could ask it."""
        return "permission denied" in str(self).lower()


@dataclass(frozen=True)
class Daemon:
    """What a daemon has read of its configuration: the programs of its runtimes, and the default's name."""

    runtimes: Mapping[str, str]
    default: str


@dataclass(frozen=True)
class KnownContainer:
    """A container, as an engine describes it.

    ``runtime`` is the name that the engine has for its runtime, and ``program`` its
    program; either is "" if that isn't known. ``bundle`` is its dir, "" if it has
    none now. ``oci`` is the part of its OCI spec that may ask for devices, before
    any runtime has edited it. ``native`` are the devices that the engine was asked
    for by its own options, and ``error`` is why the container didn't start. ``lost``
    are annotations that the engine has and doesn't pass on: whose each is, its key
    and value, and the option of `cdi-hook configure` that lets it through. ``client``
    is the key in the engine's ``requests`` of what made the container ("": the first).
    """

    identity: str
    runtime: str = ""
    program: str = ""
    bundle: str = ""
    oci: dict[str, Any] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    native: tuple[str, ...] = ()
    error: str = ""
    is_running: bool = False
    lost: tuple[tuple[str, str, str, str], ...] = ()
    client: str = ""


def program(name: str) -> str:
    """Return the path of a program, also if a user's PATH has no sbin; "" if it isn't on this host."""
    return next(programs.theirs([name]), "")


def ask_json(*command: str, unknown: str = "") -> Any:
    """Return what a command prints as JSON; None if its error has the words ``unknown``.

    Raises Unreachable.
    """
    answer = ask((program(command[0]) or command[0], *command[1:]))
    if answer.status != 0:
        if unknown and unknown in answer.err.lower():
            return None
        raise Unreachable(answer.why)
    try:
        return json.loads(answer.out)
    except ValueError as error:
        raise Unreachable(f"{' '.join(command)} printed no JSON") from error


def dig(tree: Any, *names: str) -> Any:
    """Return what is at the end of a way through objects; None if the way ends before."""
    for name in names:
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree


def inspected(
    one: Any, runtime: str, program: str, directory: str, annotations: Any, **more: Any
) -> KnownContainer:
    """Return a container as docker's inspect, and podman's, shows it, with what each shows its own way."""
    mounts = [{"destination": dig(mount, "Destination")} for mount in dig(one, "Mounts") or ()]
    env = dig(one, "Config", "Env") or []
    return KnownContainer(
        str(dig(one, "Id")),
        runtime,
        program,
        directory,
        {"annotations": annotations or {}, "process": {"env": env}, "mounts": mounts},
        dig(one, "Config", "Labels") or {},
        error=str(dig(one, "State", "Error") or ""),
        is_running=dig(one, "State", "Running") is True,
        **more,
    )


def bundle(states: Sequence[str], namespace: str, identity: str) -> str:
    """Return the bundle of a containerd's container, below a dir of its state; "" if it has none now."""
    places = (f"{state}/io.containerd.runtime.v2.task/{namespace}/{identity}" for state in states)
    return next(filter(os.path.isdir, places), "")
