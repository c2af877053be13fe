# SPDX-License-Identifier: Apache-2.0
"""How a later process asks this runtime about this container. Imported only for EXCLUSIVE."""

from __future__ import annotations

import posix

from cdi_hook.inject.request import Facts
from cdi_hook.leases.lessee import Lessee
from cdi_hook.runtime import argv

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# Global options that are about messages only; --debug is a flag in all runtimes.
_ABOUT_LOGS = ("debug", "log", "log-format", "log-level")


def call(told: argv.Invocation, bundle: str, runtime: str) -> Facts:
    """Return the call, with who takes a lease for exclusive devices: we, who become the runtime."""
    here = posix.getcwd()
    xdg = posix.environ.get(b"XDG_RUNTIME_DIR")
    lessee = Lessee(
        "self",
        absolute(told.root, here),
        [runtime, *to_ask(told.global_options, here), "state", told.container_id],
        None if xdg is None else xdg.decode("utf-8", "surrogateescape"),
    )
    return Facts(
        told.container_id,
        absolute(bundle, here),
        told.root,
        lessee=lessee if told.has_one_id else None,
        no_lease="the arguments don't say which of their words is the container's id",
    )


def to_ask(options: Sequence[str], directory: str) -> list[str]:
    """Return the global options for a later call: without those about messages, and the root absolute.

    ``directory`` is the current dir.
    """
    kept: list[str] = []
    index = 0
    while index < len(options):
        words = list(options[index : index + 1])
        name, value = argv.split(words[0]) if words[0].startswith("-") else ("", "")
        following = options[index + 1 : index + 2]
        if (
            value is None
            and following
            and (name in argv.VALUE_OPTIONS or following[0] in argv.OPTIONAL_VALUES.get(name, ()))
        ):
            words += following
        index += len(words)
        if name == "root":
            words = ["--root", absolute(words[1] if len(words) > 1 else value or "", directory)]
        if name not in _ABOUT_LOGS:
            kept += words
    return kept


def absolute(path: str, directory: str) -> str:
    """Return a path that starts in a dir as one that starts at the root; "" stays."""
    return path if path.startswith("/") or not path else f"{directory}/{path}"
