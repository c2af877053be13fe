# SPDX-License-Identifier: Apache-2.0
"""What dpkg and rpm do with our package on a machine."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

from .machine import BOARD

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.engine.box import Host

# Python and PyYAML are the machine's own, and rpm doesn't know about them.
_PYTHON = """\
Name: python3
Version: 3.%{number}
Release: 1
Summary: stands for the machine's own
License: none
BuildArch: noarch
Provides: python3-pyyaml /bin/sh
%description
%files
"""


class Manager:
    """A package manager on a machine, with our package for it."""

    kind = ""
    config_beside = ""  # where a shipped configuration goes that isn't installed
    library = ""  # the modules' dir

    def __init__(self, machine: Host, packages: Callable[..., Path]) -> None:
        self.machine = machine
        self._packages = packages

    def _get(self, *version: str) -> str:
        path = self._packages(self.kind, *version)
        shutil.copy(path, self.machine.directory)
        return f"{BOARD}/{path.name}"

    def install(self) -> str:
        """Install the package, or this version over another, and return the output."""
        raise NotImplementedError

    def upgrade(self, version: str) -> str:
        """Install another version over the installed one."""
        raise NotImplementedError

    def remove(self) -> str:
        """Remove the package, but not the configuration."""
        raise NotImplementedError


class Dpkg(Manager):
    """dpkg, with the database of this machine's packages."""

    kind = "deb"
    config_beside = "/etc/cdi-hook/cdi-hook.conf.dpkg-dist"
    library = "/usr/lib/python3/dist-packages"

    def install(self) -> str:
        """See Manager."""
        return self._install()

    def upgrade(self, version: str) -> str:
        """See Manager."""
        return self._install(version)

    def remove(self) -> str:
        """See Manager."""
        return self._dpkg("-r", "cdi-hook")

    def purge(self) -> str:
        """Remove the configuration too."""
        return self._dpkg("-P", "cdi-hook")

    def _install(self, *version: str) -> str:
        return self._dpkg("--force-confdef", "--force-confold", "-i", self._get(*version))

    def _dpkg(self, *arguments: str) -> str:
        # The trigger of man-db takes longer than everything else.
        command = ("dpkg", "--no-triggers", *arguments)
        done = self.machine.call(*command, environ={"DEBIAN_FRONTEND": "noninteractive"})
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


class Rpm(Manager):
    """rpm, with a database of its own."""

    kind = "rpm"
    config_beside = "/etc/cdi-hook/cdi-hook.conf.rpmnew"
    library = "/usr/share/cdi-hook/python"

    def __init__(self, machine: Host, packages: Callable[..., Path]) -> None:
        super().__init__(machine, packages)
        self._rpm("-i", self.python(13))

    def python(self, number: int) -> str:
        """Make a package that stands for Python 3 of a minor version."""
        directory = self.machine.directory
        (directory / "python.spec").write_text(_PYTHON, "utf-8")
        command = ["rpmbuild", "-bb", "-D", f"_topdir {directory}", "-D", f"number {number}", "python.spec"]
        subprocess.run(command, cwd=directory, check=True, capture_output=True)
        return f"{BOARD}/RPMS/noarch/python3-3.{number}-1.noarch.rpm"

    def install(self) -> str:
        """See Manager."""
        return self._rpm("-i", self._get())

    def upgrade(self, version: str) -> str:
        """See Manager."""
        return self._rpm("-U", self._get(version))

    def upgrade_python(self) -> str:
        """Install another Python over the installed one."""
        return self._rpm("-U", self.python(14))

    def remove(self) -> str:
        """See Manager."""
        return self._rpm("-e", "cdi-hook")

    def _rpm(self, *arguments: str) -> str:
        done = self.machine.call("rpm", *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


MANAGERS: dict[str, type[Manager]] = {"deb": Dpkg, "rpm": Rpm}
