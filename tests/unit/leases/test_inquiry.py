# SPDX-License-Identifier: Apache-2.0
"""inquiry: which words of a runtime, and which cgroup, mean that a container is gone. A script is the runtime."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from cdi_hook.base.process import Answer
from cdi_hook.leases import inquiry, life
from cdi_hook.leases.store import TOKEN, Lease

from .test_life import GONE
from .test_store import TREE, read, written

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def answer(out: object = "", err: str = "", status: int | None = 1) -> Answer:
    """Return a runtime's answer."""
    return Answer(status, out if isinstance(out, str) else json.dumps(out), err)


@pytest.mark.parametrize("status", ["creating", "created", "running", "paused", "stopped", "odd"])
def test_a_state(status: str) -> None:
    """The word is the runtime's; the token and the pid are there or not."""
    state = {"status": status, "pid": 7, "annotations": {TOKEN: "t"}}
    assert inquiry.of_state(answer(state, status=0), "c1") == (status, "t", 7)
    for nothing in ("{}", "null"):
        state = {"status": status, "annotations": json.loads(nothing)}
        assert inquiry.of_state(answer(state, status=0), "c1") == (status, None, 0)


@pytest.mark.parametrize(
    "err",
    [
        'time="2026-11-29T20:36:25Z" level=error msg="container does not exist"\n',
        "error opening file `/run/crun/c1/status`: No such file or directory\n",
        "loading container: file does not exist\n",
    ],
)
def test_no_such_container(err: str) -> None:
    """Each runtime has its own words for that."""
    assert inquiry.of_state(answer(err=err), "c1") == (inquiry.NONE, None, 0)


@pytest.mark.parametrize(
    ("out", "err", "words"),
    [
        ("", "", "exit status 1"),
        ("", "container does not exist", "container does not exist"),
        ("", 'msg="container does not exist"\nmsg="permission denied"', 'msg="permission denied"'),
        ("", "error opening file `/run/crun/c2/status`: No such file or directory", "error opening file `/run/crun/c2/status`: No such file or directory"),
        ("[]", "", "its runtime's answer is no state: []"),
        ("no", 'msg="container does not exist"', "its runtime's answer is no state: no"),
        ('{"status": "running", "annotations": 7}', "", "its runtime's answer is no state: {\"status\": \"running\", \"annotations\": 7}"),
        ("[" * 100_000, "", f"its runtime's answer is no state: {'[' * 80}"),
    ],
)  # fmt: skip
def test_nonsense(out: str, err: str, words: str) -> None:
    """What isn't understood is told, and is no word that frees."""
    assert inquiry.of_state(answer(out, err), "c1") == (words, None, 0)


NO_CGROUP = "open `/sys/fs/cgroup/c1`: No such file or directory\n"


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (answer("null", status=0), ""),  # runc
        (answer("[\n]\n", status=0), ""),  # crun
        (answer(err=NO_CGROUP, status=253), ""),  # crun, once the cgroup is gone
        (answer("[7]", status=0), "[7]"),
        (answer("", status=0), ""),
        (answer("null", status=1), "exit status 1"),
        (answer(err=NO_CGROUP, status=0), ""),
        (answer(err="the container is not using cgroups", status=1), "the container is not using cgroups"),
        (answer(err="open `/etc/x`: No such file or directory", status=1), "open `/etc/x`: No such file or directory"),
        (answer(err="it took longer than 2 s", status=None), "it took longer than 2 s"),
    ],
)  # fmt: skip
def test_what_is_left_by_ps(found: Answer, said: str) -> None:
    """Only an empty list, and crun's words for a cgroup that is gone, mean nothing is left."""
    frees = found in (answer("null", status=0), answer("[\n]\n", status=0), answer(err=NO_CGROUP, status=253))
    doubt = f"it has stopped, and `ps` says of its processes: {said}"
    assert inquiry.of_ps(found) == ("" if frees else doubt)


def lease(**fields: Any) -> Lease:
    """Return a lease whose creator is gone."""
    return Lease({**TREE, "creators": [GONE], **fields})


def how(made: Lease, most_s: float = 9, known: Sequence[Lease] = ()) -> str:
    """Ask about a lease; return how its container is."""
    inquiry.ask([made], [made, *known], most_s)
    assert made.how is not None
    return made.how


