# SPDX-License-Identifier: Apache-2.0
"""SELinux, with Debian's policy enforced: docker, in its own domain, reads what the units made at boot."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.engine import image

from .conftest import ARCHIVE

if TYPE_CHECKING:
    from .vm import Virtual

PARAMETERS = ("security=selinux",)
INDEX = "/run/cdi-hook/etc-cdi-var-run-cdi.strict.index"
SPEC = """\
cdiVersion: "0.6.0"
kind: example.com/thing
devices: [{name: one, containerEdits: {env: [THING=one]}}]
"""
RUN = ("docker", "run", "--rm", "--network=none", "--runtime=cdi")


@pytest.fixture(scope="module")
def docker(installed: Virtual) -> Virtual:
    """A machine that has booted with specs and docker."""
    installed.write("/etc/cdi/thing.yaml", SPEC)
    installed.write("/etc/cdi-hook/cdi-hook.conf", "GENERATE=fuse\n")
    installed.do("systemctl", "enable", "docker.service")
    installed.reboot()
    installed.wait(lambda: "host.local/fuse=fuse" in installed.read(INDEX))
    installed.do("cdi-hook", "configure", "docker", "--reload")
    installed.do("docker", "load", "--input", ARCHIVE)
    return installed


def hidden(machine: Virtual) -> list[tuple[str, str]]:
    """Return what doctor says of labels, and what mends it."""
    found = json.loads(machine.call("cdi-hook", "doctor", "--json").stdout)["items"]
    return [(one["message"], one["fix"]) for one in found if one["check"] == "labels"]


def test_devices(docker: Virtual) -> None:
    """A container has a device of a spec that root wrote, and one of a spec that was made at boot."""
    assert docker.do("getenforce") == "Enforcing"
    assert docker.do("sh", "-c", "cat /proc/$(busybox pidof dockerd)/attr/current").startswith(
        "system_u:system_r:dockerd_t:"
    )
    asks = ("--annotation", "cdi.k8s.io/test=example.com/thing=one,host.local/fuse=fuse")
    look = "echo $THING; : </dev/fuse && echo opened"
    assert docker.do(*RUN, *asks, image.NAME, "sh", "-c", look) == "one\nopened"


def test_what_boot_made_is_read(docker: Virtual) -> None:
    """SELinux lets docker read the index and the specs that the units made; doctor says so if it doesn't."""
    assert hidden(docker) == []
    # In this order, because a change of a spec makes the index again, with the right label.
    for path in (INDEX, "/var/run/cdi/host.local-fuse.yaml"):
        docker.do("chcon", "-t", "initrc_runtime_t", path)
        ((fact, fix),) = hidden(docker)
        label = "system_u:object_r:initrc_runtime_t:s0"
        assert fact == f"SELinux doesn't let dockerd read {path}, which is labelled {label}"
        docker.do("sh", "-c", fix)
        assert hidden(docker) == []
