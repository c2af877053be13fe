# SPDX-License-Identifier: Apache-2.0
"""A kind of edit is one entry of edits.KINDS: what has something for each kind has it for all, and nothing for others."""

from __future__ import annotations

import ast
import copy
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import Phase, find, given, settings
from hypothesis import strategies as st
from hypothesis.errors import NoSuchExample

from cdi_hook.cli.command import stages
from cdi_hook.edits import editor, kinds, target, too_late
from cdi_hook.edits.kinds import HOOK_NAMES, KINDS, Kind
from cdi_hook.errors import InjectionError
from cdi_hook.live.steps import PLANNED, Steps
from cdi_hook.specs import model, shape
from cdi_hook.specs.validation import RULES
from cdi_hook.specs.versions import VERSIONS
from tests.fuzz.strategies import EDITS, OCI_SPECS

from .tree import PACKAGE, ROOT

if TYPE_CHECKING:
    from cdi_hook.edits.target import Part, Place
    from cdi_hook.errors import Source

# What people call the edits of a kind.
EVERY = pytest.mark.parametrize("name", KINDS)
ENOUGH = settings(max_examples=500, database=None, derandomize=True, phases=[Phase.generate])
SOURCE: Source = ("v.com/c=1", "/etc/cdi/v.yaml")


def is_there(name: str, *, late: bool) -> bool:
    """Say whether some edit of a kind comes too late for a container that is being created, or isn't too late."""
    too_late = KINDS[name].too_late
    if too_late is None or name not in EDITS:
        return late
    try:
        find(EDITS[name], lambda edit: bool(too_late(edit)) == late, settings=ENOUGH)
    except NoSuchExample:
        return False
    return True


TOO_LATE = {name for name in KINDS if is_there(name, late=True)}
IN_TIME = {name for name in KINDS if is_there(name, late=False)}
STAGES_IN_TIME = {name for name, is_to_run in HOOK_NAMES.items() if is_to_run}


def part(name: str, edit: Any) -> dict[str, Any]:
    """Return container edits with one edit."""
    return {name: [edit] if KINDS[name].is_list else edit}


# -- the table, and those that have an entry for each kind


@EVERY
def test_a_version_of_cdi_brought_it(name: str) -> None:
    """The versions that brought a kind and its fields are versions of CDI, the first of which had four kinds."""
    assert set(KINDS[name].since.values()) <= set(VERSIONS)
    assert ("" in KINDS[name].since) == (name not in {"env", "deviceNodes", "hooks", "mounts"})


@EVERY
def test_what_is_said_of_fields_is_of_its_fields(name: str) -> None:
    """What says when a field came, or that its zero isn't none, is about a field of the schema, or the kind itself."""
    schema = KINDS[name].schema
    item = schema[1] if isinstance(schema, tuple) else schema
    fields = set(item) if isinstance(item, dict) else set()
    assert {*KINDS[name].since, *KINDS[name].optional} <= {"", *fields}


def test_features_are_of_its_fields() -> None:
    """What the runtime has to know for an edit is of the edit's fields, or of the kind itself."""
    for kind in KINDS.values():
        assert {*kind.features} <= {"", *(kind.schema if isinstance(kind.schema, dict) else ())}


def test_a_spec_may_have_it() -> None:
    """The schema of containerEdits, a device's and a spec's, is the table's."""
    schemas = {name: kind.schema for name, kind in KINDS.items()}
    assert model.SCHEMA["containerEdits"] == schemas
    assert model.SCHEMA["devices"][1]["containerEdits"] == schemas


def test_rules_are_of_kinds() -> None:
    """What specs/validation.py has a rule for is a kind."""
    assert RULES.keys() <= KINDS.keys()


def test_it_is_planned_if_it_may_be_in_time() -> None:
    """live/steps.py has the kinds of which some edit can still be made in a container that is being created."""
    assert PLANNED.keys() == IN_TIME


def test_hypothesis_has_edits_of_it() -> None:
    """Each kind has edits in tests/fuzz/strategies.py, and no other has."""
    assert EDITS.keys() == KINDS.keys()


