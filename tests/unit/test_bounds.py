# SPDX-License-Identifier: Apache-2.0
"""What is bounded, on both sides of each bound; and that many devices cost in proportion to their number."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cdi_hook import errors
from cdi_hook.base import files, log
from cdi_hook.config import settings
from cdi_hook.container.rootfs import Rootfs
from cdi_hook.edits import editor
from cdi_hook.inject import bundle, request
from cdi_hook.libraries import ldconfig, texts
from cdi_hook.specs import specfile

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = Path(__file__).parents[2] / "packaging/man/cdi-runtime.8"
SPEC = '{"cdiVersion": "0.6.0", "kind": "v.com/c", "devices": [{"name": "d", "containerEdits": {"env": ["A=1"]}}]}'
SETTINGS = settings.Config("/none")


def spec(path: Path, size: int) -> object:
    """Load a spec of this size."""
    path.write_text(SPEC.ljust(size))
    return specfile.load(str(path))


def config_json(path: Path, size: int) -> object:
    """Load a config.json of this size."""
    path.write_text("{}".ljust(size))
    return bundle.load(str(path))


def configuration(path: Path, size: int) -> object:
    """Load a configuration of this size."""
    path.write_text("LOG_LEVEL=warning\n".ljust(size, "#"))
    loaded = settings.load({b"CDI_HOOK_CONFIG": os.fsencode(path)})
    assert (loaded["LOG_LEVEL"], loaded.hiding) == ("info" if loaded.problems else "warning", loaded.problems)
    if loaded.problems:
        raise errors.ConfigError(*loaded.problems)
    return loaded


def stdin(_path: Path, size: int) -> object:
    """Parse an OCI spec of this size."""
    return bundle.parse(b"{}".ljust(size), "an OCI spec")


def name(_path: Path, size: int) -> object:
    """Ask for a device with a name of this size."""
    return request.collect({"annotations": {"cdi.k8s.io/a": "v.com/c=".ljust(size, "d")}}, SETTINGS)


def times(_path: Path, count: int) -> object:
    """Ask for one device so many times, by two annotations."""
    values = {"cdi.k8s.io/a": ",".join(["v.com/c=d"] * (count - 1)), "cdi.k8s.io/b": "v.com/c=d"}
    return request.collect({"annotations": values}, SETTINGS)


def mounts(_path: Path, count: int) -> object:
    """Edit an OCI spec that has so many mounts."""
    return editor.apply({"mounts": [{"destination": "/a"}] * count}, [])


def image(path: Path) -> Rootfs:
    """Return the root filesystem of an image."""
    return Rootfs(os.open(path.parent, os.O_PATH | os.O_DIRECTORY), owns=True)


def entries(path: Path, count: int) -> None:
    """Look at so many entries of an image."""
    image(path).spend(count, 0, "/x.json")


def read(path: Path, size: int) -> None:
    """Read so many bytes of an image."""
    image(path).spend(0, size, "/x.json")


def text(path: Path, size: int) -> object:
    """Read a text of an image that is so large."""
    path.write_text("\n" * size)
    return texts.read(image(path), "/x.json")


def includes(path: Path, count: int) -> object:
    """Read an image's ld.so.conf of so many files."""
    conf = path.with_name("etc") / "ld.so.conf"
    conf.parent.mkdir(exist_ok=True)
    conf.write_text("".join(f"include /etc/{number}\n" for number in range(1, count)))
    return ldconfig._configured(image(path))


LESS = "among them; build it with fewer dirs in /etc/ld.so.conf, fewer files in them, or without /etc/ld.so.cache"

