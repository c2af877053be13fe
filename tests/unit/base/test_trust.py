# SPDX-License-Identifier: Apache-2.0
"""trust: who could have written a file."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cdi_hook.base import files
from cdi_hook.base.trust import Untrusted, trusted

if TYPE_CHECKING:
    from collections.abc import Iterator


ROOT = Path(__file__).parents[3]
# Run as the root of a user namespace; print for each path why it isn't trusted, then whether the host is strict.
IN_USER_NAMESPACE = """
import os, sys
from cdi_hook.inject.pipeline import Host
from cdi_hook.base.trust import Untrusted, trusted
print(flush=True)
sys.stdin.readline()
os.setresgid(0, 0, 0)
os.setresuid(0, 0, 0)
for path in sys.argv[1:]:
    try:
        with trusted(path):
            print("trusted")
    except Untrusted as error:
        print(error)
print(Host({}).strict)
"""


def untrusted(path: str) -> str | None:
    """Return why a file isn't trusted, or None."""
    try:
        with trusted(path):
            return None
    except Untrusted as error:
        return str(error)


@pytest.fixture
def roots() -> Iterator[Path]:
    """A dir that only root can write, below a sticky one that everybody can."""
    if os.geteuid() != 0:
        pytest.skip("needs root: only root's files can be trusted")
    with tempfile.TemporaryDirectory(prefix="cdi-hook-test-", dir="/tmp") as name:  # sticky is what is tested
        yield Path(name)


def test_roots_own_files_are_trusted_also_below_a_sticky_dir(roots: Path) -> None:
    """A file of root's in a dir of root's in /tmp is trusted."""
    (roots / "f").write_text("")
    assert untrusted(str(roots / "f")) is None


def test_what_was_checked_is_what_is_read(roots: Path) -> None:
    """A file that is gone isn't trusted, and another one that takes a checked one's place isn't read."""
    path = roots / "f"
    with pytest.raises(FileNotFoundError), trusted(str(path)):
        pass
    path.write_text("root's")
    with trusted(str(path)) as source:
        path.unlink()
        path.write_text("theirs")
        assert files.read(source) == b"root's"


def test_no_descriptor_stays_open(roots: Path) -> None:
    """Whether a file is trusted or not, all descriptors on the way to it are closed."""
    (roots / "link").symlink_to(f"{roots}/../{roots.name}/f")
    (roots / "f").write_text("")
    before = os.listdir("/proc/self/fd")
    assert untrusted(str(roots / "link")) is None
    (roots / "f").chmod(0o666)
    assert untrusted(str(roots / "link")) == f"{roots}/f is writable by others than root (mode 0666)"
    assert os.listdir("/proc/self/fd") == before


def test_root_of_a_user_namespace(roots: Path) -> None:
    """It is strict too: it trusts its own files and those of the host's root, but in a sticky dir only its own."""
    roots.chmod(0o755)
    owners = {"own": 1000, "sub": 1001, "host": 0, "nobody": 65534}
    with tempfile.TemporaryDirectory(prefix="cdi-hook-test-", dir="/tmp") as own:
        os.chown(own, 1000, 1000)
        paths = {name: Path(own) / name for name in owners} | {"open": Path(own) / "open"}
        for name, path in paths.items():
            path.write_text("")
            os.chown(path, owners.get(name, 1000), 1000)
        paths["open"].chmod(0o664)
        program = [
            sys.executable,
            "-c",
            IN_USER_NAMESPACE,
            "/etc/passwd",
            f"{roots}",
            *map(str, paths.values()),
        ]
        with subprocess.Popen(
            ["unshare", "--user", "--keep-caps", *program], cwd=ROOT, stdin=-1, stdout=-1, text=True
        ) as process:
            assert process.stdin
            assert process.stdout
            process.stdout.readline()
            for kind in ("gid", "uid"):
                Path(f"/proc/{process.pid}/{kind}_map").write_text("0 1000 1\n1 1001 1\n")
            said, _ = process.communicate("\n")
    assert dict(zip(("/etc", "shared", *paths, "strict"), said.splitlines())) == {
        "/etc": "trusted",
        "shared": f"{roots} belongs to uid 65534, not to root",
        "own": "trusted",
        "sub": f"{own}/sub belongs to uid 1, not to root",
        "host": "trusted",
        "nobody": "trusted",  # nothing tells it from host; it stands in a dir that only we can write
        "open": f"{own}/open is writable by others than root (mode 0664)",
        "strict": "True",
    }


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


def test_what_is_advised(roots: Path) -> None:
    """A system's dir of a user is to be given back to root; a user's own dir, such as a home, isn't."""
    own = roots / "own"
    own.mkdir()
    (own / "file").touch()
    os.chown(own, 1234, 0)
    with pytest.raises(Untrusted) as caught, trusted(str(own / "file")):
        pass
    assert caught.value.remedy == "put it where only root can write"
    os.chown(own, 0, 0)
    os.chown(own / "file", 1234, 0)
    with pytest.raises(Untrusted) as caught, trusted(str(own / "file")):
        pass
    assert caught.value.remedy == f"chown root {own}/file"
