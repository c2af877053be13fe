# SPDX-License-Identifier: Apache-2.0
"""What a command's options and the configuration say of the host, and warnings that several commands give."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from cdi_hook.base import programs, words
from cdi_hook.base.quoting import quote
from cdi_hook.cli import output
from cdi_hook.errors import CDIError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from cdi_hook.catalog.inventory import Inventory, Problems
    from cdi_hook.catalog.registry import Registry
    from cdi_hook.inject.pipeline import Host


def host(options: argparse.Namespace) -> Host:
    """Return the host, with the configuration of --config and the spec dirs of --spec-dir."""
    from cdi_hook.inject import pipeline

    environ = dict(os.environb)
    path = options.config
    if path is not None:
        environ[b"CDI_HOOK_CONFIG"] = os.fsencode(path)
    if path is not None and not os.path.exists(path):
        raise CDIError(f"--config: there is no {quote(path)}")
    return pipeline.Host(environ, getattr(options, "spec_dir", None) or ())


def warn_of_problems(found: Host) -> None:
    """Warn of what is wrong with the configuration; for commands that work without it."""
    for problem in found.settings.problems:
        output.warn(problem)


def warn_of_specs(problems: Problems, spec_dirs: Sequence[str]) -> None:
    """Warn of what is wrong with specs, and of files that only their names keep from being read."""
    for path, found in problems.items():
        for problem in found:
            output.warn(f"{path}: {problem}")
    from cdi_hook.inject import explain

    for lost in explain.overlooked(spec_dirs):
        output.warn(lost)


def complain_of_no_specs(dirs: Sequence[str]) -> None:
    """Say that the dirs have no specs, and what makes one."""
    from cdi_hook.inject import explain

    where = f"in {', '.join(dirs)}" if dirs else "can be found: SPEC_DIRS is empty"
    output.note(f"no CDI spec {where}; {programs.advice(explain.NO_SPEC)}")


def no_such_device(name: str, known: Inventory) -> str:
    """Say that no device has this name, and which names are near it."""
    within = [one for one in known.devices if name.strip("*/") in one]  # a class, or a device's own name
    near = words.near(name, known.devices, 3) or within[:3]
    advice = f"did you mean {' or '.join(near)}?" if near else '"cdi-hook list" shows the known devices'
    from cdi_hook.inject import explain

    advice = explain.of_host([name], known).get(name) or explain.maker(name, known.devices) or advice
    return f"there is no device {quote(name)}; {programs.advice(advice)}"


def holders(found: Host, registry: Registry, names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return the lease of who has each of these devices for itself, where somebody has (EXCLUSIVE)."""
    if not found.settings["EXCLUSIVE"]:
        return {}
    from cdi_hook.leases import inquiry
    from cdi_hook.leases.stock import Stock

    try:
        stock = Stock(registry)
        paths = {key: path for device in stock.hardware(names) for key, path in device.paths.items()}
        leases = inquiry.living(found.lease_dir, paths)
        for doubt in dict.fromkeys(lease.how for lease in leases if lease.how not in inquiry.STATES):
            ids = words.some(lease["id"] for lease in leases if lease.how == doubt)
            output.warn(f"whether these containers are gone can't be told: {ids}: {doubt}")
        return {name: one.tree for name, one in stock.holders(names, leases).items()}
    except CDIError as error:
        output.warn(str(error))
        return {}


def place(name: str, known: Inventory, found: Host, held: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return where a device is defined and who has it, as --json has it; ``held`` is of holders()."""
    from cdi_hook.catalog import inventory

    spec, shadowed = known.devices[name]
    priority = inventory.priority(spec, found.spec_dirs)
    holder = None
    if name in held:
        from cdi_hook.leases import in_use

        holder = in_use.record(held[name])
    return {"name": name, "path": spec, "priority": priority, "shadowed": shadowed, "holder": holder}


def in_use_by(name: str, held: dict[str, dict[str, Any]]) -> str:
    """Return who has a device for itself, in words, or ""."""
    if name not in held:
        return ""
    from cdi_hook.leases import in_use

    return f"in use by {in_use.holder(held[name])}"
