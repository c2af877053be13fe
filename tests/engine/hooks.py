# SPDX-License-Identifier: Apache-2.0
"""The OCI hooks in a box: the shipped files, with a configuration, a log and devices of their own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from cdi_hook.inject import explain

from . import world

if TYPE_CHECKING:
    from .box import Box

SHIPPED = "/usr/share/cdi-hook/hooks.d"
# prestart isn't shipped: it is the file of createRuntime with the older stage.
FILES = {"precreate": "precreate", "createRuntime": "createRuntime", "prestart": "createRuntime"}
PLACE = "/run/board/hooks"
CONF = f"{PLACE}/cdi-hook.conf"
LOG = f"{PLACE}/log"
SPEC = f"{PLACE}/cdi/hook.json"
SETTINGS = {"SPEC_DIRS": f"{PLACE}/cdi", "LOG": LOG, "DENY": "hook.com/device=forb*"}

# All edits that can be made late. The machine's /dev/fuse may only be read.
LIVE = "hook.com/device=live"
NODE = "/dev/cdi-test"
_LIVE: dict[str, Any] = {
    "deviceNodes": [
        {
            "path": NODE,
            "hostPath": "/run/board/fuse",
            "permissions": "r",
            "fileMode": 0o640,
            "uid": 7,
            "gid": 8,
        }
    ],
    "mounts": [
        {"hostPath": "/run/board/greeting", "containerPath": "/opt/greeting", "options": ["bind", "ro"]}
    ],
    "hooks": [
        {"hookName": "createRuntime", "path": world.HOOK, "args": ["hook"]},
        {
            "hookName": "createContainer",
            "path": "/bin/sh",
            "args": ["sh", "-c", "cat >/dev/null; echo made >etc/made"],
        },
    ],
}
LOOK_LIVE = (
    f"cat /opt/greeting /etc/made; stat -c '%a %u:%g %t:%T' {NODE}; : <{NODE} && echo opened; "
    f"sh -c ': >{NODE} && echo written' 2>&1 || true"
)
SEEN_LIVE = f"hello\nmade\n640 7:8 a:e5\nopened\nsh: can't create {NODE}: Operation not permitted\n"
# podman with a user namespace sets no rules, and crun then allows everything.
SEEN_LIVE_WITHOUT_RULES = "hello\nmade\n640 7:8 a:e5\nopened\nwritten\n"
# A user can't make nodes but can bind the host's; they can't change rules.
SEEN_LIVE_BY_USER = "hello\nmade\n666 65534:65534 a:e5\nopened\nwritten\n"

# What FUSE has, and a group: for precreate.
ALL = "hook.com/device=all"
_ALL = json.loads(world.FILES["/etc/cdi/vendor.json"])["devices"][0]["containerEdits"] | {
    "additionalGids": [42]
}
LOOK_ALL = f"{world.LOOK}; id -G"
SEEN_ALL = f"{world.SEEN}0 42\n"

LATE = "hook.com/device=late"
_NEEDS = f'device {LATE} ({SPEC}) needs variable "A=b": too late for a container that is being created'
TOO_LATE = (
    f'{world.FAILED}{_NEEDS}; asked for by annotation "{world.KEY}"; use cdi-runtime or the precreate hook, which come '
    "earlier, or set HOOK_UNSUPPORTED=warn to have it left out"
)
LEFT_OUT = f"{_NEEDS}, and left out because of HOOK_UNSUPPORTED=warn"
_DEVICES: dict[str, dict[str, Any]] = {
    "all": _ALL,
    "live": _LIVE,
    "late": {"env": ["A=b"], "mounts": _LIVE["mounts"]},
    "gone": {"deviceNodes": [{"path": "/dev/gone"}]},
}
# A device that can't be had, what is added to the configuration, the exit status, and the message.
REFUSALS: dict[str, tuple[str, dict[str, str], int, str]] = {
    "bad configuration": (
        ALL,
        {"SPEC_TRUST": "blind"},
        4,
        f'{world.FAILED}the configuration can\'t be used: {CONF}:4: SPEC_TRUST: "blind" is none of strict, none',
    ),
    "malformed annotation": ("fuse", {}, 5, world.REFUSALS["malformed annotation"][1]),
    "refused policy": (
        "hook.com/device=forbidden",
        {},
        5,
        f'{world.FAILED}device hook.com/device=forbidden (asked for by annotation "{world.KEY}") is not allowed on '
        f"this host: DENY=hook.com/device=forb* ({CONF}:3) refuses it",
    ),
    "unknown device": (
        "hook.com/device=nothing",
        {},
        6,
        f'{world.FAILED}unresolvable CDI devices hook.com/device=nothing (asked for by annotation "{world.KEY}"); '
        f"no usable CDI spec in {PLACE}/cdi defines it; did you mean hook.com/device=live or hook.com/device=late "
        f"or hook.com/device=gone?; {explain.NEXT}",
    ),
    "no such node": (
        "hook.com/device=gone",
        {},
        7,
        f'{world.FAILED}failed to stat CDI host device "/dev/gone": does not exist; '
        f'device hook.com/device=gone (asked for by annotation "{world.KEY}") is defined by {SPEC}; '
        f"{explain.GENERATE}",
    ),
}


def furnish(box: Box) -> None:
    """Put the hooks into a box, for podman and for the runtimes that make runc call them."""
    devices = [{"name": name, "containerEdits": edits} for name, edits in _DEVICES.items()]
    box.write(SPEC, json.dumps({"cdiVersion": "0.7.0", "kind": "hook.com/device", "devices": devices}))
    box.write(LOG, "", "666")
    configure(box)
    for stage, shipped in FILES.items():
        hook = json.loads(box.read(f"{SHIPPED}/{shipped}/cdi-hook.json"))
        hook["hook"] |= {"args": ["cdi-hook", stage], "env": [f"CDI_HOOK_CONFIG={CONF}"]}
        hook["stages"] = [stage]
        box.write(f"{PLACE}/{stage}/cdi-hook.json", json.dumps(hook))
        box.write(f"{PLACE}/{stage}.conf", f'[engine]\nhooks_dir = ["{PLACE}/{stage}"]\n')


def configure(box: Box, **more: str) -> None:
    """Write the hooks' configuration."""
    box.write(CONF, "".join(f'{key}="{value}"\n' for key, value in {**SETTINGS, **more}.items()))


def told(box: Box) -> list[str]:
    """Return the warnings and errors in the log, and empty it."""
    lines = [json.loads(line) for line in box.read(LOG).splitlines()]
    box.do("truncate", "-s0", LOG)
    return [line["msg"] for line in lines if line["level"] != "INFO"]
