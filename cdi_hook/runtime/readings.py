# SPDX-License-Identifier: Apache-2.0
"""Arguments that runtimes read in different ways: which of several paths for config.json counts."""

from __future__ import annotations

import posix

from cdi_hook import errors
from cdi_hook.base.quoting import quote
from cdi_hook.inject import bundle, request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from cdi_hook.config.settings import Config


def only_one(paths: Sequence[str], config: Config, container: str) -> str:
    """Return the one of these that there is; raises BundleError for several if any asks for a device."""
    found: dict[tuple[int, int], str] = {}
    for path in paths:
        try:
            status = posix.stat(path)
        except OSError:
            continue
        found.setdefault((status.st_dev, status.st_ino), path)
    there = list(found.values()) or paths
    if len(found) > 1 and any(_may_ask(path, config, container) for path in there):
        raise errors.BundleError(
            "runtimes read these arguments in different ways and may take "
            f"{' or '.join(map(quote, there))}, of which one may ask for a CDI device",
            'write the bundle as --bundle=DIR before the id, and no other option with one "-" or spaces '
            "around it",
        )
    return there[0]


def _may_ask(path: str, config: Config, container: str) -> bool:
    try:
        found = bundle.load(path)
        wanted = found and request.collect(found[0], config, container)
    except errors.CDIError:
        return True
    return bool(wanted and wanted.device_ids)
