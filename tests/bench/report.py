# SPDX-License-Identifier: Apache-2.0
"""What was measured, as tables in Markdown and as JSON."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from .cases import ASKED, CASES, ENVIRONMENTS, FLOOR, LIFE, LIVES, OURS, PEER, TREE
from .docker import NOTHING, ONE, OWN, PLAIN
from .goals import GOALS, Goal, Medians
from .measuring import PYTHON, peer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .goals import Key, Median

NOT_MEASURED = "not measured"


def facts(command: str) -> dict[str, str]:
    """Return when, where and what was measured."""
    found = {
        "date": time.strftime("%Y-%m-%d"),
        "command": command,
        "tree": _output("git", "-C", str(TREE), "describe", "--always", "--dirty", "--abbrev=12"),
        "machine": f"{_processor()}, {os.cpu_count()} cores, {platform.freedesktop_os_release()['PRETTY_NAME']}, "
        f"Linux {platform.release()}, {_output(PYTHON, '--version')}, load {os.getloadavg()[0]:.1f} before",
    }
    program = peer()
    if program:
        # The second line is the low-level runtime's.
        found["peer"] = _output(program, "--version").splitlines()[0]
    return found


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:
        return "unknown"
    return done.stdout.strip() or "unknown"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _verdict(goal: Goal, medians: Medians) -> str:
    figure = goal.reached(medians)
    if figure is None:
        return NOT_MEASURED
    return f"{figure:.2f}{goal.unit} {'reached' if figure <= goal.limit else '**MISSED**'}"


def _ms(value: float) -> str:
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 100 else f"{value:.0f}"


def tables(facts: Mapping[str, str], all_: Mapping[Key, Median]) -> str:
    """Return everything that was measured."""
    views = [Medians(environment.name, all_) for environment in ENVIRONMENTS]
    names = [view.environment for view in views]
    goals = [
        [goal.what, f"{goal.limit}{goal.unit}", *(_verdict(goal, view) for view in views)] for goal in GOALS
    ]
    lives = [
        [f"{life} ({calls} calls), {case}", *(_life(view, case, life) for view in views)]
        for life, calls in LIVES.items()
        for case in ASKED
    ]
    calls = [
        [case, *(_call(view, case) for view in views), _memory(views[0], case)]
        for case in dict.fromkeys(case.name for case in CASES)
    ]
    containers = [
        [name, *(_docker(view, case, who) for view in views)]
        for name, case, who in (
            ("plain runc", NOTHING, (PLAIN,)),
            ("nothing asked", NOTHING, (OURS, PEER)),
            ("a device", ONE, (OURS, PEER)),
            ("a device, by docker's own CDI", ONE, (OWN,)),
        )
    ]
    lines = [
        "# What `make bench` measured",
        "",
        *(f"- {key}: {value}" for key, value in facts.items()),
        "",
        f"Medians of interleaved runs: {OURS} / {PEER} (if measured). Behind them, of what is added to `docker run`",
        f"for a device: {OWN}.",
        "The real runtime is a program that does nothing, except under docker. The bundle is in a tmpfs, as it is",
        "under containerd, docker and CRI-O, except where a call's name says otherwise.",
        "",
        *(f"- {environment.name} environment: {environment.what}" for environment in ENVIRONMENTS),
        "",
        *_table("In short, ms", ["", *names, "peak memory, MB"], _short(views)),
        *_table("Goals", ["goal", "at most", *names], goals),
        *_table("A container's life, ms: a create, and calls that are passed on", ["life", *names], lives),
        *_table("Each call, ms", ["call", *names, f"peak memory, MB ({names[0]})"], calls),
        *_table("`docker run --rm`, ms, with dockerd's environment", ["asked", *names], containers),
    ]
    return "\n".join(lines)


def _short(views: Sequence[Medians]) -> list[list[str]]:
    """Return what the README beside the results shows."""
    return [
        [title, *(figures(view, case) for view in views), _memory(views[0], case) if figures is _call else ""]
        for title, figures, case in (
            ("passed on (`state`, `start`, `delete`, …)", _call, "passed on"),
            ("create, nothing asked", _call, "nothing asked"),
            ("create, a device that is a variable", _call, "tiny"),
            ("create, an H100 (70 mounts and hooks)", _call, "H100"),
            ("create, 8 GPUs", _call, "8 GPUs"),
            (f"{LIFE}: a create and {LIVES[LIFE]} calls, nothing asked", _life, "nothing asked"),
            (f"{LIFE}: a create and {LIVES[LIFE]} calls, an H100", _life, "H100"),
            ("added to `docker run`, nothing asked", _added, NOTHING),
            ("added to `docker run`, a device", _added, ONE),
            ("for scale: a shell script that only execs", _call, "script"),
            ("for scale: an empty `python3 -IS` that leaves by `_exit`", _call, "python3 -IS"),
        )
    ]


def _table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return a table, without the rows in which nothing was measured."""
    full = [row for row in rows if any(row[1:])]
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *full)]
    return [f"## {title}", "", *lines, ""] if full else []


def _beside(figures: Callable[[str], str], whose: Sequence[str] = (FLOOR, OURS, PEER)) -> str:
    """Return the figures of all who were measured."""
    found = []
    for who in whose:
        try:
            found.append(figures(who))
        except KeyError:
            continue
    return " / ".join(found)


def _call(view: Medians, case: str) -> str:
    return _beside(lambda who: _ms(view.ms(case, who)))


def _life(view: Medians, case: str, life: str = LIFE) -> str:
    return _beside(lambda who: _ms(view.life(case, who, life)))


def _added(view: Medians, case: str) -> str:
    """Return what is added to a `docker run` with plain runc."""
    return _beside(lambda who: f"{view.ms(case, who) - view.ms(NOTHING, PLAIN):+.0f}", (OURS, PEER, OWN))


def _memory(view: Medians, case: str) -> str:
    return _beside(lambda who: f"{view.mb(case, who):.1f}")


def _docker(view: Medians, case: str, whose: Sequence[str]) -> str:
    def figure(who: str) -> str:
        ms, plain = view.ms(case, who), view.ms(NOTHING, PLAIN)
        return f"{ms:.0f}" if who == PLAIN else f"{ms:.0f} ({(ms / plain - 1) * 100:+.1f} %)"

    return _beside(figure, whose)


def medians_json(facts: Mapping[str, str], all_: Mapping[Key, Median]) -> str:
    """Return the same as JSON, and the goals."""
    medians: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for (environment, case, who), median in all_.items():
        found = {"ms": round(median.ms, 3), "mb": round(median.mb, 2)}
        medians.setdefault(environment, {}).setdefault(case, {})[who] = found
    views = [Medians(environment.name, all_) for environment in ENVIRONMENTS]
    goals = [
        {"goal": goal.what, "limit": goal.limit} | {view.environment: goal.reached(view) for view in views}
        for goal in GOALS
    ]
    return json.dumps({"facts": facts, "goals": goals, "medians": medians}, indent=1) + "\n"
