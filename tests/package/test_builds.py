# SPDX-License-Identifier: Apache-2.0
"""How packages are built: from a clean checkout, which stays clean, with the same bytes each time, and to the linters' liking."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.engine.box import ROOT, STANDARD_PATH
from tests.house.test_readme import PLACES

from .conftest import NEXT, TOOLS, VERSION, Checkout, Key, git, need, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KINDS = [pytest.param(kind, marks=pytest.mark.xdist_group(kind)) for kind in TOOLS]
NAMES = {"deb": "cdi-hook_{}_all.deb", "rpm": "cdi-hook-{}-1.noarch.rpm"}
# What a package adds.
ADDED = re.compile(
    r"/usr/share/(doc/cdi-hook/(changelog(\.Debian)?|CHANGELOG\.md|copyright)|licenses/.*|lintian/overrides/cdi-hook)"
)


def contents(package: Path) -> set[str]:
    """Return the files and links in a package."""
    if package.suffix == ".rpm":
        listed = run("rpm", "-qp", "--qf", "[%{FILEMODES:perms} %{FILENAMES}\n]", package).splitlines()
        return {line.split(maxsplit=1)[1] for line in listed if line[0] != "d"}
    listed = run("dpkg-deb", "-c", package).splitlines()
    return {line.split(maxsplit=5)[5].split(" -> ")[0][1:] for line in listed if line[0] != "d"}


@pytest.mark.parametrize("kind", KINDS)
def test_same_bytes_from_a_tree_that_stays_as_it_is(
    checkouts: Callable[..., Checkout], packages: Callable[..., Path], kind: str
) -> None:
    """Two checkouts of one commit, built under different umasks, give the same bytes, and get no new files."""
    first = packages(kind)
    checkout = checkouts()
    second = checkout.build(kind, umask=0o077)
    assert first.name == second.name == NAMES[kind].format(VERSION)
    assert first.read_bytes() == second.read_bytes()
    assert git("status", "--porcelain", "--ignored", cwd=checkout.path) == ""


@pytest.mark.parametrize("kind", KINDS)
def test_the_version_is_in_one_place(packages: Callable[..., Path], kind: str) -> None:
    """__version__ is the package's version."""
    assert packages(kind, NEXT).name == NAMES[kind].format(NEXT)


@pytest.mark.parametrize("kind", KINDS)
def test_packages_hold_what_install_installs(
    packages: Callable[..., Path], kind: str, tmp_path: Path
) -> None:
    """A package has the files of `make install`, its modules in a dir that every Python reads, and no byte-code."""
    library, zsh = {
        "deb": ("/usr/lib/python3/dist-packages", "/usr/share/zsh/vendor-completions"),
        "rpm": ("/usr/share/cdi-hook/python", "/usr/share/zsh/site-functions"),
    }[kind]
    packages(kind)  # skips the test if it can't be built
    place = (f"DESTDIR={tmp_path}", f"PYTHONDIR={library}", f"ZSHDIR={zsh}", "BYTECODE=")
    run("make", "-s", "-C", ROOT, "install", *place)
    installed = {f"/{path.relative_to(tmp_path)}" for path in tmp_path.rglob("*") if not path.is_dir()}
    found = {name.removesuffix(".gz") for name in contents(packages(kind))}
    assert {name for name in found if not ADDED.fullmatch(name)} == installed
    assert not {name for name in found if name.endswith(".pyc")}


@pytest.mark.xdist_group("deb")
def test_deb_pleases_lintian(packages: Callable[..., Path]) -> None:
    """lintian reports nothing, and the package's dependencies have Debian's names."""
    need("lintian")
    package = packages("deb")
    assert run("lintian", "--allow-root", "--fail-on", "error,warning", package) == ""
    assert run("dpkg-deb", "-f", package, "Depends", "Recommends") == (
        "Depends: python3 (>= 3.9), python3 (>= 3.11) | python3-tomli (>= 1.2), "
        "python3-pythonjsonlogger (>= 2.0), python3-yaml (>= 5.4), python3:any\n"
        "Recommends: runc | crun\n"
    )


def test_rpm_uses_the_macros_that_there_are(tmp_path: Path) -> None:
    """The rpm's scripts are the distribution's own macros, if it has them, and do the same if it hasn't."""
    need("rpmspec")
    (path,) = re.findall(r"^Macro path: (.*)$", run("rpm", "--showrc"), re.MULTILINE)
    (tmp_path / "macros.systemd").write_text(
        "%systemd_post() post of %{*}\n%systemd_preun() preun of %{*}\n%_unitdir /units\n", "ascii"
    )
    spec = tmp_path / "cdi-hook.spec"
    spec.write_text(
        (ROOT / "packaging/rpm/cdi-hook.spec").read_text("utf-8").replace("@VERSION@", "1"), "utf-8"
    )
    shipped = (ROOT / "packaging/systemd").iterdir()
    units = " ".join(sorted(path.name for path in shipped if path.suffix != ".tmpfiles"))
    read = run("rpmspec", f"--macros={path}:{tmp_path}/macros.systemd", "-P", spec)
    for line in (f"post of {units}", f"preun of {units}", "/units/cdi-hook-*"):
        assert f"\n{line}\n" in read
    read = run("rpmspec", f"--macros={path}", "-P", spec)
    for line in (
        f'if [ "$1" -eq 1 ]; then systemctl --no-reload preset {units} >/dev/null 2>&1 || :; fi',
        f'if [ "$1" -eq 0 ]; then systemctl --no-reload disable --now {units} >/dev/null 2>&1 || :; fi',
        "/usr/lib/systemd/system/cdi-hook-*",
    ):
        assert f"\n{line}\n" in read


