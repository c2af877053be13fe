# SPDX-License-Identifier: Apache-2.0
"""Fixtures: clean checkouts of the tree, the packages built from them, and machines to install them on.

Packages are built once in each xdist_group: deb's tests are one group, rpm's another.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import cdi_hook
from tests.engine.box import ROOT, STANDARD_PATH

from . import life
from .machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

VERSION = cdi_hook.__version__
NEXT = "99.0.0"
TOOLS = {
    "deb": ("dpkg-buildpackage", "dh", "dh_python3"),
    "rpm": ("rpmbuild",),
}


def run(*command: str | Path, cwd: Path = ROOT, umask: int = 0o022, timeout: float = 120) -> str:
    """Run a program that must succeed, and return its stdout; an older rpm would make a database in HOME."""
    done = subprocess.run(
        command, cwd=cwd, env={"PATH": STANDARD_PATH, "HOME": "/dev/null"}, capture_output=True, text=True,
        check=False, umask=umask, timeout=timeout,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def git(*arguments: str | Path, cwd: Path = ROOT) -> str:
    """Run git, also if somebody else owns the tree; all its commits have the same date."""
    who = ("-c", "safe.directory=*", "-c", "user.name=test", "-c", "user.email=test@localhost")
    return run("env", "GIT_COMMITTER_DATE=@1700000000 +0000", "git", *who, *arguments, cwd=cwd)


def need(*programs: str) -> None:
    """Skip the test if there is no such program."""
    for program in programs:
        if not shutil.which(program, path=STANDARD_PATH):
            pytest.skip(f"{program} isn't installed")


class Key:
    """A new key in a keyring of its own."""

    def __init__(self, name: str) -> None:
        need("gpg", "gpg-agent")
        self.home = Path(tempfile.mkdtemp())  # short, because of the agent's socket in it
        self.gpg("--passphrase", "", "--quick-generate-key", name, "rsa3072", "sign")
        listed = self.gpg("--with-colons", "--list-secret-keys")
        (self.fingerprint,) = re.findall(r"^fpr:.*:(\w+):$", listed, re.MULTILINE)

    def run(self, *command: str | Path, timeout: float = 120) -> str:
        """Run a program that uses the keyring."""
        return run("env", f"GNUPGHOME={self.home}", *command, timeout=timeout)

    def gpg(self, *arguments: str | Path) -> str:
        """Run gpg."""
        return self.run("gpg", "--batch", "--quiet", "--yes", *arguments)

    def close(self) -> None:
        """End gpg's agent, and remove the keyring."""
        self.run("gpgconf", "--kill", "gpg-agent")
        shutil.rmtree(self.home, ignore_errors=True)  # the agent may still be removing its sockets


@dataclass(frozen=True)
class Checkout:
    """A clean checkout of the tree, new files included."""

    path: Path

    def build(self, kind: str, *, umask: int = 0o022) -> Path:
        """Build a package with make, beside the checkout."""
        need("git", "make", *TOOLS[kind])
        dist = self.path.parent / f"{self.path.name}.dist"
        run("make", "-s", kind, f"DIST={dist}", cwd=self.path, umask=umask)
        (package,) = dist.glob(f"*.{kind}")
        return package


@pytest.fixture(scope="session")
def checkouts(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Checkout]:
    """Make a checkout; the next version has another configuration, and modules that don't fit this version's."""
    names = git("ls-files", "-z", "--cached", "--others", "--exclude-standard").rstrip("\0").split("\0")

    def make(*, version: str = VERSION) -> Checkout:
        path = tmp_path_factory.mktemp("checkout")
        for name in names:
            if (ROOT / name).is_file():
                (path / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, path / name)
        if version != VERSION:
            home, conf = path / "cdi_hook/version.py", path / "packaging/cdi-hook.conf"
            home.write_text(home.read_text("utf-8").replace(f'"{VERSION}"', f'"{version}"'), "utf-8")
            conf.write_text(conf.read_text("utf-8") + "\n# Another line.\n", "utf-8")
            for name in ("inject/pipeline", "runtime/shim", "hooks/entry", "cli/command/inject"):
                module = path / f"cdi_hook/{name}.py"
                text = module.read_text("utf-8")
                new = text.replace("pipeline.inject(", "pipeline.let_them_in(")
                new = new.replace("\ndef inject(", "\ndef let_them_in(")
                assert new != text  # or they would fit the older ones
                module.write_text(new, "utf-8")
            log = path / "CHANGELOG.md"
            log.write_text(log.read_text("utf-8").replace(f"## [{VERSION}]", f"## [{version}]"), "utf-8")
        git("init", "-q", cwd=path)
        git("add", "-A", cwd=path)
        git("commit", "-q", "-m", "all", cwd=path)
        return Checkout(path)

    return make


@pytest.fixture(scope="session")
def packages(checkouts: Callable[..., Checkout]) -> Callable[..., Path]:
    """Build a package of this version or the next, once for each kind."""
    built: dict[tuple[str, str], Path] = {}

    def get(kind: str, version: str = VERSION) -> Path:
        if (kind, version) not in built:
            built[kind, version] = checkouts(version=version).build(kind)
        return built[kind, version]

    return get


@pytest.fixture(scope="session")
def key() -> Generator[Key]:
    """The releaser's key."""
    made = Key("releaser")
    yield made
    made.close()


@pytest.fixture(scope="session")
def other_key() -> Generator[Key]:
    """Somebody else's key."""
    made = Key("somebody else")
    yield made
    made.close()


@pytest.fixture
def machine(tmp_path: Path) -> Generator[Machine]:
    """A machine on which nothing of ours is installed."""
    if os.geteuid() != 0:
        pytest.skip("a machine of its own needs root")
    need("busybox", "runc")
    made = Machine(tmp_path)
    yield made
    made.close()


@pytest.fixture
def manager(kind: str, machine: Machine, packages: Callable[..., Path]) -> life.Manager:
    """The package manager of a kind on the machine; it installs the package."""
    return life.MANAGERS[kind](machine, packages)
