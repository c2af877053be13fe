# SPDX-License-Identifier: Apache-2.0
"""`make install` and the wheel: the files that they install, and that the programs work there."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import cdi_hook

from .tree import PACKAGE, ROOT

if TYPE_CHECKING:
    from collections.abc import Generator

PYTHON = "/usr/bin/python3"
STUB = """\
#!/bin/sh
echo "stub $*"
"""
SPEC = """\
cdiVersion: "0.6.0"
kind: example.com/thing
devices:
  - name: one
    containerEdits: {env: [THING=one]}
"""
# Below DESTDIR and PREFIX=/usr, beside the programs and the package.
SHARED = {
    "etc/cdi-hook/cdi-hook.conf",
    "etc/logrotate.d/cdi-hook",
    "usr/lib/systemd/system/cdi-hook-generate.path",
    "usr/lib/systemd/system/cdi-hook-generate.service",
    "usr/lib/systemd/system/cdi-hook-index.path",
    "usr/lib/systemd/system/cdi-hook-index.service",
    "usr/lib/tmpfiles.d/cdi-hook.conf",
    "usr/lib/udev/rules.d/90-cdi-hook.rules",
    "usr/share/bash-completion/completions/cdi-hook",
    "usr/share/cdi-hook/hooks.d/README.md",
    "usr/share/cdi-hook/hooks.d/createRuntime/cdi-hook.json",
    "usr/share/cdi-hook/hooks.d/precreate/cdi-hook.json",
    "usr/share/fish/vendor_completions.d/cdi-hook.fish",
    "usr/share/man/man5/cdi-hook.conf.5",
    "usr/share/man/man7/cdi-hook-engines.7",
    "usr/share/man/man8/cdi-crun.8",
    "usr/share/man/man8/cdi-hook.8",
    "usr/share/man/man8/cdi-runc.8",
    "usr/share/man/man8/cdi-runtime.8",
    "usr/share/zsh/site-functions/_cdi-hook",
}
DOCS = "usr/share/doc/cdi-hook"
PACKAGED = {str(path.relative_to(ROOT)) for path in (*PACKAGE.rglob("*.py"), PACKAGE / "py.typed")}


def run(*command: str | Path, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    """Run a command with only PATH and env as its environment; return its stdout; its stderr must be empty."""
    environment = {"PATH": os.environ["PATH"], **(env or {})}
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


def make(*arguments: str) -> None:
    """Run make in the tree."""
    run("make", "-s", "-C", ROOT, *arguments)


def installed(directory: Path) -> set[str]:
    """Return the files and links below a directory, as relative paths."""
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if not path.is_dir()}


class Host:
    """A bundle that asks for a device, the spec that defines it, and a runtime that prints how it was called."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.bundle = directory / "bundle"
        self.bundle.mkdir()
        (self.bundle / "config.json").write_text(
            json.dumps({"ociVersion": "1.0.2", "annotations": {"cdi.k8s.io/a": "example.com/thing=one"}})
        )
        specs = directory / "cdi"
        specs.mkdir()
        (specs / "example.yaml").write_text(SPEC)
        stub = directory / "stub"
        stub.write_text(STUB)
        stub.chmod(0o755)
        conf = directory / "conf"
        conf.write_text(f"RUNTIMES={stub}\nSPEC_DIRS={specs}\n")
        self.environment = {"CDI_HOOK_CONFIG": str(conf), "XDG_RUNTIME_DIR": str(directory)}

    def check(self, programs: Path) -> None:
        """Check that both programs work where they are."""
        create = ("create", "--bundle", str(self.bundle), "id")
        called = run(programs / "cdi-runtime", *create, env=self.environment)
        assert called == f"stub {' '.join(create)}\n"
        config = json.loads((self.bundle / "config.json").read_text())
        assert config["process"]["env"] == ["THING=one"]
        assert (
            run(programs / "cdi-hook", "list", env=self.environment)
            == f"example.com/thing=one  {self.directory}/cdi/example.yaml\n"
        )
        assert (
            run(programs / "cdi-hook", "--version", env=self.environment)
            == f"cdi-hook {cdi_hook.__version__}\n"
        )


@pytest.fixture
def host(tmp_path: Path) -> Generator[Host]:
    """Make a host in a directory that only we can write; root's index of it is removed afterwards."""
    yield Host(tmp_path)
    for index in Path("/run/cdi-hook").glob(f"*-{tmp_path.name}-*.index"):
        index.unlink()


