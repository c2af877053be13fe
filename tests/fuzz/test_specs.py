# SPDX-License-Identifier: Apache-2.0
"""specs: YAML held against PyYAML's own reader, and CDI specs through reading, checking and writing."""

from __future__ import annotations

import json
import math
import re
import struct
from typing import Any

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from cdi_hook.edits import editor
from cdi_hook.edits.kinds import BOOL, STRING
from cdi_hook.errors import InjectionError, InvalidSpec
from cdi_hook.specs import dump, model, scalars, shape, specfile, validation, versions, yaml_nodes
from cdi_hook.specs.yaml_values import decode

from .strategies import JSON, SPECS

LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.text(max_size=8)
    | st.sampled_from(["a: b", "- x", "#", "y", "1e3", "0o7", "'", '"', "é\n", " x", "x ", "<<", "=", "&a", "*a", "!t"]),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.text(max_size=4), children, max_size=3),
    max_leaves=8,
)  # fmt: skip
STYLES = st.fixed_dictionaries(
    {
        "default_flow_style": st.sampled_from([True, False, None]),
        "default_style": st.sampled_from([None, "'", '"']),
        "indent": st.integers(1, 5),
        "width": st.sampled_from([1, 20, 80]),
        "allow_unicode": st.booleans(),
        "explicit_start": st.booleans(),
        "explicit_end": st.booleans(),
    }
)


class Dumper(dump._Dumper):
    """Quotes every string that isn't plainly one to go-yaml too, and writes every object in full."""

    def ignore_aliases(self, _: object) -> bool:
        """Say that nothing is written as an alias."""
        return True


def written(value: object, style: dict[str, Any]) -> str:
    """Return a value as YAML in a style."""
    return str(yaml.dump(value, Dumper=Dumper, **style))


@given(PLAIN, STYLES)
def test_what_pyyaml_writes_is_read(value: object, style: dict[str, Any]) -> None:
    """A value that PyYAML writes, in any of its styles, is read as that value."""
    style["default_style"] = style["default_style"] if isinstance(value, str) else None
    assert decode(written(value, style).encode()) == value


@given(JSON)
def test_json_is_yaml(tree: object) -> None:
    """What json writes is read as that, but for numbers that a 64-bit integer can't hold."""

    def known(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: known(value) for key, value in node.items()}
        if isinstance(node, list):
            return [known(one) for one in node]
        return node if not isinstance(node, int) or -(1 << 63) <= node < 1 << 64 else float(f"{node}")

    text = json.dumps(tree, ensure_ascii=False)
    assert decode(dump._NOT_IN_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text).encode()) == known(
        tree
    )


# Parts of documents, and what joins them.
WORDS = st.lists(
    st.sampled_from(
        ["a", "b", ": ", ":", "- ", "\n", "\n  ", "\n- ", "[", "]", "{", "}", ", ", ",", "&x ", "*x", "<<: ", "? ", "!!str ",
         "'a'", '"b"', "'", '"', "|", ">", "|\n ", "#c", " #c\n", "---\n", "...\n", "%YAML 1.1\n", "~", "1", "\t", "\\/", "\\'"]
    ),
    max_size=14,
).map("".join)  # fmt: skip


def structure(node: Any, within: tuple[int, ...] = ()) -> Any:
    """Return what a node is made of, as text: ours, or PyYAML's."""
    node = getattr(node, "target", node)
    if id(node) in within:
        return "itself"
    inner = (*within, id(node))
    if isinstance(node, yaml.MappingNode):
        return {"of": [structure(one, inner) for pair in node.value for one in pair]}
    if isinstance(node, yaml.SequenceNode):
        return [structure(one, inner) for one in node.value]
    children = getattr(node, "children", None)
    if children is None:
        return node.value
    made = [structure(one, inner) for one in children]
    return {"of": made} if isinstance(node, yaml.MappingStartEvent) else made


def by_pyyaml(text: str) -> Any:
    """Return the structure of the first document; raises YAMLError."""
    loader = LOADER(text)
    try:
        return structure(loader.get_node()) if loader.check_node() else None
    finally:
        loader.dispose()


# Where go-yaml, and so we, refuse what libyaml reads; and where libyaml refuses what comes after the first document.
STRICTER = re.compile(r"\?|\\/|%|\ufeff|&x.*&x", re.DOTALL)
LOOSER = re.compile(r"---|\.\.\.|&x.*&x", re.DOTALL)