@EVERY
@given(data=st.data())
def test_hypothesis_has_edits_as_specs_have_them(name: str, data: st.DataObject) -> None:
    """What tests/fuzz/strategies.py has of a kind is of the kind's schema."""
    wanted = part(name, data.draw(EDITS[name]))
    assert shape.read(json.dumps(wanted).encode(), model.CONTAINER_EDITS) == (wanted, [])


@pytest.mark.parametrize(
    "place", sorted({place for kind in KINDS.values() for place, _ in kind.touches}), ids=".".join
)
def test_hypothesis_has_what_it_may_find(place: Place) -> None:
    """In tests/fuzz/strategies.py, there are OCI specs with something in each place that an edit touches."""

    def is_there_already(oci: Any) -> bool:
        for one in place:
            oci = (oci or {}).get(one)
        return bool(oci)

    find(OCI_SPECS, is_there_already, settings=ENOUGH)


# -- what an edit relies on


@EVERY
@given(data=st.data())
def test_it_touches_what_it_says(name: str, data: st.DataObject) -> None:
    """What an edit adds is in a place that the kind says it touches, by keys that it says it has."""
    changes = editor.apply({}, [(SOURCE, part(name, data.draw(EDITS[name])))])
    touched = {place for place, _ in KINDS[name].touches}
    for change in changes:
        if change.edit is not None:
            assert any(change.place[: len(place)] == place for place in touched)
            keys = change.place[:2] if name == "netDevices" else change.place  # whose keys are names
            assert {one for one in keys if isinstance(one, str)} <= KINDS[name].keys


@EVERY
@given(data=st.data(), wrong=st.sampled_from(["text", 1, [1], [[]], {"x": 1}]), keep_present=st.booleans())
def test_what_it_touches_is_looked_at_before(
    name: str, data: st.DataObject, wrong: object, keep_present: bool
) -> None:
    """Where an OCI spec has something else in a place of an edit, or above, that is refused and left, or replaced."""
    parts = [(SOURCE, part(name, data.draw(EDITS[name])))]
    changes = editor.apply({}, parts)
    if not changes:
        return
    place = data.draw(st.sampled_from(changes)).place
    place = place[: data.draw(st.integers(1, len(place)))]
    oci: Any = wrong
    for one in reversed(place):
        oci = {one: oci} if isinstance(one, str) else [oci]
    before = copy.deepcopy(oci)
    try:
        editor.apply(oci, parts, keep_present=keep_present)
    except InjectionError:
        assert oci == before


# -- what is done to a container


@pytest.mark.parametrize("name", sorted(IN_TIME))
@given(data=st.data())
def test_what_is_in_time_is_planned(name: str, data: st.DataObject) -> None:
    """Of an edit that can still be made, each change is something to be done."""
    oci: dict[str, Any] = {}
    for change in editor.apply(oci, [(SOURCE, part(name, data.draw(EDITS[name])))]):
        if change.edit is not None and not too_late._too_late(change):
            assert vars(Steps([change], oci)) != vars(Steps([], oci))


def test_what_is_planned_is_carried_out() -> None:
    """live/carryout.py does all that a plan has."""
    tree = ast.parse((PACKAGE / "live/carryout.py").read_text("utf-8"))
    done = {
        one.attr
        for one in ast.walk(tree)
        if isinstance(one, ast.Attribute) and ast.unparse(one.value) == "plan"
    }
    assert done == vars(Steps([], {})).keys() - {"added_mounts"}  # which are in mounts, with what each hides


@EVERY
def test_runtimes_get_it(name: str) -> None:
    """A kind is in a test of tests/runtime, and if an edit may be in time, in one of the live injection too."""
    top = ROOT / "tests/runtime"
    tests = [path for path in top.rglob("test_*.py") if f'"{name}": ' in path.read_text("utf-8")]
    found = {path.relative_to(top).parts[0] == "live" for path in tests}
    assert found >= ({False, True} if name in IN_TIME else {False})


