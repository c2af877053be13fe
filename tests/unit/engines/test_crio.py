# SPDX-License-Identifier: Apache-2.0
"""engines.crio: a drop-in of crio.conf.d, and a file with other settings.

What CRI-O makes of it is in tests/engine/test_cri.py, for where there is a CRI-O.
"""

from __future__ import annotations

from cdi_hook.engines.crio import ENGINE
from cdi_hook.engines.edit.config_editor import Request

PATH = "/usr/bin/cdi-runtime"
ADD = Request(PATH)
DEFAULT = Request(PATH, set_default=True)
WORD = (
    "CRI-O passes a pod's annotations to its containers: whoever may create a pod with this runtime can ask for "
    "any device that ALLOW and DENY in cdi-hook.conf permit"
)

CRIO = """\
[crio]
root = "/x" # keep
[crio.runtime]
default_runtime = "crun"
[crio.runtime.runtimes.crun]
runtime_path = "/usr/libexec/crio/crun"
runtime_root = "/run/crun"
monitor_path = "/usr/libexec/crio/conmon"
allowed_annotations = [
  "io.containers.trace-syscall",
]
platform_runtime_paths = {"linux/arm64" = "/x"}
inherit_default_runtime = true
[crio.runtime.runtimes.kata]
runtime_type = "vm"
"""
CRIO_ADDED = """
[crio.runtime.runtimes.cdi]  # by cdi-hook configure
runtime_path = "/usr/bin/cdi-runtime"
runtime_type = "oci"
runtime_root = "/run/crun"
monitor_path = "/usr/libexec/crio/conmon"
allowed_annotations = ["io.containers.trace-syscall"]
"""


def test_drop_in() -> None:
    """The entry has all settings of the existing one, and only CRI-O's own annotations are listed."""
    edited = ENGINE.edit("# first\n", others=[("/etc/crio/crio.conf", CRIO)]).add(DEFAULT)
    after = f'# first\n{CRIO_ADDED}\n[crio.runtime]  # by cdi-hook configure\ndefault_runtime = "cdi"\n'
    assert (edited.text, edited.notes) == (after, (WORD,))
    assert ENGINE.edit(after).remove(None).text == "# first\n"


def test_in_place() -> None:
    """In a file with other settings, those stay and the former default is restored."""
    after = CRIO.replace('default_runtime = "crun"', 'default_runtime = "cdi"') + CRIO_ADDED
    assert ENGINE.edit(CRIO).add(DEFAULT).text == after
    assert ENGINE.edit(after).remove(ENGINE.edit(CRIO)).text == CRIO


def test_copies_the_last_entry_and_no_vm() -> None:
    """A later file's entry is copied, and an entry for virtual machines isn't."""
    others = [
        (
            "a",
            '[crio.runtime.runtimes.runc]\nruntime_root = "/a"\n[crio.runtime.runtimes.kata]\nruntime_type = "vm"\n',
        ),
        ("b", '[crio.runtime.runtimes.runc]\nruntime_root = "/b"\n'),
    ]
    assert ENGINE.edit("", others=others).add(Request("/usr/bin/cdi-kata", "kata")).text == (
        '[crio.runtime.runtimes.cdi-kata]  # by cdi-hook configure\nruntime_path = "/usr/bin/cdi-kata"\n'
        'runtime_type = "oci"\nruntime_root = "/b"\n'
    )


# As CRI-O's own packages have it, from 1.36 on.
PACKAGED = """\
[crio.runtime]
default_runtime = "crun"
[crio.runtime.runtimes.crun]
runtime_path = "/usr/libexec/crio/crun"
runtime_type = "pod"
runtime_root = "/run/crun"
monitor_path = "/usr/libexec/crio/conmonrs"
"""


def test_an_entry_with_another_monitor() -> None:
    """An entry of CRI-O's packages is copied with its type and its monitor, which aren't on PATH."""
    assert ENGINE.edit("", others=[("/etc/crio/crio.conf.d/10-crio.conf", PACKAGED)]).add(ADD).text == (
        '[crio.runtime.runtimes.cdi]  # by cdi-hook configure\nruntime_path = "/usr/bin/cdi-runtime"\n'
        'runtime_type = "pod"\nruntime_root = "/run/crun"\nmonitor_path = "/usr/libexec/crio/conmonrs"\n'
    )


def test_without_an_entry_to_copy() -> None:
    """Without an entry to copy, the entry has only the program."""
    assert ENGINE.edit("").add(ADD).text == (
        '[crio.runtime.runtimes.cdi]  # by cdi-hook configure\nruntime_path = "/usr/bin/cdi-runtime"\nruntime_type = "oci"\n'
    )
