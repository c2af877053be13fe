# SPDX-License-Identifier: Apache-2.0
"""The modules of a create as bytecode.py keeps them in one file. Cold."""

from __future__ import annotations
import __future__

import ast
import marshal
import os
from typing import Any

from cdi_hook.inject import audit, deal, doubt, policy  # noqa: F401 # for what they import
from cdi_hook.runtime import later, shim  # noqa: F401

# What only a failure needs, or a key of the configuration.
_RARE = (
    "cdi_hook.errors", "cdi_hook.base.log", "cdi_hook.config.rule", "cdi_hook.inject.audit",
    "cdi_hook.inject.deal", "cdi_hook.inject.doubt", "cdi_hook.inject.policy", "cdi_hook.leases",
    "cdi_hook.runtime.later",
)  # fmt: skip


def pack(paths: dict[str, str], directory: str, installed: str) -> tuple[Any, ...]:
    """Return what the file has of these modules; ``paths`` are theirs, in a dir that will be ``installed``.

    Raises OSError or SyntaxError.
    """
    modules = []
    # rooms come first, because what is in them is put into them
    for name, path in sorted(paths.items(), key=lambda item: not item[1].endswith("/__init__.py")):
        with open(directory + path, "rb") as source:
            status = os.fstat(source.fileno())
            code = _compile(source.read(), installed + path)
        if name.startswith(_RARE) or path.endswith("/__init__.py"):
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
