# SPDX-License-Identifier: Apache-2.0
"""cdi-hook createContainer without a runtime: where it finds the rootfs, its messages and exit statuses."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from cdi_hook.container.rootfs import NOT_ITSELF
from cdi_hook.libraries import needs
from tests import hostile
from tests.elffile import library

from .conftest import PROGRAM, ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tests.unit.cli.conftest import World

LINK = ("--link", "libcuda.so.1::/lib/libcuda.so")


def state(world: World, **more: Any) -> str:
    """Return the state of a container that is being created, with a rootfs."""
    (world.bundle / "rootfs").mkdir(exist_ok=True)
    world.oci({"ociVersion": "1.0.2", "root": {"path": "rootfs"}})
    return json.dumps({"ociVersion": "1.0.2", "id": "x", "pid": 1, "bundle": str(world.bundle), **more})


def create(
    world: World,
    *arguments: str,
    stdin: str,
    rootfs: str = "",
    source: str = "",
    cwd: Path | None = None,
    before: Sequence[str] = (),
    environ: dict[str, str] | None = None,
) -> tuple[int, str, str]:
    """Call the hook where a runtime has mounted the rootfs; return its exit status, stdout and stderr.

    ``source`` is what is mounted there if it isn't the rootfs itself.
    """
    script = 'mount --bind "$1" "$2"; shift 2; cd .; exec "$@"'
    place = rootfs or str(world.bundle / "rootfs")
    mounted = [
        "unshare",
        "-m",
        *(["-r"] if os.geteuid() else []),
        "--propagation",
        "private",
        "sh",
        "-ec",
        script,
        "sh",
    ]
    done = subprocess.run(
        [*mounted, source or place, place, "env", "-i", *(f"{name}={value}" for name, value in (environ or world.environ).items()),
         *before, str(PROGRAM), "createContainer", *arguments],
        input=stdin, text=True, cwd=cwd, capture_output=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def test_all_at_once(cdi_hook: World) -> None:
    """Links, the library cache and the driver's files are made by one silent call."""
    text = state(cdi_hook)
    rootfs = cdi_hook.bundle / "rootfs"
    (rootfs / "opt").mkdir()
    (rootfs / "opt/libcuda.so.580.1").write_bytes(library("libcuda.so.1"))
    options = (*LINK, "--ldcache", "/opt", "--driver-version", "580.1")
    assert create(cdi_hook, *options, stdin=text) == (0, "", "")
    assert os.readlink(rootfs / "lib/libcuda.so") == "libcuda.so.1"
    assert os.readlink(rootfs / "opt/libcuda.so.1") == "libcuda.so.580.1"
    assert b"/opt/libcuda.so.1" in (rootfs / "etc/ld.so.cache").read_bytes()


@pytest.mark.parametrize("option", needs.OPTIONS)
def test_without_site(cdi_hook: World, tmp_path: Path, option: str) -> None:
    """Whichever option stands first, Python starts as for every hook, and runs nothing that is installed beside us."""
    trace = tmp_path / "trace"
    strace = ("strace", "-f", "-qq", "-s", "4096", "-e", "trace=execve", "-o", str(trace))
    create(cdi_hook, option, "/x", *LINK, stdin=state(cdi_hook), before=strace)
    assert f'"-ISB", "-X", "utf8", "{ROOT}/' in trace.read_text()


def test_with_other_options(cdi_hook: World) -> None:
    """Options of all commands may stand before the others, and behind them."""
    text = state(cdi_hook)
    assert create(cdi_hook, "--debug", *LINK, "--debug", stdin=text) == (0, "", "")
    assert (cdi_hook.bundle / "rootfs/lib/libcuda.so").is_symlink()


def test_root_of_the_state(cdi_hook: World) -> None:
    """The rootfs is the one that crun's state names, also as a path in the bundle."""
    text = state(cdi_hook, root="other")
    other = cdi_hook.bundle / "other"
    other.mkdir()
    assert create(cdi_hook, *LINK, stdin=text, rootfs=str(other)) == (0, "", "")
    assert (cdi_hook.bundle / "other/lib/libcuda.so").is_symlink()


def test_a_bundle_that_may_not_be_read(cdi_hook: World, tmp_path: Path) -> None:
    """If the bundle may not be read, as in a user namespace, the rootfs is the dir in which runc runs the hook."""
    text = state(cdi_hook)
    (cdi_hook.bundle / "config.json").unlink()
    (cdi_hook.bundle / "config.json").symlink_to("config.json")  # nobody can read that
    rootfs = tmp_path / "elsewhere"
    rootfs.mkdir()
    assert create(cdi_hook, *LINK, stdin=text, rootfs=str(rootfs), cwd=rootfs) == (0, "", "")
    assert (rootfs / "lib/libcuda.so").is_symlink()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bundle": "relative"}, "the container's state on stdin doesn't lead to its rootfs"),
        ({"root": "/"}, "the rootfs of the container's state on stdin is that of the host"),
        ({"root": "/etc/.."}, "the rootfs of the container's state on stdin is that of the host"),
        ({"bundle": "/nowhere"}, "the container's state on stdin doesn't lead to its rootfs"),
    ],
)
def test_a_state_without_rootfs(cdi_hook: World, changes: dict[str, Any], message: str) -> None:
    """A state that leads to no rootfs of a container is refused."""
    assert cdi_hook("createContainer", *LINK, stdin=state(cdi_hook, **changes)) == (3, "", f"{message}\n")


