# SPDX-License-Identifier: Apache-2.0
"""NVIDIA's driver for programs: its version, and its files that a container needs, found by their names.

The driver's libraries have its version in their names. Where they lie, and which other files belong to
the driver, is as nvidia-ctk takes it, so that a container gets the same from both. Paths are below the
root.
"""

from __future__ import annotations

import fnmatch
import os
import re
import stat
from typing import TYPE_CHECKING

from cdi_hook.base import files
from cdi_hook.libraries import elf, ldcache

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cdi_hook.generate.root import Root

_MULTIARCH = ("x86_64-linux-gnu", "aarch64-linux-gnu")
_LIBRARY_DIRS = ("", *(
    f"{top}/{place}"
    for top in ("/usr", "")
    for place in (
        "lib64", *(f"lib/{triplet}{below}" for below in ("", "/nvidia/current") for triplet in _MULTIARCH)
    )
))  # fmt: skip
# What a driver's own dir may be, where no library cache leads there: as on Google's nodes, in older
# packages for Fedora, on NixOS.
_OWN_DIRS = ("/usr/local/nvidia/lib64", "/usr/lib64/nvidia", "/run/opengl-driver/lib")
_CACHE = "/etc/ld.so.cache"
_KERNEL_MODULE = "/proc/driver/nvidia/version", re.compile(r"Kernel Module(?: for \S+)?\s+(\d+(?:\.\d+)+)")
_NAMED_AFTER_THE_VERSION = ("libcuda.so.", "libnvidia-ml.so.")
# Libraries with versions of their own: beside the driver's, and in the dirs above.
_LEGACY_LIBRARY = "libnvidia-nvvm70.so.*"
_PLATFORM_LIBRARIES = [f"libnvidia-egl-{name}.so.*.*" for name in ("gbm", "wayland", "wayland2")]
_XORG_BASES = ("/usr/lib/xorg", "/usr/lib64/xorg", "/usr/X11R6/lib", "/usr/X11R6/lib64")
_XORG_MODULES = [
    f"modules/{name}" for name in ("drivers", "extensions", "updates/drivers", "updates/extensions")
]
_PROGRAM_DIRS = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
_PROGRAMS = (
    "nvidia-smi", "nvidia-debugdump", "nvidia-persistenced", "nvidia-cuda-mps-control",
    "nvidia-cuda-mps-server", "nvidia-imex", "nvidia-imex-ctl",
)  # fmt: skip
_FIRMWARE_DIR = "/sys/module/firmware_class/parameters/path"  # of one that an administrator chose
_CONFIGURATION_DIRS = ("/etc", "/usr/local/share", "/usr/share")
_CONFIGURATIONS = (
    "glvnd/egl_vendor.d/10_nvidia.json",
    "egl/egl_external_platform.d/15_nvidia_gbm.json",
    "egl/egl_external_platform.d/10_nvidia_wayland.json",
    "egl/egl_external_platform.d/09_nvidia_wayland2.json",
    "nvidia/nvoptix.bin",
    "X11/xorg.conf.d/10-nvidia.conf",
    "X11/xorg.conf.d/nvidia-drm-outputclass.conf",
    "OpenCL/vendors/nvidia.icd",
)
# These a container finds in /etc, wherever the host has them.
_VULKAN = (
    "vulkan/icd.d/nvidia_icd.json",
    "vulkan/icd.d/nvidia_layers.json",
    "vulkan/implicit_layer.d/nvidia_layers.json",
    f"vulkan/icd.d/nvidia_icd.{os.uname().machine}.json",
)
_SOCKET_DIRS = ("/run", "/var/run")
_SOCKETS = ("nvidia-persistenced/socket", "nvidia-fabricmanager/socket")
_MPS = "/tmp/nvidia-mps"  # noqa: S108 # MPS' dir of pipes

_LIBRARY = re.compile(r"lib.+?\.so(?:\..*)?", re.DOTALL)


