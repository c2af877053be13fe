# SPDX-License-Identifier: Apache-2.0
"""bundle: config.json is either the old one or the new one, whatever happens."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from cdi_hook.errors import BundleError
from cdi_hook.inject import bundle

ROOT = Path(__file__).parents[3]


def place(path: Path) -> bundle.ConfigFile:
    """Load a config.json and return where it lies."""
    loaded = bundle.load(str(path))
    assert loaded is not None
    return loaded[1]


def test_replace_keeps_mode_and_owner(tmp_path: Path) -> None:
    """The new file has the old one's mode and owner, and nothing else is left in the dir."""
    path = tmp_path / "config.json"
    path.write_text("{}")
    path.chmod(0o640)
    if os.geteuid() == 0:
        os.chown(path, 12, 34)
    before = path.stat()
    bundle.replace(place(path), '{"a":1}')
    after = path.stat()
    assert path.read_text() == '{"a":1}'
    assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert after.st_ino != before.st_ino
    assert [one.name for one in tmp_path.iterdir()] == ["config.json"]


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    """If config.json is a link, its target is replaced, not the link."""
    (tmp_path / "real").mkdir()
    real = tmp_path / "real" / "spec.json"
    real.write_text("{}")
    path = tmp_path / "config.json"
    path.symlink_to("real/spec.json")
    bundle.replace(place(path), '{"a":1}')
    assert (path.is_symlink(), real.read_text()) == (True, '{"a":1}')


def test_a_link_that_comes_meanwhile_is_not_followed(tmp_path: Path) -> None:
    """What was read is replaced where it was read, though config.json or a dir on the way has become a link."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "config.json").write_text('{"theirs":1}')
    for number in range(2):
        directory = tmp_path / str(number)
        directory.mkdir()
        path = directory / "config.json"
        path.write_text("{}")
        loaded = place(path)
        if number == 0:
            path.unlink()
            path.symlink_to(victim / "config.json")
        else:
            directory.rename(tmp_path / "moved")
            directory.symlink_to(victim)
        bundle.replace(loaded, '{"a":1}')
    assert (victim / "config.json").read_text() == '{"theirs":1}'
    for replaced in (tmp_path / "0/config.json", tmp_path / "moved/config.json"):
        assert (replaced.is_symlink(), replaced.read_text()) == (False, '{"a":1}')


def test_a_link_is_resolved_once(tmp_path: Path) -> None:
    """The file that a link led to when it was read is replaced, though the link leads elsewhere by now."""
    for name in ("real", "other"):
        (tmp_path / name).write_text("{}")
    path = tmp_path / "config.json"
    path.symlink_to("real")
    loaded = place(path)
    path.unlink()
    path.symlink_to("other")
    bundle.replace(loaded, '{"a":1}')
    assert [(tmp_path / name).read_text() for name in ("real", "other")] == ['{"a":1}', "{}"]


@pytest.mark.parametrize(("target", "reason"), [("gone", errno.ENOENT), ("config.json", errno.ELOOP)])
def test_a_link_that_leads_nowhere_is_an_error(tmp_path: Path, target: str, reason: int) -> None:
    """A link without a file behind it is no missing config.json: the runtime may find more behind it."""
    path = tmp_path / "config.json"
    path.symlink_to(target)
    with pytest.raises(BundleError) as caught:
        bundle.load(str(path))
    assert str(caught.value) == f'can\'t read "{path}": {os.strerror(reason)}'


def test_a_full_disk_leaves_the_old_file(tmp_path: Path) -> None:
    """If the new file can't be written completely, the old one is there, unchanged, and nothing beside it."""
    path = tmp_path / "config.json"
    path.write_text('{"old":true}')
    program = (
        "import resource, signal, sys; from cdi_hook.inject import bundle\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))\n"
        "try: bundle.replace(bundle.load(sys.argv[1])[1], 'x' * 5000)\n"
        "except bundle.errors.BundleError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout == f'can\'t replace "{path}": {os.strerror(errno.EFBIG)}\n'
    assert path.read_text() == '{"old":true}'
    assert [one.name for one in tmp_path.iterdir()] == ["config.json"]
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not valid JSON: a value is missing at line 1 column 1"),
        (b"[]", "is not a JSON object"),
        (b'{"a":1,"a":2}', 'is not valid JSON: the key "a" appears twice in one object'),
        (
            b'{"a":"\xff"}',
            "is not valid JSON: 'utf-8' codec can't decode byte 0xff in position 6: invalid start byte",
        ),
    ],
)
def test_what_is_no_json_object_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    """A config.json that can't be edited without loss is an error with its path and the reason."""
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(BundleError) as caught:
        bundle.load(str(path))
    assert str(caught.value) == f'"{path}" {message}'


def test_a_missing_file_is_left_to_the_runtime(tmp_path: Path) -> None:
    """A missing config.json gives None: the runtime has its own words for it."""
    assert bundle.load(str(tmp_path / "config.json")) is None
    (tmp_path / "file").write_text("")
    assert bundle.load(str(tmp_path / "file" / "config.json")) is None


def test_a_fifo_does_not_hang(tmp_path: Path) -> None:
    """A FIFO in place of config.json is refused at once."""
    os.mkfifo(tmp_path / "config.json")
    with pytest.raises(BundleError) as caught:
        bundle.load(str(tmp_path / "config.json"))
    assert str(caught.value) == f'can\'t read "{tmp_path}/config.json": not a regular file'
