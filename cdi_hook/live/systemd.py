# SPDX-License-Identifier: Apache-2.0
"""Device rules -> the DeviceAllow of a scope, systemd's unit for a container (systemd.resource-control(5)).

systemd makes a scope's BPF program again and again from this property: when another
property changes, and at the first start of a unit after a daemon-reload. A device
that only the program allows is lost then. A user's own systemd may load no such
program, so that there is nothing to tell it.
"""

from __future__ import annotations

import os

from cdi_hook.base.process import ask
from cdi_hook.base.quoting import quote
from cdi_hook.errors import InjectionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from cdi_hook.live import bpf

_BOOTED = "/run/systemd/system"  # sd_booted(3)
_KINDS = {"b": "block", "c": "char"}


def allow(scope: str, rules: bpf.Rules, warn: Callable[[str], None]) -> bool:
    """Add rules to a scope, and return whether systemd's own program now allows them.

    There is nothing to add to a cgroup that isn't systemd's, or whose devices systemd
    doesn't restrict. ``warn`` is told what fails.
    """
    has_any_number = any(None in numbers for _, *numbers in rules)  # systemd would need a driver's name
    if has_any_number or not os.path.isdir(_BOOTED):
        return False
    try:
        policy, has = _show(scope)
        if not policy or (policy == "auto" and not has):
            return False
        new = []
        for (kind, major, minor), access in rules.items():
            path = f"/dev/{_KINDS[kind]}/{major}:{minor}"
            wanted = {*access, *has.get(path, "")}  # systemd replaces the access that it has for a path
            if wanted != {*has.get(path, "")}:
                new.append(f"DeviceAllow={path} {''.join(sorted(wanted))}")
        if new:
            _systemctl("set-property", "--runtime", "--", scope, *new)
            _show(scope)  # systemd makes the program before it answers the next call
    except InjectionError as error:
        warn(
            f"systemd can't be told of the devices of {quote(scope)}: {error}; the container may lose them "
            "when units change or are reloaded, but not if cdi-runtime is the engine's runtime"
        )
        return False
    return True


def _show(scope: str) -> tuple[str, dict[str, str]]:
    """Return a scope's DevicePolicy, "" if there is no such unit, and its DeviceAllow: access by path."""
    text = _systemctl("show", "--property=LoadState,DevicePolicy,DeviceAllow", "--", scope)
    shown = [line.partition("=")[::2] for line in text.splitlines()]
    allowed = dict(value.split(" ", 1) for name, value in shown if name == "DeviceAllow" and " " in value)
    is_loaded = ("LoadState", "loaded") in shown
    return dict(shown).get("DevicePolicy", "") if is_loaded else "", allowed


def _systemctl(*arguments: str) -> str:
    """Return what systemctl, from /bin or /usr/bin, prints; raises InjectionError."""
    answer = ask(("systemctl", *arguments), {b"LC_ALL": b"C"})
    if answer.status != 0:
        raise InjectionError(answer.why)
    return answer.out
