# SPDX-License-Identifier: Apache-2.0
"""One system call fails, or its process dies there: the old or the new, the device or words, and nothing is left behind.

`make test` hits a part of the calls of each form that covers all of our own work; attack.py says which.
`make faults` hits each call with each fault. What isn't hit: what a program does before it opens a file of ours, which
is the dynamic linker's and the interpreter's, and what the real runtime does. See attack.py for what must hold, and
NOTHING_TO_DO there for what nobody can mend.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .attack import Survey, chosen
from .faults import FAULTS
from .forms import FORMS

if TYPE_CHECKING:
    from collections.abc import Callable

    from .world import World


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", FORMS)
def test_one_call(
    world: World, name: str, fault: str, record_property: Callable[[str, object], None]
) -> None:
    """Whichever call fails, the form has done its work or says what went wrong, and the next run leaves nothing."""
    survey = Survey(world, FORMS[name], fault)
    calls = chosen(survey.calls, fault)
    survey.run(calls)
    record_property("attack", [name, fault, dict(survey.became)])
    assert not survey.wrong, "\n".join(
        f"{what}, {len(hit)} times: {hit[0]}" for what, hit in survey.wrong.items()
    )
    assert calls
