# SPDX-License-Identifier: Apache-2.0
"""cdi-hook index: it compiles the index, and removes indexes of dirs that no longer exist."""

from __future__ import annotations

import concurrent.futures
import itertools
import json
import os
import shutil
import time
from typing import TYPE_CHECKING, Any

from cdi_hook.base import files
from cdi_hook.catalog import index_writer
from cdi_hook.catalog.registry import Registry
from cdi_hook.cli import main
from cdi_hook.config import shell
from tests.unit.cli.conftest import Shape

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.unit.cli.conftest import World

SHAPE = Shape(("path", "state"), "", "")
GONE = "/proc/self/gone"  # where nobody can make a dir


def run(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Run the command in this process; return its status, stdout and stderr."""
    status = main(["index", *arguments])
    return status, *capfd.readouterr()


def build(registry: Registry) -> str:
    """Write a registry's index; return its path."""
    return index_writer.build(registry.index, registry.cache)


def holds(cdi_hook: World, state: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> bool:
    """Say whether a device is found without reading a spec."""

    def no_cache(_registry: Registry) -> Any:
        raise AssertionError("the specs were read")

    dirs = [str(cdi_hook.specs), "/nonexistent/.config/cdi"]
    with monkeypatch.context() as patched:
        patched.setattr(Registry, "cache", property(no_cache))
        try:
            Registry(dirs, str(state), strict=os.geteuid() == 0).parts([name])
        except AssertionError:
            return False
    return True


def test_index_is_there_at_once(
    cdi_hook: World, state: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The index of a spec that was just written is made as soon as the spec has settled, and it is valid."""
    cdi_hook.spec("vendor.json")
    path = cdi_hook.specs / "vendor.json"
    status, out, err = run(capfd)
    (written,) = state.glob("*.index")
    assert (status, out, err) == (0, f"{written}: 2 devices\n", "")
    assert path.stat().st_ctime_ns < written.stat().st_mtime_ns - 40_000_000
    assert holds(cdi_hook, state, monkeypatch, "vendor.com/gpu=gpu1")


def test_index_says_what_is_wrong(cdi_hook: World, state: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A spec that can't be used is a warning, and so is a bad configuration; the other specs are compiled."""
    cdi_hook.spec("good.json")
    bad = cdi_hook.spec("bad.json", "{}")
    cdi_hook.configure(SANDBOXES="maybe")
    status, out, err = run(capfd, "--json")
    (written,) = state.glob("*.index")
    assert (status, json.loads(out)["items"]) == (0, [{"path": str(written), "state": "written"}])
    first, second = err.splitlines()
    assert first.startswith(f"cdi-hook: warning: {cdi_hook.config}:2: SANDBOXES: ")
    assert second.startswith(f"cdi-hook: warning: {bad}: .cdiVersion: there is no cdiVersion")


def test_index_of_dirs_that_are_gone_goes(
    cdi_hook: World, state: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """An index is removed if all its dirs are gone; one with a remaining dir stays, and so does any other file."""
    other = cdi_hook.root / "other"
    other.mkdir()
    time.sleep(0.06)
    kept = build(Registry([str(other), GONE], str(state), strict=False))
    gone = build(Registry([GONE], str(state), strict=False))
    for name, text, mode in ("foreign.index", "?", 0o644), ("open.index", "?", 0o666), ("note", "?", 0o644):
        (state / name).write_text(text)
        (state / name).chmod(mode)
    cdi_hook.spec("vendor.json")
    status, out, err = run(capfd)
    written = out.partition(": ")[0]
    assert (status, out, err) == (0, f"{written}: 2 devices\n{gone}: removed\n", "")
    left = {str(path) for path in state.iterdir()}
    others = ("foreign.index", "open.index", "note", "lock")
    assert left == {kept, written, *(f"{state}/{name}" for name in others)}
    shutil.rmtree(cdi_hook.specs)
    assert json.loads(run(capfd, "--json")[1])["items"] == [{"path": written, "state": "removed"}]


def test_two_may_prune_at_once(state: Path) -> None:
    """What is gone is removed once, whoever comes first; nobody fails."""
    gone = build(Registry([GONE], str(state), strict=False))
    for number in range(200):
        shutil.copy(gone, state / f"gone-{number}.index")
        (state / f"conf{GONE}/{number}").mkdir(parents=True)
        (state / f"conf{GONE}/{number}/cdi-hook.conf").touch()

    def prune(_: int) -> list[str]:
        shell.prune(str(state))
        return index_writer.prune(str(state))

    with concurrent.futures.ThreadPoolExecutor() as threads:
        removed = list(itertools.chain.from_iterable(threads.map(prune, range(4))))
    assert sorted(removed) == sorted({gone, *(f"{state}/gone-{number}.index" for number in range(200))})
    assert [path.name for path in state.iterdir()] == ["lock"]


def test_a_dir_that_cannot_be_looked_at_is_not_gone(
    cdi_hook: World, state: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A spec dir that we fail to look at may be there: somebody is told, and its index stays."""
    loop = cdi_hook.root / "loop"
    loop.symlink_to("loop")
    cdi_hook.configure(SPEC_DIRS=f"{loop}/cdi")
    status, out, err = run(capfd)
    (written,) = state.glob("*.index")
    assert (status, out) == (0, f"{written}: 0 devices\n")
    assert err == f"cdi-hook: warning: {loop}/cdi: can't read this dir: too many levels of symbolic links\n"
    cdi_hook.configure(SPEC_DIRS=GONE)
    assert run(capfd) == (0, "", "")
    assert written.exists()


def test_no_spec_dirs_is_no_failure(state: Path, cdi_hook: World, capfd: pytest.CaptureFixture[str]) -> None:
    """Without spec dirs there is nothing to do, and nothing is made."""
    cdi_hook.specs.rmdir()
    assert run(capfd) == (0, "", "")
    assert not state.exists()


def test_index_that_cannot_be_written(
    cdi_hook: World, state: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A state dir that can't be made is an error that names it."""
    cdi_hook.spec("vendor.json")
    state.write_text("")
    status, out, err = run(capfd)
    assert (status, out) == (1, "")
    assert err == f"cdi-hook: {state}: File exists\n"


def test_spec_of_the_future(cdi_hook: World, state: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A spec that never settles is an error, not an endless wait."""
    path = cdi_hook.spec("vendor.json")
    os.utime(path, (2**32, 2**32))
    message = "cdi-hook: a CDI spec changes all the time, is dated in the future, or can't be read\n"
    assert run(capfd) == (1, "", message)
    assert [path.name for path in state.iterdir()] == ["lock"]


def test_user_without_a_runtime_dir(
    cdi_hook: World, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user who has no runtime dir gets an error that says so."""
    monkeypatch.setenv("CDI_HOOK_CONFIG", str(cdi_hook.config))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    monkeypatch.setattr(files, "is_system_root", lambda: False)
    message = "cdi-hook: there is no place for your own index: set XDG_RUNTIME_DIR; with sudo the host's index is made\n"
    assert run(capfd) == (1, "", message)