def test_install_puts_these_files(tmp_path: Path) -> None:
    """`make install DESTDIR=` installs the programs, their links, the package with byte-code, and the other files."""
    make("install", f"DESTDIR={tmp_path}")
    (init,) = tmp_path.rglob("cdi_hook/__init__.py")
    lib = init.parent.parent.relative_to(tmp_path)
    if Path("/etc/debian_version").exists():
        assert str(lib) == "usr/lib/python3/dist-packages"
    tag = run(PYTHON, "-c", "import sys; print(sys.implementation.cache_tag)").strip()
    compiled = {
        f"{Path(name).parent}/__pycache__/{Path(name).stem}.{tag}.pyc"
        for name in PACKAGED
        if ".py" in name[-3:]
    }
    assert {name for name in installed(tmp_path) if not name.startswith(DOCS)} == {
        *SHARED,
        *(f"usr/bin/{name}" for name in ("cdi-runtime", "cdi-hook", "cdi-runc", "cdi-crun")),
        *(f"{lib}/{name}" for name in PACKAGED | compiled),
        f"{lib}/cdi_hook/__pycache__/start.{tag}.opt-2.pyc",  # see bytecode.py
    }
    for link in ("cdi-runc", "cdi-crun"):
        assert os.readlink(tmp_path / "usr/bin" / link) == "cdi-runtime"
        assert os.readlink(tmp_path / f"usr/share/man/man8/{link}.8") == "cdi-runtime.8"
    for program in ("cdi-runtime", "cdi-hook"):
        text = (tmp_path / "usr/bin" / program).read_text()
        assert f"\ncdi_lib='/{lib}' cdi_python='{PYTHON}'\n" in text
        assert os.access(tmp_path / "usr/bin" / program, os.X_OK)


def test_installed_documents_link_to_what_is_installed(tmp_path: Path) -> None:
    """Every link of the installed documents leads to a file that is installed, and nothing else is."""
    make("install", f"DESTDIR={tmp_path}")
    docs = tmp_path / DOCS
    linked = {docs / "README.md", docs / "SECURITY.md"}
    for path in tmp_path.rglob("usr/share/**/*.md"):
        links = re.findall(r"\]\((?!https?:|#)([^)#]+)", path.read_text("utf-8"))
        linked |= {Path(os.path.normpath(path.parent / link)) for link in links}
    assert [path for path in linked if not path.exists()] == []
    for page in tmp_path.glob("usr/share/man/man*/*"):
        named = re.findall(r"/usr/share/[\w./-]+[\w]", page.read_text("utf-8").replace("\\-", "-"))
        assert [path for path in named if not (tmp_path / path[1:]).exists()] == [], page.name
    whole = docs / "examples/kubernetes"  # of which the documents name some
    assert {docs / name for name in installed(docs)} <= linked | set(whole.rglob("*"))


def test_installed_byte_code_holds(tmp_path: Path) -> None:
    """Byte-code is checked by its source's time and size, and doesn't have DESTDIR in it."""
    make("install", f"DESTDIR={tmp_path}")
    (package,) = (tmp_path / "usr").rglob("cdi_hook")
    sources = list(package.rglob("*.py"))
    assert sources
    for source in sources:
        (compiled,) = (source.parent / "__pycache__").glob(f"{source.stem}.*-???.pyc")
        data = compiled.read_bytes()
        status = source.stat()
        words = [int.from_bytes(data[at : at + 4], "little") for at in (4, 8, 12)]
        assert words == [0, int(status.st_mtime), status.st_size]
        assert str(tmp_path).encode() not in data
        original = PACKAGE / source.relative_to(next(one for one in source.parents if one.name == "cdi_hook"))
        assert int(status.st_mtime) == int(original.stat().st_mtime)


def test_installed_programs_work(tmp_path: Path, host: Host) -> None:
    """Installed under any prefix, the programs find the package, by their own names and by a link."""
    make("install", f"PREFIX={tmp_path}/usr", f"SYSCONFDIR={tmp_path}/etc")
    before = installed(tmp_path / "usr")
    host.check(tmp_path / "usr/bin")
    assert installed(tmp_path / "usr") == before
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "usr/bin/cdi-runtime")
    assert run(link, "state", "id", env=host.environment) == "stub state id\n"


