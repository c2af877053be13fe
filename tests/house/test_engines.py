# SPDX-License-Identifier: Apache-2.0
"""An engine is one module: ENGINES is the only list, every place that has to name them all does, and no other place names one."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from cdi_hook.engines import ENGINES
from cdi_hook.engines.containerd import ContainerdEditor
from cdi_hook.inject import audit

from .tree import PACKAGE, ROOT, files, filled, modules

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from cdi_hook.engines.engine import Engine

# Modules of cdi_hook/engines that aren't engines.
SHARED = {"client", "engine"}
CONTAINERDS = [one for one in ENGINES.values() if issubclass(one.editor, ContainerdEditor)]
# Scripts that name engines; a test below compares each with the modules.
SCRIPTS = {"packaging/kubernetes/install.sh": {"crio"} | {one.name for one in CONTAINERDS}}
# Files that packaging/fill.py fills, and what that makes of their marks.
MADE = {
    "packaging/deb/cdi-hook.postinst": '"cdi-hook configure docker" (or containerd, crio, ',
    "packaging/leave.sh": "'^(dockerd|containerd|crio",
    "packaging/rpm/cdi-hook.spec": '"cdi-hook configure docker" (or containerd, crio, ',
    "packaging/systemd/cdi-hook-generate.service": "\nBefore=kubelet.service docker.service containerd.service ",
}
EVERY = pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)


def read(path: str) -> str:
    """Return the text of a file of the tree."""
    return (ROOT / path).read_text("utf-8")


def test_every_module_is_in_the_list() -> None:
    """A module of cdi_hook/engines is an engine of ENGINES or one of SHARED."""
    found = {path.stem for path in (PACKAGE / "engines").glob("*.py")} - {"__init__"}
    assert found == set(ENGINES) | SHARED


@EVERY
def test_an_engine_is_a_module_of_its_name(engine: Engine) -> None:
    """An engine, and what asks it, is in the module with the engine's name."""
    assert engine.prober.__module__ == f"cdi_hook.engines.{engine.name}"
    assert ENGINES[engine.name] is engine


@EVERY
def test_an_engine_has_tests(engine: Engine) -> None:
    """An engine has a file of unit tests."""
    assert (ROOT / f"tests/unit/engines/test_{engine.name}.py").exists()


@EVERY
def test_a_container_of_it_is_told(engine: Engine) -> None:
    """LOG and leases know whose a container is, by a table that a create can read; a containerd's is containerd's."""
    told = {name for name, *_ in (*audit.ROOTS, *audit.ENGINES)}
    assert engine.name in told or engine in CONTAINERDS


@pytest.mark.parametrize("path", MADE)
def test_a_file_is_filled(path: str) -> None:
    """A file has what its marks stand for, none is left, and all that have marks are listed here."""
    made = filled(path)
    assert MADE[path] in made
    mark = re.compile(r"@[A-Z]+@")
    assert set(mark.findall(made)) <= {"@VERSION@"}
    marked = {str(one) for one in files() if one.parts[0] == "packaging" and one.suffix != ".py"}
    assert {one for one in marked if set(mark.findall(read(one))) - {"@VERSION@"}} == set(MADE)


@EVERY
def test_what_is_made_has_every_engine(engine: Engine) -> None:
    """The manual, a package's message and removal, and the service that makes specs at boot have what they need of it."""
    assert f"\n.B {engine.name}\n.I FILE\n" in read("packaging/man/cdi-hook.8")
    assert re.search(rf"\b{engine.name}\b", filled("packaging/deb/cdi-hook.postinst"))
    units = " ".join(
        re.findall(r"^Before=(.*)", filled("packaging/systemd/cdi-hook-generate.service"), re.MULTILINE)
    )
    assert {f"{unit}.service" for unit in engine.units} <= set(units.split())
    removal = filled("packaging/leave.sh")
    (looked_at,) = re.findall(r"^\tnamed -r (.*) \|\| :", removal, re.MULTILINE)
    assert any(engine.file.startswith(f"{directory}/") for directory in looked_at.split())
    (daemons,) = re.findall(r"pgrep -U 0 '\^\((.*)\)\$'", removal)
    assert not engine.daemon or engine.daemon in daemons.split("|")
    for state in engine.prober.states:
        assert f" {state}/io.containerd.runtime.v2.task/*/*/options.json" in removal


def test_the_engines_page_has_every_engine() -> None:
    """cdi-hook-engines(7) has the engines in the order of ENGINES, then others, which `configure` doesn't know."""
    page = read("packaging/man/cdi-hook-engines.7").partition("\n.SH ENGINES\n")[2].partition("\n.SH ")[0]
    names = re.findall(r"^\.SS (.*)$", page, re.MULTILINE)
    assert names == [*ENGINES, "buildah", "ctr and nerdctl"]


