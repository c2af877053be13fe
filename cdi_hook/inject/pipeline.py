# SPDX-License-Identifier: Apache-2.0
"""The one way through: OCI spec -> request -> policy -> driver -> changes.

Every form of the program walks it. The forms differ in where the OCI spec comes
from, and in what becomes of the changes: written back, printed, or carried out
in a container that is being created.
"""

from __future__ import annotations

import posix

from cdi_hook import errors
from cdi_hook.base import json_text
from cdi_hook.catalog.registry import Registry
from cdi_hook.config import settings
from cdi_hook.edits import kinds
from cdi_hook.inject import bundle, driver, facts, request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from cdi_hook.edits.kinds import Change


INJECTED = "CDI devices injected"
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

    __slots__ = ("call", "is_root", "settings", "spec_dirs", "state_dir", "strict")

    def __init__(self, environ: Mapping[bytes, bytes], spec_dirs: Sequence[str] = ()) -> None:
        """Read the configuration that the environment names; ``spec_dirs`` replace the configured dirs."""
        self.settings = settings.load(environ)
        self.is_root = settings.is_system_root()
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
            may_map_ids=self.is_root,
            keep_index=keep_index,
        )

    def log(self, level: str, message: str, errors: str = "") -> bool:
        """Append a line to LOG, if one is configured and can be written; say whether it was."""
        if not self.settings["LOG"]:
            return False
        from cdi_hook.inject import audit

        return audit.write(self.settings, self.call, level, message, errors)

    def log_outcome(self) -> None:
        """Have LOG tell which devices the container has got, or might have asked for."""
        if self.call.request and self.call.request.device_ids:
            self.log("info", INJECTED)
        elif self.call.doubt:
            self.log("warning", self.call.doubt)


def inject(
    oci: dict[str, Any],
    host: Host,
    warn: driver.Warn,
    *,
    named: Sequence[str] = (),
    registry: Registry | None = None,
    through: Callable[[Registry], driver.Devices] = lambda registry: registry,
    check: Callable[[list[Change]], None] = lambda _changes: None,
) -> tuple[request.DeviceRequest, list[Change]]:
    """Edit oci so that it has the devices asked for; return the request, and the changes made.

    The devices are those ``named``, or else those that oci asks for itself.
    ``through`` makes of the registry the one that injects; ``check`` raises
    InjectionError for changes that can't be made here. Raises CDIError when a
    device that was asked for can't be had; nobody must use oci then.
    """
    host.call.oci = oci
    try:
        wanted = (
            request.named(named, host.settings)
            if named
            else request.collect(oci, host.settings, host.call.container)
        )
        host.call.request = wanted
        _check(wanted, oci, host)
    except errors.CDIError as error:
        raise errors.CDIError(f"{errors.FAILED}{error}") from error
    if not wanted.device_ids:
        if host.settings.hiding:
            host.call.doubt = f"{UNREADABLE}{'; '.join(host.settings.hiding)}"
        elif not host.call.container and request.is_sandbox(oci, "") and host.settings["SANDBOXES"] == "skip":
            host.call.doubt = CLAIMED
        elif not request.is_sandbox(oci, host.call.container):
            host.call.doubt = request.misspelt(oci, host.settings)
        return wanted, []
    registry = registry or host.registry()
    try:
        drivers = driver.register(registry.spec_dirs, through(registry), warn)
        changes = driver.inject(drivers, oci, wanted)
        kinds.check_host(changes)
        check(changes)
    except errors.InjectionError as error:
        from cdi_hook.inject import explain

        raise explain.failure(error, wanted, registry) from error
    host.call.changes = changes
    return wanted, changes


def _check(wanted: request.DeviceRequest, oci: dict[str, Any], host: Host) -> None:
    settings = host.settings
    if wanted.device_ids and settings.problems:
        raise errors.ConfigError(f"the configuration can't be used: {'; '.join(settings.problems)}")
    if settings.has_policy:
        from cdi_hook.inject import policy

        bundle = host.call.bundle if host.call.may_be_pod else ""
        policy.check(wanted, settings, *request.namespaces(oci, bundle))


def write(place: bundle.Place, oci: dict[str, Any], changes: list[Change]) -> None:
    """Replace a bundle's config.json by the edited OCI spec, if anything was changed; raises CDIError."""
    if changes:
        try:
            bundle.replace(place, json_text.dumps(oci))
        except errors.CDIError as error:
            raise errors.CDIError(f"{errors.FAILED}{error}") from error