def script(directory: Path, text: str) -> list[str]:
    """Make a runtime of a shell script; return the command that asks it."""
    path = directory / "runtime"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return [str(path), "--root", "/r", "state", "c1"]


class Cgroup:
    """A dir that looks like a hierarchy with one cgroup."""

    def __init__(self, directory: Path, name: str, text: str) -> None:
        self.top = directory / "cgroup"
        (self.top / "c1").mkdir(parents=True)
        self.top.joinpath("c1", name).write_text(text)
        status = self.top.stat()
        self.kept = [str(self.top), status.st_dev, status.st_ino, "/c1", (self.top / "c1").stat().st_ino]


NOT_THERE = """echo 'msg="container does not exist"' >&2; exit 1"""
STOPPED = """case "$*" in *ps*) echo null ;; *) echo '{"status": "stopped"}' ;; esac"""
STOPPED_BUT = """case "$*" in *ps*) echo '[7]' ;; *) echo '{"status": "stopped"}' ;; esac"""
IS_RUNNING = """echo '{"status": "running"}'"""
BROKEN = "echo broken >&2; exit 1"
LEFT = "it has stopped, and `ps` says of its processes: [7]"
BLIND = "its cgroup can't be looked at from here"


@pytest.mark.parametrize(
    ("says", "empty", "populated", "unknown", "blind"),
    [
        (NOT_THERE, "", "running", "", BLIND),
        (STOPPED, "", "running", "", BLIND),
        (STOPPED_BUT, "", "running", LEFT, BLIND),
        (IS_RUNNING, "running", "running", "running", "running"),
        (BROKEN, "broken", "running", "broken", "broken"),
        ("exit 0", "exit status 0", "running", "exit status 0", "exit status 0"),
    ],
)
def test_both_have_to_agree(
    tmp_path: Path, says: str, empty: str, populated: str, unknown: str, blind: str
) -> None:
    """The table of what frees: the runtime's word, and what the cgroup says."""
    command = script(tmp_path, says)
    cgroup = Cgroup(tmp_path, "cgroup.events", "populated 0\nfrozen 0\n")
    assert how(lease(state=command, cgroup=cgroup.kept)) == empty
    assert how(lease(state=command, cgroup=[*cgroup.kept[:4], 1])) == empty  # another has its path now
    assert how(lease(state=command, cgroup=[*cgroup.kept[:3], "/c2", 1])) == empty
    assert how(lease(state=command)) == unknown
    assert how(lease(state=command, cgroup=[cgroup.kept[0], 1, *cgroup.kept[2:]])) == blind
    cgroup.top.joinpath("c1/cgroup.events").write_text("populated 1\nfrozen 0\n")
    assert how(lease(state=command, cgroup=cgroup.kept)) == populated


def test_an_empty_cgroup_of_v1(tmp_path: Path) -> None:
    """pids.current says it, or else two looks at cgroup.procs of all cgroups below: a zombie counts in the former."""
    command = script(tmp_path, NOT_THERE)
    cgroup = Cgroup(tmp_path, "pids.current", "0\n")
    assert how(lease(state=command, cgroup=cgroup.kept)) == ""
    cgroup.top.joinpath("c1/pids.current").write_text("1\n")
    cgroup.top.joinpath("c1/cgroup.procs").write_text("")
    below = cgroup.top / "c1/x.scope"
    below.mkdir()
    (below / "cgroup.procs").write_text("")
    assert how(lease(state=command, cgroup=cgroup.kept)) == ""
    (below / "cgroup.procs").write_text("7\n")
    assert how(lease(state=command, cgroup=cgroup.kept)) == "running"
    (below / "cgroup.procs").unlink()
    assert how(lease(state=command, cgroup=cgroup.kept)) == BLIND


def test_a_token_of_another(tmp_path: Path) -> None:
    """It frees only if it is that of another lease with this id: a container may have forged it."""
    command = script(tmp_path, """echo '{"status": "running", "annotations": {"cdi-hook.lease": "u"}}'""")
    assert how(lease(state=command)) == "running"
    assert how(lease(state=command), known=[lease(token="u", id="c2")]) == "running"
    assert how(lease(state=command), known=[lease(token="u")]) == ""


def test_the_creators_come_first(tmp_path: Path) -> None:
    """While one of them lives the runtime isn't asked: it would say that there is no such container."""
    command = script(tmp_path, f"touch {tmp_path}/asked; {NOT_THERE}")
    assert how(lease(creators=[GONE, life.creator()], state=command)) == "creating"
    assert not (tmp_path / "asked").exists()
    assert how(lease(state=command)) == ""
    assert (tmp_path / "asked").exists()


