# SPDX-License-Identifier: Apache-2.0
"""names, annotation, quoting, rule.matches: texts that people write in annotations and in the configuration."""

from __future__ import annotations

import ast
import re

from hypothesis import example, given
from hypothesis import strategies as st

from cdi_hook import names
from cdi_hook.base import log
from cdi_hook.base.quoting import quote
from cdi_hook.config import rule
from cdi_hook.errors import CDIError, InvalidAnnotation, InvalidName
from cdi_hook.inject.annotation import annotation_value, parse_annotations, update_annotations

from .strategies import NEAR_NAMES, QUALIFIED_NAMES, TEXTS

_KIND = "[A-Za-z](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?"
_NAME = "[A-Za-z0-9](?:[A-Za-z0-9_.:-]*[A-Za-z0-9])?"
QUALIFIED = re.compile(f"({_KIND})/({_KIND})=({_NAME})", re.ASCII)
# A key that Kubernetes takes, behind its prefix.
KEY = re.compile("[A-Za-z0-9](?:[A-Za-z0-9_.-]*[A-Za-z0-9])?", re.ASCII)


@given(NEAR_NAMES | TEXTS)
def test_qualified_names_are_those_of_the_grammar(text: str) -> None:
    """A text is a qualified name exactly when the specification's grammar has it, and its parts are the grammar's."""
    match = QUALIFIED.fullmatch(text)
    assert names.is_qualified_name(text) is bool(match)
    if match:
        assert names.parse_qualified_name(text) == names.parse_device(text) == match.groups()
        assert names.qualified_name(*match.groups()) == text
        return
    try:
        names.parse_qualified_name(text)
    except InvalidName as error:
        assert log.plain(str(error)).isprintable()


@given(NEAR_NAMES | TEXTS)
def test_splitting_a_name_loses_nothing(text: str) -> None:
    """Whatever the text, what it is split into, joined again, is the text."""
    vendor, class_, name = names.parse_device(text)
    assert text == (names.qualified_name(vendor, class_, name) if vendor else name)
    vendor, class_ = names.parse_qualifier(text)
    assert text == (f"{vendor}/{class_}" if vendor else class_)


@given(
    st.dictionaries(st.sampled_from(["x", "cdi.k8s.io", "cdi.k8s.io/a", "cdi.k8s.io/p_b"]), QUALIFIED_NAMES),
    st.text("abX0_-./é\udcff", max_size=66),
    st.text("ab/_-", max_size=3),
    st.lists(QUALIFIED_NAMES | NEAR_NAMES, max_size=3),
)
def test_what_is_written_to_annotations_is_read_back(
    before: dict[str, str], plugin: str, device_id: str, devices: list[str]
) -> None:
    """A request that is added is read with those that were there, and nothing else changes; or it is refused."""
    given_annotations = dict(before)
    name = f"{plugin}_{device_id.replace('/', '_')}"
    is_key = bool(plugin and device_id and KEY.fullmatch(name)) and len(name) <= 63
    can_be = is_key and f"cdi.k8s.io/{name}" not in before and all(map(QUALIFIED.fullmatch, devices))
    try:
        after = update_annotations(before, plugin, device_id, devices)
    except InvalidAnnotation as error:
        assert not can_be
        assert log.plain(str(error)).isprintable()
        return
    finally:
        assert before == given_annotations
    assert can_be
    assert list(after) == [*before, f"cdi.k8s.io/{name}"]
    if devices:
        keys, found = parse_annotations(after)
        assert keys == sorted(key for key in after if key.startswith("cdi.k8s.io/"))
        assert found == [one for key in keys for one in after[key].split(",")]
        assert ",".join(devices) == after[f"cdi.k8s.io/{name}"]


@given(
    st.dictionaries(st.sampled_from(["cdi.k8s.io/a", "cdi.k8s.io/", "b"]), st.lists(NEAR_NAMES).map(",".join))
)
def test_annotations_are_read_whole_or_refused(annotations: dict[str, str]) -> None:
    """One item that isn't a qualified name refuses all; otherwise every item counts, in the order of the keys."""
    items = [item for key in sorted(annotations) if key > "cdi" for item in annotations[key].split(",")]
    try:
        _, found = parse_annotations(annotations)
    except InvalidAnnotation:
        assert not all(map(QUALIFIED.fullmatch, items))
    else:
        assert found == items
        assert all(map(QUALIFIED.fullmatch, items))


@given(TEXTS)
def test_a_quoted_text_can_be_read_back(text: str) -> None:
    """What is in quotes can be printed, is one line, and stands for exactly one text."""
    quoted = quote(text)
    assert quoted.isprintable()
    assert quoted[0] == quoted[-1] == '"'
    assert ast.literal_eval(quoted) == re.sub("[\udc80-\udcff]", lambda one: chr(ord(one[0]) - 0xDC00), text)


# Parts of the phrases that engines take for something else, which may become one when another is replaced.
FRAGMENTS = sorted(
    {
        phrase[start:end]
        for phrase, _ in log._MISLEADING
        for start in (0, 1, len(phrase) // 2)
        for end in (len(phrase) // 2, -1, len(phrase))
    }
)


@given(TEXTS | st.lists(st.sampled_from([*FRAGMENTS, *"İ is\ncd"])).map("".join))
@example("İ" * 10 + "not found")  # it never came to an end
@example("not is a directory")
@example("failed to run runc create/exec callannot find the file")
def test_a_message_is_one_line_that_no_engine_mistakes(text: str) -> None:
    """A message can be printed, is one line, stays so, and holds no phrase that engines take for something else."""
    plain = log.plain(text)
    assert plain.isprintable()
    assert log.plain(plain) == plain
    assert not any(phrase in plain.lower() for phrase, _ in log._MISLEADING)


PATTERNS = st.text("abX*?.[é\n", max_size=8)


@st.composite
def texts_and_patterns(draw: st.DrawFn) -> tuple[str, str]:
    """Draw a pattern, and a text that it matches, or nearly."""
    pattern = draw(PATTERNS)
    fillings = {"*": st.text("abX", max_size=2), "?": st.sampled_from("abé")}
    return "".join(draw(fillings[one]) if one in fillings else one for one in pattern), draw(
        st.just(pattern) | PATTERNS
    )


@given(texts_and_patterns() | st.tuples(PATTERNS, PATTERNS))
@example(("a" * 60, "*a" * 20 + "b"))
def test_a_pattern_matches_as_a_regular_expression_does(case: tuple[str, str]) -> None:
    """A pattern is a regular expression with a star for any text and a question mark for any character."""
    text, pattern = case
    expression = "".join(
        {"*": ".*", "?": "."}.get(one) or re.escape(one) for one in re.sub(r"\*+", "*", pattern)
    )
    if pattern.count("*") < 9:  # for more re takes too long
        assert rule.matches(text, pattern) is bool(re.fullmatch(expression, text, re.DOTALL))
    else:
        rule.matches(text, pattern)


@given(st.lists(TEXTS | QUALIFIED_NAMES))
def test_the_value_of_an_annotation_is_made_of_names_only(devices: list[str]) -> None:
    """What requests devices is written only for qualified names."""
    try:
        assert annotation_value(devices) == ",".join(devices)
    except CDIError:
        assert not all(map(QUALIFIED.fullmatch, devices))
    else:
        assert all(map(QUALIFIED.fullmatch, devices))
