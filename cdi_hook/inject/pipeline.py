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
from cdi_hook.inject import bundle, facts, request

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
UNREADABLE = "the container may have asked for a CDI device by what the configuration can't say: "
CLAIMED = (
    "by its annotations this is a Kubernetes pod's sandbox, so it gets no CDI device (SANDBOXES=skip); "
    "whether that is true can't be told without the container's id"
)


class Host:
    """Who we are on this host and what is configured, found out once.

    ``is_root``: root, and not only so in a user namespace. ``strict``: spec files
    count only if nobody but root could have written them; the root of a user namespace
    is strict too. ``state_dir`` is where an index is kept ("": nowhere). ``call`` is the
    call that we are in.
    """

    def __init__(self, environ: Mapping[bytes, bytes], spec_dirs: Sequence[str] = ()) -> None:
        """Read the configuration that the environment names; ``spec_dirs`` replace the configured dirs."""
        self.settings = settings.load(environ)
        self.is_root = files.is_system_root()
        self.spec_dirs = list(spec_dirs) or settings.spec_dirs(self.settings, environ, self.is_root)
        self.strict = posix.geteuid() == 0 and self.settings["SPEC_TRUST"] == "strict"
        self.state_dir = settings.state_dir(environ, self.is_root)
        self.call = facts.Facts()
        if self.settings["LOG"]:
            import time

            self.call.start = time.monotonic()

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

        return audit.write(self.settings, self.call, level, message, errors)

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
    call = host.call
    call.oci = oci
    try:
        wanted = call.request = (
            request.named(named, host.settings)
            if named
            else request.collect(oci, host.settings, call.container)
        )
        registry = host.registry(keep_index=keep_index)
        stock, given = None, []
        if host.settings.judges_engines:
            from cdi_hook.inject import gifts
            from cdi_hook.leases.stock import Stock

            stock = Stock(registry, host.lease_dir)
            given = gifts.find(oci, wanted, host.settings, call, stock, is_root=host.is_root)
        if wanted.device_ids or given:
            if host.settings.problems:
                problems = "; ".join(host.settings.problems)
                raise errors.ConfigError(f"the configuration can't be used: {problems}")
            dealt = deal(oci, wanted, host, warn, registry, stock, given)
            if wanted.device_ids:
                _check_policy(wanted, oci, host, stock)
                call.changes = _edit(oci, wanted, host, warn, registry, runtime, late)
            if dealt:
                call.changes += dealt.record(late=late)
        if not wanted.device_ids:
            call.doubt = call.doubt or _doubt(oci, host)
    except errors.CDIError as error:
        error.of_request = True
        raise
    return call.changes


def _edit(
    oci: dict[str, Any],
    wanted: request.DeviceRequest,
    host: Host,
    warn: Warn,
    registry: Registry,
    runtime: str,
    late: bool,
) -> list[Change]:
    try:
        parts = registry.parts(wanted.device_ids)
        changes = _apply_late(oci, parts, host, warn, registry) if late else registry.apply(oci, parts)
        editor.check_host(changes)
        if runtime and any(kinds.KINDS[change.kind].features for change in changes):
            from cdi_hook.edits import features  # 10 ms, and the runtime's own

            features.check(runtime, changes, posix.environ)
    except (errors.InjectionError, errors.UnresolvableDevices) as error:
        _complete(error, wanted, warn, registry)
        raise
    return changes


def deal(
    oci: dict[str, Any],
    wanted: request.DeviceRequest,
    host: Host,
    warn: Warn,
    registry: Registry,
    stock: Stock | None,
    given: Sequence[Hardware] = (),
    *,
    is_trial: bool = False,
) -> Deal | None:
    """Take leases for the exclusive devices that a container asks for or has; None if there are none."""
    if not (stock and host.settings["EXCLUSIVE"] and (host.call.lessee or host.call.no_lease)):
        return None
    from cdi_hook.inject.deal import Deal

    try:
        made = Deal(wanted, oci, host.settings, host.call, stock, given)
    except (errors.InjectionError, errors.UnresolvableDevices) as error:
        _complete(error, wanted, warn, registry)
        raise
    if not made.is_needed:
        return None
    made.settle(is_trial=is_trial)
    return made


def _complete(
    error: errors.InjectionError | errors.UnresolvableDevices,
    wanted: request.DeviceRequest,
    warn: Warn,
    registry: Registry,
) -> None:
    found = [f"{path}: {one}" for path, several in registry.errors.items() for one in several]
    if found:
        warn(REFRESH_ERRORS, found)
    from cdi_hook.inject import explain

    explain.complete(error, wanted, registry)


def _apply_late(
    oci: dict[str, Any], parts: Sequence[Part], host: Host, warn: Warn, registry: Registry
) -> list[Change]:
    from cdi_hook.edits import too_late

    is_fatal = host.settings["HOOK_UNSUPPORTED"] == "fail"
    return too_late.apply(oci, parts, registry.apply, None if is_fatal else lambda text: warn(text, []))


def _check_policy(
    wanted: request.DeviceRequest, oci: dict[str, Any], host: Host, stock: Stock | None
) -> None:
    config = host.settings
    if config.has_policy:
        from cdi_hook.inject import policy

        bundle = host.call.bundle if host.call.may_be_pod else ""
        aliases = policy.aliases(wanted.device_ids, config, stock) if stock else {}
        policy.check(wanted, config, *request.namespaces(oci, bundle), aliases)


def _doubt(oci: dict[str, Any], host: Host) -> str:
    """Return why a container that asks for nothing may have asked, "" if it hasn't."""
    if host.settings.hiding:
        return f"{UNREADABLE}{'; '.join(host.settings.hiding)}"
    if not request.is_sandbox(oci, host.call.container):
        return request.misspelt(oci, host.settings)
    return CLAIMED if not host.call.container and host.settings["SANDBOXES"] == "skip" else ""


def write(place: bundle.ConfigFile, oci: dict[str, Any], changes: list[Change]) -> None:
    """Replace a bundle's config.json by the edited OCI spec, if anything was changed; raises BundleError."""
    if changes:
        try:
            bundle.replace(place, json_text.dumps(oci))
        except errors.BundleError as error:
            error.of_request = True
            raise
