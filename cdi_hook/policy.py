# SPDX-License-Identifier: Apache-2.0
"""ALLOW and DENY: which requested devices this host allows. Imported only if the configuration has either.

A device that is asked for twice, by two annotations or by an annotation and a
variable, must be allowed each time.
"""

from __future__ import annotations

from cdi_hook import errors
from cdi_hook.quoting import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cdi_hook.config import Config
    from cdi_hook.request import DeviceRequest
    from cdi_hook.rule import Rule


def check(
    request: DeviceRequest, config: Config, namespaces: Sequence[str] = (), is_known: bool = False
) -> None:
    """Raise InvalidRequest for the first request for a device that ALLOW and DENY forbid.

    ``namespaces`` are those that the container claims to be in. ``is_known`` says whether one of
    them is true. So a rule of ALLOW has to fit them all, and a rule of DENY any.
    """
    allow, deny = config.rules("ALLOW"), config.rules("DENY")
    for name, origin, words in request.asked:
        denied = [rule for rule in _about(name, deny) if _holds(rule, words, namespaces, any)]
        allowed = _about(name, allow)
        if denied:
            reason = f"{_told(denied[0], name)} refuses it"
        elif any(_holds(rule, words, namespaces if is_known else (), _every) for rule in allowed):
            continue
        elif allowed:
            reason = f"it is allowed only as in {_some([_told(rule, name) for rule in allowed])}"
            if any(rule.namespaces for rule in allowed):
                claims = " and ".join(map(quote, namespaces))
                where = f"in namespace {claims}" if is_known else "in no namespace of Kubernetes"
                reason += f"; the container is {where}"
        else:
            lines = [f"{rule.key}={_words(rule, rule.patterns)} ({rule.origin})" for rule in allow]
            reason = f"it matches no pattern of {_some(lines)}; whoever runs this host can add {name} there"
        raise errors.InvalidRequest(
            f"device {name} (asked for by {origin}) is not allowed on this host: {reason}"
        )


def _about(name: str, rules: Iterable[Rule]) -> list[Rule]:
    return [rule for rule in rules if any(matches(name, pattern) for pattern in rule.patterns)]


def _holds(
    rule: Rule, words: Sequence[str], namespaces: Sequence[str], how_many: Callable[[Iterable[bool]], bool]
) -> bool:
    """Say whether a rule's conditions hold; ``words`` are those of the source that asks."""
    return (not rule.sources or any(source in words for source in rule.sources)) and (
        not rule.namespaces
        or how_many(
            claim != "" and any(matches(claim, pattern) for pattern in rule.namespaces)
            for claim in namespaces
        )
    )


def _every(those: Iterable[bool]) -> bool:
    """Say whether there are some, and all are so."""
    found = list(those)
    return bool(found) and all(found)


def _told(rule: Rule, name: str) -> str:
    """Return a rule with the pattern that matches a device, and where it stands."""
    pattern = next(one for one in rule.patterns if matches(name, one))
    return f"{rule.key}={_words(rule, [pattern])} ({rule.origin})"


def _words(rule: Rule, patterns: Sequence[str]) -> str:
    sources = [f"from={one}" for one in rule.sources]
    return " ".join([*patterns, *sources, *(f"namespace={one}" for one in rule.namespaces)])


def _some(lines: Sequence[str]) -> str:
    from cdi_hook import spelling

    return spelling.some(lines, separator=" and ")


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
