# SPDX-License-Identifier: Apache-2.0
"""What is to be reached: ratios of medians of one run. A goal that is missed is said, and fails nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from .cases import FLOOR, LIFE, LIVES, MOST, OURS, PEER, devices_name
from .docker import NOTHING, ONE, PLAIN

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# By environment, case and who.
Key = tuple[str, str, str]


@dataclass(frozen=True)
class Median:
    """The medians of a command's times and peaks of memory."""

    ms: float
    mb: float


@dataclass(frozen=True)
class Medians:
    """What was measured in one environment; a KeyError says that something wasn't."""

    environment: str
    all: Mapping[Key, Median]

    def ms(self, case: str, who: str = OURS) -> float:
        """Return a time."""
        return self.all[self.environment, case, who].ms

    def mb(self, case: str, who: str = OURS) -> float:
        """Return a peak of memory."""
        return self.all[self.environment, case, who].mb

    def life(self, case: str, who: str = OURS, life: str = LIFE) -> float:
        """Return the time of a container's life: its create, and the commands that are passed on."""
        return self.ms(case, who) + LIVES[life] * self.ms("passed on", who)


@dataclass(frozen=True)
class Goal:
    """A figure, and what it may be at most."""

    what: str
    limit: float
    figure: Callable[[Medians], float]
    unit: str = ""

    def reached(self, medians: Medians) -> float | None:
        """Return the figure, None where a part of it wasn't measured."""
        try:
            return self.figure(medians)
        except KeyError:
            return None


def _to_floor(case: str, floor: str) -> Callable[[Medians], float]:
    return lambda medians: medians.ms(case) / medians.ms(floor, FLOOR)


def _to_peer(case: str) -> Callable[[Medians], float]:
    return lambda medians: medians.life(case) / medians.life(case, PEER)


def _above_plain(case: str) -> Callable[[Medians], float]:
    return lambda medians: (medians.ms(case) / medians.ms(NOTHING, PLAIN) - 1) * 100


def _to_case(case: str, other: str) -> Callable[[Medians], float]:
    return lambda medians: medians.ms(case) / medians.ms(other)


def _memory(case: str) -> Callable[[Medians], float]:
    return lambda medians: medians.mb(case)


GOALS = (
    Goal("passed on / a script that execs", 1.1, _to_floor("passed on", "script")),
    Goal(
        "passed on, no configuration / a script that execs",
        1.1,
        _to_floor("passed on, no configuration", "script"),
    ),
    Goal(
        "create, nothing asked / such a script with grep", 1.15, _to_floor("nothing asked", "script and grep")
    ),
    Goal("create, tiny / `python3 -IS` that leaves by `_exit`", 1.65, _to_floor("tiny", "python3 -IS")),
    Goal("create, H100 / `python3 -IS` that leaves by `_exit`", 1.65, _to_floor("H100", "python3 -IS")),
    Goal("a life, nothing asked / the peer's", 0.41, _to_peer("nothing asked")),
    Goal("a life, tiny / the peer's", 0.82, _to_peer("tiny")),
    Goal("a life, H100 / the peer's", 0.75, _to_peer("H100")),
    Goal(f"{NOTHING}, above plain runc", 3.5, _above_plain(NOTHING), " %"),
    Goal(f"{ONE}, above plain runc", 13, _above_plain(ONE), " %"),
    Goal(f"{MOST:,} devices in 100 files / one", 1.2, _to_case(devices_name(MOST, 100), "tiny")),
    Goal("LOG on / off", 1.05, _to_case("tiny, LOG", "tiny")),
    Goal("peak memory, tiny", 14, _memory("tiny"), " MB"),
    Goal("peak memory, H100", 14, _memory("H100"), " MB"),
)