# What is bounded, as cdi-runtime(8) has it: the bound, something of a size, and the error.
BOUNDS: dict[str, tuple[int, Callable[[Path, int], object], str]] = {
    "a CDI spec file": (4 << 20, spec, '"@": can\'t read it: larger than 4194304 bytes'),
    "config.json": (3 << 20, config_json, "can't read \"@\": larger than 3145728 bytes"),
    "stdin": (3 << 20, stdin, "stdin must be an OCI spec, but it is larger than 3145728 bytes"),
    "cdi-hook.conf": (1 << 20, configuration, "@: larger than 1048576 bytes"),
    "a device's name, when it is asked for": (
        512, name, 'annotation "cdi.k8s.io/a": the CDI device name "v.com/c=dddddddddddddddddddddd"... '
        "has 513 characters, more than 512",
    ),
    "times that a container asks for a device": (16384, times, "the container asks for a device more than 16384 times"),
    "mounts, or device nodes, of a container before the injection": (
        8192, mounts, "the OCI spec's .mounts has more than 8192 items",
    ),
    "dirs, files and their entries that cdi-hook createContainer looks at in an image": (
        100_000, entries, 'the search for libraries takes more of the image than 100,000 entries of its dirs and files, '
        f'"/x.json" {LESS}',
    ),
    "what it reads there in all": (
        8 << 20, read, f'the search for libraries takes more of the image than 8 MiB, "/x.json" {LESS}',
    ),
    "a text that it reads there": (
        1 << 20, text, f'the search for libraries takes more of the image than 1 MiB of a file, "/x.json" {LESS}',
    ),
    "files of an image's ld.so.conf": (
        200, includes, f'the search for libraries takes more of the image than 200 includes, "/etc/200" {LESS}',
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BOUNDS)
def test_bound(what: str, tmp_path: Path) -> None:
    """What is as large as it may be is used, and what is larger is refused with the bound."""
    most, use, message = BOUNDS[what]
    path = tmp_path / "x.json"
    use(path, most)
    with pytest.raises(errors.CDIError) as caught:
        use(path, most + 1)
    assert str(caught.value) == message.replace("@", str(path))


def test_the_manual_has_the_bounds() -> None:
    """cdi-runtime(8) has each bound, and no others."""
    text = PAGE.read_text("utf-8").replace("\\-", "-").partition("\n.SS Sizes\n")[2].partition("\n.SS ")[0]
    rows = re.findall(r"^\.TP\n\.B ([0-9,]+)( MiB)?\n(.*)\.$", text, re.MULTILINE)
    assert {what: int(number.replace(",", "")) << (20 if unit else 0) for number, unit, what in rows} == {
        what: bound for what, (bound, _, _) in BOUNDS.items()
    }


def test_a_file_that_grows_while_it_is_read(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file that is larger than its size said is refused too, and not read on."""
    (tmp_path / "f").write_bytes(b"x")
    monkeypatch.setattr("posix.read", lambda _descriptor, _size: b"xx")
    with pytest.raises(OSError, match="larger than 9 bytes"):
        files.read(str(tmp_path / "f"), 9)


def test_messages_are_short() -> None:
    """Of a message that is too long for a person its beginning is shown."""
    assert log.plain("a" * 4000) == "a" * 4000
    assert log.plain("a" * 4001) == "a" * 4000 + "..."
    assert log.plain("a" * 16_001, log.MOST_ERRORS) == "a" * 16_000 + "..."


class Source(tuple[Any, ...]):
    """Who asks for an edit, and counts how often two of them are compared."""

    __slots__ = ()
    compared = 0

    def __eq__(self, other: object) -> bool:
        Source.compared += 1
        return super().__eq__(other)

    __hash__ = tuple.__hash__


class Hook(dict[str, Any]):
    """A hook that counts how often two of them are compared."""

    compared = 0

    def __eq__(self, other: object) -> bool:
        Hook.compared += 1
        return super().__eq__(other)

    __hash__ = None


NODE = {"path": "/dev/x", "type": "c", "major": 1, "minor": 3}
HOOK = {"hookName": "poststop", "path": "/bin/true"}


@pytest.mark.parametrize(
    "edit",
    [{"env": ["A=1"]}, {"deviceNodes": [NODE]}, {"mounts": [{"hostPath": "/a", "containerPath": "/b"}]}],
)
def test_many_devices_that_ask_for_the_same(edit: dict[str, Any]) -> None:
    """One edit is made for all of them, and nobody is compared with all others."""
    Source.compared = 0
    count = 1000
    parts = [(Source((f"v.com/c={number}", "/v.yaml")), edit) for number in range(count)]
    changes = editor.apply({}, parts, keep_present=True)
    asked = [change.sources for change in changes if change.is_put]
    assert asked == [[source for source, _ in parts]] * len(asked) != []
    assert Source.compared < 2 * count


def test_many_hooks_that_are_there() -> None:
    """A hook isn't compared with all that are there; one that is there does for one that is wanted."""
    count = 1000
    there = [Hook(path="/bin/true", args=[str(number)]) for number in range(count)]
    there.append(Hook(path="/bin/true", args=[{"no": "hook of ours"}]))
    wanted = [{**HOOK, "args": [str(number // 2)]} for number in range(count)]
    Hook.compared = 0
    editor.apply(
        {"hooks": {"poststop": there}}, [(("v.com/c=d", "/v.yaml"), {"hooks": wanted})], keep_present=True
    )
    assert Hook.compared < 2 * count
    assert len(there) == count + 1 + count // 2
