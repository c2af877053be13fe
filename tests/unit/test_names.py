# SPDX-License-Identifier: Apache-2.0
"""names: the parts of a device's name, and the words for one that isn't valid."""

from __future__ import annotations

import pytest

from cdi_hook import names
from cdi_hook.errors import InvalidName


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("vendor.com/gpu=0", ("vendor.com", "gpu", "0")),
        ("a/b=c=d", ("a", "b", "c=d")),
        ("vendor.com/gpu=", ("", "", "vendor.com/gpu=")),
        ("vendor.com/gpu", ("", "", "vendor.com/gpu")),
        ("/dev/gpu=0", ("", "", "/dev/gpu=0")),
        ("gpu=0", ("", "", "gpu=0")),
        ("a/=0", ("", "", "a/=0")),
        ("a/b/c=0", ("a", "b/c", "0")),
    ],
)
def test_parse_device(text: str, parts: tuple[str, str, str]) -> None:
    """A name is split at its first equals sign and slash, or not at all."""
    assert names.parse_device(text) == parts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gpu0", 'unqualified device "gpu0", missing vendor'),
        ("1a/b=c", 'invalid device "1a/b=c": invalid vendor. "1a", should start with letter'),
        ("a/b-=c", 'invalid device "a/b-=c": invalid class. "b-", should end with a letter or digit'),
        ("a/b=c/d", "invalid device \"a/b=c/d\": invalid character '/' in device name \"c/d\""),
        ("a/b=-", 'invalid device "a/b=-": invalid name "-", should start with a letter or digit'),
        # the first and the last byte, not the first and the last character
        ("a/b=é", 'invalid device "a/b=é": invalid name "é", should start with a letter or digit'),
        ("a/b=cé", "invalid device \"a/b=cé\": invalid character '\N{REPLACEMENT CHARACTER}' in device name \"cé\""),
        ("a/b=céd", "invalid device \"a/b=céd\": invalid character 'é' in device name \"céd\""),
        ("a/b=ü=c", 'invalid device "a/b=ü=c": invalid name "ü=c", should start with a letter or digit'),
        ("a/b=\ud800", 'invalid device "a/b=\\ud800": invalid name "\\ud800", should start with a letter or digit'),
        (
            "a/b=c\udcffd",
            "invalid device \"a/b=c\\xffd\": invalid character '\N{REPLACEMENT CHARACTER}' in device name \"c\\xffd\"",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_name(text: str, message: str) -> None:
    """A name that isn't valid is refused in the reference's words."""
    with pytest.raises(InvalidName) as raised:
        names.parse_qualified_name(text)
    assert str(raised.value) == message


def test_one_string_is_no_list() -> None:
    """A string where a list of names is meant is refused: its letters aren't names."""
    with pytest.raises(TypeError) as raised:
        names.as_list("a/b=c", "devices")
    assert str(raised.value) == "devices must be a list of strings, not the string 'a/b=c'"
