# SPDX-License-Identifier: Apache-2.0
"""A class of devices is a row or a module: classes.CLASSES is the only list, and every place that has to name them all does."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys

import pytest

from cdi_hook.generate import classes
from cdi_hook.generate.device_class import HOST
from cdi_hook.names import parse_qualified_name
from tests.unit.generate.cases import CASES

from . import generated
from .tree import PACKAGE, ROOT

SHARED = {"nvidia_driver", "nvidia_hooks", "nvidia_jetson", "nvidia_wsl"}  # which have no class
EVERY = pytest.mark.parametrize("name", classes.CLASSES)


def test_every_module_is_in_the_list() -> None:
    """A module of cdi_hook/generate/classes has a class or is one of SHARED; its classes are those that CLASSES has for it."""
    found = {path.stem for path in (PACKAGE / "generate/classes").glob("*.py")} - {"__init__"}
    homes = {path.rpartition(".")[2] for path in classes.CLASSES.values()}
    assert found == homes | SHARED
    for path in set(classes.CLASSES.values()):
        own = [name for name, home in classes.CLASSES.items() if home == path]
        assert sorted(importlib.import_module(path).CLASSES) == own


def test_the_list_is_sorted() -> None:
    """The classes are in the order in which people look for them."""
    assert list(classes.CLASSES) == sorted(classes.CLASSES)


@EVERY
def test_a_class_is_called_by_its_name(name: str) -> None:
    """A class has its name, valid kinds of which those of plain classes have our vendor, and says what it is."""
    one = classes.get(name)
    assert one.name == name
    assert one.about
    assert one.kinds
    for kind in one.kinds:
        parse_qualified_name(f"{kind}=x")
    if classes.CLASSES[name].endswith(".plain"):
        assert one.kinds == (f"{HOST}/{name}",)


@EVERY
def test_a_class_has_tests(name: str) -> None:
    """A class has a case, or a file of unit tests."""
    assert name in CASES or (ROOT / f"tests/unit/generate/test_{name}.py").exists()


def test_what_vendors_tools_make() -> None:
    """CONTRIBUTING.md's table of vendors' tools names classes that there are, and every class of a vendor's."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("### What vendors' tools make")[2]
    rows = re.findall(r"^\|.*\|(.*)\|$", text.partition("\n## ")[0], re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`([\w-]+)`", row)}
    vendors = {name for name in classes.CLASSES if classes.get(name).kinds != (f"{HOST}/{name}",)}
    assert named == vendors | {"vfio"}


def test_udev_knows_every_event() -> None:
    """The udev rules are those that generated.py makes of the classes' events."""
    assert generated.RULES.read_text("utf-8") == generated.rules(), generated.AGAIN


def test_the_list_costs_nothing() -> None:
    """A container's start may look at the list of classes: it imports no other module."""
    program = "import sys; import cdi_hook.generate.classes; print(*(one for one in sys.modules if 'cdi_hook' in one))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "cdi_hook cdi_hook.generate cdi_hook.generate.classes\n"
