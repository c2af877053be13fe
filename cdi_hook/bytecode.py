# SPDX-License-Identifier: Apache-2.0
"""The byte-code of all modules that a create needs, in one file: sixteen imports cost 1 ms of its 11.

start.py loads it, and imports the modules where it isn't there or doesn't hold.
As other byte-code it lies in __pycache__, is made by whoever starts first and
may write there, and holds while the sources are what they were. By marshal:

    (sys.hexversion, code of launch.py, ((module, mtime in ns, size), ...), (code, ...))

The modules stand in the order in which they import each other. The code of those
in RARE is again by marshal: launch.py loads it when it is used. Docstrings, and what
means something to type checkers alone, are left out.
"""

from __future__ import annotations

import ast
import marshal
import os
import sys

from cdi_hook import files

MODULES = (
    "__init__", "quoting", "errors", "names", "jsontext", "files", "edits", "argv", "config", "request",
    "driver", "mounts", "index", "registry", "bundle", "injection", "runtime", "log", "audit",
)  # fmt: skip
RARE = ("errors", "log", "audit")  # for when something fails, or is logged


def write(directory: str, installed: str = "") -> None:
    """Write the file into a package's __pycache__; where that fails, the next start tries again.

    ``installed`` is where the dir will be, if that is elsewhere.
    """
    sources, codes = [], []
    try:
        for name in ("launch", *MODULES):
            with open(f"{directory}/{name}.py", "rb") as file:
                status = os.fstat(file.fileno())
                tree = _WithoutTypes().visit(ast.parse(file.read()))
            path = f"{installed or directory}/{name}.py"
            code = compile(tree, path, "exec", dont_inherit=True, optimize=2)
            codes.append(marshal.dumps(code) if name in RARE else code)
            sources.append((name, status.st_mtime_ns, status.st_size))
        data = marshal.dumps((sys.hexversion, codes[0], tuple(sources[1:]), tuple(codes[1:])))
        files.replace(f"{directory}/__pycache__/start.{sys.implementation.cache_tag}.opt-2.pyc", data, 0o644)
    except (OSError, SyntaxError):  # in the middle of an upgrade, say
        return


class _WithoutTypes(ast.NodeTransformer):
    """Takes annotations out of a module, and what is there for them."""

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | None:
        return None if node.module == "__future__" else node

    def visit_If(self, node: ast.If) -> ast.AST | None:
        is_for_types = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return None if is_for_types else self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        value = ast.Assign([node.target], node.value) if node.value else ast.Pass()
        return self.generic_visit(ast.copy_location(value, node))
