# SPDX-License-Identifier: Apache-2.0
"""Imports go down from room to room, never up and never in a circle: those in annotations, and by importlib, too."""

from __future__ import annotations

import ast
import graphlib
import sys
from collections import Counter

import pytest

from .tree import ROOT, modules

# A room, or a module beside the rooms, and the rooms that it may import from: all of them come before it.
ROOMS = {
    "version": "",
    "base": "",
    "errors": "",
    "names": "base errors",
    "edits": "base errors",
    "specs": "base edits errors names",
    "catalog": "base edits errors names specs version",
    "container": "base errors",
    "libraries": "base container errors",
    "generate": "base catalog edits errors libraries names specs",
    "config": "base errors generate names",
    "leases": "base catalog edits errors specs",
    "inject": "base catalog config container edits errors generate leases names",
    "live": "base container edits errors",
    "runtime": "base config errors inject leases",
    "hooks": "base errors inject leases libraries live runtime",
    "engines": "base errors",
    "doctor": "base catalog config edits engines errors inject leases names specs",
    "cli": "base catalog config doctor edits engines errors generate hooks inject leases libraries names specs version",
    "bytecode": "base config hooks runtime",
    "start": "bytecode",
}
# In these folders a new class of devices, engine, check or command is a new file, and base has one subject, the
# host; any other has twelve at most.
FOLDERS = ("base", "engines", "generate.classes", "doctor.checks", "cli.command")
MOST = 12
# Of the modules beside the rooms, with the package's own.
MOST_ON_TOP = 6
# A command may be called as the room that it fronts.
FRONTS = {"doctor", "generate", "inject"}
# Packages that are neither ours nor Python's, and the modules that may import each.
OTHERS = {
    "yaml": ("doctor.checks.of_host", "specs.yaml_nodes", "specs.yaml_values", "specs.dump"),
    "pythonjsonlogger": ("inject.audit",),
    "tomli": ("engines.edit.toml_document",),
}

ALL = modules()
PACKAGES = {name for name, path in ALL.items() if path.name == "__init__.py"}


def room(name: str) -> str:
    """Return the room of a module, "" for the package itself."""
    return f"{name}.".split(".")[1]


def imports(tree: ast.AST) -> set[str]:
    """Return the full names of what a module imports, wherever it does.

    A string that is a module's name counts: importlib gets such strings.
    """
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"line {node.lineno}: imports here name the package in full"
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in ALL else str(node.module) for name in whole}
        elif isinstance(node, ast.Constant) and node.value in ALL and node.value != "cdi_hook":
            found.add(node.value)
    return found


IMPORTS = {name: imports(ast.parse(path.read_text("utf-8"))) for name, path in ALL.items()}
# The package's own module names the homes of public names, and imports nothing before one is used.
OURS = {name: (imported & ALL.keys()) - {name} for name, imported in IMPORTS.items() if room(name)}


def test_every_room_is_in_the_table() -> None:
    """ROOMS names what there is, each room with others that come before it."""
    assert {room(name) for name in OURS} == ROOMS.keys()
    order = list(ROOMS)
    for name, others in ROOMS.items():
        assert set(others.split()) <= set(order[: order.index(name)]), name


@pytest.mark.parametrize("name", ROOMS)
def test_a_room_imports_what_the_table_says(name: str) -> None:
    """A room's modules import from the rooms that ROOMS has for it, and from each of those."""
    found = {room(other) for one, others in OURS.items() if room(one) == name for other in others}
    assert found - {name} == set(ROOMS[name].split())


def test_no_import_goes_in_a_circle() -> None:
    """The modules can be ordered so that each comes after those it imports, for its annotations too."""
    # Who imports a module has its packages imported before.
    order = list(graphlib.TopologicalSorter(OURS).static_order())
    assert sorted(order) == sorted(OURS)


def test_rooms_are_small() -> None:
    """A folder has twelve modules at most beside its own, unless each is one thing more; the top has six."""
    sizes = Counter(name.rpartition(".")[0] for name in ALL if name not in PACKAGES)
    assert sizes.pop("cdi_hook") + 1 <= MOST_ON_TOP
    assert {name for name, size in sizes.items() if size > MOST} <= {f"cdi_hook.{one}" for one in FOLDERS}


@pytest.mark.parametrize("name", sorted(PACKAGES))
def test_a_room_says_what_it_is(name: str) -> None:
    """Its docstring begins with a line that is its contract."""
    text = ast.get_docstring(ast.parse(ALL[name].read_text("utf-8")))
    assert text
    assert text.partition("\n")[0].endswith((".", ":"))


def test_unit_tests_lie_in_rooms() -> None:
    """A dir of tests/unit has the name of the room that it tests."""
    assert {path.parent.name for path in (ROOT / "tests/unit").glob("*/test_*.py")} <= {*ROOMS}


def test_no_name_stands_twice() -> None:
    """One noun a thing: no two modules, and no two types, have the same name."""
    leaves = Counter(name.rpartition(".")[2] for name in ALL)
    assert {name for name, number in leaves.items() if number > 1} == FRONTS
    types = Counter(
        name
        for path in ALL.values()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        for name in defined(node)
        if name[0] != "_" and not name.isupper() and name[0].isupper()
    )
    assert [name for name, number in types.items() if number > 1] == []


def defined(node: ast.AST) -> list[str]:
    """Return the names of the class or of the variables that a statement makes; a type's alias is one of these."""
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets if isinstance(target, ast.Name)]
    return [node.name] if isinstance(node, ast.ClassDef) else []


@pytest.mark.parametrize("name", ALL)
def test_other_packages_are_known_in_few_places(name: str) -> None:
    """A package that isn't Python's own is imported only by the modules that OTHERS lists."""
    tops = {imported.partition(".")[0] for imported in IMPORTS[name]}
    others = tops - {"cdi_hook"} - set(sys.stdlib_module_names)
    assert others == {other for other, homes in OTHERS.items() if name.partition(".")[2] in homes}


def test_the_device_plugin_is_a_client() -> None:
    """It is made with the package's public names, as anybody's could be."""
    files = [*ROOT.glob("packaging/kubernetes/device-plugin/*.py")]
    found = {name for file in files for name in imports(ast.parse(file.read_text("utf-8")))}
    assert {name for name in found if name.partition(".")[0] == "cdi_hook"} == {"cdi_hook"}
