# SPDX-License-Identifier: Apache-2.0
"""Huawei's Ascend NPUs, with the driver's files, as Huawei's mind-cluster makes them.

What only the 310B and the 950 have beside this isn't in it, nor are virtual NPUs: no file says which
of them a host has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cdi_hook.generate.classes.plain import Subsystem

if TYPE_CHECKING:
    from cdi_hook.generate.device_class import Found
    from cdi_hook.generate.root import Root

_DRIVER = "/usr/local/Ascend/driver"
_LIBRARIES = (f"{_DRIVER}/lib64/common", f"{_DRIVER}/lib64/driver")


class Ascend(Subsystem):
    """The class."""

    def find(self, root: Root) -> list[Found]:
        """Return the NPUs, called by their numbers."""
        found = super().find(root)
        libraries = [path for path in _LIBRARIES if root.exists(path)]
        for each in found if libraries else ():
            each.edits["env"] = [f"LD_LIBRARY_PATH={':'.join(libraries)}"]
        return found


_ASCEND = Ascend(
    "ascend", "Huawei's Ascend NPUs, with the driver's files", "0, 1.",
    nodes="/dev", pattern=r"davinci\d+", named=r"\d+", kernel="davinci[0-9]*",
    shared=[f"/dev/{name}" for name in ("davinci_manager", "devmm_svm", "hisi_hdc", "dvpp_cmdlist")],
    files=(f"{_DRIVER}/lib64", f"{_DRIVER}/include", "/usr/local/dcmi", "/usr/local/bin/npu-smi",
           "/var/queue_schedule"),
    without="no Ascend NPU: install Huawei's driver",
)  # fmt: skip
_ASCEND.kinds = ("ascend.com/npu",)
CLASSES = {_ASCEND.name: _ASCEND}
