# SPDX-License-Identifier: Apache-2.0
"""Where other packages are (PyYAML, python-json-logger): the programs start without site (-S), for 4 ms.

Of what site does, only this is done: .pth files of other packages, and sitecustomize, may run anything.
"""

from __future__ import annotations

import sys


def dirs() -> list[str]:
    """Return the dirs of the packages that are installed for this Python.

    A virtual environment's Python has its own, and those of the Python that it was made from: since Python
    3.14 sys.prefix is the environment's even without site, before it was that Python's.
    """
    import site

    return site.getsitepackages(list(dict.fromkeys((sys.prefix, sys.exec_prefix, sys.base_prefix))))


def enable() -> None:
    """Make these packages importable, if the program was started without site."""
    if sys.flags.no_site:
        sys.path += [one for one in dirs() if one not in sys.path]


def has(name: str) -> bool:
    """Say whether the programs find a package: beside our own, or where packages are installed."""
    from importlib.machinery import PathFinder

    ours = __file__[: -len("/cdi_hook/base/packages.py")]
    return PathFinder.find_spec(name, [ours, *dirs()]) is not None
