# SPDX-License-Identifier: Apache-2.0
"""A host that has changed since its specs were made: what it has now, and the command that makes one again.

A create that fails asks this. It reads no specs, so it needs no PyYAML.
"""

from __future__ import annotations

import os
import shlex

from cdi_hook.base import files
from cdi_hook.errors import CDIError
from cdi_hook.generate import classes, naming
from cdi_hook.generate.root import Root

# The first line of the files that `cdi-hook generate` made begins so.
MARK = "# Made by `cdi-hook generate"
CONFIGURED = f"{MARK} --configured`, which"


def class_of(name: str) -> str:
    """Return the class that makes devices of the kind of a name; "" if there is none."""
    kind = name.partition("=")[0]
    return next((class_ for class_ in classes.CLASSES if kind in classes.get(class_).kinds), "")


def names_now(class_: str) -> set[str]:
    """Return the qualified names of a class's devices that the host has now; none if nobody can tell."""
    try:
        found = classes.get(class_).find(Root())
    except (CDIError, OSError):
        return set()
    return {f"{each.kind}={name}" for each in found for own in naming.names(each) for name in own}


def command(path: str, class_: str) -> str:
    """Return the command that makes a class's spec file again; "" if `cdi-hook generate` didn't make it."""
    try:
        text = files.read(path)
    except OSError:
        return ""
    if text.startswith(CONFIGURED.encode()):
        return "cdi-hook generate --configured"
    made = shlex.join(("cdi-hook", "generate", class_, "--output", os.path.dirname(path)))
    return made if text.startswith(MARK.encode()) else ""
