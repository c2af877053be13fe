# SPDX-License-Identifier: Apache-2.0
"""The errors that the library raises, and quotes for names. Only an entry point prints one and exits."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# The beginning of the message if a container's request can't be met.
FAILED = "CDI device injection failed: "


class CDIError(Exception):
    """The base class of this package's errors; the text is one line."""


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

    def __init__(self, message: str, source: tuple[str | None, str] | None = None) -> None:
        self.source = source
        super().__init__(message)


class TooLate(InjectionError):
    """Container edits that can't be made in a container that is already being created."""


class UnresolvableDevices(CDIError):
    """Requested devices that no usable CDI spec defines: ``names``, in request order with duplicates."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)
        super().__init__(f"unresolvable CDI devices {', '.join(self.names)}")


class InvalidSpec(CDIError):
    """A CDI spec file that can't be used; ``findings`` are all things wrong with it."""

    def __init__(self, message: str, findings: Sequence[Finding] = ()) -> None:
        self.findings = list(findings)
        super().__init__(message)


class Finding:
    """One thing wrong with a document.

    ``path`` is the place in jq's notation (``.devices[3].name``; "" is the whole
    document). ``message`` is in the words of the reference implementation, and
    ``within`` is the text that this puts before the message. ``plain`` is what a person
    is told: what is wrong, and what to write instead.
    """

    __slots__ = ("message", "path", "plain", "within")

    def __init__(self, path: str, message: str, within: str = "", plain: str = "") -> None:
        self.path = path
        self.message = message
        self.within = within
        self.plain = plain or message

    def __str__(self) -> str:
        return f"{self.path}: {self.plain}" if self.path else self.plain

    def __repr__(self) -> str:
        return f"Finding({self.path!r}, {self.message!r})"


_ESCAPES = {character: f"\\{letter}" for character, letter in zip('\a\b\f\n\r\t\v\\"', 'abfnrtv\\"')}


def quote(text: str) -> str:
    """Quote text as Go's ``%q`` does, as CDI implementations do in messages."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(_quoted(character) for character in text) + '"'


def _quoted(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    if character.isprintable():
        return character
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that wasn't UTF-8, see surrogateescape
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
