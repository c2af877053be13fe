# SPDX-License-Identifier: Apache-2.0
"""EXCLUSIVE: devices that one container has at a time, and `any` that is free. Between request and policy.

Imported only if the configuration has EXCLUSIVE. For each exclusive device that a container asks for, a
lease is taken (the room leases says what that is), and `any` becomes the name of a device:

    vendor.com/class=any      one device of this kind that no container has
    vendor.com/class=any:2    two of them

A device that a spec calls "any" or "any:2" is asked for like every other.
"""

from __future__ import annotations

from cdi_hook import errors
from cdi_hook.base.quoting import quote
from cdi_hook.config.rule import matches
from cdi_hook.edits import kinds
from cdi_hook.edits.target import Target, Wanted
from cdi_hook.inject import audit, request
from cdi_hook.leases import choice
from cdi_hook.leases.store import TOKEN, Store, known
from cdi_hook.leases.taking import Taking

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from cdi_hook.config.settings import Config
    from cdi_hook.edits.target import Change
    from cdi_hook.inject.request import Facts
    from cdi_hook.leases.lessee import Lessee
    from cdi_hook.leases.same import Hardware
    from cdi_hook.leases.stock import Stock

DEALT = "CDI_DEALT"  # the container's variable with the devices that `any` became


class Deal:
    """One container's exclusive devices."""

    def __init__(
        self,
        wanted: request.DeviceRequest,
        oci: dict[str, Any],
        config: Config,
        call: Facts,
        stock: Stock,
        given: Sequence[Hardware],
    ) -> None:
        """Find out which they are; raises InvalidRequest for an `any` that can't be understood.

        ``given`` are those that the engine gives. Raises LeaseError if the leases can't be read.
        """
        self._wanted, self._oci, self._config, self._call = wanted, oci, config, call
        self._patterns = config.words("EXCLUSIVE")
        self._stock = stock
        self._draws = [
            choice.Draw(name)
            for name in wanted.device_ids
            if choice.may_be_draw(name) and name not in self._stock.specs
        ]
        drawn = {draw.name for draw in self._draws}
        self._held: list[Hardware] = []
        self._watched: list[Hardware] = []  # what isn't exclusive, and yet somebody's because of a lease
        named = [name for name in wanted.device_ids if name not in drawn]
        self._sort([*stock.hardware(named, strict=True), *given])
        self._taken: dict[str, list[str]] = {}  # by the name of a draw
        self._token = ""

    @property
    def is_needed(self) -> bool:
        """Whether the container asks for an exclusive device at all."""
        return bool(self._draws or self._held or self._watched)

    @property
    def _told(self) -> str:
        """What EXCLUSIVE says, and where."""
        config = self._config
        return f"EXCLUSIVE={config['EXCLUSIVE']}, {config.origins['EXCLUSIVE']}"

    def _is_listed(self, name: str) -> bool:
        return any(matches(name, one) for one in self._patterns)

    def _sort(self, devices: Sequence[Hardware]) -> None:
        """Find those that are exclusive by their own name or another one, and those that a lease is for."""
        self._held = [device for device in devices if self._is_listed(device.name)]
        others = [device for device in devices if device not in self._held]
        if not others:
            return
        wanted = frozenset().union(*(device.keys for device in others))
        if self._call.lessee:
            leases = known(self._stock.directory)
        else:  # nobody asks for these later
            from cdi_hook.leases import inquiry

            leases = inquiry.living(self._stock.directory)
        leases = [lease for lease in leases if lease.has_any(wanted)]
        leased = [device for lease in leases for device in lease.devices]
        stored = frozenset().union(*(device.keys for device in leased))
        exclusive = self._stock.hardware(name for name in self._stock.specs if self._is_listed(name))
        keys = frozenset().union(*(device.keys for device in exclusive))
        if any(device.keys & (keys | stored) for device in others):
            common = self._stock.common(leased)
            self._watched = [device for device in others if device.keys & stored - common]
            for device in others:
                part = device.keys & keys - common  # of such a device only that is exclusive
                if part:
                    self._held.append(device.part(part))

    def settle(self, *, is_trial: bool = False) -> None:
        """Take a lease for all, and have the request name what was taken; a trial takes none.

        Raises LeaseError or InvalidRequest, and then nothing was taken.
        """
        call = self._call
        if call.lessee is None:
            name = [one.name for one in (*self._held, *self._watched)][:1] or [self._draws[0].name]
            raise errors.LeaseError(
                f"{name[0]} is for one container at a time ({self._told}), and {call.no_lease}"
            )
        self._check_draws()
        self._check_policy()
        if not self._stock.directory:
            raise errors.LeaseError(
                "there is no place for leases of exclusive devices: XDG_RUNTIME_DIR isn't set",
                "log in by a session that sets it, as `machinectl shell` does",
            )
        store = Store(self._stock.directory)
        try:
            self._take(store, call, call.lessee, is_trial)
        finally:
            store.close()
        self._name_what_was_taken()

    def _take(self, store: Store, call: Facts, lessee: Lessee, is_trial: bool) -> None:
        found = self._oci.get("annotations")
        annotations = found if isinstance(found, dict) else {}
        for key in annotations:
            if key.startswith(TOKEN) and key != TOKEN:  # runc takes "TOKEN=x" for TOKEN
                raise errors.InvalidAnnotation(
                    f"the annotation {quote(key)} is refused: keys with {TOKEN} are cdi-hook's own",
                    "leave it out",
                )
        tree = {
            "id": call.container,
            "root": lessee.root,
            "bundle": call.bundle,
            "engine": audit.engine_of(annotations, f"{call.root}{call.bundle}"),
            "state": lessee.state,
            "xdg": lessee.xdg,
        }
        token = annotations.get(TOKEN)
        taking = Taking(tree, lessee.pid, token, self._held, self._watched, self._draws, self._stock.common)
        try:
            self._token = taking.take(store, audit.REMOVES, is_trial=is_trial)
        except errors.LeaseError as error:
            if taking.lacking:
                error.about = request.asked(taking.lacking, self._wanted)
            raise
        self._taken = {name: [one.name for one in several] for name, several in taking.taken.items()}

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
            devices = [one for one in self._stock.hardware(names) if one.name not in self._stock.gone]
            listed = [one for one in devices if self._is_listed(one.name)]
            if not listed:
                known, fix = f"no spec defines a {draw.kind}, see", "name a device; cdi-hook list shows them"
                if any(map(self._is_listed, names)):
                    known = f"this host lacks the nodes of each {draw.kind} in"
                    fix = "cdi-hook validate says what is missing"
                elif names:
                    known = f"{draw.kind} isn't in"
                raise errors.InvalidRequest(
                    f"{quote(draw.name)} (asked for by {origins[draw.name]}) takes a device that is for one "
                    f"container at a time, and {known} {self._told}",
                    fix,
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

        held = [one.name for one in self._held]
        names = [*held, *(one.name for draw in self._draws for one in draw.candidates)]
        aliases = policy.aliases(names, config, self._stock)
        for draw in self._draws:
            for one in draw.candidates:
                aliases.setdefault(one.name, []).extend((draw.name, f"{draw.kind}={choice.ANY}"))

        def check(name: str, sources: Sequence[request.Asked]) -> None:
            one = request.DeviceRequest()
            one.asked = [(name, origin, words) for _, origin, words in sources]
            policy.check(one, config, *where, aliases)

        for name in held:
            check(name, [one for one in self._wanted.asked if one[0] == name])
        for draw in self._draws:
            allowed, why = [], None
            for candidate in draw.candidates:
                try:
                    check(candidate.name, asked[draw.name])
                    allowed.append(candidate)
                except errors.InvalidRequest as error:
                    why = why or error
            if why and not allowed:
                raise errors.InvalidRequest(
                    f"this container may have no device of {draw.kind}: {why.cause}", why.fix
                )
            draw.candidates = allowed

    # What people see.

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
        target = Target(self._oci, keep_present=True, can_map_ids=None)

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
        if self._token:
            put("annotations", TOKEN, self._token)
        names = [name for several in self._taken.values() for name in several]
        if names and not late:
            put("env", DEALT, f"{DEALT}={','.join(names)}")
        return target.changes


def _items(oci: dict[str, Any], prefixes: Sequence[str], config: Any) -> list[tuple[str, str, str]]:
    """Return what annotations ask for: the key, the item as it is written, and the name that it means."""
    annotations = oci.get("annotations")
    return [
        (key, item, request.with_default_kind(item, config))
        for key, value in (annotations if isinstance(annotations, dict) else {}).items()
        if key.startswith(tuple(prefixes)) and isinstance(value, str)
        for item in value.split(",")
    ]
