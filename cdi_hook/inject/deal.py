# SPDX-License-Identifier: Apache-2.0
"""EXCLUSIVE: devices that one container has at a time, and `any` that is free. Between request and policy.

Imported only if the configuration has EXCLUSIVE. For each exclusive device that a container asks for, a
lease is taken (the room leases says what that is), and `any` becomes the name of a device:

    vendor.com/class=any      one device of this kind that no container has
    vendor.com/class=any:2    two of them

A device that a spec calls "any" or "any:2" is asked for like every other.
"""

from __future__ import annotations

import posix
import time

from cdi_hook import errors
from cdi_hook.base import json_text
from cdi_hook.config.rule import matches
from cdi_hook.edits import kinds
from cdi_hook.edits.target import Target, Wanted
from cdi_hook.errors import quote
from cdi_hook.inject import audit, request
from cdi_hook.leases import choice, life, same
from cdi_hook.leases.stock import Stock
from cdi_hook.leases.store import TOKEN, Lease, Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

    from cdi_hook.catalog.registry import Registry
    from cdi_hook.config.settings import Config
    from cdi_hook.edits.target import Change
    from cdi_hook.inject.facts import Facts
    from cdi_hook.leases.in_use import Blocker
    from cdi_hook.leases.lessee import Lessee
    from cdi_hook.leases.life import Creator
    from cdi_hook.leases.same import Hardware

DEALT = "CDI_DEALT"  # the container's variable with the devices that `any` became
_NONE: frozenset[str] = frozenset()


