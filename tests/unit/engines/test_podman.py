# SPDX-License-Identifier: Apache-2.0
"""engines.podman: a drop-in of containers.conf.d, and a file with other settings."""

from __future__ import annotations

import pytest

from cdi_hook.engines.edit.config_editor import Request
from cdi_hook.engines.edit.document import UnusableConfiguration
from cdi_hook.engines.podman import ENGINE

PATH = "/usr/bin/cdi-runtime"
ADD = Request(PATH)
DEFAULT = Request(PATH, set_default=True)

PODMAN = """\
[containers]
annotations = ["a=b"] # keep
[engine]
runtime = "crun"
[engine.runtimes]
crun = [
  "/usr/bin/crun",
]
"""


def test_drop_in() -> None:
    """A drop-in has the program and, on request, the default runtime."""
    after = (
        '# first\n\n[engine.runtimes]  # by cdi-hook configure\ncdi = ["/usr/bin/cdi-runtime"]\n'
        '\n[engine]  # by cdi-hook configure\nruntime = "cdi"\n'
    )
    edited = ENGINE.edit("# first\n").add(DEFAULT)
    assert (edited.text, edited.notes) == (after, ())
    assert ENGINE.edit(after).remove(None).text == "# first\n"


def test_in_place() -> None:
    """In a file with other settings, those stay and the former default is restored."""
    after = PODMAN.replace('runtime = "crun"', 'runtime = "cdi"') + 'cdi = ["/usr/bin/cdi-runtime"]\n'
    assert ENGINE.edit(PODMAN).add(DEFAULT).text == after
    assert ENGINE.edit(after).remove(ENGINE.edit(PODMAN)).text == PODMAN


def test_an_entry_without_a_program_is_not_ours() -> None:
    """An entry with our name that lists no program is refused."""
    with pytest.raises(UnusableConfiguration):
        ENGINE.edit("[engine.runtimes]\ncdi = []\n").add(ADD)
