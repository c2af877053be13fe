# SPDX-License-Identifier: Apache-2.0
"""fill.py FILE: FILE with what we have of engines in the places of @MARKS@, on stdout."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cdi_hook.engines import ENGINES

ALL = list(ENGINES.values())


def dirs() -> list[str]:
    """Return the dirs of engines' files: those of /etc whole, and others of hooks."""
    files = [engine.file.split("/") for engine in ALL]
    own = ["/".join(one[:3] if one[1] == "etc" else one[:-1]) for one in files]
    hooks = [one for engine in ALL for one in engine.hooks_dirs if not one.startswith("/etc/")]
    return [*own, *hooks]


STATES = (state for engine in ALL for state in engine.prober.states)
MARKS = {
    "@CONFIGURE@": f'"cdi-hook configure {ALL[0].name}" (or {", ".join(one.name for one in ALL[1:])})',
    "@UNITS@": " ".join(f"{unit}.service" for engine in ALL for unit in engine.units),
    "@DAEMONS@": "|".join(dict.fromkeys(engine.daemon for engine in ALL if engine.daemon)),
    "@DIRS@": " ".join(dict.fromkeys(dirs())),
    "@OPTIONS@": " ".join(
        f"{one}/io.containerd.runtime.v2.task/*/*/options.json" for one in dict.fromkeys(STATES)
    ),
}

text = Path(sys.argv[1]).read_text("utf-8")
for mark, filling in MARKS.items():
    text = text.replace(mark, filling)
sys.stdout.write(text)
