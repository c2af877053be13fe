# SPDX-License-Identifier: Apache-2.0
"""Who takes a lease for a container that is being created."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Lessee:
    """What tells a container that is being created from all others, as long as it is there.

    ``pid`` is the process that creates it, or its own first one ("self": we). ``root`` is where its runtime
    keeps it ("": its default), ``state`` the command that asks the runtime how it is ([]: only its process
    tells), ``xdg`` that command's XDG_RUNTIME_DIR (None: not set).
    """

    __slots__ = ("pid", "root", "state", "xdg")

    def __init__(
        self, pid: int | str, root: str = "", state: Sequence[str] = (), xdg: str | None = None
    ) -> None:
        self.pid = pid
        self.root = root
        self.state = list(state)
        self.xdg = xdg
