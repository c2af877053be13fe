# SPDX-License-Identifier: Apache-2.0
"""The one way through: OCI spec -> request -> policy -> parts -> changes.

Every form of the program walks it. The forms differ in where the OCI spec comes
from, and in what becomes of the changes: written back, printed, or carried out
in a container that is being created.
"""

from __future__ import annotations

import posix

from cdi_hook import errors
from cdi_hook.base import files, json_text
from cdi_hook.catalog.registry import Registry
from cdi_hook.config import settings
from cdi_hook.edits import editor, kinds
from cdi_hook.inject import bundle, request
from cdi_hook.inject.request import Facts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from cdi_hook.edits.target import Change, Part
    from cdi_hook.inject.deal import Deal
    from cdi_hook.leases.same import Hardware
    from cdi_hook.leases.stock import Stock

    Warn = Callable[[str, list[str]], None]  # a message, and the errors behind it

REFRESH_ERRORS = "Refreshing the CDI registry generated errors"

INJECTED = "CDI devices injected"
GIVEN = "CDI devices given by the engine"


class Host:
    """Who we are on this host and what is configured, found out once.

    ``is_root``: root, and not only so in a user namespace. ``strict``: spec files
    count only if nobody but root could have written them; the root of a user namespace
    is strict too. ``state_dir`` is where an index is kept ("": nowhere). ``call`` is the
    call that we are in, and ``start`` when our code started, in s, if there is a LOG.
    """

    def __init__(
        self, environ: Mapping[bytes, bytes], spec_dirs: Sequence[str] = (), call: Facts | None = None
    ) -> None:
        """Read the configuration that the environment names; ``spec_dirs`` replace the configured dirs."""
        self.settings = settings.load(environ)
        self.is_root = files.is_system_root()
        self.spec_dirs = list(spec_dirs) or settings.spec_dirs(self.settings, environ, self.is_root)
        self.strict = posix.geteuid() == 0 and self.settings["SPEC_TRUST"] == "strict"
        self.state_dir = settings.state_dir(environ, self.is_root)
        self.call = call or Facts()
        self.start = 0.0
        if self.settings["LOG"]:
            import time

            self.start = time.monotonic()

    def registry(self, *, keep_index: bool = True) -> Registry:
        """Return the registry of the spec dirs, with an index where this user has a place for one."""
        # A user's own runtime isn't allowed to map the ids of the host's files: crun fails at it.
        return Registry(
            self.spec_dirs,
            self.state_dir,
            strict=self.strict,
            can_map_ids=_can_map_ids if self.is_root else None,
            keep_index=keep_index,
        )

    @property
    def lease_dir(self) -> str:
        """Where leases of exclusive devices are ("": nowhere)."""
        return f"{self.state_dir}-leases" if self.state_dir else ""

    def log(self, level: str, message: str, errors: str = "") -> bool:
        """Append a line to LOG, if one is configured and can be written; say whether it was."""
        if not self.settings["LOG"]:
            return False
        from cdi_hook.inject import audit

        return audit.write(self.settings, self.call, self.start, level, message, errors)

    def log_outcome(self) -> None:
        """Have LOG tell which devices the container has got, or might have asked for."""
        wanted = self.call.request
        if wanted and wanted.origins:
            self.log("info", INJECTED if wanted.device_ids else GIVEN)
        elif self.call.doubt:
            self.log("warning", self.call.doubt)
        if self.call.note:
            self.log("info", self.call.note)


def _can_map_ids(source: str, is_all: bool) -> bool:
    from cdi_hook.container import idmaps  # ctypes, 10 ms: only in a user namespace with mounts

    return idmaps.can_map(source, recursive=is_all)