class Driver:
    """The driver: its version ("" where there is none), the dirs of its libraries, its libraries."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._cached: list[str] | None = None
        self.kernel_version = self._kernel_version()
        self.version = self._version()
        self.dirs: list[str] = []
        self.libraries: list[str] = []
        self._others: list[str] = []
        if self.version:
            self._find_libraries()

    def _kernel_version(self) -> str:
        path, pattern = _KERNEL_MODULE
        found = pattern.search(self._root.read(path))
        return found[1] if found else self._root.read("/sys/module/nvidia/version")

    def _version(self) -> str:
        """Return the kernel module's version if there are libraries of it, else that of the first library."""
        for suffix in (glob for glob in (self.kernel_version, "*.*") if glob):
            for name in _NAMED_AFTER_THE_VERSION:
                for path in self._locate(name + suffix):
                    return os.path.basename(path).removeprefix(name)
        return ""

    def _find_libraries(self) -> None:
        beside = self._locate(f"lib*.so.{self.version}")
        self.dirs = list(dict.fromkeys(os.path.dirname(path) for path in beside))
        within = [*self.dirs, *(f"{directory}/vdpau" for directory in self.dirs)]
        self.libraries = [
            *self._files(within, f"*.so.{self.version}"),
            *self._files(self.dirs, _LEGACY_LIBRARY),
        ]
        self._others = [path for pattern in _PLATFORM_LIBRARIES for path in self._locate(pattern)]
        xorg = [*(f"{directory}/nvidia/xorg" for directory in self.dirs)]
        for base in (*(f"{directory}/xorg" for directory in self.dirs), *_XORG_BASES):
            xorg += [f"{base}/{module}" for module in _XORG_MODULES]
        for pattern in ("nvidia_drv.so", f"libglxserver_nvidia.so.{self.version}"):
            self._others += self._unresolved(xorg, pattern)[:1]

    def mounts(self) -> list[tuple[str, str]]:
        """Return the files to mount read-only: the path here, and the path in a container."""
        bins = [os.path.join(os.path.dirname(directory), "bin") for directory in self.dirs]
        programs = [
            path
            for name in _PROGRAMS
            for path in self._unresolved([*_PROGRAM_DIRS, *bins], name, is_program=True)[:1]
        ]
        found = [*self.libraries, *self._others, *programs, *self._firmware()]
        for name in _CONFIGURATIONS:
            found += self._unresolved(_CONFIGURATION_DIRS, name)
        mounts = [(path, path) for path in found]
        for name in _VULKAN:
            mounts += [
                (path, f"/etc/{name}") for path in self._unresolved((*_CONFIGURATION_DIRS, ""), name)[:1]
            ]
        return list(dict.fromkeys(mounts))

    def sockets(self) -> list[str]:
        """Return what its services listen on."""
        found = [path for name in _SOCKETS for path in self._unresolved(_SOCKET_DIRS, name)[:1]]
        return [*found, *([_MPS] if self._is_roots(_MPS) else [])]

    def _is_roots(self, path: str) -> bool:
        """Say whether a dir is root's, and no link leads there: in /tmp anybody can make either."""
        status = self._root.stat(path) if self._root.resolved(path) == path else None
        return status is not None and stat.S_ISDIR(status.st_mode) and status.st_uid == 0

    def links(self) -> list[tuple[str, str]]:
        """Return the links that programs look for beside its libraries: target and path."""
        found: list[tuple[str, str]] = []
        for path in self.libraries:
            found += self.links_of(path)
        for path in [*self.libraries, *self._others]:
            directory, name = os.path.split(path)
            if name == f"libnvidia-allocator.so.{self.version}":
                found.append(("../libnvidia-allocator.so.1", f"{directory}/gbm/nvidia-drm_gbm.so"))
            for base in ("libnvidia-vulkan-producer.so", "libglxserver_nvidia.so"):
                if name == f"{base}.{self.version}":
                    found.append((name, f"{directory}/{base}"))
        return list(dict.fromkeys(found))

    def library_dirs(self) -> list[str]:
        """Return the dirs that the dynamic linker has to search."""
        names = [os.path.split(path) for path in self.libraries]
        return list(dict.fromkeys(directory for directory, name in names if _LIBRARY.fullmatch(name)))

    def mounted_libraries(self) -> list[str]:
        """Return the libraries in those dirs, each of which is mounted at the same path."""
        dirs = self.library_dirs()
        return [path for path, _ in self.mounts() if os.path.dirname(path) in dirs and ".so" in path]

    def links_of(self, path: str) -> Iterator[tuple[str, str]]:
        """Yield the links of a library: those that programs rely on, and those that the host has."""
        directory, name = os.path.split(path)
        if fnmatch.fnmatchcase(name, "libcuda.so.*.*"):
            yield "libcuda.so.1", f"{directory}/libcuda.so"
        if fnmatch.fnmatchcase(name, "libGLX_nvidia.so.*.*"):
            yield name, f"{directory}/libGLX_indirect.so.0"
        if fnmatch.fnmatchcase(name, "libnvidia-opticalflow.so.*.*"):
            yield "libnvidia-opticalflow.so.1", f"{directory}/libnvidia-opticalflow.so"
        soname = self._soname(path)
        if soname is None:
            return
        soname = soname or name
        if soname != name and self._root.target(f"{directory}/{soname}"):
            yield name, f"{directory}/{soname}"
        plain = soname
        while "." in plain and not plain.endswith(".so"):
            plain = plain.rpartition(".")[0]
        if plain.endswith(".so") and plain != soname and self._root.target(f"{directory}/{plain}"):
            yield soname, f"{directory}/{plain}"

    def _soname(self, path: str) -> str | None:
        """Return the SONAME of a library, "" if it has none; None if it is none."""
        status = self._root.stat(path)
        if status is None or not stat.S_ISREG(status.st_mode):
            return None  # opening a device could do something
        try:
            descriptor = os.open(self._root.on_host(path), files.READ)
        except OSError:
            return None
        try:
            read = elf.library(descriptor)
        except OSError:
            return None
        finally:
            os.close(descriptor)
        return read[1] if read and "/" not in read[1] else None

    def _locate(self, pattern: str) -> list[str]:
        """Return the libraries that match, links followed: of the dirs, the cache, or a driver's own dirs."""
        return (
            self._files(_LIBRARY_DIRS, pattern)
            or self._from_cache(pattern)
            or self._files(_OWN_DIRS, pattern)
        )

    def _from_cache(self, pattern: str) -> list[str]:
        if self._cached is None:
            self._cached = []
            try:
                entries = list(ldcache.parse(self._root.read_bytes(_CACHE)))
            except (OSError, ValueError):
                entries = []
            for path in dict.fromkeys(entry.path for entry in entries if entry.is_64_bit):
                self._cached += self._chain(path)
        found = fnmatch.filter(self._cached, f"*/{pattern}")
        return list(dict.fromkeys(filter(self._is_file, map(self._root.resolved, found))))

    def _chain(self, path: str) -> list[str]:
        """Return a path, what it links to, and so on; [] if that leads nowhere."""
        chain: list[str] = []
        while path not in chain:
            if not self._root.exists(path):
                return []
            chain.append(path)
            target = self._root.target(path)
            path = files.clean(os.path.join(os.path.dirname(path), target)) if target else path
        return chain

    def _files(self, dirs: Iterable[str], pattern: str) -> list[str]:
        """Return the files that match in these dirs, links followed."""
        return list(dict.fromkeys(map(self._root.resolved, self._unresolved(dirs, pattern))))

    def _unresolved(self, dirs: Iterable[str], pattern: str, *, is_program: bool = False) -> list[str]:
        """Return the files that match in these dirs."""
        return [
            path
            for directory in dirs
            for path in sorted(self._root.glob(f"{directory}/{pattern}"))
            if self._is_file(path, is_program=is_program)
        ]

    def _is_file(self, path: str, *, is_program: bool = False) -> bool:
        status = self._root.stat(path) if path else None
        if status is None or stat.S_ISDIR(status.st_mode):
            return False
        return bool(status.st_mode & 0o111) or not is_program

    def _firmware(self) -> list[str]:
        release = os.uname().release
        chosen = self._root.read(_FIRMWARE_DIR)
        dirs = [
            *([chosen] if chosen.startswith("/") else []),
            f"/lib/firmware/updates/{release}",
            "/lib/firmware/updates",
            f"/lib/firmware/{release}",
            "/lib/firmware",
        ]
        beside = [os.path.join(os.path.dirname(directory), "firmware") for directory in self.dirs]
        return self._unresolved(dict.fromkeys([*dirs, *beside]), f"nvidia/{self.version}/gsp*.bin")
