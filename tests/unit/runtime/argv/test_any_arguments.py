# SPDX-License-Identifier: Apache-2.0
"""cdi_hook.runtime.argv takes any sequence, and costs nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from cdi_hook.runtime import argv

from .reading import FIELDS

ROOT = Path(__file__).resolve().parents[4]


def test_a_tuple_will_do() -> None:
    """Any sequence of strings is taken, not only a list."""
    assert argv.parse(("create", "-b", "v", "id")).bundle == "v"


def test_an_invocation_holds_what_it_says() -> None:
    """An Invocation has the fields of the contract, and no others."""
    assert sorted((*FIELDS, "configs", "global_options", "has_one_id")) == sorted(vars(argv.Invocation()))


def test_imports_nothing() -> None:
    """Reading arguments costs no import besides our own package."""
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); before = set(sys.modules);"
        " import cdi_hook.runtime.argv; print(*sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-IS", "-c", code], check=True, capture_output=True, text=True)
    assert {"__future__", "cdi_hook", "cdi_hook.runtime", "cdi_hook.runtime.argv"} >= set(done.stdout.split())