def test_a_rootfs_that_is_gone(cdi_hook: World) -> None:
    """A rootfs that can't be opened is named."""
    text = state(cdi_hook, root="gone")
    message = (
        f"CDI device injection failed: can't open the container's rootfs \"{cdi_hook.bundle}/gone\": "
        "does not exist\n"
    )
    assert create(cdi_hook, *LINK, stdin=text) == (7, "", message)


def test_a_rootfs_that_is_not_mounted(cdi_hook: World) -> None:
    """A dir that no runtime has mounted isn't the rootfs: somebody may have put another in its place."""
    text = state(cdi_hook)
    path = cdi_hook.bundle / "rootfs"
    message = f'CDI device injection failed: "{path}" {NOT_ITSELF}\n'
    assert cdi_hook("createContainer", *LINK, stdin=text) == (7, "", message)
    assert os.listdir(path) == []


def test_what_cannot_be_made(cdi_hook: World) -> None:
    """What can't be made is named, on stderr and in the log of a configuration that the arguments name."""
    log = cdi_hook.root / "log"
    cdi_hook.configure(LOG=str(log))
    text = state(cdi_hook)
    (cdi_hook.bundle / "rootfs/lib/libcuda.so").mkdir(parents=True)
    message = (
        'CDI device injection failed: can\'t make "/lib/libcuda.so" a link to "libcuda.so.1" in the container: '
        "is a dir"
    )
    assert create(cdi_hook, *LINK, stdin=text) == (7, "", f"{message}\n")
    assert not log.exists()  # its environment, which may be an image's, names the configuration
    options = ("--config", str(cdi_hook.config))
    assert create(cdi_hook, *options, *LINK, stdin=text) == (7, "", f"{message}\n")
    assert json.loads(log.read_text())["msg"] == message


def test_a_hostile_environment(cdi_hook: World, tmp_path: Path) -> None:
    """Of an image's variables a call without others takes nothing: no program, no module, no configuration, no log."""
    text = state(cdi_hook)
    rootfs = cdi_hook.bundle / "rootfs"
    (rootfs / "lib/libcuda.so").mkdir(parents=True)  # so that there is an error to log
    owned = tmp_path / "owned"
    owned.mkdir()
    for name, (content, mode) in hostile.files(tmp_path, str(owned / "owned")).items():
        path = rootfs / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        path.chmod(mode)
    found = hostile.variables(str(owned / "owned"))
    for reader in ("shell", "python", "ours"):
        done = create(cdi_hook, *LINK, stdin=text, cwd=rootfs, environ=found[reader])
        assert done[:2] == (7, ""), reader
        assert list(owned.iterdir()) == [], reader


def test_what_is_executed(cdi_hook: World, tmp_path: Path) -> None:
    """Only our own program's shell and Python are executed, whatever the image has: nothing of it, and no ldconfig."""
    if not shutil.which("strace"):
        pytest.skip("strace isn't installed")
    text = state(cdi_hook)
    rootfs = cdi_hook.bundle / "rootfs"
    for name in ("bin/sh", "sbin/ldconfig", "usr/bin/python3", "usr/bin/readlink"):
        (rootfs / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy("/bin/busybox", rootfs / name)
    trace = tmp_path / "trace"
    strace = ("strace", "-f", "-qq", "-e", "trace=execve", "-o", str(trace))
    options = (*LINK, "--ldcache", "/bin", "--driver-version", "580.1")
    assert create(cdi_hook, *options, stdin=text, cwd=rootfs, before=strace) == (0, "", "")
    executed = re.findall(r'execve\("([^"]+)".* = 0$', trace.read_text("utf-8"), re.MULTILINE)
    assert [os.path.basename(path) for path in executed] == [os.path.basename(PROGRAM), "readlink", "python3"]
    assert not any(path.startswith(str(rootfs)) for path in executed)


def test_the_rootfs_of_the_host(cdi_hook: World, tmp_path: Path) -> None:
    """The host's own root is refused by whatever path it is reached."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount")
    other = str(tmp_path / "other")
    os.mkdir(other)
    text = state(cdi_hook, root=other)
    message = "the rootfs of the container's state on stdin is that of the host\n"
    assert create(cdi_hook, *LINK, stdin=text, rootfs=other, source="/") == (3, "", message)


@pytest.mark.parametrize("before", [(), ("--debug",)])
def test_wrong_arguments(cdi_hook: World, before: tuple[str, ...]) -> None:
    """Wrong arguments are refused in the same way whether argparse reads them or not."""
    message = "cdi-hook: --link takes TARGET::PATH with an absolute PATH, not x; see cdi-hook createContainer --help\n"
    assert cdi_hook("createContainer", *before, "--link", "x", stdin="") == (2, "", message)
    status, out, err = cdi_hook("createContainer", *before, "--ldcache", "/x", "more", stdin="")
    assert (status, out) == (2, "")
    assert err.startswith("cdi-hook: unrecognized arguments: more; see cdi-hook ")


def test_nothing_to_do(cdi_hook: World) -> None:
    """Without options the hook changes nothing."""
    text = state(cdi_hook)
    assert create(cdi_hook, stdin=text) == (0, "", "")
    assert os.listdir(cdi_hook.bundle / "rootfs") == []
