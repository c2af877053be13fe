# SPDX-License-Identifier: Apache-2.0
"""ALLOW and DENY: which requested devices this host allows. Imported only if the configuration has either."""

from __future__ import annotations

from cdi_hook.errors import InvalidRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from cdi_hook.config import Config
    from cdi_hook.request import DeviceRequest


def check(request: DeviceRequest, config: Config) -> None:
    """Raise InvalidRequest for the first requested device that ALLOW and DENY forbid."""
    allow, deny = config.words("ALLOW"), config.words("DENY")
    for name in request.device_ids:
        denied = [pattern for pattern in deny if matches(name, pattern)]
        if denied:
            reason = f"DENY={denied[0]} ({config.origins['DENY']}) refuses it"
        elif not any(matches(name, pattern) for pattern in allow):
            reason = f"ALLOW={' '.join(allow)} ({config.origins['ALLOW']}) has no pattern that matches it"
            reason += f"; whoever runs this host can add {name} there"
        else:
            continue
        raise InvalidRequest(
            f"device {name} (asked for by {request.origins[name]}) is not allowed on this host: {reason}"
        )


def matches(text: str, pattern: str) -> bool:
    """Say whether a pattern matches all of text; ``*`` is any text, ``?`` any character."""
    position = start = 0
    star = -1
    index = 0
    while position < len(text):
        if index < len(pattern) and pattern[index] == "*":
            star, start = index, position
            index += 1
        elif index < len(pattern) and pattern[index] in ("?", text[position]):
            index += 1
            position += 1
        elif star >= 0:
            start += 1
            index, position = star + 1, start
        else:
            return False
    return not pattern[index:].strip("*")