# -- an allow-list: what has no entry, or doesn't say that it isn't too late, is refused


@pytest.fixture
def xyz(monkeypatch: pytest.MonkeyPatch) -> None:
    """Add a kind that everybody knows how to apply, and of which nothing is said on when it comes too late."""

    def add(target: target.Target, wanted: list[target.Wanted]) -> None:
        target.put(("linux",), target.open(("linux",), dict, wanted[0]), "xyz", wanted[0])

    kind = Kind(
        "xyz",
        ("list", kinds.STRING),
        lambda edit, _target: (edit, edit),
        add,
        [(("linux",), target.an_object)],
        ["xyz"],
    )
    monkeypatch.setitem(KINDS, "xyz", kind)


WITH_XYZ = {"xyz": ["a"], "netDevices": [{"hostInterfaceName": "e0", "name": "e1"}]}


@pytest.mark.usefixtures("xyz")
def test_what_is_not_said_to_be_in_time_is_too_late() -> None:
    """An edit of a kind that doesn't say that it can be made late is too late, and is left out of what isn't."""
    parts: list[Part] = [(SOURCE, WITH_XYZ)]
    needs = too_late.needs(editor.apply({}, parts))
    assert needs.endswith("needs an edit of the kind xyz: too late for a container that is being created")
    oci: dict[str, Any] = {}
    changes = editor.apply(oci, too_late.possible(parts))
    assert oci == {"linux": {"netDevices": {"e0": {"name": "e1"}}}}
    assert Steps(changes, oci).net_devices == [("e0", "e1")]
    assert too_late.needs(changes) == ""


def test_what_is_no_kind_is_refused() -> None:
    """What the table doesn't have is refused by name, in time or late, and nothing is done."""
    oci: dict[str, Any] = {}
    with pytest.raises(InjectionError, match='unknown kind of container edits "xyz"'):
        editor.apply(oci, [(SOURCE, WITH_XYZ)])
    with pytest.raises(InjectionError, match='unknown kind of container edits "xyz"'):
        too_late.possible([(SOURCE, WITH_XYZ)])
    assert oci == {}


# -- what people read


def named(text: str) -> set[str]:
    """Return the kinds whose words are in a text."""
    return {name for name, kind in KINDS.items() if kind.words in text}


def stages_in(text: str) -> set[str]:
    """Return the hooks' names in a text."""
    return set(re.findall(rf"\b({'|'.join(HOOK_NAMES)})\b", text))


def test_the_hooks_page_says_what_is_in_time() -> None:
    """In the hooks' table, the last column says yes to what createRuntime can still do, and no to the rest."""
    text = (ROOT / "packaging/hooks.d/README.md").read_text("utf-8")
    rows = re.findall(r"^\| (.*?) \| .* \| (yes|no)\b.*\|$", text, re.MULTILINE)
    yes, no = ("\n".join(what for what, said in rows if said == answer) for answer in ("yes", "no"))
    assert (named(yes), named(no)) == (IN_TIME, TOO_LATE)
    assert (stages_in(yes), stages_in(no)) == (STAGES_IN_TIME, HOOK_NAMES.keys() - STAGES_IN_TIME)


def test_the_help_says_what_is_in_time() -> None:
    """The hooks' --help has what createRuntime can still do, and what comes too late."""
    text = " ".join(stages.HELP.split()).partition("its config.json asks for: ")[2]
    yes, _, rest = text.partition(". Some edits come too late for them: ")
    assert (named(yes), stages_in(yes)) == (IN_TIME, STAGES_IN_TIME)
    assert named(rest.partition(". ")[0]) == TOO_LATE


def test_the_manual_says_what_is_in_time() -> None:
    """cdi-hook(8) has what createRuntime can still do."""
    page = " ".join((ROOT / "packaging/man/cdi-hook.8").read_text("utf-8").split())
    (yes,) = re.findall(r"The hook can add (.*?)\. Any other edit comes too late;", page)
    assert (named(yes), stages_in(yes)) == (IN_TIME, STAGES_IN_TIME)
