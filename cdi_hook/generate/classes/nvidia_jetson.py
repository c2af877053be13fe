# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's Jetson boards: their GPU isn't on the PCI bus, and files say what a container needs for it.

Each line of these files has a type and a path: ``dev, /dev/nvmap``. A path may be a pattern. As nvidia-ctk
in its mode csv, we read three files, leave out what isn't on the host, and call the GPU 0.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from cdi_hook.base import words
from cdi_hook.generate.classes.nvidia_hooks import DriverFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cdi_hook.generate.classes.nvidia_driver import Driver
    from cdi_hook.generate.root import Root

_DIR = "/etc/nvidia-container-runtime/host-files-for-container.d"
_FILES = ("devices.csv", "drivers.csv", "l4t.csv")
_RELEASE, _FAMILY = "/etc/nv_tegra_release", "/sys/devices/soc0/family"
_DEVICE, _DIRECTORY, _LIBRARY, _LINK = "dev", "dir", "lib", "sym"


class Jetson:
    """What the files say of this host; it is falsy on another host."""

    def __init__(self, root: Root) -> None:
        self._root = root
        is_jetson = root.exists(_RELEASE) or root.read(_FAMILY).lower().startswith("tegra")
        self._is_here = is_jetson
        self._lines = [*self._read()] if is_jetson else []

    def __bool__(self) -> bool:
        return self._is_here

    def nodes(self) -> list[str]:
        """Return the paths of the device nodes."""
        return self._found(_DEVICE, stat.S_ISCHR)

    def files(self, driver: Driver) -> DriverFiles:
        """Return the files, with the links that are named and those of the libraries."""
        named = self._found(_LINK, _is_no_dir)
        libraries = list(dict.fromkeys(map(self._root.resolved, self._found(_LIBRARY, _is_no_dir))))
        links = {place: target for path in named for target, place in self._chain(path)}
        for path in libraries:
            links = {**{place: target for target, place in driver.links_of(path)}, **links}
        libraries = list(dict.fromkeys([*libraries, *map(self._root.resolved, named)]))
        mounts = [*self._found(_DIRECTORY, stat.S_ISDIR), *libraries]
        if not self._root.path and self._root.exists(_RELEASE):  # it says of which board this system is
            mounts.append(_RELEASE)
        dirs = [os.path.dirname(path) for path in libraries if ".so" in os.path.basename(path)]
        mounted = [path for path in libraries if os.path.dirname(path) in dirs and ".so" in path]
        return DriverFiles(
            [(self._root.resolved(path), path) for path in dict.fromkeys(mounts)],
            [(target, place) for place, target in links.items()],
            list(dict.fromkeys(dirs)),
            mounted,
        )

    def missing(self) -> list[str]:
        """Return what keeps the GPU from being used."""
        if self.nodes():
            return []
        named = "that names a device node of this host" if self._lines else f"in {_DIR}"
        return [
            f"no {_FILES[0]} {named}, to say what a Jetson's GPU needs: install JetPack's nvidia-container"
        ]

    def notes(self) -> list[str]:
        """Say which lines are left out."""
        gone = [path for _, path in self._lines if not self._root.glob(path)]
        others = [name for name in self._root.names(_DIR) if name.endswith(".csv") and name not in _FILES]
        said = [f"{_DIR} names what isn't here, and is left out: {words.some(gone, 3)}"] if gone else []
        return [*said, *(f"{_DIR}/{name} isn't read, as nvidia-ctk doesn't" for name in others)]

    def _read(self) -> Iterator[tuple[str, str]]:
        """Yield the type and the path in each line."""
        for name in _FILES:
            for line in self._root.read(f"{_DIR}/{name}").splitlines():
                kind, comma, path = line.partition(",")
                if comma and path.strip().startswith("/"):
                    yield kind.strip(), path.strip()

    def _found(self, kind: str, is_wanted: Callable[[int], bool]) -> list[str]:
        """Return the paths of a type that are there, and whose mode is what is wanted."""
        found = [path for one, pattern in self._lines if one == kind for path in self._root.glob(pattern)]
        statuses = {path: self._root.stat(path) for path in found}
        return [path for path, status in statuses.items() if status and is_wanted(status.st_mode)]

    def _chain(self, path: str) -> Iterator[tuple[str, str]]:
        """Yield a link and those that it leads to, each as target and path."""
        for _ in range(40):
            target = self._root.target(path)
            if not target:
                return
            yield target, path
            path = os.path.normpath(os.path.join(os.path.dirname(path), target))


def _is_no_dir(mode: int) -> bool:
    return not stat.S_ISDIR(mode)