@pytest.mark.xdist_group("rpm")
def test_rpm_pleases_rpmlint(packages: Callable[..., Path]) -> None:
    """rpmlint, configured as in Fedora, reports nothing, and the package's dependencies have Fedora's names."""
    need("rpmlint")
    package = packages("rpm")
    needed = run("rpm", "-qpR", package).splitlines()
    assert {name for name in needed if not name.startswith(("rpmlib(", "config("))} == {
        "(python3-pyyaml or python3-yaml)",
        "/bin/sh",
        "python3",
        "python3 >= 3.9",
    }
    said = run("rpmlint", "--config", ROOT / "packaging/rpm/rpmlint.toml", package)
    page = "/usr/share/man/man8/cdi-hook.8.gz"
    if "no-manual-page-for-binary cdi-hook\n" in said and page in contents(package):
        pytest.skip(f"this rpmlint (2.4 is one) is wrong: it sees no {page}")
    assert "; 0 errors, 0 warnings, " in said


def test_wheel_has_the_same_bytes(tmp_path: Path) -> None:
    """Two builds of a wheel give the same bytes."""
    need("git")
    if not (ROOT / ".venv/bin/python").exists():
        pytest.skip("there is no .venv (make check makes it)")
    wheels = []
    for number in range(2):
        run("sh", "packaging/build.sh", "wheel", tmp_path / str(number))
        (wheel,) = (tmp_path / str(number)).iterdir()
        wheels.append(wheel)
    assert wheels[0].name == wheels[1].name == f"cdi_hook-{VERSION}-py3-none-any.whl"
    assert wheels[0].read_bytes() == wheels[1].read_bytes()


def ready(checkout: Checkout, version: str, key: Key) -> list[str]:
    """Return what a checkout lacks for a release of that version, one line each, without the program's name."""
    command = ["make", "-s", "--no-print-directory", "release", f"VERSION={version}"]
    environ = {"PATH": STANDARD_PATH, "GNUPGHOME": str(key.home)}
    done = subprocess.run(
        command, cwd=checkout.path, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    lines = done.stderr.splitlines()
    assert lines.pop().startswith("make: *** ")
    assert all(line.startswith("release: ") for line in lines)
    return [line.removeprefix("release: ") for line in lines]


def publish(checkout: Checkout, account: str) -> Checkout:
    """Have the tree say that an account publishes releases."""
    for place in PLACES:
        path = checkout.path / place
        path.write_text(re.sub(r"\bOWNER\b", account, path.read_text("utf-8")), "utf-8")
    return checkout


def test_release_refuses(checkouts: Callable[..., Checkout], key: Key) -> None:
    """A release that isn't ready is refused before anything else is done, with all reasons."""
    need("git")
    checkout = publish(checkouts(), "somebody")
    (checkout.path / "CHANGELOG.md").write_text("# Changelog\n\n## [1.2.3] - unreleased\n", "utf-8")
    uncommitted = "there are changes that are not committed (git status shows them)"
    assert ready(checkout, "", key) == ["say which: make release VERSION=X.Y.Z", uncommitted]
    for version in ("1.2", "1.2.3rc1", "v1.2.3", "1.2.3.4"):
        assert ready(checkout, version, key) == [f"VERSION={version} is not of the form X.Y.Z", uncommitted]
    assert ready(checkout, "1.2.3", key) == [
        "cdi_hook/version.py has another __version__ than 1.2.3",
        'CHANGELOG.md has no line "## [1.2.3] - YYYY-MM-DD"',
        uncommitted,
    ]
    git("commit", "-q", "-a", "-m", "changes", cwd=checkout.path)
    git("tag", "v1.2.3", cwd=checkout.path)
    assert ready(checkout, "1.2.3", key)[2:] == ["there is a tag v1.2.3 already"]


@pytest.mark.parametrize("name", ["", "nobody"])
def test_release_needs_a_key_and_a_place(
    checkouts: Callable[..., Checkout], tmp_path: Path, name: str
) -> None:
    """A release without a key to sign with, or the key that is asked for, or a place for it is refused."""
    need("git", "gpg")
    checkout = publish(checkouts(), "OWNER")
    command = ("env", f"GNUPGHOME={tmp_path}/none", "sh", "packaging/release.sh", "ready", "", name)
    done = subprocess.run(
        command, cwd=checkout.path, env={"PATH": STANDARD_PATH}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[1:3] == [
        f"release: put the account that publishes in the place of OWNER in {' '.join(PLACES)} "
        "and the lines to install in README.md in place of that nothing is published",
        f"release: gpg has no key {name} to sign with: ".replace("  ", " ")
        + "import yours, make one with \"gpg --quick-generate-key 'NAME <MAIL>' rsa4096 sign never\", or name one with KEY=",
    ]


def test_release_is_ready(checkouts: Callable[..., Checkout], key: Key) -> None:
    """If the version is set, its changes are dated, and everything is committed, a release is ready."""
    need("git")
    checkout = publish(checkouts(version=NEXT), "somebody")
    log = checkout.path / "CHANGELOG.md"
    log.write_text(re.sub(r"(?m)^(## \[\S+\] - ).*", r"\g<1>2026-11-24", log.read_text("utf-8")), "utf-8")
    git("commit", "-q", "-a", "--allow-empty", "-m", "release", cwd=checkout.path)
    command = ("env", f"GNUPGHOME={key.home}", "sh", "packaging/release.sh", "ready", NEXT)
    for name in ("", key.fingerprint):
        assert run(*command, name, cwd=checkout.path) == ""
