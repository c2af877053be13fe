# SPDX-License-Identifier: Apache-2.0
"""Imports go down from command line to forms, files, pure and leaves: never up, never sideways between forms, nor by importlib."""

from __future__ import annotations

import ast
import graphlib
import sys

import pytest

from .tree import modules

# Each layer may import from those before it. A package's name stands for all its modules.
LAYERS = {
    "package": ("",),  # version; public names, imported on use
    "quoting": ("quoting",),
    "errors": ("errors",),
    "leaves": ("ask", "elf", "files", "jsontext", "linux", "lowlevel", "mounts", "names", "restart", "site_packages", "spelling", "trust"),
    "pure": ("annotation", "argv", "edits", "ldcache", "policy", "proof", "request", "rule"),
    "files": (
        "audit", "bundle", "config", "devices", "doctor", "driver", "engines", "explain", "features", "index", "injection", "inside", "inventory", "live",
        "log", "onhost", "ownlog", "programs", "registry", "selinux", "specs",
    ),
    "forms": ("door", "hook", "runtime"),
    "command line": ("cli",),
    "launcher": ("bytecode",),
    "start": ("start",),
}  # fmt: skip
# Within these layers one may import another; leaves and forms stand alone.
SIDEWAYS = ("pure", "files")
# Packages that are neither ours nor Python's, and the modules that may import each.
OTHERS = {
    "yaml": ("doctor.host", "specs.compose", "specs.decode", "specs.dump"),
    "pythonjsonlogger": ("ownlog",),
    "tomli": ("engines.tomledit",),
}

ALL = modules()


def layer(name: str) -> tuple[int, str]:
    """Return the number of a module's layer, and the name in LAYERS that stands for the module."""
    short = name.partition(".")[2]
    for number, members in enumerate(LAYERS.values()):
        for member in members:
            if short == member or (member and short.startswith(f"{member}.")):
                return number, member
    raise AssertionError(f"{name} is in no layer: say in LAYERS where it belongs")


def imports(tree: ast.AST) -> set[str]:
    """Return the full names of what a module imports when it runs, its functions' imports too.

    A string that is a module's name counts: importlib gets such strings.
    """
    found: set[str] = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            found |= {name for child in node.orelse for name in imports(child)}
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: imports here name the package in full"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in ALL else str(node.module) for name in whole}
        elif isinstance(node, ast.Constant) and node.value in ALL and node.value != "cdi_hook":
            found.add(node.value)
        found |= imports(node)
    return found


IMPORTS = {name: imports(ast.parse(path.read_text("utf-8"))) for name, path in ALL.items()}


@pytest.mark.parametrize("name", ALL)
def test_imports_go_down(name: str) -> None:
    """A module imports from lower layers, and from its own layer if the layer allows it."""
    place, member = layer(name)
    wrong = []
    for other in sorted(IMPORTS[name] & ALL.keys()):
        there, other_member = layer(other)
        is_allowed = list(LAYERS)[place] in SIDEWAYS or member == other_member
        if there > place or (there == place and not is_allowed):
            wrong.append(other)
    assert wrong == []


def test_layers_name_what_there_is() -> None:
    """Every name in LAYERS is a module's."""
    names = {name.partition(".")[2] for name in ALL}
    assert [member for members in LAYERS.values() for member in members if member not in names] == []


def test_no_import_goes_in_a_circle() -> None:
    """The modules can be ordered so that each comes after those it imports."""
    ours = {name: {other for other in imported & ALL.keys() if layer(other)[0] or other == name} - {name}
            for name, imported in IMPORTS.items()}  # fmt: skip
    order = list(graphlib.TopologicalSorter(ours).static_order())
    assert sorted(order) == sorted(ALL)


@pytest.mark.parametrize("name", ALL)
def test_other_packages_are_known_in_few_places(name: str) -> None:
    """A package that isn't Python's own is imported only by the modules that OTHERS lists."""
    tops = {imported.partition(".")[0] for imported in IMPORTS[name]}
    others = tops - {"cdi_hook"} - set(sys.stdlib_module_names)
    assert others == {other for other, homes in OTHERS.items() if name.partition(".")[2] in homes}
