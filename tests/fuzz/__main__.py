# SPDX-License-Identifier: Apache-2.0
"""`make fuzz`: all targets in turn, for some minutes in all; see targets.py for one of them."""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from .targets import load


def run(name: str, seconds: float) -> tuple[str, int, str]:
    """Run one target in a process of its own; return its name, how many inputs it took, and how it failed."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.targets", name, str(seconds)],
        capture_output=True,
        text=True,
        check=False,
    )
    count = done.stdout.split()[-1:]
    said = [line for line in done.stderr.splitlines() if not line.startswith("INFO: ")]  # atheris's own
    failure = "\n".join(said) or f"exit status {done.returncode}" if done.returncode else ""
    return name, int(count[0]) if count and count[0].isdigit() else 0, failure


def main() -> int:
    """Run the targets, print a line for each, and return 1 if one failed."""
    targets = load()
    parser = argparse.ArgumentParser(prog="make fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10, help="how long in all (default: 10)")
    parser.add_argument("target", nargs="*", help="only these; MODULE stands for all of MODULE.*")
    options = parser.parse_args()
    wanted = [
        name for name in targets if not options.target or {name, name.partition(".")[0]} & {*options.target}
    ]
    workers = len(os.sched_getaffinity(0))
    seconds = options.minutes * 60 * min(workers, len(wanted)) / max(1, len(wanted))
    how = "guided by atheris" if importlib.util.find_spec("atheris") else "drawn by hypothesis (no atheris)"
    print(f"{len(wanted)} targets, {seconds:.0f} s each, {workers} at a time; inputs {how}", flush=True)
    total = failed = 0
    with ThreadPoolExecutor(workers) as pool:
        for name, count, failure in pool.map(run, wanted, [seconds] * len(wanted)):
            print(f"{count:>10,}  {name}" + (f"  FAILED\n{failure}" if failure else ""), flush=True)
            total += count
            failed += bool(failure)
    print(f"{total:>10,}  inputs, {failed} targets failed")
    return int(failed > 0 or not wanted)


if __name__ == "__main__":
    sys.exit(main())
