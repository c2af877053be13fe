# SPDX-License-Identifier: Apache-2.0
"""files: cleaning a path, identity, reading, replacing."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from cdi_hook import files

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("", "."), (".", "."), ("/", "/"), ("//a//b/", "/a/b"), ("a/../..", ".."), ("/..", "/"), ("../a", "../a"),
        ("a/./b/..", "a"), ("../../x/..", "../.."), ("/a/../../b", "/b"), ("./a", "a"), ("/.", "/"), ("a/..", "."),
    ],
)  # fmt: skip
def test_clean(path: str, expected: str) -> None:
    """Paths are cleaned as Go's filepath.Clean does."""
    assert files.clean(path) == expected


def test_identity_changes_with_the_file(tmp_path: Path) -> None:
    """Changing the content or the mode, or replacing the file, changes the identity; a link has its target's."""
    file = tmp_path / "f"
    seen = [files.identify(str(file))]
    assert seen == [None]
    file.write_text("a")
    seen.append(files.identify(str(file)))
    file.chmod(0o600)
    seen.append(files.identify(str(file)))
    (tmp_path / "g").write_text("b")
    (tmp_path / "g").rename(file)
    seen.append(files.identify(str(file)))
    assert len(set(seen)) == len(seen)
    (tmp_path / "link").symlink_to("f")
    assert files.identify(str(tmp_path / "link")) == files.identify(str(file))


def test_a_regular_file_is_read_whole(tmp_path: Path) -> None:
    """All bytes of a file are read, also of a file in /proc, whose size is 0."""
    (tmp_path / "f").write_bytes(b"a\0\xff" * 100_000)
    assert files.read(str(tmp_path / "f")) == b"a\0\xff" * 100_000
    assert files.read("/proc/self/cmdline").count(b"\0") > 0


def test_nothing_but_a_regular_file_is_read(tmp_path: Path) -> None:
    """A FIFO without a writer, a device and a dir are each an error at once, and the error for a dir is IsADirectoryError."""
    os.mkfifo(tmp_path / "fifo")
    for path in (str(tmp_path / "fifo"), "/dev/zero", str(tmp_path)):
        with pytest.raises(OSError, match="not a regular file") as caught:
            files.read(path)
        assert caught.value.filename == path
        assert isinstance(caught.value, IsADirectoryError) == os.path.isdir(path)


def test_what_is_durable_is_on_the_disk_before_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A durable file is synced before it is renamed, and others, which are on tmpfs, aren't."""
    file, synced = tmp_path / "file", []
    monkeypatch.setattr("posix.fsync", lambda _: synced.append(file.read_text()))
    file.write_text("old")
    files.replace(str(file), b"new", 0o644, durable=True)
    assert (file.read_text(), synced) == ("new", ["old"])
    files.replace(str(file), b"newer", 0o644)
    assert (file.read_text(), synced) == ("newer", ["old"])
