# SPDX-License-Identifier: Apache-2.0
"""`make bench`: what cdi-runtime costs, beside floors and, if it is on PATH, nvidia-container-runtime.

`make bench ARGS='--rounds 20 H100 docker'` measures only the cases with such a
text in their names, and the floors.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from . import cases, docker, measuring, report
from .goals import Median

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .measuring import Samples

DOCKER_ROUNDS = 50


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=100, help=f"default 100; of docker's at most {DOCKER_ROUNDS}"
    )
    parser.add_argument("--out", type=Path, default=cases.TREE / "build/bench", help="default build/bench")
    parser.add_argument("name", nargs="*", help='part of a case\'s name, or "docker"; default: all')
    return parser.parse_args()


def _measure(names: Sequence[str], rounds: int) -> dict[tuple[str, str, str], Samples]:
    def wanted(name: str) -> bool:
        return not names or any(part in name for part in names)

    found = {}
    chosen = [case for case in cases.CASES if case in cases.FLOORS or wanted(case.name)]
    with tempfile.TemporaryDirectory(prefix="cdi-hook-bench-") as directory:
        found.update(measuring.measure(chosen, rounds, Path(directory)))
    if wanted("docker"):
        missing = docker.missing()
        if missing:
            print(f"bench: docker isn't measured: {missing}", file=sys.stderr)
        else:
            with tempfile.TemporaryDirectory(prefix="cdi-hook-bench-") as directory:
                found.update(docker.measure(min(rounds, DOCKER_ROUNDS), Path(directory)))
    measuring.progress("")
    return found


def main() -> None:
    """Measure, print, and write it all to a dir."""
    arguments = _arguments()
    if os.geteuid() != 0:
        sys.exit("bench: it needs root, as runtimes do: indexes are kept for root")
    given = " ".join(sys.argv[1:])
    facts = report.facts(f"make bench ARGS='{given}'" if given else "make bench")
    if not measuring.peer():
        print(f"bench: {cases.PEER} isn't on PATH and isn't measured", file=sys.stderr)
    samples = _measure(arguments.name, arguments.rounds)
    medians = {key: Median(one.ms, one.mb) for key, one in samples.items()}
    written = {"bench.md": report.tables(facts, medians), "medians.json": report.medians_json(facts, medians)}
    if not arguments.name and measuring.peer():
        from . import pictures  # half a second, and nothing to draw where only a part was measured

        written |= {f"{name}.svg": draw(facts, medians) for name, draw in pictures.PICTURES.items()}
    arguments.out.mkdir(parents=True, exist_ok=True)
    for name, text in written.items():
        (arguments.out / name).write_text(text, "utf-8")
    print(written["bench.md"])
    print(f"{', '.join(written)} in {arguments.out}", file=sys.stderr)


if __name__ == "__main__":
    main()
