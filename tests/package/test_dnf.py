# SPDX-License-Identifier: Apache-2.0
"""dnf and the repository of a release: the lines for users install from it, and what its key didn't sign is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from . import life
from .conftest import NEXT, VERSION, Key, need, run
from .repository import Repository, lines, swap

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .machine import Machine

pytestmark = pytest.mark.xdist_group("rpm")

LINES = lines("cdi-hook.repo")


@pytest.fixture
def repository(machine: Machine, packages: Callable[..., Path], key: Key) -> Repository:
    """The only repository that the machine knows, with this version."""
    need("dnf", "createrepo_c", "rpmsign")
    life.Rpm(machine, packages)
    machine.do(
        "sh", "-c", "rm -rf /etc/yum.repos.d; mkdir /etc/yum.repos.d; echo assumeyes=1 >>/etc/dnf/dnf.conf"
    )
    made = Repository(machine, key)
    made.publish(packages("rpm"))
    return made


def test_the_readmes_lines(machine: Machine, repository: Repository, packages: Callable[..., Path]) -> None:
    """The lines for users install a release, rpm finds the package signed, and dnf upgrades to the next one."""
    machine.do("sh", "-ec", LINES)
    assert machine.do("cdi-hook", "--version") == f"cdi-hook {VERSION}"
    package = f"/run/board/repository/rpm/{repository.file('*.rpm').name}"
    assert machine.do("rpm", "--checksig", package) == f"{package}: digests signatures OK"
    repository.publish(packages("rpm", NEXT))
    machine.do("dnf", "--refresh", "upgrade")
    assert machine.do("cdi-hook", "--version") == f"cdi-hook {NEXT}"


def test_signing_changes_nothing_else(repository: Repository, packages: Callable[..., Path]) -> None:
    """The header of the signed package, which has a digest of the payload, is that of the package as it was built."""
    query = ("rpm", "-qp", "--nosignature", "--qf", "%{PAYLOADDIGEST} %{SHA256HEADER}")
    signed, built = repository.file("*.rpm"), packages("rpm")
    assert signed.read_bytes() != built.read_bytes()
    assert run(*query, signed) == run(*query, built)


def index(repository: Repository, _: Key, __: Key) -> None:
    """Change what is signed."""
    swap(repository.file("repomd.xml"), b"<revision>1", b"<revision>2")


def primary(repository: Repository, _: Key, __: Key) -> None:
    """Change the list of packages."""
    path = repository.file("*-primary.xml.gz")
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def package(repository: Repository, _: Key, __: Key) -> None:
    """Change the package."""
    swap(repository.file("*.rpm"), b"cdi-hook-", b"cdi-hool-")


def unsigned(repository: Repository, key: Key, _: Key) -> None:
    """Take the package's signature away, and sign the rest again."""
    place = repository.file("*.rpm")
    key.run("rpmsign", "--delsign", place)
    key.run("createrepo_c", "--quiet", place.parent)
    key.gpg("--armor", "--detach-sign", repository.file("repomd.xml"))


def signer(repository: Repository, _: Key, other: Key) -> None:
    """Sign with a key that isn't the published one."""
    trusted = repository.file("cdi-hook.asc").read_bytes()
    repository.publish(repository.file("*.rpm"), other)
    repository.file("cdi-hook.asc").write_bytes(trusted)


REFUSALS: dict[Callable[..., None], str] = {
    index: "repomd.xml GPG signature verification error: ",
    signer: "repomd.xml GPG signature verification error: ",
    primary: "Downloading successful, but checksum doesn't match.",
    package: "Downloading successful, but checksum doesn't match.",
    unsigned: f"Package cdi-hook-{VERSION}-1.noarch.rpm is not signed\n",
}


@pytest.mark.parametrize("change", REFUSALS, ids=lambda change: change.__name__)
def test_refusals(
    machine: Machine, repository: Repository, key: Key, other_key: Key,
    change: Callable[..., None],
) -> None:  # fmt: skip
    """If anything isn't what the key signed, dnf says so, and nothing is installed."""
    change(repository, key, other_key)
    done = machine.call("sh", "-ec", LINES)
    assert done.returncode == 1
    assert machine.call("cdi-hook", "--version").returncode == 127
    assert REFUSALS[change] in done.stdout + done.stderr
