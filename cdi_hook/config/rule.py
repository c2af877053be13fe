# SPDX-License-Identifier: Apache-2.0
"""Patterns of device names, and rules of ALLOW or DENY as they are written; inject/policy.py applies them.

Imported only if the configuration has one.
"""

from __future__ import annotations

from cdi_hook.names import parse_device

# What a rule may ask for beside a device's name, each followed by its value.
CONDITIONS = ("from=", "namespace=")
ENGINE = "engine"  # the source of what an engine itself gives
_UNKNOWN = frozenset("[{,")  # what other patterns have, and no name


class Rule:
    """A rule of ALLOW or DENY: patterns of devices, and on which conditions they count.

    ``sources`` are words of ANNOTATION_PREFIXES and DEVICE_ENV, DEVICE_MOUNTS, or ENGINE; ``namespaces``
    are patterns. One of each must fit; where there are none, any does. ``key`` and ``origin``
    say where the rule stands.
    """

    __slots__ = ("key", "namespaces", "origin", "patterns", "sources")

    def __init__(self, key: str, value: str, origin: str) -> None:
        """Read a rule's value; raises ValueError for a word that can't be used."""
        self.key, self.origin = key, origin
        self.patterns: list[str] = []
        self.sources: list[str] = []
        self.namespaces: list[str] = []
        conditions = dict(zip(CONDITIONS, (self.sources, self.namespaces)))
        for word in value.split():
            name, equals, wanted = word.partition("=")
            if unknown := _UNKNOWN & set(word):
                form = name if equals and not _UNKNOWN & set(name) else "vendor.com/class"
                raise ValueError(
                    f'"{word}": "{min(unknown)}" isn\'t known in a pattern, only * and ? are; '
                    f"write several patterns with spaces between them, such as {form}=0 {form}=1"
                )
            if name + equals in conditions:
                if not wanted:
                    raise ValueError(f"{word} has no value")
                conditions[name + equals].append(wanted.rstrip("/") if wanted[0] == "/" else wanted)
            elif "*" in name or "?" in name or parse_device(word)[0]:
                self.patterns.append(word)
            else:
                raise ValueError(
                    f'"{word}" is no pattern of vendor.com/class=device, and no condition '
                    f"({' and '.join(CONDITIONS)} are)"
                )
        if not self.patterns and (self.sources or self.namespaces):
            raise ValueError("names no device (* stands for all)")


def matches(text: str, pattern: str) -> bool:
    """Say whether a pattern matches all of text; ``*`` is any text, ``?`` any character."""
    start, *rest = pattern.split("*")
    if not rest:
        return len(text) == len(pattern) and _find(text, pattern, 0, len(text)) == 0
    *between, end = rest
    last = len(text) - len(end)
    at = len(start)
    if at > last or _find(text, start, 0, at) or _find(text, end, last, len(text)) != last:
        return False
    for part in between:
        at = _find(text, part, at, last)
        if at < 0:
            return False
        at += len(part)
    return True


def _find(text: str, part: str, start: int, end: int) -> int:
    """Return where text has a part, whose ``?`` is any character, as str.find does."""
    if "?" not in part:
        return text.find(part, start, end)
    for at in range(start, end - len(part) + 1):
        if all(one in ("?", text[at + index]) for index, one in enumerate(part)):
            return at
    return -1
