# SPDX-License-Identifier: Apache-2.0
"""Windows' subsystem for Linux: the GPUs are one device of Windows, whose driver has files for Linux.

No driver is installed in Linux, and must not be. As nvidia-ctk in its mode wsl, we give a container the
device, what Windows has in the store of NVIDIA's driver, and the library that finds it there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdi_hook.generate import node_edits
from cdi_hook.generate.classes.nvidia_hooks import DriverFiles

if TYPE_CHECKING:
    from cdi_hook.generate.root import Root

_DEVICE = "/dev/dxg"
_LIBRARIES, _STORE = "/usr/lib/wsl/lib", "/usr/lib/wsl/drivers"
_CORE, _CUDA = "libdxcore.so", "libcuda.so.1.1"
_FILES = (
    *(_CUDA, "libcuda_loader.so", "libnvidia-ptxjitcompiler.so.1", "libnvidia-ml.so.1"),
    *("libnvidia-ml_loader.so", "libnvdxgdmal.so.1", "nvcubins.bin", "nvidia-smi"),
)


class Wsl:
    """What Windows has for Linux; it is falsy on another host."""

    def __init__(self, root: Root) -> None:
        self._root = root
        self._stores = [path.rpartition("/")[0] for path in root.glob(f"{_STORE}/*/{_CUDA}")]

    def __bool__(self) -> bool:
        return self._root.exists(_DEVICE) or self._root.exists(f"{_LIBRARIES}/{_CORE}")

    def nodes(self) -> list[str]:
        """Return the path of the device node; [] if the driver's files can't be told."""
        return [] if self.missing() else [_DEVICE]

    def files(self) -> DriverFiles:
        """Return the files of the driver."""
        store = self._stores[0]
        wanted = [f"{store}/{name}" for name in _FILES]
        wanted += self._root.glob(f"{store}/*.so*", f"{store}/*.bin", f"{store}/*.dll")
        found = [
            path for path in dict.fromkeys([f"{_LIBRARIES}/{_CORE}", *wanted]) if self._root.exists(path)
        ]
        smi = f"{store}/nvidia-smi"
        return DriverFiles(
            [(self._root.resolved(path), path) for path in found],
            [(smi, "/usr/bin/nvidia-smi")] if smi in found else [],
            [_LIBRARIES, store],
            [path for path in found if ".so" in path.rpartition("/")[2]],
        )

    def missing(self) -> list[str]:
        """Return what keeps the GPUs from being used."""
        is_there = {
            _DEVICE: node_edits.is_node(self._root, _DEVICE),
            f"{_LIBRARIES}/{_CORE}": self._root.exists(f"{_LIBRARIES}/{_CORE}"),
        }
        found = [
            f"no {path}, though this is WSL: in Windows, wsl --update"
            for path, there in is_there.items()
            if not there
        ]
        if not self._stores:
            found.append(
                f"no {_CUDA} in {_STORE}: install NVIDIA's driver in Windows, and none in WSL itself"
            )
        if len(self._stores) > 1:
            found.append(
                f"several drivers have files in {_STORE} ({', '.join(self._stores)}), and only a library of "
                "Windows knows which is used: nvidia-ctk cdi generate --mode wsl asks it"
            )
        return found