@given(WORDS)
def test_documents_have_the_structure_that_pyyaml_sees(text: str) -> None:
    """A document is nested as PyYAML nests it, with the same texts; only where go-yaml differs from libyaml do we."""
    try:
        expected = by_pyyaml(text)
    except yaml.YAMLError:
        expected = yaml.YAMLError
    try:
        root = yaml_nodes.compose(text.encode())
    except yaml_nodes.SyntaxProblem as problem:
        assert "\n" not in str(problem)
        assert expected is yaml.YAMLError or STRICTER.search(text)
        return
    found = None if root is None else structure(root)
    if expected is yaml.YAMLError:
        assert LOOSER.search(text)
    elif not LOOSER.search(text):
        assert found == expected


@given(WORDS | st.text() | st.binary(max_size=40), st.sampled_from([{}, model.SCHEMA]))
def test_any_bytes_are_read_or_refused(text: str | bytes, schema: Any) -> None:
    """Whatever a spec file holds, reading it gives a value or findings, each one line with its place."""
    value, findings = shape.read(
        text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text, schema
    )
    assert value is None or isinstance(value, dict)
    for one in findings:
        assert one.place[:1] in ("", ".", "[")
        assert "\n" not in str(one)


@given(
    st.integers(-(1 << 63), (1 << 64) - 1),
    st.sampled_from(["{}", "{:#x}", "{:#X}", "{:#o}", "{:#b}", "{:_}", "{:+}"]),
)
def test_numbers_in_any_base(number: int, form: str) -> None:
    """An integer is one, however it is written, if Go's ParseInt, or without a sign ParseUint, takes it."""
    text = form.format(number)
    fits = text[0] not in "+-" or number < 1 << 63
    if fits:
        assert scalars.resolve(text, may_be_date=True) == ("int", number)
    else:
        assert scalars.resolve(text, may_be_date=True)[0] != "int"


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_are_floats(number: float) -> None:
    """A float that Python writes is read as that float."""
    assert scalars.resolve(repr(number), may_be_date=True) == ("float", number)


@given(st.text("0123456789+-._eExXobBnfINFtrue~:TZ ", max_size=12))
def test_any_scalar_has_a_type(text: str) -> None:
    """Any text is a value of the type that is named, and itself where that is none."""
    name, value = scalars.resolve(text, may_be_date=True)
    kinds: dict[str, tuple[type, ...]] = {
        "null": (type(None),), "bool": (bool,), "int": (int,), "float": (float,), "str": (str,), "timestamp": (str,),
    }  # fmt: skip
    assert type(value) in kinds[name]
    assert value == text or name not in ("str", "timestamp")
    if text[:1] not in scalars.NOT_TEXT:
        assert name == "str"


@given(st.floats(width=32) | st.floats())
def test_a_float_becomes_its_shortest_text(number: float) -> None:
    """The text of a float is the same 32-bit float, and no text with fewer digits is."""
    text = scalars.float_text(number)
    if math.isnan(number):
        assert text == "NaN"
        return
    try:
        single = struct.pack("<f", number)
    except OverflowError:
        assert text in ("+Inf", "-Inf")
        return
    assert struct.pack("<f", float(text)) == single
    digits = len(re.sub(r"e.*|^-?[0.]*|\.", "", text).rstrip("0"))
    if digits > 1 and math.isfinite(number):
        assert struct.pack("<f", float(f"{float(text):.{digits - 2}e}")) != single


def conforms(value: Any, schema: Any) -> bool:
    """Say whether a value has a schema's types."""
    if isinstance(schema, dict):
        return isinstance(value, dict) and all(
            name in schema and conforms(one, schema[name]) for name, one in value.items()
        )
    if isinstance(schema, tuple) and schema[0] == "list":
        return isinstance(value, list) and all(conforms(one, schema[1]) for one in value)
    if isinstance(schema, tuple):
        return isinstance(value, dict) and all(conforms(one, schema[1]) for one in value.values())
    return type(value) is {STRING: str, BOOL: bool}.get(schema, int)


@st.composite
def nearly(draw: st.DrawFn) -> Any:
    """Draw a spec in which something, somewhere, is something else."""
    spec = draw(SPECS)
    node: Any = spec
    while True:
        keys = [*node] if isinstance(node, dict) else [*range(len(node))] if isinstance(node, list) else []
        if not keys:
            return spec
        key = draw(st.sampled_from(keys))
        if not isinstance(node[key], (dict, list)) or draw(st.booleans()):
            node[key] = draw(JSON)
            if isinstance(node, dict) and draw(st.booleans()):
                node[draw(st.sampled_from([str(key).upper(), "nope"]))] = node.pop(key)
            return spec
        node = node[key]


