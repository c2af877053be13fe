# SPDX-License-Identifier: Apache-2.0
"""ALLOW and DENY: which requested devices this host allows. Imported only if the configuration has either.

A device that is asked for twice, by two annotations or by an annotation and a
variable, must be allowed each time.
"""

from __future__ import annotations

from cdi_hook import errors
from cdi_hook.base.quoting import quote
from cdi_hook.config.rule import ENGINE, matches

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from cdi_hook.config.rule import Rule
    from cdi_hook.config.settings import Config
    from cdi_hook.inject.request import DeviceRequest
    from cdi_hook.leases.stock import Stock


def check(
    request: DeviceRequest,
    config: Config,
    namespaces: Sequence[str] = (),
    is_known: bool = False,
    aliases: Mapping[str, Sequence[str]] = {},  # nobody alters it
) -> None:
    """Raise InvalidRequest for the first request for a device that ALLOW and DENY forbid.

    ``namespaces`` are those that the container claims to be in. ``is_known`` says whether one of
    them is true. So a rule of ALLOW has to fit them all, and a rule of DENY any.
    ``aliases`` has other names of a device: DENY on one of them denies it. Rules of ALLOW are about what an
    engine gave only if they say so; it has no name of its own, so one of the names is enough for these.
    """
    allow, deny = config.rules("ALLOW"), config.rules("DENY")
    denying = [rule for rule in deny if _is_in(rule, namespaces, any)]
    allowing = [rule for rule in allow if _is_in(rule, namespaces if is_known else (), _every)]
    counting: dict[Sequence[str], tuple[Patterns, Patterns]] = {}
    asked: dict[tuple[str, Sequence[str]], str] = {}
    for name, origin, words in request.asked:
        asked.setdefault((name, tuple(words)), origin)
    for (name, words), origin in asked.items():
        names = (name, *aliases.get(name, ()))
        known = allow
        if words == (ENGINE,):
            known = [rule for rule in allow if ENGINE in rule.sources]
        if words not in counting:
            limiting = [rule for rule in allowing if rule in known]
            counting[words] = Patterns(_from(denying, words)), Patterns(_from(limiting, words))
        denies, allows = counting[words]  # of the rules whose conditions hold
        for one in names:
            denied = denies.find(one)
            if denied:
                break
        if denied:
            reason = (
                f"{_told(denied, one)} refuses {'it' if one == name else f'{one}, which is a name of it'}"
            )
        elif any(map(allows.find, names if words == (ENGINE,) else names[:1])) or not known:
            continue
        elif allowed := [rule for rule in known if any(matches(name, one) for one in rule.patterns)]:
            reason = f"it is allowed only as in {_some([_told(rule, name) for rule in allowed])}"
            if any(rule.namespaces for rule in allowed):
                claims = " and ".join(map(quote, namespaces))
                where = f"in namespace {claims}" if is_known else "in no namespace of Kubernetes"
                reason += f"; the container is {where}"
        else:
            lines = [f"{rule.key}={_words(rule, rule.patterns)} ({rule.origin})" for rule in known]
            reason = f"it matches no pattern of {_some(lines)}; whoever runs this host can add {name} there"
        raise errors.InvalidRequest(
            f"device {name} (asked for by {origin}) is not allowed on this host: {reason}"
        )


def aliases(names: Iterable[str], config: Config, stock: Stock) -> dict[str, list[str]]:
    """Return the other names of devices, or of parts of these, that a rule of DENY has."""
    denying = Patterns(config.rules("DENY"))
    return stock.aliases(names, [name for name in stock.specs if denying.find(name)])


def _from(rules: Iterable[Rule], words: Sequence[str]) -> list[Rule]:
    """Return the rules for a source of which these are the words."""
    return [rule for rule in rules if not rule.sources or any(source in words for source in rule.sources)]


def _is_in(rule: Rule, namespaces: Sequence[str], how_many: Callable[[Iterable[bool]], bool]) -> bool:
    """Say whether a rule is for a container in these namespaces."""
    return not rule.namespaces or how_many(
        claim != "" and any(matches(claim, pattern) for pattern in rule.namespaces) for claim in namespaces
    )


def _every(those: Iterable[bool]) -> bool:
    """Say whether there are some, and all are so."""
    found = list(those)
    return bool(found) and all(found)


class Patterns:
    """The patterns of rules. A name is compared only with those that have a part in common with it.

    A part is what a pattern has between wildcards: at its start, its end, or in between. Of a pattern's
    parts the one counts that fewest patterns have. So many rules and many names don't cost their product.
    """

    def __init__(self, rules: Iterable[Rule]) -> None:
        first: dict[str, Rule] = {}
        for rule in rules:
            for pattern in rule.patterns:
                first.setdefault(pattern, rule)
        shared: dict[tuple[str, str], int] = {}
        for pattern in first:
            for part in _parts(pattern):
                shared[part] = shared.get(part, 0) + 1
        # By where a part has to be and how long it is: by the part, the patterns with their numbers.
        self._having: dict[tuple[str, int], dict[str, list[tuple[int, str, Rule]]]] = {}
        for number, (pattern, rule) in enumerate(first.items()):
            place, text = min(_parts(pattern), key=shared.__getitem__)
            having = self._having.setdefault((place, len(text)), {})
            having.setdefault(text, []).append((number, pattern, rule))

    def find(self, name: str) -> Rule | None:
        """Return the first rule with a pattern that a name matches, or None."""
        found = None
        for (place, length), having in self._having.items():
            last = len(name) - length
            starts = range(last + 1) if place == "between" else (last if place == "end" else 0,)
            for part in {name[at : at + length] for at in starts if at >= 0} & having.keys():
                for one in having[part]:
                    if (found is None or one[0] < found[0]) and matches(name, one[1]):
                        found = one
        return found[2] if found else None


def _parts(pattern: str) -> list[tuple[str, str]]:
    """Return a pattern's parts, each with its place; one that every name has, if it has none."""
    start, *rest = pattern.replace("?", "*").split("*")
    parts = [
        ("start", start),
        *(("between", part) for part in rest[:-1]),
        *(("end", part) for part in rest[-1:]),
    ]
    return [part for part in parts if part[1]] or [("start", "")]


def _told(rule: Rule, name: str) -> str:
    """Return a rule with the pattern that matches a device, and where it stands."""
    pattern = next(one for one in rule.patterns if matches(name, one))
    return f"{rule.key}={_words(rule, [pattern])} ({rule.origin})"


def _words(rule: Rule, patterns: Sequence[str]) -> str:
    sources = [f"from={one}" for one in rule.sources]
    return " ".join([*patterns, *sources, *(f"namespace={one}" for one in rule.namespaces)])


def _some(lines: Sequence[str]) -> str:
    from cdi_hook.base import words

    return words.some(lines, separator=" and ")
