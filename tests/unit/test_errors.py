# SPDX-License-Identifier: Apache-2.0
"""errors: text in messages, as Go's %q has it."""

from __future__ import annotations

import pytest

from cdi_hook.base.quoting import quote


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("gpu 0", '"gpu 0"'),
        ("", '""'),
        ('a"b', '"a\\"b"'),
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("\a\b\f\n\r\t\v", '"\\a\\b\\f\\n\\r\\t\\v"'),
        ("\0\x1b\x7f", '"\\x00\\x1b\\x7f"'),
        ("é\N{PILE OF POO}", '"é\N{PILE OF POO}"'),
        ("\x80\x81\uffff", '"\\u0080\\u0081\\uffff"'),
        ("\U00010000\U000e0001", '"\N{LINEAR B SYLLABLE B008 A}\\U000e0001"'),
        ("\U0010ffff", '"\\U0010ffff"'),
        ("\udc80\udc81\udcfe\udcff", '"\\x80\\x81\\xfe\\xff"'),  # bytes that weren't UTF-8
        ("\udc7f\udd00", '"\\udc7f\\udd00"'),
    ],
)
def test_quote(text: str, quoted: str) -> None:
    """What can be shown stays, and everything else is escaped."""
    assert quote(text) == quoted
