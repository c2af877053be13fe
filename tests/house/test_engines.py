# SPDX-License-Identifier: Apache-2.0
"""An engine is one module: ENGINES is the only list, every place that has to name them all does, and no other place names one."""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

import pytest

from cdi_hook.engines import ENGINES
from cdi_hook.engines.containerd import Containerd
from cdi_hook.engines.engine import Engine
from cdi_hook.engines.k3s import K3s

from .tree import PACKAGE, ROOT, files, modules

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# Modules of cdi_hook/engines that aren't engines.
SHARED = {"client", "engine"}
CONTAINERDS = [one for one in ENGINES.values() if isinstance(one, Containerd)]
# Scripts that name engines; a test below compares each with the modules.
SCRIPTS = {
    "packaging/deb/cdi-hook.postinst": set(ENGINES),
    "packaging/kubernetes/install.sh": {"crio"} | {one.name for one in CONTAINERDS},
    "packaging/leave.sh": {name for name, engine in ENGINES.items() if engine.daemon == name},
    "packaging/rpm/cdi-hook.spec": set(ENGINES),
}
EVERY = pytest.mark.parametrize("engine", ENGINES.values(), ids=ENGINES)


def read(path: str) -> str:
    """Return the text of a file of the tree."""
    return (ROOT / path).read_text("utf-8")


def section(path: str, start: str, end: str) -> str:
    """Return the text between two lines with these beginnings."""
    return read(path).partition(f"\n{start}")[2].partition(f"\n{end}")[0]


def test_every_module_is_in_the_list() -> None:
    """A module of cdi_hook/engines is an engine of ENGINES or one of SHARED."""
    found = {path.stem for path in (PACKAGE / "engines").glob("*.py")} - {"__init__"}
    assert found == set(ENGINES) | SHARED


@EVERY
def test_an_engine_is_a_module_of_its_name(engine: Engine) -> None:
    """An engine's class is in the module with the engine's name."""
    assert type(engine).__module__ == f"cdi_hook.engines.{engine.name}"


@EVERY
def test_an_engine_has_tests(engine: Engine) -> None:
    """An engine has a file of unit tests."""
    assert (ROOT / f"tests/unit/engines/test_{engine.name}.py").exists()


def test_the_manual_has_every_engine() -> None:
    """cdi-hook(8) has the engines in the order of ENGINES, each with its file and a user's own."""
    text = section("packaging/man/cdi-hook.8", ".SS configure", ".SS ").replace("\\-", "-")
    entries = re.findall(r"^\.TP\n\.B ([a-z0-9]+)\n((?:(?!\.TP\n).*\n)*)", text, re.MULTILINE)
    assert [name for name, _ in entries] == [*ENGINES, "all"]
    for name, entry in entries[:-1]:
        engine = ENGINES[name]
        paths = re.findall(r"^\.IR? ([/~]\S+?)\.?(?: ,| \.|$)", entry, re.MULTILINE)
        assert paths == [engine.file, *([f"~/.config/{engine.user_file}"] if engine.user_file else [])]


def test_the_engines_page_has_every_engine() -> None:
    """cdi-hook-engines(7) has the engines in the order of ENGINES, then others, which `configure` doesn't know."""
    names = re.findall(
        r"^\.SS (.*)$", section("packaging/man/cdi-hook-engines.7", ".SH ENGINES", ".SH "), re.MULTILINE
    )
    assert names == [*ENGINES, "buildah", "ctr and nerdctl"]


@pytest.mark.parametrize("path", ["packaging/deb/cdi-hook.postinst", "packaging/rpm/cdi-hook.spec"])
def test_a_package_says_which_there_are(path: str) -> None:
    """The message of an installed package names every engine."""
    ((first, others),) = re.findall(r'"cdi-hook configure (\w+)" \(or ([\w, ]+)\)', read(path))
    assert [first, *others.split(", ")] == [*ENGINES]


@EVERY
def test_a_packages_removal_looks_where_the_engine_reads(engine: Engine) -> None:
    """leave.sh looks for our programs below the engine's dir of /etc, or in the dir of its file."""
    is_in_etc = engine.file.startswith("/etc/")
    directory = "/".join(engine.file.split("/")[:3]) if is_in_etc else engine.file.rpartition("/")[0]
    pattern = r"^\tnamed -r ((?:.*\\\n)*.*) \|\| :"
    (looked_at,) = re.findall(pattern, read("packaging/leave.sh"), re.MULTILINE)
    assert directory in looked_at.split()


def test_a_packages_removal_looks_at_daemons() -> None:
    """leave.sh looks for our programs in the files on the command line of an engine's daemon."""
    (daemons,) = re.findall(r"pgrep -U 0 '\^\((.*)\)\$'", read("packaging/leave.sh"))
    assert daemons.split("|") == list(dict.fromkeys(one.daemon for one in ENGINES.values() if one.daemon))


@EVERY
def test_specs_are_made_before_an_engine_starts(engine: Engine) -> None:
    """At boot, the service that makes specs comes before an engine's units."""
    units = engine.units if isinstance(engine, K3s) else (engine.unit(),) if engine.daemon else ()
    lines = re.findall(r"^Before=(.*)", read("packaging/systemd/cdi-hook-generate.service"), re.MULTILINE)
    assert {f"{unit}.service" for unit in units} <= set(" ".join(lines).split())


@pytest.mark.parametrize(
    ("path", "file"), [("packaging/kubernetes/install.sh", "runtime"), ("packaging/leave.sh", "options.json")]
)
def test_a_script_looks_at_every_containerd(path: str, file: str) -> None:
    """A script that looks for containers that cdi-runtime started looks in each containerd's dir of bundles."""
    found = re.findall(rf"(/\S+)/io\.containerd\.runtime\.v2\.task/\*/\*/{re.escape(file)}\b", read(path))
    theirs = {engine.state for engine in CONTAINERDS}
    docker = {"/run/docker/containerd/daemon"} if "leave" in path else set()
    assert sorted(found) == sorted(theirs | docker)


def test_kubernetes_finds_every_engine() -> None:
    """install.sh knows CRI-O and each containerd by what runs its pod, and gives the option that each containerd has."""
    script = read("packaging/kubernetes/install.sh")
    assert set(re.findall(r"\) echo (\w+) ;;", script)) == SCRIPTS["packaging/kubernetes/install.sh"]
    ((name, flag),) = re.findall(r" in (\w+):\*\) ;; \*:true\) handler=\"\$handler (--[a-z-]+)\"", script)
    assert [engine.name for engine in ENGINES.values() if engine.name == name and engine not in CONTAINERDS]
    assert all(flag in dict(engine.flags) for engine in CONTAINERDS)


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
    bases = {name: getattr(type(one).__base__, "name", name) for name, one in ENGINES.items()}
    own = {f"cdi_hook.engines.{name}": {name, base} for name, base in bases.items()}
    assert {name: names for name, names in found.items() if names} == {
        "cdi_hook.engines": set(ENGINES),
        # how a container's engine is told, without importing their modules; k3s' is a containerd
        "cdi_hook.inject.audit": {name for name, one in ENGINES.items() if type(one).__base__ is Engine},
        **own,
    }


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
