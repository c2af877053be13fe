# SPDX-License-Identifier: Apache-2.0
"""selinux: the label of our dirs below /run, and what the policy says of one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from cdi_hook.base import selinux, trust

if TYPE_CHECKING:
    from pathlib import Path

THEIRS = "system_u:object_r:container_runtime_t:s0"
OTHER = b"system_u:object_r:var_run_t:s0\0"


@pytest.fixture
def labels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The labels that files have, where SELinux is on and we are root; a file that isn't in it has OTHER."""
    found: dict[str, bytes] = {}
    (tmp_path / "fs").mkdir()
    monkeypatch.setattr(selinux, "FS", str(tmp_path / "fs"))
    monkeypatch.setattr(selinux, "_RUN", f"{tmp_path}/")
    monkeypatch.setattr(trust, "_roots", lambda: (os.getuid(), 0))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "getxattr", lambda path, _: found.get(os.path.realpath(path), OTHER))
    monkeypatch.setattr(os, "setxattr", lambda path, _, label: found.update({os.path.realpath(path): label}))
    return found


def policy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, label: str) -> None:
    """Make a matchpathcon that knows engines' dirs, and that has this label for all others."""
    program = tmp_path / "matchpathcon"
    program.write_text(
        f'#!/bin/sh\n[ "$1 $2" = "-n /run/containers" ] && echo {THEIRS} && echo "{label}"\n', "ascii"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")


def test_a_dir_gets_the_label_of_engines_dirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labels: dict[str, bytes]
) -> None:
    """A dir is made and gets the label, once: another time nothing is changed."""
    policy(tmp_path, monkeypatch, "<<none>>")
    ours = str(tmp_path / "ours")
    selinux.share(ours)
    assert os.path.isdir(ours)
    assert labels == {ours: THEIRS.encode() + b"\0"}
    monkeypatch.delattr(os, "setxattr")
    selinux.share(ours)


def test_a_dir_that_the_policy_knows_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labels: dict[str, bytes]
) -> None:
    """A dir that the policy has a label for keeps it, and so does any dir that isn't below /run; without SELinux none has one."""
    policy(tmp_path, monkeypatch, "system_u:object_r:etc_t:s0")
    selinux.share(str(tmp_path / "known"))
    policy(tmp_path, monkeypatch, "<<none>>")
    selinux.share(f"{tmp_path}-elsewhere")
    assert not os.path.exists(f"{tmp_path}-elsewhere")
    monkeypatch.setattr(selinux, "FS", str(tmp_path / "none"))
    selinux.share(str(tmp_path / "without"))
    assert (sorted(os.listdir(tmp_path)), labels) == (["fs", "matchpathcon"], {})


def test_a_dir_in_others_hands_is_not_labelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labels: dict[str, bytes]
) -> None:
    """What others can put into the dir's place, or into the dir, keeps its label; a dir that is named by a link gets it."""
    policy(tmp_path, monkeypatch, "<<none>>")
    shared, link = tmp_path / "shared", tmp_path / "link"
    (shared / "ours").mkdir(parents=True)
    link.symlink_to("shared")
    shared.chmod(0o777)
    for directory in (shared, shared / "ours", link / "ours"):
        selinux.share(str(directory))
    assert labels == {}
    shared.chmod(0o755)
    selinux.share(str(link / "ours"))
    assert labels == {str(shared / "ours"): THEIRS.encode() + b"\0"}


@pytest.mark.parametrize(("allowed", "refused"), [("153fff", ""), ("1", "system_u:object_r:var_run_t:s0")])
def test_what_the_policy_lets_be_read(
    tmp_path: Path, labels: dict[str, bytes], allowed: str, refused: str
) -> None:
    """The kernel is asked for a process's context, a label and a class of files, and its answer has a bit for reading."""
    context = "system_u:system_r:dockerd_t:s0"
    question = f"{context} system_u:object_r:var_run_t:s0 7"
    answers = {
        "class/dir/index": "7",
        "class/dir/perms/read": "2",
        "access": "-" * len(question) + f"{allowed} ffffffff 0",
    }
    for name, text in answers.items():
        file = tmp_path / selinux.FS.lstrip("/") / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "ascii")
    assert selinux.refused(context, str(tmp_path), str(tmp_path)) == refused
    assert file.read_text("ascii").startswith(question)
    assert labels == {}
