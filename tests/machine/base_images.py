# SPDX-License-Identifier: Apache-2.0
"""The images that a Containerfile starts from, without a registry: Debian's packages, and busybox."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from tests.package.conftest import run

from . import machine

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# Nothing comes from a registry; the images are in a storage of their own. The limits are what any root may set.
_CONFIGURATION = {
    "CONTAINERS_STORAGE_CONF": '[storage]\ngraphroot = "{}/storage"\nrunroot = "{}/run"\n',
    "CONTAINERS_REGISTRIES_CONF": '[[registry]]\nprefix = "docker.io"\nblocked = true\n',
    "CONTAINERS_CONF": '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n',
}
# What apt would fetch from, as all that it is asked for is there; and what only takes time.
_WITHOUT = (
    "etc/apt/sources.list", "usr/bin/podman", "usr/libexec", "usr/share/doc", "usr/share/locale", "usr/share/man",
    *(f"usr/lib/{name}" for name in ("podman", "systemd", "udev")),
)  # fmt: skip


def make_root(cache: Path, packages: Sequence[str]) -> Path:
    """Return a root dir of these packages of Debian's that is in a cache, or make it there."""
    command = (
        "mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(packages)}", "trixie",
    )  # fmt: skip
    return machine.cached(cache, "\0".join(command), lambda new: machine.run(*command, new, timeout=600))


def make(directory: Path, root: Path) -> list[str]:
    """Make the images in a storage of their own; return the settings with which buildah and podman know them.

    ``root`` has Debian's packages; a root of machine.make_root has those of the installer's image.
    """
    settings = ["BUILDAH_ISOLATION=chroot"]
    for name, text in _CONFIGURATION.items():
        (directory / name).write_text(text.replace("{}", str(directory)), "ascii")
        settings.append(f"{name}={directory / name}")
    (directory / "bin").mkdir()
    shutil.copy("/bin/busybox", directory / "bin")
    for name in run("busybox", "--list").split():
        if name != "busybox":
            (directory / "bin" / name).symlink_to("busybox")
    for name, place, files in (
        ("debian:13-slim", root, "bin etc lib lib64 sbin tmp usr var"),
        ("busybox:1.37", directory, "bin"),
    ):
        archive = directory / "base.tar"
        run("tar", "-cf", archive, "-C", place, *(f"--exclude={one}" for one in _WITHOUT), *files.split())
        container = run("env", *settings, "buildah", "from", "scratch").strip()
        run("env", *settings, "buildah", "add", "-q", container, archive, "/")
        run("env", *settings, "buildah", "commit", "-q", "--rm", container, f"docker.io/library/{name}")
    return settings
