# SPDX-License-Identifier: Apache-2.0
"""A rule of ALLOW or DENY, as it is written. Imported only if there is one; policy.py applies it."""

from __future__ import annotations

from cdi_hook.names import parse_device

# What a rule may ask for beside a device's name, each followed by its value.
CONDITIONS = ("from=", "namespace=")


class Rule:
    """A rule of ALLOW or DENY: patterns of devices, and on which conditions they count.

    ``sources`` are words of ANNOTATION_PREFIXES and DEVICE_ENV, or DEVICE_MOUNTS; ``namespaces``
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
