# SPDX-License-Identifier: Apache-2.0
"""What we read of a config.json, held against Go's encoding/json, by which runc and runsc read it.

Go comes with `make fuzz`, which installs it into .venv/deep.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from cdi_hook.base import json_text

from .strategies import json_texts
from .test_door import CONFIGURATIONS, world
from .test_request import asked

ROOT = Path(__file__).parents[2]
GO = shutil.which("go", path=ROOT / ".venv/deep/bin")
# Go 1.27 has written encoding/json anew; until Go has no other, both are built.
WAYS = ("jsonv2", "nojsonv2")


@functools.cache
def built(way: str) -> Path:
    """Build config.go; return the program."""
    left = signal.alarm(0)  # the first time, Go's library is built as well, which takes a minute
    program = world().top / way
    environment = {
        "GOCACHE": f"{ROOT}/.pytest_cache/go",
        "GOENV": "off",
        "GO111MODULE": "off",
        "GOEXPERIMENT": way,
    }
    subprocess.run(
        [GO or "go", "build", "-o", program, Path(__file__).with_name("config.go")],
        env={**os.environ, **environment, "CGO_ENABLED": "0", "GOFLAGS": "", "GOTOOLCHAIN": "local"}, check=True,
    )  # fmt: skip
    signal.alarm(left)
    return program


def by_go(text: bytes, way: str) -> dict[str, Any] | None:
    """Return what Go reads, None where it refuses."""
    done = subprocess.run([built(way)], input=text, stdout=subprocess.PIPE, check=True)
    found: dict[str, Any] | None = json.loads(done.stdout)
    return found


def by_us(text: bytes) -> dict[str, Any] | None:
    """Return the tree that we read, None where we refuse."""
    try:
        tree = json_text.loads(text.decode("utf-8"))  # as bundle.load does, which leaves a dir open
    except ValueError:
        return None
    return tree if isinstance(tree, dict) else None


def as_go_has_it(tree: dict[str, Any]) -> dict[str, Any]:
    """Return of our tree what Go reads: a string for a null, and a character for what is half of one."""

    def text(value: str | None) -> str:
        return re.sub("[\ud800-\udfff]", "\ufffd", value or "")

    annotations, process, mounts = tree.get("annotations"), tree.get("process"), tree.get("mounts")
    return {
        "annotations": {text(key): text(value) for key, value in (annotations or {}).items()},
        "env": [text(one) for one in (process or {}).get("env") or ()],
        "destinations": [text((one or {}).get("destination")) for one in mounts or ()],
    }


ODD = st.sampled_from(
    [b"\xff", b"\xed\xa0\x80", b"\0", b"\x1f", b"\\u0000", b"\\ud800", b"\\uDC00", b"\\ud83d\\ude00", b"\\x", b"\\u12", b",", b'"']
)  # fmt: skip
SPACES = st.sampled_from([b" ", b"\r\n\t", b" ", b"\n", b"\0", b"\v", b"\xc2\xa0", b"\xef\xbb\xbf"])
# What a text may have that isn't as everybody writes it; two of these at most, so that many can be read.
WAYS_TO_BE_ODD = ("spelling", "odd", "slash", "case", "other", "twice", "space", "cut", "sandbox")


@st.composite
def configs(draw: st.DrawFn) -> bytes:
    """Draw a config.json that may ask for a device: keys twice and in any case, any spelling, and what is no JSON."""
    kinds = draw(st.lists(st.sampled_from(WAYS_TO_BE_ODD), max_size=2))

    def has(kind: str) -> bool:
        return kind in kinds and draw(st.integers(0, 2)) == 0

    def string(text: str) -> bytes:
        made = json.dumps(text, ensure_ascii=False).encode()
        if has("spelling") and text:
            one = draw(st.sampled_from(text))
            made = made.replace(one.encode(), draw(st.sampled_from([b"\\u%04x", b"\\u%04X"])) % ord(one))
        if has("odd"):
            at = draw(st.integers(1, len(made) - 1))
            made = made[:at] + draw(ODD) + made[at:]
        return made.replace(b"/", b"\\/") if has("slash") else made

    def key(name: str) -> bytes:
        changes = [
            name.upper(),
            name.title(),
            name.replace("s", "\u017f"),
            name.replace("ss", "\u00df"),
            name + "\0",
        ]
        return string(draw(st.sampled_from(changes)) if has("case") else name)

    def other() -> bytes:
        deep = "[" * 10001 + "]" * 10001
        some = draw(json_texts() | st.sampled_from(["null", "null", "NaN", "1e999", "-0", "01", deep]))
        return some.encode("utf-8", "surrogatepass")

    def padded(text: bytes) -> bytes:
        return draw(SPACES) + text if has("space") else text

    def joined(marks: bytes, values: list[bytes]) -> bytes:
        values += draw(st.lists(st.sampled_from(values), max_size=1)) if values and has("twice") else []
        return marks[:1] + b",".join(map(padded, values)) + padded(marks[1:])

    def members(*pairs: tuple[bytes, bytes]) -> bytes:
        return joined(
            b"{}", [name + padded(b":") + (other() if has("other") else value) for name, value in pairs]
        )

    def values(texts: st.SearchStrategy[str]) -> list[bytes]:
        return [other() if has("other") else string(draw(texts)) for _ in range(draw(st.integers(0, 2)))]

    names = st.sampled_from(["v.com/c=1", "v.com/c=1", "v.com/c=2", "v.com/c=1,w.com/c=1", "1", "none"])
    keys = st.sampled_from(
        ["cdi.k8s.io/x", "cdi.k8s.io/x", "cdi.k8s.io/y", "CDI.k8s.io/x", "devices.example/gpu/0", "-e/x"]
    )

    def annotations() -> bytes:
        pairs = [(string(draw(keys)), value) for value in values(names)]
        if has("sandbox"):
            pairs += [(string("io.kubernetes.cri.container-type"), string("sandbox"))]
            pairs += [(string("io.kubernetes.cri.sandbox-id"), string(draw(st.sampled_from(["id", "x"]))))]
        return members(*pairs)

    def process() -> bytes:
        env = values(st.builds("{}={}".format, st.sampled_from(["GPU", "X", "MY-VAR", "gpu"]), names))
        return members(*[(key("env"), joined(b"[]", env))] * (1 + has("twice")))

    def mounts() -> bytes:
        places = st.builds(
            "{}/v.com/c/{}".format, st.sampled_from(["/var/run/device-plugins/cdi", "/d"]), st.integers(1, 2)
        )
        return joined(b"[]", [members((key("destination"), one)) for one in values(places)])

    made = {"annotations": annotations, "process": process, "mounts": mounts}
    parts = draw(st.lists(st.sampled_from([*made]), max_size=3, unique=not has("twice") or not has("case")))
    text = padded(members(*((key(name), made[name]()) for name in parts))) + padded(b"")
    at = draw(st.integers(0, len(text)))
    return (
        draw(st.sampled_from([text[:at], text[:at] + draw(ODD) + text[at:], text + other()]))
        if has("cut")
        else text
    )


@pytest.mark.skipif(not GO, reason="make fuzz hasn't installed go")
@given(configs(), st.sampled_from(WAYS), st.integers(0, len(CONFIGURATIONS) - 1))
@example(b'{"annotation\xc5\xbf":{"cdi.k8s.io/x":"v.com/c=1"}}', WAYS[0], 0)
@example(b'{"annotations":{"cdi.k8s.io/x":"v.com/c=1"},"annotations":{}}', WAYS[1], 0)
@example(b'{"annotations":{"cdi.k8s.io/x":"v.com/c=1"}}\0', WAYS[0], 0)
@example(b'{"annotations":{"cdi.k8s.io/x":"v.com/c=1","a":"\xff"}}', WAYS[0], 0)
@example(b'{"annotations":{"cdi.k8s.io/x":"v.com/c=1","\\ud800":""}}', WAYS[0], 0)
@example(b'{"annotations":{"cdi.k8s.io/x":"v.com/c=\\ud800"}}', WAYS[0], 0)
@example(b'{"Mounts":[{"destination":"/d/v.com/c/1"}],"MOUNTS":[{}]}', WAYS[0], 6)
@example(b'{"process":{"env":["GPU=v.com/c=1"]},"process":{"ENV":[null]}}', WAYS[1], 6)
def test_go_reads_no_other_request(text: bytes, way: str, configuration: int) -> None:
    """Where Go reads a request, the door looks, and we read the same or refuse; what we write is the same to Go."""
    if not GO:
        return
    theirs, tree = by_go(text, way), by_us(text)
    if theirs is None:
        return
    settings = world().configurations[configuration]
    request = asked({key: value for key, value in theirs.items() if value is not None}, settings, "id")
    if request != []:
        (world().cwd / "plain/config.json").write_bytes(text)
        for shell in world().shells:
            looks, _ = world().call(shell, ["create", "--bundle", "plain", "id"], settings)
            assert looks, shell
    if tree is None:
        return
    assert by_go(json_text.dumps(tree).encode(), way) == theirs
    ours = asked(tree, settings, "id")
    if ours is not None:
        assert request is not None
        assert {*request} <= {*ours}
    if ours:
        assert as_go_has_it(tree) == as_go_has_it(theirs)