def test_kubernetes_looks_at_every_containerd() -> None:
    """install.sh looks for containers that cdi-runtime started in each containerd's dir of bundles."""
    script = read("packaging/kubernetes/install.sh")
    found = re.findall(r"(/\S+)/io\.containerd\.runtime\.v2\.task/\*/\*/runtime\b", script)
    assert set(found) == {state for engine in CONTAINERDS for state in engine.prober.states}


def test_kubernetes_finds_every_engine() -> None:
    """install.sh knows CRI-O and each containerd by what runs its pod, and gives the option that each containerd has."""
    script = read("packaging/kubernetes/install.sh")
    assert set(re.findall(r"\) echo (\w+) ;;", script)) == SCRIPTS["packaging/kubernetes/install.sh"]
    ((name, flag),) = re.findall(r" in (\w+):\*\) ;; \*:true\) handler=\"\$handler (--[a-z-]+)\"", script)
    assert [engine.name for engine in ENGINES.values() if engine.name == name and engine not in CONTAINERDS]
    assert all(flag in dict(engine.help.flags) for engine in CONTAINERDS)


def named(tree: ast.AST) -> set[str]:
    """Return the engines that a module's code names, as a whole string or by importing their modules."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant):
            found.add(str(node.value))
        elif isinstance(node, ast.Import):
            found |= {alias.name.rpartition("cdi_hook.engines.")[2] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module).rpartition("cdi_hook.engines.")[2]}
            found |= {alias.name for alias in node.names if node.module == "cdi_hook.engines"}
    return found & set(ENGINES)


def test_no_other_module_names_an_engine() -> None:
    """Only ENGINES, the module of an engine or of one that is made from it, and the audit's table name an engine in code."""
    found = {name: named(ast.parse(path.read_text("utf-8"))) for name, path in modules().items()}
    # how a container's engine is told, without importing their modules; k3s' is a containerd
    assert found.pop("cdi_hook.inject.audit") <= set(ENGINES)
    bases = {name: str(one.prober.__base__).split(".")[-2] for name, one in ENGINES.items()}
    own = {f"cdi_hook.engines.{name}": {name, base} & set(ENGINES) for name, base in bases.items()}
    assert {name: names for name, names in found.items() if names} == {
        "cdi_hook.engines": set(ENGINES),
        **own,
    }


def test_a_bundle_needs_no_engine(tmp_path: Path) -> None:
    """doctor of a bundle imports no engine's module."""
    (tmp_path / "config.json").write_text("{}")
    script = "import sys; from cdi_hook import cli; cli.main(['doctor', sys.argv[1]]); print(*sys.modules)"
    command = [sys.executable, "-c", script, str(tmp_path)]
    environ = {"PATH": "/usr/bin:/bin", "CDI_HOOK_CONFIG": f"{tmp_path}/conf"}
    done = subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, check=True)
    imported = {one for one in done.stdout.split() if one.startswith("cdi_hook.engines.")}
    assert "cdi_hook.engines.engine" in imported
    assert imported.isdisjoint(f"cdi_hook.engines.{name}" for name in ENGINES)


@pytest.mark.parametrize(
    "line",
    [
        "if engine == 'crio': pass",
        "FILES = {'crio': '/etc/crio'}",
        "getattr(one, 'name') in ('x', 'crio')",
        "import cdi_hook.engines.crio",
        "from cdi_hook.engines.crio import Crio",
        "from cdi_hook.engines import plan, crio",
    ],
)
def test_the_lint_sees(line: str) -> None:
    """A line that compares with an engine's name, lists it or imports its module is found."""
    assert named(ast.parse(line)) == {"crio"}


def test_the_lint_reads_prose() -> None:
    """A docstring, a comment and a message may name an engine."""
    text = "'''crio is an engine.'''\nname = f'{engine} is not crio'  # nor docker\nfrom x import docker\n"
    assert named(ast.parse(text)) == set()


def scripts() -> Iterator[tuple[str, str]]:
    """Yield the scripts of packaging, and the code of each without comments; for an rpm, the scriptlets."""
    for path in files():
        text = read(str(path)) if path.parts[0] == "packaging" and path.suffix != ".8" else ""
        if path.suffix == ".spec":
            text = text.partition("\n%post\n")[2].partition("\n%changelog")[0]
        elif not re.match(r"#!.*sh\n", text):
            continue
        yield str(path), re.sub(r"(?m)(^|[ \t])#.*$", "", text)


def words(text: str) -> set[str]:
    """Return the engines that a script names as separate words."""
    return set(re.findall(rf"(?<![\w./])({'|'.join(ENGINES)})(?![\w./-])", text))


def test_no_other_script_names_an_engine() -> None:
    """Scripts of packaging name no engine, except those that a test above compares with the modules."""
    found: Iterable[tuple[str, set[str]]] = ((path, words(text)) for path, text in scripts())
    assert {path: names for path, names in found if names} == SCRIPTS
