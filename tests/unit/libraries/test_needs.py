# SPDX-License-Identifier: Apache-2.0
"""The arguments of createContainer."""

from __future__ import annotations

import pytest

from cdi_hook.libraries.needs import parse


def test_arguments() -> None:
    """Options are read in both spellings, each link and dir once."""
    words = [
        "--link",
        "a::/b/c",
        "--ldcache=/x",
        "--link=a::/b/c",
        "--ldcache",
        "/y",
        "--driver-version",
        "580.1",
        "--debug",
        "--config",
        "/z",
    ]
    needs, configuration, debug = parse(words)
    assert (needs.links, needs.dirs, needs.driver_version) == ([("a", "/b/c")], ["/x", "/y"], "580.1")
    assert (configuration, debug) == ("/z", True)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--link", "a"], "--link takes TARGET::PATH with an absolute PATH, not a"),
        (["--link", "a::b"], "--link takes TARGET::PATH with an absolute PATH, not a::b"),
        (["--link", "::/b"], "--link takes TARGET::PATH with an absolute PATH, not ::/b"),
        (["--link", "a::/b/"], "--link takes TARGET::PATH with an absolute PATH, not a::/b/"),
        (["--ldcache", "x"], "--ldcache takes an absolute path, not x"),
        (["--ldcache"], "--ldcache takes a value"),
        (["--ldcache", "/x", "more"], "unrecognized arguments: more"),
        (["--debug=1"], "unrecognized arguments: --debug=1"),
    ],
)
def test_wrong_arguments(words: list[str], message: str) -> None:
    """What is wrong is named."""
    with pytest.raises(ValueError) as refused:  # noqa: PT011 # the message is compared below
        parse(words)
    assert str(refused.value) == message
