# SPDX-License-Identifier: Apache-2.0
"""`cdi-hook doctor`: why a device isn't there. A check looks at one thing and returns findings.

CHECKS is the table of what is checked on a host, in the order in which it is said.
container.py looks at one container. Nothing here changes anything, except
specs.make_links.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdi_hook.doctor import engines, host, specs
from cdi_hook.doctor.finding import UNKNOWN, Finding, Patient

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# The name that --json has for a check.
CHECKS: dict[str, Callable[[Patient], list[Finding]]] = {
    "engines": engines.check,
    "runtimes": host.check_runtimes,
    "configuration": host.check_configuration,
    "specs": specs.check_dirs,
    "overlooked": specs.check_overlooked,
    "stale": specs.check_stale,
    "names": specs.check_names,
    "hooks": specs.check_hooks,
    "writers": specs.check_writers,
    "links": specs.check_links,
    "index": specs.check_index,
    "units": host.check_units,
    "cgroups": host.check_cgroups,
    "nodes": engines.check_nodes,
    "labels": engines.check_labels,
    "kernel": host.check_kernel,
    "python": host.check_python,
}


def examine(patient: Patient, *, debug: bool = False) -> Iterator[tuple[str, Finding]]:
    """Yield each check's name with each of its findings; a check that fails doesn't stop the others."""
    for name, check in CHECKS.items():
        try:
            findings = check(patient)
        except ImportError:
            continue  # PyYAML, of which the check of Python tells
        except Exception as error:
            if debug:
                raise
            fact = f"the check of {name} can't go on: {type(error).__name__}: {error}"
            findings = [Finding(UNKNOWN, fact, "cdi-hook doctor --debug")]
        for finding in findings:
            yield name, finding
