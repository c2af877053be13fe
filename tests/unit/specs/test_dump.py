# SPDX-License-Identifier: Apache-2.0
"""dump: reading what was written gives the same data."""

from __future__ import annotations

import pytest

from cdi_hook.specs.dump import yaml_text
from cdi_hook.specs.yaml_values import decode


@pytest.mark.parametrize(
    "text",
    ["y", "NO", "0o10", "1e3", "~", "", "a: b", "é", "\x7f", "line\nbreak", "\x85", "- x", "2020-01-01"],
)
def test_what_is_written_is_read_back(text: str) -> None:
    """Any string stays the same when it is written as YAML and read."""
    assert decode(yaml_text({"text": text, "texts": [text]})) == {"text": text, "texts": [text]}