def test_what_is_installed_says_where_it_is(tmp_path: Path) -> None:
    """With another PREFIX, pages, hooks, units and documents name the programs and documents below it."""
    make("install", f"DESTDIR={tmp_path}", "PREFIX=/usr/local")
    texts = {
        str(path.relative_to(tmp_path)): path.read_text("utf-8", "replace").replace("\\-", "-")
        for path in tmp_path.rglob("usr/local/[!b]*/**/*")
        if path.is_file() and "cdi_hook" not in path.parts and "kubernetes" not in path.parts
    }
    assert "/usr/local/bin/cdi-runtime" in texts["usr/local/share/man/man7/cdi-hook-engines.7"]
    assert "/usr/local/share/doc/cdi-hook/" in texts["usr/local/share/man/man7/cdi-hook-engines.7"]
    wrong = re.compile(r"(?<!\w)/usr/(?:bin|share|share/doc)/cdi\b")
    assert [name for name, text in texts.items() if wrong.search(text)] == []


def test_install_without_pyyaml(tmp_path: Path) -> None:
    """If something that it needs is missing, nothing is installed."""
    command = ("make", "-s", "-C", ROOT, "install", f"DESTDIR={tmp_path}", f"PYTHON={PYTHON} -S")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("cdi-hook: PyYAML is missing")
    assert installed(tmp_path) == set()


def test_install_keeps_a_configuration(tmp_path: Path) -> None:
    """An existing configuration survives install and, if it was edited, uninstall."""
    conf = tmp_path / "etc/cdi-hook/cdi-hook.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text("LOG_LEVEL=warning\n")
    make("install", f"DESTDIR={tmp_path}")
    assert conf.read_text() == "LOG_LEVEL=warning\n"
    make("uninstall", f"DESTDIR={tmp_path}")
    assert installed(tmp_path) == {"etc/cdi-hook/cdi-hook.conf"}


def test_uninstall_removes_what_was_installed(tmp_path: Path) -> None:
    """After install and uninstall nothing is left, not even the shipped configuration; a space in the path is allowed."""
    place = tmp_path / "a place"
    make("install", f"DESTDIR={place}")
    assert installed(place)
    make("uninstall", f"DESTDIR={place}")
    assert installed(place) == set()
    assert not (place / "etc/cdi-hook").exists()


def test_wheel_works(tmp_path: Path, host: Host) -> None:
    """A wheel made from the sdist gives a new virtual environment both programs and the typed package, and asks for no tools."""
    tree = tmp_path / "tree"
    skipped = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", "dist", ".*")
    shutil.copytree(ROOT, tree, ignore=skipped)
    build = [sys.executable, "-m", "build", "--no-isolation", str(tree)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = (tree / "dist").glob("*.whl")
    assert wheel.name == f"cdi_hook-{cdi_hook.__version__}-py3-none-any.whl"
    venv = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", venv)
    python = venv / "bin/python3"
    pip = (sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "--python", python)
    run(*pip, "install", "--no-deps", "--no-index", "--root-user-action=ignore", wheel)
    (site,) = (venv / "lib").glob("python3*/site-packages")
    assert {
        name for name in installed(site) if name.startswith("cdi_hook/") and ".pyc" not in name
    } == PACKAGED
    metadata = (site / f"cdi_hook-{cdi_hook.__version__}.dist-info/METADATA").read_text("utf-8")
    needed = re.findall(r"^(?:Requires-Dist: ([\w-]+)|Provides-Extra)", metadata, re.MULTILINE)
    assert needed == ["PyYAML", "python-json-logger", "tomli"]
    # its dependencies are copied from here, so that no test needs a network
    here = next(path for path in sys.path if Path(path, "yaml").is_dir())
    (site / "dependencies.pth").write_text(f"{here}\n")
    host.check(venv / "bin")
    for name in ("cdi-runc", "cdi-crun"):
        assert (venv / "bin" / name).read_bytes() == (venv / "bin/cdi-runtime").read_bytes()
    said = run(python, "-c", "import cdi_hook; print(cdi_hook.__file__, cdi_hook.Cache)", cwd=tmp_path)
    assert said == f"{site}/cdi_hook/__init__.py <class 'cdi_hook.catalog.cache.Cache'>\n"