def test_a_creator_that_is_no_matter_any_more(tmp_path: Path) -> None:
    """A container whose cgroup was seen has been created."""
    cgroup = Cgroup(tmp_path, "cgroup.events", "populated 0\n")
    command = script(tmp_path, NOT_THERE)
    for one in (life.creator(), [1, 1, "pid:[1]"]):
        assert how(lease(creators=[one], state=command, cgroup=cgroup.kept)) == ""


def test_a_container_s_own_process(tmp_path: Path) -> None:
    """The hook's lease is by the container's first process and its cgroup: there is nobody to ask."""
    assert how(lease(creators=[life.creator()], state=[])) == "running"
    assert how(lease(state=[])) == ""
    cgroup = Cgroup(tmp_path, "cgroup.events", "populated 1\n")
    assert how(lease(state=[], cgroup=cgroup.kept)) == "running"
    assert how(lease(state=[], cgroup=[cgroup.kept[0], 1, *cgroup.kept[2:]])) == BLIND
    cgroup.top.joinpath("c1/cgroup.events").write_text("populated 0\n")
    assert how(lease(creators=[life.creator()], state=[], cgroup=cgroup.kept)) == "running"
    assert how(lease(state=[], cgroup=cgroup.kept)) == ""


def test_how_the_runtime_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the arguments and the XDG_RUNTIME_DIR of the create, or without one if that had none."""
    command = script(tmp_path, 'echo "{\\"status\\": \\"$* ${XDG_RUNTIME_DIR-none}\\"}"')
    monkeypatch.setitem(__import__("posix").environ, b"XDG_RUNTIME_DIR", b"/mine")
    assert how(lease(state=command)) == "--root /r state c1 none"
    assert how(lease(state=command, xdg="/theirs")) == "--root /r state c1 /theirs"


def test_a_runtime_that_hangs_or_is_gone_holds(tmp_path: Path) -> None:
    """Neither frees a device, and neither is waited for beyond the bound."""
    start = time.monotonic()
    command = script(tmp_path, "exec sleep 100")
    leases = [lease(state=command), lease(state=command)]
    inquiry.ask(leases, leases, 0.3)
    assert time.monotonic() - start < 5
    assert [one.how for one in leases] == [
        f"{' '.join(command)} took longer than 0.3 s",
        "there was no time left to ask its runtime",
    ]
    assert "can't run /nonexistent/runc" in how(lease(state=["/nonexistent/runc", "state", "c1"]))


def test_many_are_asked_for_at_once(tmp_path: Path) -> None:
    """Of several containers of one runtime, those that it doesn't list are gone; one that complains lists none."""
    says = """echo "$*" >>asked; case "$*" in *list*) echo c3; %s ;; *c1) exit 1 ;; *) echo '{"status": "paused"}' ;; esac"""
    asked = tmp_path / "asked"
    command = script(tmp_path, (says % "").replace("asked", str(asked)))
    leases = [lease(state=[*command[:-1], f"c{one}"], id=f"c{one}") for one in range(1, 6)]
    inquiry.ask(leases, leases)
    assert [one.how for one in leases] == ["", "", "paused", "", ""]
    assert asked.read_text() == "--root /r list --quiet\n--root /r state c3\n"
    asked.unlink()
    script(tmp_path, (says % "echo c9: bad >&2").replace("asked", str(asked)))
    inquiry.ask(leases, leases)
    assert [one.how for one in leases] == ["exit status 1", "paused", "paused", "paused", "paused"]


def test_what_is_found_out_is_kept(tmp_path: Path) -> None:
    """Whoever only looks drops the leases of what is gone, and nothing else."""
    file = written(
        tmp_path / "leases",
        lease(state=script(tmp_path, NOT_THERE)).tree,
        lease(creators=[life.creator()], token="u").tree,
    )
    assert [one["token"] for one in inquiry.living(str(file.parent))] == ["u"]
    assert [one["token"] for one in read(file.parent)] == ["u"]
    before = file.stat().st_ino
    assert [one["token"] for one in inquiry.living(str(file.parent))] == ["u"]
    assert file.stat().st_ino == before
    assert inquiry.living("") == inquiry.living(str(tmp_path / "none")) == []
