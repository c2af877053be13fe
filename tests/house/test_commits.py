# SPDX-License-Identifier: Apache-2.0
"""commits.sh: which subjects of commits it refuses, and that a pull request is held to it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from .tree import ROOT

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = ROOT / "tests/house/commits.sh"


def git(place: Path, *words: str) -> None:
    """Call git as a committer of no consequence."""
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false")
    subprocess.run(["git", "-C", str(place), *who, *words], check=True, capture_output=True)


@pytest.mark.parametrize(
    ("subject", "is_right"),
    [
        ("doctor: names the label that SELinux refuses", True),
        ("hot path: " + "x" * 62, True),
        ("hot path: " + "x" * 63, False),
        ("say more", False),
        ("Doctor: says more", False),
        ("doctor:says more", False),
        ('Revert "' + "x" * 80 + '"', True),
    ],
)
def test_a_subject(tmp_path: Path, subject: str, is_right: bool) -> None:
    """A subject of another form is named with its commit; what was there before isn't looked at."""
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "anything")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", subject)
    done = subprocess.run([SCRIPT, "HEAD~1"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode == 0, f'"{subject}"' in done.stdout) == (is_right, not is_right), done


def test_a_pull_request_is_held_to_it() -> None:
    """The workflow runs it with the commit that a pull request is to be merged into."""
    text = (ROOT / ".github/workflows/test.yml").read_text("utf-8")
    assert 'run: tests/house/commits.sh "$BASE"' in text
    assert "72 characters" in (ROOT / "CONTRIBUTING.md").read_text("utf-8")
