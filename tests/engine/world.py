# SPDX-License-Identifier: Apache-2.0
"""The contents of every box: specs in both dirs, a configuration, an image; and what tests expect of them.

Every engine gets the same device, and the same requests that fail with the same
messages; only what an engine does with a message differs.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from cdi_hook.inject import explain

if TYPE_CHECKING:
    from .box import Box

ARCHIVE = "/run/board/image.tar"
KEY = "cdi.k8s.io/test"

# A character device whose driver does nothing when it is opened, and which engines
# don't let containers open. The machine's own node may be for root only.
FUSE = "vendor.com/device=fuse"
# The same without a device, for gVisor, which has no such driver.
SOFT = "vendor.com/device=soft"

# Prints who ran it: the state that it reads has the container's id.
_HOOK = """#!/bin/sh
exec cat >>/run/board/hooked
"""
HOOK = "/run/board/hook"
_COMMON: dict[str, Any] = {
    "env": ["CDI_TEST=injected"],
    "mounts": [{"hostPath": "/run/board/greeting", "containerPath": "/greeting", "options": ["bind", "ro"]}],
}
_HARD: dict[str, Any] = {
    **_COMMON,
    "deviceNodes": [{"path": "/dev/fuse"}],
    "hooks": [{"hookName": "createRuntime", "path": HOOK, "args": ["hook", "fuse"]}],
}
FILES = {
    "/etc/cdi/vendor.json": json.dumps(
        {
            "cdiVersion": "0.6.0",
            "kind": "vendor.com/device",
            "devices": [
                {"name": "fuse", "containerEdits": _HARD},
                {"name": "forbidden", "containerEdits": {**_COMMON, "env": ["CDI_TEST=forbidden"]}},
            ],
        }
    ),
    "/var/run/cdi/soft.yaml": json.dumps(
        {
            "cdiVersion": "0.6.0",
            "kind": "vendor.com/device",
            "devices": [{"name": "soft", "containerEdits": _COMMON}],
        }
    ),
    "/etc/cdi/broken.yaml": "cdiVersion: 0.6.0\nkind: broken.com/device\n"
    "devices: [{name: one, containerEdits: {hooks: [{hookName: lunch, path: /bin/true}]}}]\n",
    "/etc/cdi-hook/cdi-hook.conf": "DENY=vendor.com/device=forb*\n",
    "/run/board/greeting": "hello\n",
}

LOOK = 'echo "$CDI_TEST"; cat /greeting; : </dev/fuse && echo opened'
SEEN = "injected\nhello\nopened\n"
LOOK_SOFT = 'echo "$CDI_TEST"; cat /greeting'
SEEN_SOFT = "injected\nhello\n"
# The same from a second process of the container: environments are each process's own.
LOOK_AGAIN = 'echo "${CDI_TEST-not set}"; cat /greeting; : </dev/fuse && echo opened'
SEEN_AGAIN = "not set\nhello\nopened\n"

FAILED = "CDI device injection failed: "
_REFUSED = (
    'refused: /etc/cdi/broken.yaml: .devices[0].containerEdits.hooks[0].hookName: invalid hook name "lunch"; write one of '
    "prestart, createRuntime, createContainer, startContainer, poststart, poststop; "
)
# Requests that fail, and the message that whoever asked gets.
REFUSALS = {
    "unknown device": (
        "vendor.com/device=fus",
        f'{FAILED}unresolvable CDI devices vendor.com/device=fus (asked for by annotation "{KEY}"); '
        "no usable CDI spec in /etc/cdi, /var/run/cdi defines it; "
        f"did you mean vendor.com/device=fuse or vendor.com/device=soft or vendor.com/device=forbidden?; {_REFUSED}{explain.NEXT}",
    ),
    "malformed annotation": (
        "fuse",
        f'{FAILED}annotation "{KEY}": '
        'invalid CDI device name "fuse" (unqualified device "fuse", missing vendor); '
        "a device is written vendor.com/class=name, several with commas and no spaces between, "
        "or set DEFAULT_KIND in the configuration",
    ),
    "broken spec file": (
        "broken.com/device=one",
        f'{FAILED}unresolvable CDI devices broken.com/device=one (asked for by annotation "{KEY}"); '
        f"no usable CDI spec in /etc/cdi, /var/run/cdi defines it; {_REFUSED}"
        f"did you mean vendor.com/device=soft or vendor.com/device=fuse or vendor.com/device=forbidden?; {explain.NEXT}",
    ),
    "refused policy": (
        "vendor.com/device=forbidden",
        f'{FAILED}device vendor.com/device=forbidden (asked for by annotation "{KEY}") is not allowed on this host: '
        "DENY=vendor.com/device=forb* (/etc/cdi-hook/cdi-hook.conf:1) refuses it",
    ),
}


def furnish(box: Box, archive: bytes) -> None:
    """Put into a box what every box has."""
    for path, text in FILES.items():
        box.write(path, text)
    box.write(HOOK, _HOOK, "755")
    box.write("/run/board/hooked", "", "666")
    box.write(ARCHIVE, archive)
    box.do("mknod", "-m", "666", "/run/board/fuse", "c", "10", "229")
    # A rootless runtime makes no nodes: it binds the machine's node with the same path.
    box.do("mount", "--bind", "/run/board/fuse", "/dev/fuse")
    # crun changes the owner of a container's stdin, which would be the machine's /dev/null.
    box.do("mknod", "-m", "666", "/run/board/null", "c", "1", "3")
    box.do("mount", "--bind", "/run/board/null", "/dev/null")


def forget_leases(box: Box) -> None:
    """Have a box in which nobody ever had an exclusive device."""
    box.do("sh", "-c", "rm -rf /run/cdi-hook-* /run/user/*/cdi-hook-leases /dev/shm/cdi-hook-*")


def hooked(box: Box, container: str) -> int:
    """Return how often the device's hook ran for a container, by its full id."""
    return len(re.findall(rf'"id": *"{container}"', box.read("/run/board/hooked")))


def injected(config: dict[str, Any]) -> dict[str, int]:
    """Return how often config.json has each thing that FUSE adds."""
    linux, hooks = config["linux"], config["hooks"]["createRuntime"]
    return {
        "env": config["process"]["env"].count("CDI_TEST=injected"),
        "mount": [mount["destination"] for mount in config["mounts"]].count("/greeting"),
        "device": [device["path"] for device in linux["devices"]].count("/dev/fuse"),
        "rule": [
            (rule["allow"], rule.get("major"), rule.get("minor")) for rule in linux["resources"]["devices"]
        ].count((True, 10, 229)),
        "hook": [hook["path"] for hook in hooks].count(HOOK),
    }


ONCE = {"env": 1, "mount": 1, "device": 1, "rule": 1, "hook": 1}
