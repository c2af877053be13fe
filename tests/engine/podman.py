# SPDX-License-Identifier: Apache-2.0
"""podman and buildah in a box, configured by /etc/containers/containers.conf; as root, or as a user with subordinate ids."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from . import image, world
from .box import USER, need

if TYPE_CHECKING:
    from .box import Box, Completed

# podman takes a runtime's errors from its stderr, or, if podman is told that the
# runtime supports JSON, from its --log: "cdi-json" is the same program.
# Without paths, it looks for a runtime and for conmon on PATH.
CONFIGURATION = f"""[containers]
netns = "none"
pids_limit = 0
log_driver = "k8s-file"
[engine]
cgroup_manager = "cgroupfs"
conmon_path = []
events_logger = "file"
infra_image = "{image.NAME}"
runtime_supports_json = ["cdi-json"]
[engine.runtimes]
runc = []
crun = []
cdi = ["/usr/bin/cdi-runtime"]
cdi-json = ["/usr/bin/cdi-runtime"]
cdi-crun = ["/usr/bin/cdi-crun"]
cdi-runsc = ["/usr/bin/cdi-runsc"]
"""
# With this, cdi-runtime is the runtime of everything that names none.
AS_DEFAULT = "/run/board/default.conf"

_ADD_USER = """
echo user:x:$1:$1::/home/user:/bin/sh >>/etc/passwd
echo user:x:$1: >>/etc/group
for file in /etc/subuid /etc/subgid; do echo user:100000:65536 >$file; done
mkdir /run/user
for place in /home/user /run/user/user; do install -d -m 700 -o $1 -g $1 $place; done
"""
# A distribution's own storage.conf may have nodev, with which a node outside /dev can't be opened.
_NO_NODEV = """
own=/usr/share/containers/storage.conf
[ ! -e $own ] || sed '/^mountopt/d' $own >/etc/containers/storage.conf
"""
_WARNING = r'(?:\{"error":"(?:\\"|[^"])*","level":"warning",[^\n]*\}\n|time="[-:TZ\d]+" level=warning msg="Refreshing the CDI registry generated errors" error="(?:\\"|[^"])*"\n)'
# Of crun before 1.9, on a machine where root may not raise limits.
_NO_LIMIT = "setrlimit (RLIM_MEMLOCK): Operation not permitted"
# What podman says of this machine, not of the container.
_ENVIRON = {"PODMAN_IGNORE_CGROUPSV1_WARNING": "1"}


class Podman:
    """A podman, as root or as a user."""

    def __init__(self, box: Box, layout: str, *, rootless: bool) -> None:
        self.box = box
        self.layout = layout
        self.user = USER if rootless else 0
        box.write("/etc/containers/containers.conf", CONFIGURATION)
        box.do("sh", "-c", _NO_NODEV)
        box.write(AS_DEFAULT, '[engine]\nruntime = "cdi"\n')
        box.do("mount", "--make-rshared", "/")
        if rootless:
            box.do("sh", "-ec", _ADD_USER, "sh", str(USER))
        self.do("podman", "load", "--quiet", "--input", world.ARCHIVE)

    def call(self, *arguments: str, environ: dict[str, str] | None = None, **options: Any) -> Completed:
        """Run a program as the user whose podman it is."""
        if "CONTAINERS_CONF_OVERRIDE" in (environ or {}):
            need("podman", (4, 5), "CONTAINERS_CONF_OVERRIDE")
        done = self.box.call(*arguments, user=self.user, environ={**_ENVIRON, **(environ or {})}, **options)
        if _NO_LIMIT in done.stderr:
            pytest.skip(f"crun can't run a container here: {_NO_LIMIT}")
        return done

    def do(self, *arguments: str, environ: dict[str, str] | None = None, **options: Any) -> str:
        """Run a program that must succeed."""
        return self.box.do(*arguments, user=self.user, environ={**_ENVIRON, **(environ or {})}, **options)

    def run(
        self,
        *options: str,
        script: str = "",
        device: str = world.FUSE,
        runtime: str = "cdi",
        flags: tuple[str, ...] = (),
    ) -> Completed:
        """Run a container that asks for a device."""
        return self.call(
            "podman", "--runtime", runtime, *flags, "run", "--annotation", f"{world.KEY}={device}",
            *options, image.NAME, *(("sh", "-c", script) if script else ()),
        )  # fmt: skip

    def inspect(self, container: str, what: str) -> Any:
        """Return a part of what podman inspect says of a container."""
        return json.loads(self.do("podman", "inspect", "--format", f"{{{{json .{what}}}}}", container))

    def told(self, message: str) -> str:
        """Return a message as this user gets it: it also names the user's own spec dirs."""
        own = ", /home/user/.config/cdi, /run/user/user/cdi" if self.user else ""
        return message.replace("in /etc/cdi, /var/run/cdi defines", f"in /etc/cdi, /var/run/cdi{own} defines")


def without_warning(stderr: str) -> str:
    """Return a runtime's stderr without the warnings that come before the error if there is no --log."""
    return re.sub(_WARNING, "", stderr)
