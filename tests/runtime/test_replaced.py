# SPDX-License-Identifier: Apache-2.0
"""However a spec or the configuration is replaced, the very next create goes by what it says now.

Each row of WAYS replaces a file by another one of the same size and mtime, as one program or another does
it: package managers, configuration management, archives, version control, images. All happens in a
mount namespace of the test's own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from .apart import DEVICE, MTIME, World, keeper
from .lab import STANDARD_PATH

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from _pytest.mark import ParameterSet

__all__ = ["keeper"]  # a fixture

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount"),
    pytest.mark.xdist_group("replaced"),  # the worlds are made once, and settle together
]

_LOOP = 'loop=$(losetup -f --show image1); echo "$loop" >loop; mount -o ro "$loop" "$dir"'
_NEXT = 'umount "$dir"; dd if=image2 of="$(cat loop)" conv=fsync 2>dd; mount -o ro "$(cat loop)" "$dir"'
_OVERLAY = 'mkdir one two; mount -o loop,ro image1 one; mount -o loop,ro image2 two; mount -t overlay -o ro,lowerdir=one:none o "$dir"'
_EXT4 = 'truncate -s 4M image1; mke2fs -q -F -t ext4 -d "$dir" image1; LC_ALL=C sed "$other" image1 >image2'
_SQUASHFS = "; ".join(
    f"mksquashfs {one} image{n} -quiet -no-progress -all-time 1 -mkfs-time 1"
    for n, one in ((1, '"$dir"'), (2, "new"))
)
_EROFS = "; ".join(f"mkfs.erofs --quiet -T1 -Uclear image{n} {one}" for n, one in ((1, '"$dir"'), (2, "new")))
# What is done before the first create, and what replaces $old, which is in $dir, by $new, which is in new/.
# The first word of a row is the program that it needs.
WAYS = {
    "cat, in place": ("", 'cat "$new" >"$old"'),
    "cat, in place, and the time set back": ("", 'cat "$new" >"$old"; touch -r "$new" "$old"'),
    "cp": ("", 'cp "$new" "$old"'),
    "cp -p": ("", 'cp -p "$new" "$old"'),
    "cp -p --remove-destination": ("", 'cp -p --remove-destination "$new" "$old"'),
    "cp -a of the dir": ("", 'cp -a new/. "$dir"; touch -d @1 "$dir"'),
    "mv": ("", 'mv "$new" "$old"'),
    "mv, as dpkg and rpm do it": ("", 'cp -p "$new" "$old.dpkg-new"; mv "$old.dpkg-new" "$old"; touch -d @1 "$dir"'),
    "mv, with a backup, as ansible does it": ("", 'cp -p "$old" "$old.1@"; cp -p "$new" "$dir/.ansible_tmp"; mv "$dir/.ansible_tmp" "$old"'),
    "mv of the dir": ("", 'mv "$dir" gone; mv new "$dir"'),
    "install": ("", 'install -m 644 "$new" "$old"'),
    "install -p": ("", 'install -p -m 644 "$new" "$old"'),
    "ln -f": ("", 'ln -f "$new" "$old"'),
    "ln -s": ("", 'ln -sf "$PWD/$new" "$old"'),
    "rm": ("", 'rm "$old"; cp -p "$new" "$old"; touch -d @1 "$dir"'),
    "sed -i": ("", f'sed -i "$other" "$old"; touch -d @{MTIME} "$old"'),
    "tar": ("", 'tar c -C new . | tar x -C "$dir"'),
    "tar --overwrite": ("", 'tar c -C new . | tar x --overwrite -C "$dir"'),
    "tar --unlink-first": ("", 'tar c -C new . | tar x --unlink-first -C "$dir"'),
    "rsync -a": ("", 'rsync -aI new/ "$dir"'),
    "rsync -a --inplace": ("", 'rsync -aI --inplace new/ "$dir"'),
    "git checkout": (
        'cd "$dir"; git init -q; git add .; git -c user.name=n -c user.email=e commit -qm 1; cp ../"$new" .; git add .; '
        "git -c user.name=n -c user.email=e commit -qm 2; git checkout -q HEAD^",
        'cd "$dir"; git checkout -q -; touch -d @1 * .',
    ),
    "patch": ("", f'diff -u "$old" "$new" | patch -s --set-utc "$old"; touch -d @{MTIME} "$old"'),
    "mount --bind of the file": ("", 'mount --bind "$new" "$old"'),
    "mount --bind of the dir": ("", 'mount --bind new "$dir"'),
    "mount -t overlay": ("mkdir none", 'mount -t overlay -o lowerdir=new:none o "$dir"'),
    "mount -t overlay, again": ('mkdir none; mount -t overlay -o lowerdir="$dir":none o "$dir"',
                                'umount "$dir"; mount -t overlay -o lowerdir=new:none o "$dir"'),
    "mke2fs, another image": (f"{_EXT4}; {_LOOP}", _NEXT),
    "mksquashfs, another image": (f"{_SQUASHFS}; {_LOOP}", _NEXT),
    "mkfs.erofs, another image": (f"{_EROFS}; {_LOOP}", _NEXT),
    "mksquashfs, another image below an overlay": (
        f"{_SQUASHFS}; mkdir none; {_OVERLAY}",
        'umount "$dir"; mount -t overlay -o ro,lowerdir=two:none o "$dir"',
    ),
}  # fmt: skip
NO_IMAGE = "no image can be mounted here"
FILES = {"spec": "cdi", "configuration": "etc"}


def rows() -> list[ParameterSet]:
    """Return the rows for each file, those skipped whose program isn't installed."""
    found = []
    for file in FILES:
        for way in WAYS:
            program = way.split()[0].rstrip(",")
            reason = f"{program} isn't installed"
            marks = [] if shutil.which(program, path=STANDARD_PATH) else [pytest.mark.skip(reason=reason)]
            found.append(pytest.param(file, way, marks=marks, id=f"{file}: {way}"))
    return found


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory, keeper: int) -> Generator[dict[tuple[str, str], World]]:
    """A world for each row, in which a container was created after everything had settled."""
    made = {}
    try:
        for row in rows():
            if not row.marks:
                file, way = map(str, row.values)
                made[file, way] = World(tmp_path_factory.mktemp("replaced") / "world", keeper, file)
                try:
                    made[file, way].run(WAYS[way][0])
                except subprocess.CalledProcessError:
                    if "image" not in way:
                        raise
                    del made[file, way]
        time.sleep(2.2)
        for (file, _), world in made.items():
            for _ in range(2):  # by what was kept, too
                assert world.create() == ("['ONE=1']" if file == "spec" else "a\n")
        yield made
    finally:
        for world in made.values():
            loop = world.directory / "loop"
            if loop.exists():
                world.run(f"umount {world.old.parent}")
                subprocess.run(["losetup", "-d", loop.read_text().strip()], check=False)


