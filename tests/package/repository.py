# SPDX-License-Identifier: Apache-2.0
"""The repositories that packaging/repository.sh makes of packages, served to a machine on its loopback."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

from tests.engine.box import ROOT

from .conftest import need
from .machine import BOARD

if TYPE_CHECKING:
    from pathlib import Path

    from tests.engine.box import Box

    from .conftest import Key

PORT = "8000"
URL = f"http://127.0.0.1:{PORT}"


class Repository:
    """A repository on a machine's loopback, and the lines of CONTRIBUTING.md that use it."""

    def __init__(self, machine: Box, key: Key) -> None:
        need("curl")
        self._machine = machine
        self._key = key
        self.place = machine.directory / "repository"
        self.place.mkdir()
        machine.do("busybox", "ifconfig", "lo", "up")
        server = ("python3", "-m", "http.server", "--bind", "127.0.0.1", "-d", f"{BOARD}/repository", PORT)
        machine.daemon(*server, ready=("curl", "-fs", URL))

    def publish(self, package: Path, key: Key | None = None) -> None:
        """Make the repository of a copy of the package."""
        copy = shutil.copy(package, self._machine.directory)
        key = key or self._key
        key.run("sh", "packaging/repository.sh", self.place, URL, key.fingerprint, copy)

    def file(self, pattern: str) -> Path:
        """Return the only file of such a name."""
        (path,) = self.place.rglob(pattern)
        return path


def lines(file: str) -> str:
    """Return the lines that users will have, which fetch this file and install, for root and with this URL."""
    section = (
        (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("\n## A release\n")[2].partition("\n## ")[0]
    )
    (block,) = [one for one in re.findall(r"(?:^    .*\n)+", section, re.MULTILINE) if f"/{file}\n" in one]
    return re.sub(r"https://\S*/", f"{URL}/", block.replace("sudo ", ""))


def swap(path: Path, old: bytes, new: bytes) -> None:
    """Change a file, but not its length."""
    data = path.read_bytes()
    assert old in data
    assert len(old) == len(new)
    path.write_bytes(data.replace(old, new))