@given(nearly())
def test_what_is_read_has_the_types_of_the_schema(spec: Any) -> None:
    """A spec that is read without a finding has nothing but the schema's fields and types, and can be checked."""
    value, findings = shape.read(json.dumps(spec).encode(), model.SCHEMA)
    if not findings and value is not None:
        assert conforms(value, model.SCHEMA)
        assert all(one.place for one in validation.validate(value))


def effect(spec: dict[str, Any]) -> list[Any]:
    """Return what each device of a spec, and the spec itself, does to an empty OCI spec."""
    found: list[Any] = []
    for one in (*spec.get("devices", ()), spec):
        oci: dict[str, Any] = {}
        try:
            editor.apply(oci, [((None, ""), one.get("containerEdits", {}))])
        except InjectionError as error:
            found.append(str(error))
        found.append([one.get("name", ""), one.get("annotations", {}), oci])
    return found


@given(SPECS, st.sampled_from(["a.yaml", "a.json"]))
@example(
    {"cdiVersion": "0.6.0", "kind": "v.com/c", "annotations": {"a": "\x7f\x85\u2028\ufeff\ufffe"}}, "a.json"
)
@example(
    {"cdiVersion": "0.6.0", "kind": "v.com/c", "annotations": {"a": "\x7f\x85\u2028\ufeff\ufffe"}}, "a.yaml"
)
def test_what_is_written_is_read_back(spec: dict[str, Any], name: str) -> None:
    """A spec, written and read, says and does the same, and is written to the same bytes again."""
    text = dump.dump(spec, name)
    read, findings = shape.read(text, model.SCHEMA)
    assert findings == []
    assert effect(read) == effect(spec)
    assert (read["cdiVersion"], read.get("kind", "")) == (spec["cdiVersion"], spec["kind"])
    assert dump.dump(read, name) == text
    assert {one.place for one in validation.validate(read)} <= {
        one.place for one in validation.validate(spec)
    }


@given(SPECS)
def test_a_spec_is_valid_or_says_why(spec: dict[str, Any]) -> None:
    """A spec without findings is one whose devices can be asked for; with one, the first is the error."""
    findings = validation.validate(spec)
    try:
        made = model.Spec(spec, "/etc/cdi/a.yaml")
    except InvalidSpec as error:
        assert error.findings[0].message == findings[0].message
        assert error.cause.startswith("the spec is not valid: ")
    else:
        assert findings == []
        assert [*made.devices] == [one["name"] for one in spec["devices"]]
        assert made.kind == f"{made.vendor}/{made.class_}"


@given(SPECS)
@example({"cdiVersion": "0.3.0", "kind": "v.com/c", "devices": []})
def test_the_lowest_version_is_the_lowest(spec: dict[str, Any]) -> None:
    """The version that a spec needs is allowed for it, and so is each higher one, but no lower one."""
    needed = versions.minimum_version(spec)
    for number, version in enumerate(versions.VERSIONS):
        found = [
            one for one in validation.validate({**spec, "cdiVersion": version}) if one.place == ".cdiVersion"
        ]
        assert bool(found) is (number > versions.VERSIONS.index(needed))


@given(
    SPECS,
    st.sampled_from([None, 0, 2, "\t"]),
    st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " :\n "), (",", "\n:")]),
    st.booleans(),
)
@example(
    {"cdiVersion": "0.6.0", "kind": "a.com/b", "annotations": {"z": "# 1", "a": "- x: &y"}, "devices": []},
    None, (",", ":"), False,
)  # fmt: skip
def test_json_is_read_without_yaml_as_with_it(
    spec: dict[str, Any], indent: int | str | None, separators: tuple[str, str], sort_keys: bool
) -> None:
    """A spec in JSON that is read without YAML is the very one that YAML reads, its order too, and without findings."""
    spec.update(cdiVersion=versions.VERSIONS[0], kind="vendor.com/device")  # most are valid then
    for number, device in enumerate(spec["devices"]):
        device["name"] = f"{number}"
    text = json.dumps(spec, indent=indent, separators=separators, sort_keys=sort_keys, ensure_ascii=False)
    data = text.encode("utf-8", "surrogatepass")
    plain = specfile._plain_json(data)
    if plain is not None:
        value, findings = shape.read(data, model.SCHEMA)
        assert not findings
        assert not validation.validate(value)
        assert json.dumps(plain) == json.dumps(value)
