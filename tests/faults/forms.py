# SPDX-License-Identifier: Apache-2.0
"""The forms of the program that are attacked: how each is called, and when its work is done."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .world import CACHE_DEVICE, DEVICE, NET_DEVICE

if TYPE_CHECKING:
    from collections.abc import Callable

    from .faults import Outcome
    from .world import World

GONE = "vendor.com/device=gone"
# An engine's file before cdi-hook configures it, by the engine's name.
ENGINES = {
    "docker": '{"runtimes": {"other": {"path": "/bin/other"}}}\n',
    "containerd": 'version = 2\n\n[plugins."io.containerd.grpc.v1.cri".containerd]\n  # kept\n  snapshotter = "native"\n',
    "crio": "[crio.runtime]\nlog_level = 'info'\n",
    "podman": "[engine]\nretry = 3\n",
}


@dataclass(frozen=True)
class Form:
    """A form; ``prepare`` makes everything as before its call, and ``is_done`` looks whether the call did its work.

    ``whole`` are the files that are the old or the new ones at any time; ``made`` is what a call that failed has left
    in the container. ``refusal``: the words for what is asked for and can't be had, so no call may succeed.
    ``may_warn``: a success may say something.
    """

    prepare: Callable[[World], object]
    command: Callable[[World], list[str]]
    is_done: Callable[[World, Outcome], bool]
    stdin: Callable[[World], str] = lambda _: ""
    whole: Callable[[World], list[str]] = lambda world: [str(world.config), *map(str, world.kept())]
    made: Callable[[World], list[str]] = lambda _: []
    refusal: str = ""
    may_warn: bool = False


def _asks(device: str, *, kept: bool = True) -> Callable[[World], object]:
    def prepare(world: World) -> None:
        world.ask(device)
        world.have_run(kept=kept)

    return prepare


def _create(world: World) -> list[str]:
    options = ("--log", str(world.log), "--log-format", "json")
    return [str(world.bin / "cdi-runtime"), *options, "create", "--bundle", str(world.config.parent), "id"]


def _is_called(world: World, _: Outcome) -> bool:
    return world.called() == [world.runtime]


def _is_injected(world: World, _: Outcome) -> bool:
    return world.called() == [world.runtime] and _has_device(world.config.read_text("utf-8"))


def _has_net_device(world: World, _: Outcome) -> bool:
    is_written = '"netDevices":{"lo":{"name":"ONE"}}' in world.config.read_text("utf-8")
    return world.called() == [world.runtime] and is_written


def _has_device(text: str) -> bool:
    try:
        oci = json.loads(text)
    except ValueError:
        return False
    return (oci.get("process", {}).get("env"), oci.get("x-kept")) == (["ONE=1"], [1.50])


def _is_live(world: World, _: Outcome) -> bool:
    is_written = '"path":"/dev/cdi/node"' in world.config.read_text("utf-8")
    return is_written and world.in_container() == ["node", "mount"] and world.is_allowed()


def _hook(stage: str) -> Callable[[World], list[str]]:
    return lambda world: [str(world.bin / "cdi-hook"), stage]


def _configure(engine: str, *more: str) -> Form:
    def file(world: World) -> str:
        return f"{world.directory}/engine/{engine}.conf"

    def prepare(world: World) -> None:
        world.have_engine(file(world), ENGINES[engine])

    def command(world: World) -> list[str]:
        program = str(world.bin / "cdi-runtime")
        return [
            str(world.bin / "cdi-hook"),
            "configure",
            engine,
            "--file",
            file(world),
            "--path",
            program,
            *more,
        ]

    def is_done(world: World, _: Outcome) -> bool:
        new, old = Path(file(world)), Path(f"{file(world)}.before-cdi-hook")
        is_kept = old.exists() and old.read_text("utf-8") == ENGINES[engine]
        return is_kept and str(world.bin / "cdi-runtime") in new.read_text("utf-8")

    return Form(
        prepare,
        command,
        is_done,
        whole=lambda world: [file(world), f"{file(world)}.before-cdi-hook"],
        may_warn=True,
    )


def _asks_exclusive(*, is_left: bool) -> Callable[[World], object]:
    def prepare(world: World) -> None:
        world.ask(DEVICE)
        world.have_run(kept=True)
        if is_left:
            world.have_lease()

    return prepare


def _create_exclusive(world: World) -> list[str]:
    return ["/usr/bin/env", f"CDI_HOOK_CONFIG={world.exclusive}", *_create(world)]


def _has_lease(world: World, outcome: Outcome) -> bool:
    (lease,) = world.leases() or [{}]
    token = json.loads(world.config.read_text("utf-8"))["annotations"].get("cdi-hook.lease", "none")
    is_its = lease.get("token") == token and [one[0] for one in lease["devices"]] == [DEVICE]
    return is_its and _is_injected(world, outcome)


FORMS = {
    **{
        name: Form(
            _asks_exclusive(is_left=is_left),
            _create_exclusive,
            _has_lease,
            whole=lambda world: [
                str(world.config),
                *(f"{world.run}/{name}" for name in ("cdi-hook-leases/leases", "cdi-hook-claims.ORIGIN")),
            ],
        )
        for name, is_left in (("create, exclusive", False), ("create, exclusive, a lease is left", True))
    },
    "passed on": Form(_asks(""), lambda world: [str(world.bin / "cdi-runtime"), "start", "id"], _is_called),
    "passed on, no lines kept": Form(
        _asks("", kept=False), lambda world: [str(world.bin / "cdi-runtime"), "start", "id"], _is_called
    ),
    "nothing asked": Form(_asks(""), _create, _is_called),
    "create": Form(_asks(DEVICE), _create, _is_injected),
    "create, no index": Form(_asks(DEVICE, kept=False), _create, _is_injected),
    "create, no such device": Form(_asks(GONE), _create, _is_called, refusal="unresolvable CDI devices"),
    "create, asks for features": Form(_asks(NET_DEVICE), _create, _has_net_device),
    "create, no such feature": Form(
        _asks(CACHE_DEVICE),
        _create,
        lambda world, _: "intelRdt" in world.config.read_text("utf-8"),
        refusal="would ignore intelRdt.enableMonitoring",
    ),
    "precreate": Form(
        _asks(DEVICE),
        _hook("precreate"),
        lambda _, outcome: _has_device(outcome.out),
        stdin=lambda world: world.config.read_text("utf-8"),
    ),
    "createRuntime": Form(
        lambda world: world.have_container(),
        _hook("createRuntime"),
        _is_live,
        stdin=lambda world: world.container_state(),
        made=lambda world: world.in_container(),
    ),
    "index": Form(
        _asks("", kept=False),
        lambda world: [str(world.bin / "cdi-hook"), "index"],
        lambda world, outcome: (
            "warning: " in outcome.err or any(path.suffix == ".index" for path in world.kept())
        ),
        may_warn=True,
    ),
    **{f"configure {engine}": _configure(engine) for engine in ENGINES},
    "configure --set-default": _configure("docker", "--set-default"),
}
