# SPDX-License-Identifier: Apache-2.0
"""One container takes a lease for all that it wants, or nothing.

Under the lock it reads the leases and chooses. If other leases are in the way, it asks, without the lock,
whether their containers are still there, and begins again. Nothing here knows the OCI spec.
"""

from __future__ import annotations

import posix
import time

from cdi_hook import errors
from cdi_hook.base import json_text
from cdi_hook.leases import choice, claims, life, same
from cdi_hook.leases.store import Lease, settle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from typing import Any

    from cdi_hook.leases.in_use import Blocker
    from cdi_hook.leases.same import Hardware
    from cdi_hook.leases.store import Store

_NONE: frozenset[str] = frozenset()
_MANY = 16  # keys: to look for more in the file of leases costs as much as to read it
_TIE_S, _POLL_S = 0.5, 0.005  # how long a neighbour has who has to withdraw
_MOST_TRIES = 1000


class Taking:
    """One container's transaction."""

    __slots__ = (
        "_ignore", "_ignored", "_me", "_mine", "_old", "_outside", "_paths", "_token", "_tree", "blockers",
        "draws", "held", "lacking", "taken", "watched",
    )  # fmt: skip

    def __init__(
        self,
        tree: dict[str, Any],
        pid: int | str,
        token: object,
        held: Sequence[Hardware],
        watched: Sequence[Hardware],
        draws: Sequence[choice.Draw],
        ignore: Callable[[Sequence[Hardware]], frozenset[str]],
    ) -> None:
        """Say what is wanted, and who wants it; raises LeaseError if there is no such process.

        ``tree`` has the container's fields of a lease: id, root, bundle, engine, state and xdg. ``pid`` is
        the process that creates it, or its own first one ("self": we). ``token`` is the one that its OCI
        spec has already. ``held`` are the devices by name, ``watched`` those that nobody else may have
        a lease for, and ``draws`` those that have to be chosen. ``ignore`` returns the keys that don't count
        beside leased devices.
        """
        self.held, self.watched, self.draws = held, watched, draws
        self.taken: dict[str, list[Hardware]] = {}  # by the name of a draw
        self.blockers: list[Blocker] = []  # what was in the way
        self.lacking: list[str] = []  # those that are held by another, if it was refused
        self._tree, self._token, self._ignore = tree, token, ignore
        self._ignored: frozenset[str] | None = None
        wanted = [*held, *watched, *(device for draw in draws for device in draw.candidates)]
        self._paths = {key: path for device in wanted for key, path in device.paths.items()}
        self._mine: Lease | None = None
        self._old: Lease | None = None
        try:
            self._me = life.creator(pid)
            self._outside = sorted(set(life.cgroups().values()))
        except OSError as error:
            raise errors.LeaseError(
                f"the process {pid} that creates the container can't be looked at: {error.strerror}"
            ) from error

    def take(self, store: Store, removes: Sequence[str], *, is_trial: bool = False) -> str:
        """Take the lease, and return its token; ``removes`` are as in in_use.remove().

        A trial takes nothing. Raises LeaseError, and then nothing was taken.
        """
        asked: list[Lease] = []
        end = 0.0
        for _ in range(_MOST_TRIES):
            with store:
                leases = store.read(self._about)
                there, is_news = settle(leases, asked)
                strangers, _ = settle(self._strangers(store), asked)
                others = self._look(there, strangers)
                unasked = self._unasked
                if self._is_met:
                    if is_trial or not (self.held or self.draws):
                        return ""
                    token = self._write(store, others, is_news=is_news)
                    if self._is_first(store, asked):
                        return token
                    store.write(there)
                    continue
                if self._ignored is not None and not unasked:
                    if is_news:
                        store.write(there)
                    raise self._refusal(removes)
            if self._ignored is None and not self._old:
                self._ignored = self._ignore([device for lease in others for device in lease.devices])
                continue
            from cdi_hook.leases import inquiry

            end = end or time.monotonic() + inquiry.MOST_S
            inquiry.ask(unasked, leases, end - time.monotonic())
            asked += unasked
        raise errors.LeaseError("other users ask for the same devices again and again", "try again")

    @property
    def _about(self) -> list[str]:
        """What a lease has that can be of concern: our id, or a key; none if there are many keys."""
        keys = {key for device in (*self.held, *self.watched) for key in device.keys}
        return [] if self.draws or len(keys) > _MANY else [self._tree["id"], *keys]

    @property
    def _unasked(self) -> list[Lease]:
        """The leases in the way of which it isn't known how their containers are."""
        if self._old:
            return [self._old]
        return list({id(lease): lease for _, lease, _ in self.blockers if lease.how is None}.values())

    @property
    def _is_met(self) -> bool:
        return not self._old and not self.blockers and self._short is None

    @property
    def _short(self) -> choice.Draw | None:
        """The first draw that lacks a device."""
        return next((draw for draw in self.draws if len(self.taken[draw.name]) < draw.number), None)

    def _look(self, leases: Sequence[Lease], strangers: Sequence[Lease]) -> list[Lease]:
        """Find out what can be had beside all of these; return the leases of other containers."""
        self._mine = next(filter(self._is_own, leases), None)
        others = [lease for lease in leases if lease is not self._mine]
        self._choose([*others, *strangers])
        # An engine restarts a container with its id: then it may get what it had.
        self._old = next((lease for lease in others if lease.how is None and self._is_of_us(lease)), None)
        return others

    def _choose(self, others: Iterable[Lease]) -> None:
        """Find what each draw takes, and what is in the way; of draws only if they lack some."""
        ignored = self._ignored or _NONE
        named = [*self.held, *self.watched]
        wanted = [*named, *(device for draw in self.draws for device in draw.candidates)]
        keys = _NONE.union(*(device.keys for device in wanted))
        near = [(lease, device) for lease in others if lease.has_any(keys) for device in lease.devices]

        def blockers(devices: Iterable[Hardware]) -> list[Blocker]:
            found = {  # a device may be held in part, and watched
                (device.name, id(lease), leased.name): (device, lease, leased)
                for device in devices for lease, leased in near
                if same.conflict(device, leased, ignored)
            }  # fmt: skip
            return list(found.values())

        self.blockers = blockers(named)
        out = [*(leased for _, leased in near), *self.held]
        for draw in self.draws:
            self.taken[draw.name] = choice.pick(draw.number, draw.candidates, out, ignored)
            out += self.taken[draw.name]
            if len(self.taken[draw.name]) < draw.number:
                self.blockers += blockers(draw.candidates)

    def _strangers(self, store: Store) -> list[Lease]:
        """Return the leases of other users."""
        paths = claims.strangers(store.start_of_claims)
        if not paths:
            return []
        from cdi_hook.leases import neighbours

        return neighbours.leases(paths, self._paths)

    def _is_first(self, store: Store, asked: Sequence[Lease]) -> bool:
        """Say whether we keep what we took: of neighbours at once, that one does whose path comes first."""
        end = time.monotonic() + _TIE_S
        taken = [*self.held, *(device for devices in self.taken.values() for device in devices)]
        while store.claim:
            rivals = [
                lease["file"] for lease in settle(self._strangers(store), asked)[0]
                for claimed in lease.devices
                if any(same.conflict(device, claimed, self._ignored or _NONE) for device in taken)
            ]  # fmt: skip
            if not rivals:
                break
            if min(rivals) < store.claim or time.monotonic() > end:
                return False
            time.sleep(_POLL_S)  # until it has withdrawn
        return True

    # Our own lease.

    def _is_own(self, lease: Lease) -> bool:
        """Say whether a lease is this container's: by an earlier call, or by the runtime before its hook."""
        if lease["id"] != self._tree["id"]:
            return False
        if self._me in lease["creators"]:  # before it was started again, or by a hook before this one
            return True
        if self._token != lease["token"]:
            return False
        if self._tree["state"]:
            return self._is_of_us(lease)
        # A copy of the bundle has the token too.
        is_here = _is_same_dir(lease["bundle"], self._tree["bundle"])
        return is_here and any(map(life.is_there, lease["creators"]))

    def _is_of_us(self, lease: Lease) -> bool:
        """Say whether a lease is of the container with this id, of this runtime, under this root."""
        return bool(self._tree["state"]) and all(self._tree[name] == lease[name] for name in ("state", "xdg"))

    def _write(self, store: Store, others: Sequence[Lease], *, is_news: bool) -> str:
        """Write what was chosen, unless the file has it already; return the lease's token."""
        lease = self._mine or Lease(
            {
                "token": posix.urandom(16).hex(),
                "since": time.time(),
                **self._tree,
                "state": [],
                "creators": [],
                "devices": [],
            }
        )
        before = json_text.dumps(lease.tree)
        if self._mine:
            lease = Lease(json_text.loads_own(before.encode()))
        self._grow(lease)
        if is_news or json_text.dumps(lease.tree) != before:
            store.write([*others, lease])
        token: str = lease["token"]
        return token

    def _grow(self, lease: Lease) -> None:
        """Have a lease be for what was chosen too, and by us too.

        It never shrinks: whoever made it may still be creating the container, or it is of one that lives.
        """
        state = self._tree["state"]
        if state or not lease["state"]:  # else the runtime that calls this hook is among the creators
            old = [one for one in lease["creators"] if one != self._me and life.is_there(one)]
            lease.tree["creators"] = [*old, self._me]
            lease.tree["state"] = lease["state"] or state
            lease.tree["outside"] = self._outside
            lease.tree["cgroup"] = None if state else self._own_cgroup(lease)
        lease.cover([*self.held, *(device for devices in self.taken.values() for device in devices)])

    def _own_cgroup(self, lease: Lease) -> list[Any] | None:
        """Return the cgroup of a container whose first process is known, as a hook knows it."""
        from cdi_hook.leases import inquiry

        return inquiry.learn(lease, life.cgroups(self._me[0]))

    # What people see.

    def _refusal(self, removes: Sequence[str]) -> errors.LeaseError:
        from cdi_hook.leases import in_use

        there = [(lease.tree, lease.how or "") for _, lease, _ in self.blockers]
        wanted = {device.name for device in (*self.held, *self.watched)}
        named = [blocker for blocker in self.blockers if blocker[0].name in wanted]
        if named:
            self.lacking = list(dict.fromkeys(device.name for device, _, _ in named))
            return in_use.of_named(named, there, removes)
        short = self._short
        assert short
        own = [*self.held, *(one for name in self.taken if name != short.name for one in self.taken[name])]
        every = choice.pick(len(short.candidates), short.candidates, own, self._ignored or _NONE)
        return in_use.of_draw(short.name, short.number, every, bool(own), self.blockers, there, removes)


def _is_same_dir(one: str, other: str) -> bool:
    try:
        first, second = posix.stat(one), posix.stat(other)
    except OSError:
        return False
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)