@pytest.mark.parametrize(("file", "way"), rows())
def test_what_is_replaced_counts_at_once(worlds: dict[tuple[str, str], World], file: str, way: str) -> None:
    """The next create goes by the new file, and so does the one after."""
    if (file, way) not in worlds:
        pytest.skip(NO_IMAGE)
    world = worlds[file, way]
    world.run(WAYS[way][1])
    for _ in range(2):
        assert world.create() == ("['ONE=2']" if file == "spec" else "b\n")


def test_two_writes_in_one_second(tmp_path: Path, keeper: int) -> None:
    """On a file system that keeps whole seconds, the second of two writes in one counts too."""
    world = World(tmp_path / "world", keeper, "spec")
    try:
        world.run(
            'truncate -s 4M image; mke2fs -q -F -t ext4 -I 128 -d "$dir" image 2>mke2fs; mount -o loop image "$dir"'
        )
    except subprocess.CalledProcessError:
        pytest.skip(NO_IMAGE)
    for _ in range(3):
        time.sleep(1 - time.time() % 1)
        world.run('sed -i s/ONE=2/ONE=1/ "$old"; sleep 0.1')
        first = world.create(), time.time()
        world.run('sed s/ONE=1/ONE=2/ "$old" >text; cat text >"$old"')
        if int(first[1]) == int(time.time()):  # unless the machine is that slow
            assert (first[0], world.create()) == ("['ONE=1']", "['ONE=2']")


def test_a_spec_that_keeps_its_times(tmp_path: Path, keeper: int) -> None:
    """Of a spec that changed through mmap on a tmpfs doctor and show say that it is stale, and cdi-hook index reads it."""
    world = World(tmp_path / "world", keeper, "spec")
    text = world.spec.read_text()
    world.run('mount -t tmpfs -o mode=755 none "$dir"')
    world.run(f"cat >$old <<'EOF'\n{text}\nEOF\ntouch -d @{MTIME} $dir; sleep 0.1")
    assert world.create() == "['ONE=1']"
    world.run(
        'python3 -c \'import mmap, sys; f = open(sys.argv[1], "r+b"); m = mmap.mmap(f.fileno(), 0); m[m.find(b"=1") + 1] += 1\' $old'
    )
    assert world.create() == "['ONE=1']"
    stale = "a spec has changed without its size and times: containers get what it said before"
    assert f", and {stale}\n" in world.say("doctor || :")
    assert (
        world.say(f"show {DEVICE} 2>&1").splitlines()[:4:3]
        == [f'cdi-hook: warning: {stale}; "cdi-hook index" reads it again', "  env ONE=2"]
    )  # fmt: skip
    assert world.say("index").endswith("1 device\n")
    assert world.create() == "['ONE=2']"
    assert stale not in world.say("doctor || :") + world.say(f"show {DEVICE} 2>&1")


def test_a_configuration_that_was_set_back(tmp_path: Path, keeper: int) -> None:
    """cdi-hook index finds one that was written over and given the time at which the first was written."""
    world = World(tmp_path / "world", keeper, "configuration")
    world.run('touch "$old"')
    time.sleep(2.2)
    assert world.create() == "a\n"
    world.run('touch -r "$old" time; cat "$new" >"$old"; touch -r time "$old"')
    assert world.create() == "a\n"
    world.say("index")
    assert world.create() == "b\n"
