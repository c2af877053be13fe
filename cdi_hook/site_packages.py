# SPDX-License-Identifier: Apache-2.0
"""The rest of Python for the cold paths: the programs start without site (-S), which costs 4 ms."""

from __future__ import annotations

import sys


def enable() -> None:
    """Make installed packages (PyYAML, python-json-logger) importable.

    What site would do besides isn't done: .pth files of other packages, and sitecustomize, may run anything.
    """
    if sys.flags.no_site and "site" not in sys.modules:
        import site

        sys.path += site.getsitepackages()
