# SPDX-License-Identifier: Apache-2.0
"""The checks of `cdi-hook doctor`. A check looks at one thing and returns findings.

CHECKS is the table of what is checked on a host, in the order in which it is said.
of_container.py looks at one container. Nothing here changes anything, except
of_specs.make_links.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdi_hook.doctor.checks import of_engines, of_host, of_specs
from cdi_hook.errors import UNKNOWN, Finding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cdi_hook.doctor.patient import Patient

# The name that --json has for a check.
CHECKS: dict[str, Callable[[Patient], list[Finding]]] = {
    "engines": of_engines.check,
    "runtimes": of_host.check_runtimes,
    "configuration": of_host.check_configuration,
    "exclusive": of_host.check_exclusive,
    "patterns": of_host.check_patterns,
    "specs": of_specs.check_dirs,
    "overlooked": of_specs.check_overlooked,
    "stale": of_specs.check_stale,
    "names": of_specs.check_names,
    "hooks": of_specs.check_hooks,
    "writers": of_specs.check_writers,
    "links": of_specs.check_links,
    "index": of_specs.check_index,
    "units": of_host.check_units,
    "cgroups": of_host.check_cgroups,
    "nodes": of_engines.check_nodes,
    "labels": of_engines.check_labels,
    "kernel": of_host.check_kernel,
    "python": of_host.check_python,
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