class Deal:
    """One container's exclusive devices."""

    def __init__(
        self,
        wanted: request.DeviceRequest,
        oci: dict[str, Any],
        config: Config,
        call: Facts,
        registry: Registry,
    ) -> None:
        """Find out which they are; raises InvalidRequest for an `any` that can't be understood."""
        self._wanted, self._oci, self._config, self._call = wanted, oci, config, call
        self._patterns = config.words("EXCLUSIVE")
        self._stock = Stock(registry)
        self._ignored: frozenset[str] | None = None
        self._draws = [
            choice.Draw(name)
            for name in wanted.device_ids
            if choice.may_be_draw(name) and name not in self._stock.specs
        ]
        drawn = [draw.name for draw in self._draws]
        self._held = self._exclusive([name for name in wanted.device_ids if name not in drawn])
        self._taken: dict[str, list[str]] = {}  # by the name of a draw
        self._token = ""

    @property
    def is_needed(self) -> bool:
        """Whether the container asks for an exclusive device at all."""
        return bool(self._draws or self._held)

    @property
    def _told(self) -> str:
        """What EXCLUSIVE says, and where."""
        config = self._config
        return f"EXCLUSIVE={config['EXCLUSIVE']}, {config.origins['EXCLUSIVE']}"

    def _is_listed(self, name: str) -> bool:
        return any(matches(name, one) for one in self._patterns)

    def _exclusive(self, names: list[str]) -> list[Hardware]:
        """Return those of the named devices that are exclusive, by their own name or another one."""
        found = self._stock.hardware(names, strict=True)
        listed = [one for one in found if self._is_listed(one.name)]
        if len(listed) == len(found):
            return listed
        known = [name for name in self._stock.specs if self._is_listed(name)]
        keys = frozenset().union(*(one.keys for one in self._stock.hardware(known)))
        others = [one for one in found if one not in listed and one.keys & keys]
        if others:  # of such a device only that part is exclusive
            keys -= self._stock.ignored(known)
            others = [same.Hardware(one.name, one.keys & keys, one.capabilities & keys) for one in others]
        return [*listed, *(one for one in others if one.keys)]

    def settle(self, state_dir: str) -> None:
        """Take a lease for all, and have the request name what was taken.

        ``state_dir`` is as in settings.

        Raises LeaseError or InvalidRequest, and then nothing was taken.
        """
        call = self._call
        if call.lessee is None:
            name = [*(one.name for one in self._held), *(draw.name for draw in self._draws)][0]
            raise errors.LeaseError(
                f"{name} is for one container at a time ({self._told}), and {call.no_lease}"
            )
        self._check_draws()
        self._check_policy()
        if not state_dir:
            raise errors.LeaseError(
                "there is no place for leases of exclusive devices: XDG_RUNTIME_DIR isn't set",
                "log in by a session that sets it, as `machinectl shell` does",
            )
        store = Store(f"{state_dir}-leases")
        try:
            self._take(store, call, call.lessee)
        finally:
            store.close()
        self._name_what_was_taken()

    def _check_draws(self) -> None:
        """Find the candidates of each draw; raises InvalidRequest for one that can't be made."""
        origins = self._wanted.origins
        by_kind: dict[str, choice.Draw] = {}
        for draw in self._draws:
            asked = [origin for name, origin, _ in self._wanted.asked if name == draw.name]
            if draw.kind in by_kind or len(asked) > 1:
                raise errors.InvalidRequest(
                    f"{quote(draw.name)} is asked for beside {quote(by_kind.get(draw.kind, draw).name)}",
                    f"write one {draw.kind}={choice.ANY}:N, with N for how many in all",
                )
            by_kind[draw.kind] = draw
            if draw.name not in self._in_annotations():
                raise errors.InvalidRequest(
                    f"{quote(draw.name)} (asked for by {origins[draw.name]}) isn't in an annotation",
                    "ask for it by one: the name of the device that is taken is written there",
                )
            names = [name for name in self._stock.specs if name.partition("=")[0] == draw.kind]
            devices = self._stock.hardware(names)
            listed = [one for one in devices if self._is_listed(one.name)]
            if not listed:
                known = f"{draw.kind} isn't in" if names else f"no spec defines a {draw.kind}, see"
                raise errors.InvalidRequest(
                    f"{quote(draw.name)} (asked for by {origins[draw.name]}) takes a device that is for one "
                    f"container at a time, and {known} {self._told}",
                    "name a device; cdi-hook list shows them",
                )
            unions = {one.name for one in devices} - {one.name for one in choice.candidates(devices)}
            draw.candidates = [one for one in choice.candidates(listed) if one.name not in unions]

    def _in_annotations(self) -> list[str]:
        config = self._config
        return [name for _, _, name in _items(self._oci, config.words("ANNOTATION_PREFIXES"), config)]

    def _check_policy(self) -> None:
        """Drop the candidates that this container may not have; raises InvalidRequest if it may have none."""
        config, call = self._config, self._call
        if not config.has_policy:
            return
        from cdi_hook.inject import policy

        where = request.namespaces(self._oci, call.bundle if call.may_be_pod else "")
        asked = {
            draw.name: [one for one in self._wanted.asked if one[0] == draw.name] for draw in self._draws
        }

        def check(names: Iterable[str], sources: Sequence[request.Asked]) -> None:
            one = request.DeviceRequest()
            one.asked = [(name, origin, words) for name in names for _, origin, words in sources]
            policy.check(one, config, *where, {name: self._aliases(name) for name in names})

        for held in self._held:
            check([held.name], [one for one in self._wanted.asked if one[0] == held.name])
        for draw in self._draws:
            allowed, why = [], None
            for candidate in draw.candidates:
                try:
                    check([candidate.name], asked[draw.name])
                    allowed.append(candidate)
                except errors.InvalidRequest as error:
                    why = why or error
            if why and not allowed:
                raise errors.InvalidRequest(
                    f"this container may have no device of {draw.kind}: {why.cause}", why.fix
                )
            draw.candidates = allowed

    def _aliases(self, name: str) -> list[str]:
        """Return the other names of a device, or of a part of it: DENY on one of them denies it."""
        if not self._config.rules("DENY"):
            return []
        (own,) = self._stock.hardware([name])
        near = [
            one for one in self._stock.hardware(self._stock.specs) if one.name != name and one.keys & own.keys
        ]
        ignored = self._stock.ignored([name, *(one.name for one in near)]) if near else _NONE
        return [one.name for one in near if same.is_part(one, own, ignored)]

    # The lease.

    def _take(self, store: Store, call: Facts, lessee: Lessee) -> None:
        gone: list[dict[str, Any]] = []
        there: list[tuple[dict[str, Any], str]] = []  # with how it is
        end = 0.0
        try:
            me = life.creator(lessee.pid)
        except OSError as error:
            raise errors.LeaseError(
                f"the process {lessee.pid} that creates the container can't be looked at: {error.strerror}"
            ) from error
        while True:
            told = [tree for tree, _ in there]
            with store:
                leases = [one for one in store.read() if one.tree not in gone]
                mine = next((one for one in leases if self._is_own(one, me, call, lessee)), None)
                others = [one for one in leases if one is not mine]
                taken, blockers = self._choose(others)
                # An engine restarts a container with its id: then it may get what it had.
                old = next((one for one in others if _is_of(one, lessee) and one.tree not in told), None)
                if (
                    not old
                    and not blockers
                    and all(len(taken[draw.name]) == draw.number for draw in self._draws)
                ):
                    new = [*self._held, *(one for several in taken.values() for one in several)]
                    mine = mine or self._new(call, lessee)
                    self._token = mine["token"]
                    if _grow(mine, new, me, lessee):
                        store.write([*others, mine])
                    break
            if self._ignored is None and not old:
                names = [one.name for lease in others for one in lease.devices]
                names += [one.name for one in self._held]
                names += [one.name for draw in self._draws for one in draw.candidates]
                self._ignored = self._stock.ignored(names)
                continue
            unasked = old or next((lease for _, lease, _ in blockers if lease.tree not in told), None)
            if unasked is None:
                raise self._refusal(taken, blockers, there)
            end = end or time.monotonic() + life.MOST_S
            how = life.how(unasked, end - time.monotonic())
            if how:
                there.append((unasked.tree, how))
            else:
                gone.append(unasked.tree)
        self._taken = {name: [one.name for one in several] for name, several in taken.items()}

    def _choose(self, others: Sequence[Lease]) -> tuple[dict[str, list[Hardware]], list[Blocker]]:
        """Return what each draw takes, and what is in the way; of draws only if they lack some."""
        ignored = self._ignored or _NONE
        wanted = [*self._held, *(one for draw in self._draws for one in draw.candidates)]
        keys = frozenset().union(*(one.keys for one in wanted))
        near = [(lease, one) for lease in others if lease.has_any(keys) for one in lease.devices]

        def blockers(devices: Iterable[Hardware]) -> list[Blocker]:
            return [
                (device, lease, one) for device in devices for lease, one in near
                if same.conflict(device, one, ignored)
            ]  # fmt: skip

        found = blockers(self._held)
        taken: dict[str, list[Hardware]] = {}
        for draw in self._draws:
            out = [*(one for _, one in near), *self._held, *(one for all_ in taken.values() for one in all_)]
            taken[draw.name] = choice.pick(draw.number, draw.candidates, out, ignored)
            if len(taken[draw.name]) < draw.number:
                found += blockers(draw.candidates)
        return taken, found

    def _is_own(self, lease: Lease, me: Creator, call: Facts, lessee: Lessee) -> bool:
        """Say whether a lease is this container's: by an earlier call, or by the runtime before its hook."""
        annotations = self._oci.get("annotations")
        token = annotations.get(TOKEN) if isinstance(annotations, dict) else None
        if lease["id"] != call.container:
            return False
        if me in lease["creators"]:  # before it was started again, or by a hook before this one
            return True
        if token != lease["token"]:
            return False
        if lessee.state:
            return _is_of(lease, lessee)
        # A copy of the bundle has the token too.
        return _is_same_dir(lease["bundle"], call.bundle) and any(map(life.is_there, lease["creators"]))

    def _new(self, call: Facts, lessee: Lessee) -> Lease:
        annotations = self._oci.get("annotations")
        annotations = annotations if isinstance(annotations, dict) else {}
        return Lease(
            {
                "token": posix.urandom(16).hex(),
                "id": call.container,
                "root": lessee.root,
                "bundle": call.bundle,
                "engine": audit.engine_of(annotations, f"{call.root}{call.bundle}"),
                "since": time.time(),
                "creators": [],
                "state": lessee.state,
                "xdg": lessee.xdg,
                "devices": [],
            }
        )

    # What people see.

    def _refusal(
        self,
        taken: dict[str, list[Hardware]],
        blockers: list[Blocker],
        there: list[tuple[dict[str, Any], str]],
    ) -> errors.CDIError:
        from cdi_hook.leases import in_use

        short = next((draw for draw in self._draws if len(taken[draw.name]) < draw.number), None)
        wanted = {one.name for one in self._held}
        named = [one for one in blockers if one[0].name in wanted]
        if named:
            error = in_use.of_named(named, there, audit.REMOVES)
            error.about = request.asked(dict.fromkeys(one[0].name for one in named), self._wanted)
            return error
        assert short
        every = choice.pick(len(short.candidates), short.candidates, (), self._ignored or _NONE)
        return in_use.of_draw(short.name, short.number, every, blockers, there, audit.REMOVES)

    def _name_what_was_taken(self) -> None:
        """Have the request ask for the devices that were taken, in the places of the draws."""
        wanted = self._wanted
        asked: list[request.Asked] = []
        for name, origin, words in wanted.asked:
            if name in self._taken:
                asked += [(one, f"{origin}, as {name}", words) for one in self._taken[name]]
            else:
                asked.append((name, origin, words))
        wanted.ask(asked)

    def record(self, *, late: bool) -> list[Change]:
        """Have the OCI spec say what was taken, and by which lease; return the changes.

        So a second pass asks by name. ``late``: no variable can be added any more.
        """
        target = Target(self._oci, keep_present=True, may_map_ids=False)

        def put(kind: str, key: str, value: str) -> None:
            wanted = Wanted(kind, None, key, value, {})
            if kind == "env":
                kinds.KINDS[kind].add(target, [wanted])
            else:
                target.put((kind,), target.open((kind,), dict, wanted), key, wanted)

        config = self._config
        new: dict[str, list[str]] = {}
        for key, item, name in _items(self._oci, config.words("ANNOTATION_PREFIXES"), config):
            new.setdefault(key, []).extend(self._taken.get(name, [item]))
        for key, names in new.items():
            put("annotations", key, ",".join(names))
        put("annotations", TOKEN, self._token)
        names = [name for several in self._taken.values() for name in several]
        if names and not late:
            put("env", DEALT, f"{DEALT}={','.join(names)}")
        return target.changes


