# SPDX-License-Identifier: Apache-2.0
"""Errors and findings as data. Only an entry point says one, and exits."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Optional

    Source = tuple[Optional[str], str]  # a device (None: all devices of the spec), the path of its spec

# The beginning of the message if a container's request can't be met.
FAILED = "CDI device injection failed: "
OK = "ok"  # as it should be, or worth knowing
WARNING = "warning"  # works now, and may not later
ERROR = "error"  # a container that asks for a device may not get it
UNKNOWN = "unknown"  # can't be told, most often because only root may look


class CDIError(Exception):
    """The base class of this package's errors; its kind is its class, and as a text it is one line.

    ``cause`` is what went wrong, ``about`` what it concerns, where more is known of that (the device, who
    asked for it, its spec), and ``fix`` what to do about it. ``of_request`` is whether a container's
    request for devices can't be met because of it: Facts of inject/request.py say so, and createContainer.
    """

    def __init__(self, cause: str, fix: str = "") -> None:
        self.cause = cause
        self.about = ""
        self.fix = fix
        self.of_request = False
        super().__init__(cause)

    def __str__(self) -> str:
        return "; ".join(filter(None, (self.cause, self.about, self.fix)))

    @property
    def sentence(self) -> str:
        """What a person is told."""
        return f"{FAILED}{self}" if self.of_request else str(self)


class InvalidName(CDIError):
    """A vendor, class, device or qualified name that breaks the naming rules."""


class InvalidAnnotation(CDIError):
    """An annotation key or value that can't name CDI devices."""


class InvalidRequest(CDIError):
    """A device request that the CDI driver or the policy refuses."""


class ConfigError(CDIError):
    """A line of the configuration that can't be used."""


class BundleError(CDIError):
    """A bundle whose config.json can't be read, edited or replaced."""


class RuntimeNotFound(CDIError):
    """No OCI runtime that the call could be passed to."""


class InjectionError(CDIError):
    """Container edits that can't be applied to an OCI specification.

    If one edit is at fault, ``source`` is the device that asks for it (None: all
    devices of the spec) and the path of the device's spec.
    """

    def __init__(self, cause: str, source: Source | None = None) -> None:
        super().__init__(cause)
        self.source = source


class HostMismatch(InjectionError):
    """A host that isn't, or is no longer, what a spec says; ``node`` is the path of a host's node, or ""."""

    def __init__(self, cause: str, source: Source | None = None, node: str = "") -> None:
        super().__init__(cause, source)
        self.node = node


class TooLate(InjectionError):
    """Container edits that can't be made in a container that is already being created."""

    def __init__(self, cause: str, fix: str) -> None:
        super().__init__(cause)
        self.fix = fix


class LeaseError(CDIError):
    """An exclusive device that another container has, or that no lease can be taken for."""


class UnresolvableDevices(CDIError):
    """Requested devices that no usable CDI spec defines: ``names``, in request order with duplicates."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        super().__init__(f"unresolvable CDI devices {', '.join(self.names)}")


class InvalidSpec(CDIError):
    """A CDI spec file that can't be used; ``findings`` are all things wrong with it."""

    def __init__(self, cause: str, findings: Sequence[Finding] = ()) -> None:
        self.findings = list(findings)
        super().__init__(cause)


class Finding:
    """One thing that was found, in a document or on the host.

    ``message`` is what is so, ``level`` how bad that is (OK, WARNING, ERROR or UNKNOWN), and ``fix`` what
    to do about it: a command to paste, or a sentence ("": nothing). ``place`` is where in a document, in
    jq's notation (``.devices[3].name``; "": all of it). Of a spec file that doesn't count, ``kind`` says
    why: others could have written it ("untrusted"), it isn't valid ("invalid"), another file of its dir has
    the same ``device`` ("conflict"), or it can't be read, because of its mode ("denied") or otherwise
    ("unreadable"). Only those of an invalid file quote what it says.
    """

    __slots__ = ("device", "fix", "kind", "level", "message", "place")

    def __init__(
        self,
        level: str,
        message: str,
        fix: str = "",
        place: str = "",
        kind: str = "invalid",
        device: str = "",
    ) -> None:
        self.level = level
        self.message = message
        self.fix = fix
        self.place = place
        self.kind = kind
        self.device = device

    @property
    def fields(self) -> tuple[str, ...]:
        """All that it says, as its arguments."""
        return self.level, self.message, self.fix, self.place, self.kind, self.device

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Finding) and self.fields == other.fields

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        said = f"{self.message}; {self.fix}" if self.fix else self.message
        return f"{self.place}: {said}" if self.place else said

    def __repr__(self) -> str:
        return f"Finding{self.fields}"


_PACKAGES = {
    "yaml": "PyYAML is missing, which reads CDI specs: install python3-yaml (Debian, Ubuntu), python3-pyyaml "
    "(Fedora, RHEL), or with pip PyYAML",
}


def defect(error: BaseException, who: str = "") -> str:
    """Return the message for an error that nobody expected, with ``who`` can't go on."""
    if isinstance(error, ModuleNotFoundError) and error.name in _PACKAGES:
        return f"{FAILED if who else ''}{_PACKAGES[error.name]}"
    return f"{who} can't go on: {type(error).__name__}: {error} (--debug shows where)".lstrip()
