# SPDX-License-Identifier: Apache-2.0
"""The modules of a create as bytecode.py keeps them in one file. Cold."""

from __future__ import annotations
import __future__

import ast
import marshal
import os
from typing import Any

from cdi_hook.inject import audit  # noqa: F401 # for what it imports
from cdi_hook.runtime import shim  # noqa: F401

# What only a failure needs, or LOG.
_RARE = ("cdi_hook.errors", "cdi_hook.base.log", "cdi_hook.inject.audit")


def pack(paths: dict[str, str], directory: str, installed: str) -> tuple[Any, ...]:
    """Return what the file has of these modules; ``paths`` are theirs, in a dir that will be ``installed``.

    Raises OSError or SyntaxError.
    """
    modules = []
    for name, path in paths.items():
        with open(directory + path, "rb") as source:
            status = os.fstat(source.fileno())
            code = _compile(source.read(), installed + path)
        if name in _RARE or path.endswith("/__init__.py"):
            code = marshal.dumps(code)
        modules.append((name, path, status.st_mtime_ns, status.st_size, code))
    return tuple(modules)


def _compile(text: bytes, path: str) -> Any:
    """Compile a module without what no create needs: docstrings, annotations, the import of __future__."""
    tree = ast.parse(text.replace(b"from __future__ import annotations", b""))
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.test = ast.copy_location(ast.Constant(False), node.test)
    return compile(tree, path, "exec", __future__.annotations.compiler_flag, True, 2)
