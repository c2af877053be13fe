# SPDX-License-Identifier: Apache-2.0
"""cdi-runtime called as an engine calls a runtime, with a stderr that can't be written to."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from . import world
from .box import LAYOUT

if TYPE_CHECKING:
    from collections.abc import Callable

    from .box import Box

pytestmark = pytest.mark.xdist_group("runtime")
STREAMS = {"closed": "2>&-", "read-only": "2</dev/null", "all closed": "<&- >&- 2>&-", "full": "2>/dev/full"}


@pytest.fixture(scope="module")
def box(boxes: Callable[[str, str], Box]) -> Box:
    """A box without an engine."""
    return boxes("runc", LAYOUT)


@pytest.mark.parametrize("case", world.REFUSALS)
@pytest.mark.parametrize("streams", STREAMS)
def test_refusal_reaches_the_log(box: Box, streams: str, case: str) -> None:
    """The last line of --log is the error, and the exit status is right."""
    device, message = world.REFUSALS[case]
    config = {"ociVersion": "1.0.2", "process": {}, "linux": {}, "annotations": {world.KEY: device}}
    box.write("/run/board/bundle/config.json", json.dumps(config))
    box.do("rm", "-f", "/run/board/bundle/log.json")
    options = "--log /run/board/bundle/log.json --log-format json create --bundle /run/board/bundle"
    done = box.call("sh", "-c", f"exec /usr/bin/cdi-runtime {options} one {STREAMS[streams]}")
    lines = [json.loads(line) for line in box.read("/run/board/bundle/log.json").splitlines()]
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
    assert (lines[-1]["level"], lines[-1]["msg"]) == ("error", message)
    assert [line["level"] for line in lines[:-1]] == ["warning"] * (
        case in ("unknown device", "broken spec file")
    )
