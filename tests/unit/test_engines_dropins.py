# SPDX-License-Identifier: Apache-2.0
"""engines.crio and engines.podman: drop-ins, and the same in a file that has more in it.

CRI-O isn't packaged for Debian: what it makes of this is from its source.
"""

from __future__ import annotations

import pytest

from cdi_hook.engines.crio import Crio
from cdi_hook.engines.model import Request, UnusableConfiguration
from cdi_hook.engines.podman import Podman

pytest.importorskip("tomlkit", reason="tomlkit isn't installed")

PATH = "/usr/bin/cdi-runtime"
ADD = Request(PATH)
DEFAULT = Request(PATH, set_default=True)
WORD = (
    "CRI-O hands a pod's annotations on to its containers: whoever may create a pod that runs by this runtime "
    "can ask for any device that cdi-hook.conf's ALLOW and DENY let through"
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


def test_crio_drop_in() -> None:
    """The entry has all of the existing one's settings, and only CRI-O's own annotations are listed."""
    edited = Crio().add("# first\n", DEFAULT, [("/etc/crio/crio.conf", CRIO)])
    after = f'# first\n{CRIO_ADDED}\n[crio.runtime]  # by cdi-hook configure\ndefault_runtime = "cdi"\n'
    assert (edited.text, edited.notes) == (after, (WORD,))
    assert Crio().add(after, ADD).text == after
    assert Crio().remove(after, None).text == "# first\n"


def test_crio_in_place() -> None:
    """In a file that has more in it, the rest stays and the default comes back."""
    after = CRIO.replace('default_runtime = "crun"', 'default_runtime = "cdi"') + CRIO_ADDED
    assert Crio().add(CRIO, DEFAULT).text == after
    assert Crio().remove(after, CRIO).text == CRIO


def test_crio_copies_the_last_entry_and_no_vm() -> None:
    """A later file's entry is the one that counts, and one for virtual machines has nothing for us."""
    others = [
        (
            "a",
            '[crio.runtime.runtimes.runc]\nruntime_root = "/a"\n[crio.runtime.runtimes.kata]\nruntime_type = "vm"\n',
        ),
        ("b", '[crio.runtime.runtimes.runc]\nruntime_root = "/b"\n'),
    ]
    assert Crio().add("", Request("/usr/bin/cdi-kata", "kata"), others).text == (
        '[crio.runtime.runtimes.cdi-kata]  # by cdi-hook configure\nruntime_path = "/usr/bin/cdi-kata"\n'
        'runtime_type = "oci"\nruntime_root = "/b"\n'
    )


def test_crio_without_an_entry_to_copy() -> None:
    """With no entry to copy, it is only the program."""
    assert Crio().add("", ADD).text == (
        '[crio.runtime.runtimes.cdi]  # by cdi-hook configure\nruntime_path = "/usr/bin/cdi-runtime"\nruntime_type = "oci"\n'
    )


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


def test_podman_drop_in() -> None:
    """A drop-in has the program and, on request, the default."""
    after = (
        '# first\n\n[engine.runtimes]  # by cdi-hook configure\ncdi = ["/usr/bin/cdi-runtime"]\n'
        '\n[engine]  # by cdi-hook configure\nruntime = "cdi"\n'
    )
    edited = Podman().add("# first\n", DEFAULT)
    assert (edited.text, edited.notes) == (after, ())
    assert Podman().add(after, ADD).text == after
    assert Podman().remove(after, None).text == "# first\n"


def test_podman_in_place() -> None:
    """In a file that has more in it, the rest stays and the default comes back."""
    after = PODMAN.replace('runtime = "crun"', 'runtime = "cdi"') + 'cdi = ["/usr/bin/cdi-runtime"]\n'
    assert Podman().add(PODMAN, DEFAULT).text == after
    assert Podman().remove(after, PODMAN).text == PODMAN


@pytest.mark.parametrize("engine", [Crio(), Podman()], ids=["crio", "podman"])
def test_a_moved_program_is_followed_and_two_are_removed(engine: Crio | Podman) -> None:
    """The path of an entry of ours changes in its place, and removal takes all of ours."""
    text = engine.add("", Request("/opt/cdi-runtime")).text
    text = engine.add(text, ADD).text
    assert text == engine.add("", ADD).text
    text = engine.add(text, Request("/usr/bin/cdi-crun", "crun")).text
    assert engine.names(text) == ["cdi", "cdi-crun"]
    assert engine.remove(text, None).text.strip() == ""


@pytest.mark.parametrize(
    ("engine", "text", "path"),
    [
        (Crio(), '[crio.runtime.runtimes.cdi]\nruntime_path = "/x"\n', "'/x'"),
        (Podman(), '[engine.runtimes]\ncdi = ["/x"]\n', "'/x'"),
        (Podman(), "[engine.runtimes]\ncdi = []\n", "None"),
    ],
)
def test_a_taken_name_is_refused(engine: Crio | Podman, text: str, path: str) -> None:
    """An entry of our name that isn't ours is neither replaced nor removed."""
    with pytest.raises(UnusableConfiguration) as caught:
        engine.add(text, ADD)
    assert str(caught.value) == f"there is a runtime cdi already, and it is not ours: it runs {path}"
    assert engine.remove(text, None).text == text
