# SPDX-License-Identifier: Apache-2.0
"""apt and the repository of a release: the lines for users install from it, and what its key didn't sign is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.package.conftest import NEXT, VERSION, need
from tests.package.repository import URL, Repository, lines, swap

from .machine import Machine

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from tests.package.conftest import Key

LINES = lines("cdi-hook.sources")
UNSIGNED = f"Error: The repository '{URL}/apt ./ InRelease' is not signed.\n"


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, root: Path, key: Key
) -> Generator[tuple[Machine, Repository]]:
    """A machine that knows no other repository."""
    need("apt-ftparchive")
    machine = Machine(tmp_path_factory.mktemp("machine"), root)
    yield machine, Repository(machine, key)
    machine.close()


@pytest.fixture
def machine(server: tuple[Machine, Repository]) -> Machine:
    """The machine without the package, and without a trace of an earlier test."""
    server[0].do("dpkg", "--purge", "cdi-hook")
    server[0].do(
        "sh", "-c", "rm -rf /etc/apt/sources.list* /var/lib/apt/lists/*; mkdir /etc/apt/sources.list.d"
    )
    return server[0]


@pytest.fixture
def repository(server: tuple[Machine, Repository], packages: Callable[..., Path]) -> Repository:
    """The repository with this version."""
    server[1].publish(packages("deb"))
    return server[1]


def test_the_readmes_lines(machine: Machine, repository: Repository, packages: Callable[..., Path]) -> None:
    """The lines for users install a release, and apt upgrades to the next one, and warns of nothing."""
    done = machine.call("sh", "-ec", LINES)
    assert done.returncode == 0, done.stderr
    assert "W: " not in done.stderr
    assert "Warning: " not in done.stderr
    assert machine.do("cdi-hook", "--version") == f"cdi-hook {VERSION}"
    repository.publish(packages("deb", NEXT))
    machine.do("sh", "-ec", "apt update && apt upgrade", stdin=b"y\n")
    assert machine.do("cdi-hook", "--version") == f"cdi-hook {NEXT}"


def inrelease(repository: Repository, _: Key) -> None:
    """Change what is signed."""
    swap(repository.file("InRelease"), b"cdi-hook", b"cdi-hool")


def index(repository: Repository, _: Key) -> None:
    """Change the package's checksum in the index."""
    swap(repository.file("Packages"), b"SHA256: ", b"SHA255: ")


def package(repository: Repository, _: Key) -> None:
    """Change the package."""
    swap(repository.file("*.deb"), b"debian-binary", b"debian-banary")


def signer(repository: Repository, other: Key) -> None:
    """Sign with a key that the machine doesn't know."""
    sources = repository.file("cdi-hook.sources")
    trusted = sources.read_bytes()
    repository.publish(repository.file("*.deb"), other)
    sources.write_bytes(trusted)


REFUSALS: dict[Callable[..., None], str] = {
    inrelease: UNSIGNED,
    signer: UNSIGNED,
    index: f"Error: Failed to fetch {URL}/apt/./Packages  Hash Sum mismatch\n",
    package: f"Error: Failed to fetch {URL}/apt/./cdi-hook_{VERSION}_all.deb  Hash Sum mismatch\n",
}


@pytest.mark.parametrize("change", REFUSALS, ids=lambda change: change.__name__)
def test_refusals(
    machine: Machine, repository: Repository, other_key: Key, change: Callable[..., None]
) -> None:
    """If anything isn't what the key signed, apt says so, and nothing is installed."""
    change(repository, other_key)
    done = machine.call("sh", "-ec", LINES)
    assert done.returncode == 100
    assert REFUSALS[change] in done.stderr
    assert machine.call("cdi-hook", "--version").returncode == 127
