# SPDX-License-Identifier: Apache-2.0
"""Do in a container all that its libraries need, in an order in which each step finds what it uses."""

from __future__ import annotations

import os

from cdi_hook.errors import InjectionError, quote
from cdi_hook.inside import driver, libraries, links
from cdi_hook.live.rootfs import Rootfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cdi_hook.inside.needs import Needs


def prepare(needs: Needs, path: str) -> None:
    """Prepare the rootfs at a path; raises InjectionError."""
    os.umask(0o022)  # crun runs hooks with 0
    try:
        descriptor = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise InjectionError(f"can't open the container's rootfs {quote(path)}: {error.strerror}") from error
    root = Rootfs(descriptor)
    links.make(root, needs.links)
    if needs.driver_version:
        driver.keep_nodes(root)
        driver.limit_gpus(root)
    if needs.dirs:
        before = driver.compatible(root, needs.driver_version) if needs.driver_version else ()
        libraries.update(root, needs.dirs, before)