def _is_of(lease: Lease, lessee: Lessee) -> bool:
    """Say whether a lease is of the container with this id, of this runtime, under this root."""
    return bool(lessee.state and (lease["state"], lease["xdg"]) == (lessee.state, lessee.xdg))


def _grow(lease: Lease, devices: Sequence[Hardware], me: Creator, lessee: Lessee) -> bool:
    """Have a lease be for these devices too, and by us too; say whether that changed it.

    It never shrinks: whoever made it may still be creating the container, or it is another one's that lives.
    """
    before = json_text.dumps(lease.tree)
    if lessee.state or not lease["state"]:  # else the runtime that calls this hook is among the creators
        old = [one for one in lease["creators"] if one != me and life.is_there(one)]
        lease.tree["creators"] = [*old, me]
        lease.tree["state"] = lease["state"] or lessee.state
    lease.cover(devices)
    return json_text.dumps(lease.tree) != before


def _items(oci: dict[str, Any], prefixes: Sequence[str], config: Any) -> list[tuple[str, str, str]]:
    """Return what annotations ask for: the key, the item as it is written, and the name that it means."""
    annotations = oci.get("annotations")
    return [
        (key, item, request.with_default_kind(item, config))
        for key, value in (annotations if isinstance(annotations, dict) else {}).items()
        if key.startswith(tuple(prefixes)) and isinstance(value, str)
        for item in value.split(",")
    ]


def _is_same_dir(one: str, other: str) -> bool:
    try:
        first, second = posix.stat(one), posix.stat(other)
    except OSError:
        return False
    return (first.st_dev, first.st_ino) == (second.st_dev, second.st_ino)
