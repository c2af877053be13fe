# SPDX-License-Identifier: Apache-2.0
"""A root dir: nothing in it leads out of it, and the host's paths are below it."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest

from cdi_hook.errors import CDIError
from cdi_hook.generate.root import Root, in_order

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def inner(tmp_path: Path) -> Path:
    """A dir to be the root, beside a file that must not be reached."""
    (tmp_path / "secret").write_text("outside")
    path = tmp_path / "root"
    (path / "usr/lib").mkdir(parents=True)
    (path / "usr/lib/libx.so.1").write_text("inside\n")
    return path


@pytest.mark.parametrize(
    ("target", "real"),
    [
        ("usr/lib/libx.so.1", "/usr/lib/libx.so.1"),
        ("/usr/lib/libx.so.1", "/usr/lib/libx.so.1"),
        ("../../../usr/lib//./libx.so.1", "/usr/lib/libx.so.1"),
        ("/../../usr/lib/libx.so.1", "/usr/lib/libx.so.1"),
        ("usr/lib/../lib", "/usr/lib"),
        ("..", "/"),
    ],
)
def test_links_stay_inside(inner: Path, target: str, real: str) -> None:
    """A link is followed as by a process whose root dir this is."""
    (inner / "link").symlink_to(target)
    root = Root(str(inner))
    assert root.real("/link") == real
    assert root.on_host(root.real("/link")) == f"{inner}{real}".removesuffix("/") + (
        "/" if real == "/" else ""
    )


def test_nothing_outside_is_reached(inner: Path) -> None:
    """A link to a file beside the root finds nothing, by a full path and by dots."""
    (inner / "a").symlink_to(inner.parent / "secret")
    (inner / "b").symlink_to("../secret")
    root = Root(str(inner))
    for path in ("/a", "/b", "/../secret", "/nothing"):
        assert (root.read(path), root.exists(path), root.resolved(path)) == ("", False, "")
        with pytest.raises(FileNotFoundError):
            root.read_bytes(path)


def test_a_loop_of_links(inner: Path) -> None:
    """A loop is an error, and counts as nothing."""
    (inner / "a").symlink_to("b")
    (inner / "b").symlink_to("a")
    root = Root(str(inner))
    assert not root.exists("/a")
    with pytest.raises(OSError) as caught:  # noqa: PT011 # its errno is looked at
        root.real("/a")
    assert caught.value.errno == errno.ELOOP


def test_dirs(inner: Path) -> None:
    """Names come in the order of their numbers; patterns match; what isn't there is empty."""
    for name in ("card10", "card2", "card\n1", "x"):
        (inner / "usr" / name).mkdir()
    (inner / "lib").symlink_to("usr/lib")
    root = Root(str(inner))
    assert root.names("/usr") == ["card2", "card10", "lib", "x"]
    assert root.glob("/usr/card*", "lib/lib?.so.*", "/usr/none", "/*/x") == [
        "/usr/card2",
        "/usr/card10",
        "/lib/libx.so.1",
        "/usr/x",
    ]
    assert root.tree("/usr") == ["/usr", "/usr/card2", "/usr/card10", "/usr/lib", "/usr/x"]
    assert root.read("/lib/libx.so.1") == "inside"
    assert (root.target("/lib"), root.target("/usr"), root.target("/none/x")) == ("usr/lib", "", "")
    assert root.names("/none") == []


def test_the_hosts_own_root() -> None:
    """Below / a path is the host's own."""
    root = Root("//")
    assert root.on_host("/dev/null") == "/dev/null"
    assert root.exists("/dev/null")


def test_no_root(tmp_path: Path) -> None:
    """A root that is no dir is an error."""
    with pytest.raises(CDIError) as caught:
        Root(str(tmp_path / "none"))
    assert str(caught.value) == f'"{tmp_path}/none" is not a directory that can be the root'


def test_order() -> None:
    """Numbers in names count as numbers."""
    assert sorted(["a10b1", "a2", "10", "9", "a", "a2b"], key=in_order) == [
        "9",
        "10",
        "a",
        "a2",
        "a2b",
        "a10b1",
    ]
