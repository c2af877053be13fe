# SPDX-License-Identifier: Apache-2.0
"""DeviceRequest -> injection, as docker's engine has its CDI device driver.

No spec dirs, no driver. A registry that can't be set up hurts only the
containers that ask for a device. When an injection fails, whatever went wrong
while reading the specs is logged, all of it.
"""

from __future__ import annotations

from cdi_hook.errors import CDIError, InjectionError, InvalidRequest, quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, Protocol

    from cdi_hook.request import DeviceRequest

    class Registry(Protocol):
        """What the driver needs to know devices by: a cache.Cache or an index.Registry."""

        @property
        def errors(self) -> dict[str, list[str]]:
            """What is wrong with the specs, by path."""

        def inject(self, oci: dict[str, Any], names: Sequence[str]) -> None:
            """Edit oci so that it has these devices, or raise CDIError and leave it alone."""


NAME = "cdi"
FAILED = "CDI device injection failed: "
REFRESH_ERRORS = "Refreshing the CDI registry generated errors"


class CDIDriver:
    """Injects CDI devices into OCI specifications."""

    __slots__ = ("_registry", "_setup_error", "_warn")

    def __init__(self, open_registry: Callable[[], Registry], warn: Callable[[str, str], None]) -> None:
        """Set up the registry; what fails here fails each injection, and nothing else.

        ``warn`` takes a message and the errors behind it.
        """
        self._warn = warn
        self._registry: Registry | None = None
        self._setup_error = ""
        try:
            self._registry = open_registry()
        except (CDIError, OSError) as error:
            self._setup_error = str(error)

    def inject(self, oci: dict[str, Any], request: DeviceRequest) -> None:
        """Edit oci so that it has the requested devices; a request without ids does nothing.

        Raises InvalidRequest for a count or options, which CDI has no use for,
        and InjectionError, caused by what went wrong, when the injection fails;
        oci is then as it was.
        """
        if request.count:
            raise InvalidRequest("unexpected count in CDI device request")
        if request.options:
            raise InvalidRequest("unexpected options in CDI device request")
        if not request.device_ids:
            return
        if self._registry is None:
            raise InjectionError(f"{FAILED}{self._setup_error}")
        try:
            self._registry.inject(oci, request.device_ids)
        except CDIError as error:
            by_path = self._registry.errors
            messages = [f"{path}: {message}" for path in sorted(by_path) for message in by_path[path]]
            if messages:
                self._warn(REFRESH_ERRORS, "\n".join(messages))
            raise InjectionError(f"{FAILED}{error}") from error


def register(
    spec_dirs: Sequence[str], open_registry: Callable[[], Registry], warn: Callable[[str, str], None]
) -> dict[str, CDIDriver]:
    """Return the drivers by name: the CDI driver, or none where there are no spec dirs."""
    return {NAME: CDIDriver(open_registry, warn)} if spec_dirs else {}


def inject(drivers: dict[str, CDIDriver], oci: dict[str, Any], request: DeviceRequest) -> None:
    """Have the requested driver serve a request; raises InvalidRequest when there is no such driver."""
    if request.driver not in drivers:
        raise InvalidRequest(f"could not select device driver {quote(request.driver)} with capabilities: []")
    drivers[request.driver].inject(oci, request)
