# SPDX-License-Identifier: Apache-2.0
"""The byte-code of all modules that a create needs, in one file: sixteen imports cost 1 ms of its 11.

start.py loads it, and imports the modules where it isn't there or doesn't hold.
As other byte-code it lies in __pycache__, is made by whoever starts first and
may write there, and holds while the sources are what they were. By marshal:

    (sys.hexversion, code of launch.py, ((module, mtime in ns, size), ...), (code, ...))

The modules stand in the order in which they import each other. Docstrings, and
the import of __future__, which means nothing once compiled, are left out.
"""

from __future__ import annotations
import __future__

import ast
import marshal
import os
import sys

from cdi_hook import files

MODULES = (
    "__init__", "quoting", "errors", "names", "jsontext", "files", "edits", "argv", "config", "request",
    "driver", "index", "registry", "bundle", "injection", "runtime", "log", "audit",
)  # fmt: skip


def write(directory: str, installed: str = "") -> None:
    """Write the file into a package's __pycache__; where that fails, the next start tries again.

    ``installed`` is where the dir will be, if that is elsewhere.
    """
    flags = __future__.annotations.compiler_flag
    sources, codes = [], []
    try:
        for name in ("launch", *MODULES):
            with open(f"{directory}/{name}.py", "rb") as file:
                status = os.fstat(file.fileno())
                tree = ast.parse(file.read())
            tree.body = [node for node in tree.body if getattr(node, "module", "") != "__future__"]
            path = f"{installed or directory}/{name}.py"
            codes.append(compile(tree, path, "exec", flags, dont_inherit=True, optimize=2))
            sources.append((name, status.st_mtime_ns, status.st_size))
        data = marshal.dumps((sys.hexversion, codes[0], tuple(sources[1:]), tuple(codes[1:])))
        files.replace(f"{directory}/__pycache__/start.{sys.implementation.cache_tag}.opt-2.pyc", data, 0o644)
    except (OSError, SyntaxError):  # in the middle of an upgrade, say
        return
