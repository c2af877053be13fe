# SPDX-License-Identifier: Apache-2.0
"""DeviceRequest -> changes, as docker's engine has its CDI device driver.

Without spec dirs there is no driver. A registry that can't be set up hurts only
the containers that ask for a device. When an injection fails, everything that
went wrong while the specs were read is logged.
"""

from __future__ import annotations

from cdi_hook import errors
from cdi_hook.base.quoting import quote
from cdi_hook.inject import pipeline
from cdi_hook.names import as_list

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any, Protocol

    from cdi_hook.edits.target import Change
    from cdi_hook.inject.pipeline import Warn
    from cdi_hook.inject.request import DeviceRequest

    class Devices(Protocol):
        """What the driver knows devices by."""

        @property
        def errors(self) -> dict[str, list[str]]:
            """What is wrong with the specs, by path."""

        def devices(self) -> list[str]:
            """Return the qualified names of all devices, sorted."""

        def inject(self, oci: dict[str, Any], names: Sequence[str]) -> list[Change]:
            """Edit oci so that it has these devices and say how, or raise CDIError and leave it alone."""


NAME = "cdi"


class CDIDriver:
    """Injects CDI devices into OCI specifications, and lists them."""

    __slots__ = ("_registry", "_warn")

    def __init__(self, registry: Devices | errors.CDIError | OSError, warn: Warn) -> None:
        """Take the registry, or the error that setting it up ended in: each injection then fails with it.

        ``warn`` takes a message and the errors behind it.
        """
        self._registry = registry
        self._warn = warn

    def devices(self) -> tuple[list[str], list[str]]:
        """Return the qualified names of all devices, sorted, and a warning for each error in the specs."""
        if isinstance(self._registry, Exception):
            return [], [str(self._registry)]
        return self._registry.devices(), self._errors(self._registry)

    def inject(self, oci: dict[str, Any], request: DeviceRequest) -> list[Change]:
        """Edit oci so that it has the requested devices, and return the changes.

        A request without ids does nothing. Raises InvalidRequest for a count or
        options, which CDI has no use for, and InjectionError, caused by what
        went wrong, when the injection fails; oci is then as it was.
        """
        if request.count:
            raise errors.InvalidRequest("unexpected count in CDI device request")
        if request.options:
            raise errors.InvalidRequest("unexpected options in CDI device request")
        if not request.device_ids:
            return []
        if isinstance(self._registry, Exception):
            raise errors.InjectionError(f"{errors.FAILED}{self._registry}") from self._registry
        try:
            return self._registry.inject(oci, request.device_ids)
        except errors.CDIError as error:
            found = self._errors(self._registry)
            if found:
                self._warn(pipeline.REFRESH_ERRORS, found)
            raise errors.InjectionError(f"{errors.FAILED}{error}", getattr(error, "source", None)) from error

    @staticmethod
    def _errors(registry: Devices) -> list[str]:
        return [
            f"{path}: {message}" for path, messages in sorted(registry.errors.items()) for message in messages
        ]


def register(
    spec_dirs: Sequence[str], registry: Devices | errors.CDIError | OSError, warn: Warn
) -> dict[str, CDIDriver]:
    """Return the drivers by name: the CDI driver (see CDIDriver), or none where there are no spec dirs.

    >>> drivers = register(["/etc/cdi"], errors.CDIError("no such dir"), warn=print)
    >>> drivers["cdi"].devices()
    ([], ['no such dir'])
    """
    return {NAME: CDIDriver(registry, warn)} if as_list(spec_dirs, "spec_dirs") else {}


def inject(drivers: dict[str, CDIDriver], oci: dict[str, Any], request: DeviceRequest) -> list[Change]:
    """Have the requested driver serve a request; raises InvalidRequest when there is no such driver."""
    if request.driver not in drivers:
        raise errors.InvalidRequest(
            f"could not select device driver {quote(request.driver)} with capabilities: []"
        )
    return drivers[request.driver].inject(oci, request)
