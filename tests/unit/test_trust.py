# SPDX-License-Identifier: Apache-2.0
"""trust: who could have written a file."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cdi_hook.trust import untrusted

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def roots() -> Iterator[Path]:
    """A dir that only root can write, below a sticky one that everybody can."""
    if os.geteuid() != 0:
        pytest.skip("needs root: only root's files can be trusted")
    with tempfile.TemporaryDirectory(prefix="cdi-hook-test-", dir="/tmp") as name:  # sticky is what is tested
        yield Path(name)


def test_roots_own_files_are_trusted_also_below_a_sticky_dir(roots: Path) -> None:
    """A file of root's in a dir of root's in /tmp is trusted, and so is a path that doesn't exist."""
    (roots / "f").write_text("")
    assert untrusted(str(roots / "f")) is None
    assert untrusted(str(roots / "none" / "f")) is None


@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_a_dir_that_others_can_write_is_named(roots: Path, mode: int) -> None:
    """The reason is the dir on the way that others can write to."""
    (roots / "d").mkdir()
    (roots / "d" / "f").write_text("")
    (roots / "d").chmod(mode)
    assert untrusted(str(roots / "d" / "f")) == (
        f"{roots}/d is writable by others than root (mode {mode:04o})"
    )


def test_a_file_of_somebody_else_is_named(roots: Path) -> None:
    """Neither a file nor a dir nor a link of another user is trusted."""
    (roots / "d").mkdir()
    (roots / "d" / "f").write_text("")
    os.chown(roots / "d" / "f", 1234, 0)
    assert untrusted(str(roots / "d" / "f")) == f"{roots}/d/f belongs to uid 1234, not to root"
    os.chown(roots / "d", 1234, 0)
    assert untrusted(str(roots / "d" / "f")) == f"{roots}/d belongs to uid 1234, not to root"
    (roots / "link").symlink_to("/etc/passwd")
    os.chown(roots / "link", 1234, 0, follow_symlinks=False)
    assert untrusted(str(roots / "link")) == f"{roots}/link is a link that belongs to uid 1234, not to root"


def test_links_are_followed_step_by_step(roots: Path) -> None:
    """Every dir that a link leads through counts, whether the link is relative, absolute or in a loop."""
    (roots / "open").mkdir()
    (roots / "open").chmod(0o777)
    (roots / "open" / "f").write_text("")
    (roots / "relative").symlink_to("open/../open/f")
    (roots / "absolute").symlink_to(roots / "open" / "f")
    reason = f"{roots}/open is writable by others than root (mode 0777)"
    assert untrusted(str(roots / "relative")) == reason
    assert untrusted(str(roots / "absolute")) == reason
    (roots / "loop").symlink_to("loop")
    assert untrusted(str(roots / "loop")) == f"{roots}/loop is in a loop of links"
