# SPDX-License-Identifier: Apache-2.0
"""The recorded answers, asked for again in other words: specs written in another way, and OCI specs with more in them."""

from __future__ import annotations

import copy
import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from cdi_hook.specs import dump, model, shape
from tests.cases.answers import CASES, Step, check

STEPS = [case for case in CASES if any("files" in step or "oci" in step["request"] for step in case["steps"])]


def reordered(data: st.DataObject, value: Any) -> Any:
    """Return a tree with the keys of its objects in another order."""
    if isinstance(value, list):
        return [reordered(data, one) for one in value]
    if not isinstance(value, dict):
        return value
    return {name: reordered(data, value[name]) for name in data.draw(st.permutations([*value]))}


def rewritten(data: st.DataObject, text: Any) -> Any:
    """Return a spec's text that says the same in other words; what isn't a spec stays as it is."""
    if not isinstance(text, str):
        return text
    spec, findings = shape.read(text.encode("utf-8", "surrogateescape"), model.SCHEMA)
    if findings or not spec:
        return text
    how = data.draw(st.sampled_from(["as it is", "json", "yaml", "comment"]))
    if how == "comment":
        return (
            f"# {data.draw(st.text('ab:#-[', max_size=5))}\n{text}"
            if not text.startswith(("%", "\ufeff"))
            else text
        )
    if how == "as it is":
        return text
    spec = reordered(data, spec)
    if how == "yaml":
        return dump.yaml_text(spec).decode()
    written = json.dumps(spec, indent=data.draw(st.sampled_from([None, 0, 3])), ensure_ascii=False)
    return dump._NOT_IN_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", written)


def with_more(data: st.DataObject, step: Step) -> None:
    """Add to the OCI spec of a step, and of the answer, what nobody knows."""
    request, expect = step["request"], step["expect"]
    if request.get("op", "inject") not in ("inject", "apply_edits"):
        return
    for place in ((), ("process",), ("linux",), ("linux", "resources")):
        there, then = request.get("oci"), expect.get("oci")
        for name in place:
            there, then = ((one or {}).get(name) for one in (there, then))
        if isinstance(there, dict) and isinstance(then, dict) and data.draw(st.booleans()):
            there["x-fuzz"] = then["x-fuzz"] = {"Annotations": [None, "cdi.k8s.io/x"]}


@given(st.data())
def test_the_answer_is_the_same_in_other_words(data: st.DataObject) -> None:
    """How a spec is written, and what an OCI spec has that nobody knows, changes nothing of the reference's answer."""
    case = copy.deepcopy(data.draw(st.sampled_from(STEPS)))
    for step in case["steps"]:
        files = step.get("files") or {}
        step["files"] = {
            name: rewritten(data, text) if name[-1] not in "/@|" else text for name, text in files.items()
        }
        with_more(data, step)
    with tempfile.TemporaryDirectory(prefix="cdi-hook-fuzz-") as directory:
        check(case, Path(directory))
