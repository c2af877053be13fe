# SPDX-License-Identifier: Apache-2.0
"""Qualified device names, vendor/class=name.

This module knows the syntax (CDI specification, "Kind" and "Device names"). The room catalog knows which
devices exist.
"""

from __future__ import annotations

from cdi_hook import errors
from cdi_hook.base.quoting import quote

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
_ALPHANUMERIC = f"{_LETTERS}0123456789"
_KIND_CHARACTERS = f"{_ALPHANUMERIC}_-."
_DEVICE_CHARACTERS = f"{_KIND_CHARACTERS}:"


def qualified_name(vendor: str, class_: str, name: str) -> str:
    """Return ``vendor/class=name``; nothing is checked.

    >>> qualified_name("vendor.com", "gpu", "0")
    'vendor.com/gpu=0'
    """
    return f"{vendor}/{class_}={name}"


def parse_qualifier(kind: str) -> tuple[str, str]:
    """Split ``vendor/class`` into its two parts; return ``("", kind)`` if it hasn't that form."""
    vendor, slash, class_ = kind.partition("/")
    return (vendor, class_) if slash and vendor and class_ else ("", kind)


def parse_device(device: str) -> tuple[str, str, str]:
    """Split a device name into vendor, class and name; return ``("", "", device)`` if it isn't qualified."""
    qualifier, equals, name = device.partition("=")
    if not equals or not name or device.startswith("/"):
        return "", "", device
    vendor, class_ = parse_qualifier(qualifier)
    return (vendor, class_, name) if vendor else ("", "", device)


def parse_qualified_name(text: str) -> tuple[str, str, str]:
    """Return a qualified name's vendor, class and name; raises InvalidName in the reference's words.

    >>> parse_qualified_name("vendor.com/gpu=0")
    ('vendor.com', 'gpu', '0')
    """
    vendor, class_, name = parse_device(text)
    if not vendor:
        raise errors.InvalidName(f"unqualified device {quote(text)}, missing vendor")
    try:
        validate_kind_part(vendor, "vendor")
        validate_kind_part(class_, "class")
        validate_device_name(name)
    except errors.InvalidName as error:
        raise errors.InvalidName(f"invalid device {quote(text)}: {error}") from None
    return vendor, class_, name


def is_qualified_name(text: str) -> bool:
    """Say whether text is a valid qualified device name.

    >>> is_qualified_name("gpu0")
    False
    """
    try:
        parse_qualified_name(text)
    except errors.InvalidName:
        return False
    return True


def validate_kind_part(text: str, part: str) -> None:
    """Raise InvalidName unless text is valid as the part "vendor" or "class" of a kind."""
    if not text:
        raise errors.InvalidName(f"invalid {part}. empty name")
    first, between, last = _split(text)
    if first not in _LETTERS:
        raise errors.InvalidName(f"invalid {part}. {quote(text)}, should start with letter")
    for character in between:
        if character not in _KIND_CHARACTERS:
            raise errors.InvalidName(f"invalid {part}. invalid character '{character}' in name {quote(text)}")
    if last not in _ALPHANUMERIC:
        raise errors.InvalidName(f"invalid {part}. {quote(text)}, should end with a letter or digit")


def validate_device_name(name: str) -> None:
    """Raise InvalidName unless name is valid after the equals sign."""
    if not name:
        raise errors.InvalidName("invalid (empty) device name")
    first, between, last = _split(name)
    if first not in _ALPHANUMERIC:
        raise errors.InvalidName(f"invalid name {quote(name)}, should start with a letter or digit")
    for character in between:
        if character not in _DEVICE_CHARACTERS:
            raise errors.InvalidName(f"invalid character '{character}' in device name {quote(name)}")
    if last not in _ALPHANUMERIC:
        raise errors.InvalidName(f"invalid name {quote(name)}, should end with a letter or digit")


def as_list(names: Sequence[str], what: str) -> list[str]:
    """Return names as a list; raises TypeError for one string, whose letters would be taken for names."""
    if isinstance(names, (str, bytes)):
        raise TypeError(f"{what} must be a list of strings, not the string {names!r}")
    return list(names)


def as_bytes(text: str) -> bytes:
    """Return a name in bytes; half a character, which JSON can have, becomes what Go makes of it."""
    escaped = range(0xDC80, 0xDD00)  # surrogateescape's, each for a byte
    halves = {ord(one): "\ufffd" for one in text if "\ud800" <= one <= "\udfff" and ord(one) not in escaped}
    return text.translate(halves).encode("utf-8", "surrogateescape")


def _split(text: str) -> tuple[str, str, str]:
    """Return text's first byte, what is between, and its last byte, as the reference does."""
    if text.isascii():
        return text[0], text[1:-1], text[-1]
    data = as_bytes(text)
    return chr(data[0]), data[1:-1].decode("utf-8", "replace"), chr(data[-1])
