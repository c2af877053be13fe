# SPDX-License-Identifier: Apache-2.0
"""The spec files that we make: written in one step, never in place of somebody else's, removed when they are old."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Any

import pytest

from cdi_hook.errors import CDIError
from cdi_hook.generate.outputs import SpecFiles
from cdi_hook.specs import specfile

if TYPE_CHECKING:
    from pathlib import Path


def thing(name: str = "one", kind: str = "vendor.com/thing") -> dict[str, Any]:
    """Return a spec."""
    return {
        "cdiVersion": "0.3.0",
        "kind": kind,
        "devices": [{"name": name, "containerEdits": {"env": ["A=1"]}}],
        "containerEdits": {},
    }


def test_a_new_file(tmp_path: Path) -> None:
    """A spec goes to a file of its kind's name that everybody can read, in a dir that is made, and says who made it."""
    path = SpecFiles(str(tmp_path / "etc/cdi")).write(thing())
    assert path == f"{tmp_path}/etc/cdi/vendor.com-thing.yaml"
    file = tmp_path / "etc/cdi/vendor.com-thing.yaml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert [one.name for one in file.parent.iterdir()] == [file.name]
    assert file.read_text() == (
        "# Made by `cdi-hook generate`, which replaces this file as long as this line is here.\n"
        "---\n"
        "cdiVersion: 0.3.0\n"
        "kind: vendor.com/thing\n"
        "devices:\n"
        "- name: one\n"
        "  containerEdits:\n"
        "    env:\n"
        "    - A=1\n"
        "containerEdits: {}\n"
    )
    assert specfile.load(path).data == thing()


def test_our_own_file_is_replaced(tmp_path: Path) -> None:
    """What we made is made again, and not touched if nothing has changed."""
    specs = SpecFiles(str(tmp_path))
    path = specs.write(thing())
    before = (tmp_path / "vendor.com-thing.yaml").stat()
    assert specs.write(thing()) == path
    after = (tmp_path / "vendor.com-thing.yaml").stat()
    assert (after.st_ino, after.st_ctime_ns) == (before.st_ino, before.st_ctime_ns)
    specs.write(thing("two"))
    assert list(specfile.load(path).devices) == ["two"]


@pytest.mark.parametrize("text", ["", "# mine\n", "---\n# Made by `cdi-hook generate`\n"])
def test_others_files_stay(tmp_path: Path, text: str) -> None:
    """A file that doesn't begin with our line stays as it is."""
    file = tmp_path / "x.yaml"
    file.write_text(text)
    with pytest.raises(CDIError) as caught:
        SpecFiles(str(tmp_path)).write(thing(), "x.yaml")
    assert (
        str(caught.value)
        == f"{file} isn't replaced: cdi-hook generate didn't make it, or somebody has edited it"
    )
    assert file.read_text() == text


def test_a_dir_in_the_files_place(tmp_path: Path) -> None:
    """What is no file stays too."""
    (tmp_path / "vendor.com-thing.yaml").mkdir()
    with pytest.raises(CDIError):
        SpecFiles(str(tmp_path)).write(thing())


def test_devices_of_another_file(tmp_path: Path) -> None:
    """A device that another file of the dir has isn't defined twice, which would take it away from everybody."""
    other = SpecFiles(str(tmp_path)).write(thing(), "other.yaml")
    specs = SpecFiles(str(tmp_path))
    with pytest.raises(CDIError) as caught:
        specs.write(thing())
    assert str(caught.value) == (
        f"{other} already defines vendor.com/thing=one, and two files in one dir must not: "
        "remove it, or choose another kind with --vendor or --name"
    )
    specs.write(thing("two"))
    specs.write(thing(kind="vendor.com/other"))


def test_old_files_are_removed(tmp_path: Path) -> None:
    """Only what the configuration had made is removed, unless it is kept."""
    specs = SpecFiles(str(tmp_path))
    by_hand = specs.write(thing())
    kept = specs.write(thing(kind="vendor.com/kept"), is_configured=True)
    old = specs.write(thing(kind="vendor.com/old"), is_configured=True)
    (tmp_path / "mine.yaml").write_text("# mine\n")
    assert specs.remove({kept}) == [old]
    assert sorted(map(str, tmp_path.iterdir())) == sorted([by_hand, kept, f"{tmp_path}/mine.yaml"])
    assert SpecFiles(str(tmp_path / "none")).remove(()) == []


def test_a_dir_that_cannot_be_made(tmp_path: Path) -> None:
    """The file that couldn't be written is named, with the reason."""
    (tmp_path / "file").touch()
    with pytest.raises(CDIError) as caught:
        SpecFiles(str(tmp_path / "file/cdi")).write(thing())
    path = tmp_path / "file/cdi/vendor.com-thing.yaml"
    assert str(caught.value) == f'can\'t write CDI spec "{path}": Not a directory'