def inject(
    oci: dict[str, Any],
    host: Host,
    warn: Warn,
    *,
    named: Sequence[str] = (),
    runtime: str = "",
    late: bool = False,
    keep_index: bool = True,
) -> list[Change]:
    """Edit oci so that it has the devices asked for; return the changes made.

    The devices are those ``named``, or else those that oci asks for itself. ``runtime`` is the path of the
    runtime that reads oci, where that is known; ``late`` is whether the container is being created already.
    Raises CDIError when a device that was asked for can't be had; nobody must use oci then.
    """
    call, config = host.call, host.settings
    call.oci = oci
    with call:
        wanted = call.request = (
            request.named(named, config) if named else request.collect(oci, config, call.container)
        )
        injection = Injection(oci, wanted, host, warn, host.registry(keep_index=keep_index))
        with injection:
            stock, given = None, []
            if config.judges_engines:
                from cdi_hook.inject import gifts
                from cdi_hook.leases.stock import Stock

                stock = Stock(injection.registry, host.lease_dir)
                given = gifts.find(oci, wanted, config, call, stock, is_root=host.is_root)
            if wanted.device_ids or given:
                if config.problems:
                    problems = "; ".join(config.problems)
                    raise errors.ConfigError(f"the configuration can't be used: {problems}")
                dealt = injection.deal(stock, given)
                if wanted.device_ids:
                    injection.check_policy(stock)
                    call.changes = injection.edit(runtime, late=late)
                if dealt:
                    call.changes += dealt.record(late=late)
        if not wanted.device_ids:
            from cdi_hook.inject import doubt

            call.doubt = call.doubt or doubt.of(oci, config, call.container)
    return call.changes


class Injection:
    """Devices on their way into an OCI spec, for a with statement.

    An error within is told with what people need to know of it: the device, its spec, what to do.
    """

    def __init__(
        self, oci: dict[str, Any], wanted: request.DeviceRequest, host: Host, warn: Warn, registry: Registry
    ) -> None:
        self._oci, self._wanted, self._host, self._warn = oci, wanted, host, warn
        self.registry = registry

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: object, _where: object) -> None:
        # errors isn't executed where there is none
        if error is None or not isinstance(error, (errors.InjectionError, errors.UnresolvableDevices)):
            return
        problems = self.registry.errors.items()
        if problems:
            self._warn(REFRESH_ERRORS, [f"{path}: {text}" for path, texts in problems for text in texts])
        from cdi_hook.inject import explain

        explain.complete(error, self._wanted, self.registry)

    def deal(
        self, stock: Stock | None, given: Sequence[Hardware] = (), *, is_trial: bool = False
    ) -> Deal | None:
        """Take leases for the exclusive devices that a container asks for or has; None if there are none."""
        host = self._host
        if not (stock and host.settings["EXCLUSIVE"] and (host.call.lessee or host.call.no_lease)):
            return None
        from cdi_hook.inject.deal import Deal

        deal = Deal(self._wanted, self._oci, host.settings, host.call, stock, given)
        if not deal.is_needed:
            return None
        deal.settle(is_trial=is_trial)
        return deal

    def check_policy(self, stock: Stock | None) -> None:
        """Raise InvalidRequest for a device that ALLOW and DENY forbid."""
        config = self._host.settings
        if config.has_policy:
            from cdi_hook.inject import policy

            bundle = self._host.call.bundle if self._host.call.may_be_pod else ""
            aliases = policy.aliases(self._wanted.device_ids, config, stock) if stock else {}
            policy.check(self._wanted, config, *request.namespaces(self._oci, bundle), aliases)

    def edit(self, runtime: str, *, late: bool) -> list[Change]:
        """Make the edits of all devices; return the changes."""
        parts = self.registry.parts(self._wanted.device_ids)
        changes = self._apply_late(parts) if late else self.registry.apply(self._oci, parts)
        editor.check_host(changes)
        if runtime and any(kinds.KINDS[change.kind].features for change in changes):
            from cdi_hook.edits import features  # 10 ms, and the runtime's own

            features.check(runtime, changes, posix.environ)
        return changes

    def _apply_late(self, parts: Sequence[Part]) -> list[Change]:
        """Make the edits that don't come too late; with HOOK_UNSUPPORTED=fail all have to be such."""
        from cdi_hook.edits import too_late

        is_fatal = self._host.settings["HOOK_UNSUPPORTED"] == "fail"
        before = "" if is_fatal else json_text.dumps(self._oci)
        changes = self.registry.apply(self._oci, parts)
        needs = too_late.needs(changes)
        if not needs:
            return changes
        if is_fatal:
            raise errors.TooLate(needs, too_late.ADVICE)
        self._warn(f"{needs}, and left out because of HOOK_UNSUPPORTED=warn", [])
        self._oci.clear()
        self._oci.update(json_text.loads(before))
        return self.registry.apply(self._oci, too_late.possible(parts))


def write(place: bundle.ConfigFile, call: Facts) -> None:
    """Replace a bundle's config.json by the edited OCI spec, if anything was changed; raises BundleError."""
    if call.changes:
        with call:
            bundle.replace(place, json_text.dumps(call.oci))
