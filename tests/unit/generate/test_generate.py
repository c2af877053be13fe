# SPDX-License-Identifier: Apache-2.0
"""Whatever is found becomes a valid spec, with "all", of the lowest version that has what it uses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdi_hook.errors import InvalidName, InvalidSpec
from cdi_hook.generate import spec_data
from cdi_hook.generate.device_class import Found, FoundDevice
from cdi_hook.specs.model import Spec

NAMES = st.lists(
    st.text(min_size=1, max_size=6) | st.sampled_from(["all", "0", "a b"]), min_size=1, max_size=3
)


@given(st.lists(NAMES, min_size=1, max_size=4))
def test_any_names_make_a_valid_spec(names: list[list[str]]) -> None:
    """Devices of any names become a valid spec, in which each has a name and "all" has the nodes of all."""
    nodes = [{"path": f"/dev/{number}"} for number in range(len(names))]
    devices = [FoundDevice(its, {"deviceNodes": [node]}) for its, node in zip(names, nodes)]
    made = Spec(spec_data.spec(Found("host.local/thing", devices)))
    assert made.devices["all"].container_edits == {"deviceNodes": nodes}
    found = [one.container_edits["deviceNodes"] for name, one in made.devices.items() if name != "all"]
    assert [[node] for node in nodes if [node] not in found] == []


@pytest.mark.parametrize(
    ("name", "edits", "common", "version"),
    [
        ("a", {"deviceNodes": [{"path": "/dev/a"}]}, {}, "0.3.0"),
        ("0", {"deviceNodes": [{"path": "/dev/a"}]}, {}, "0.5.0"),
        ("a", {"deviceNodes": [{"path": "/dev/a", "hostPath": "/x"}]}, {}, "0.5.0"),
        ("a", {"deviceNodes": [{"path": "/dev/a"}]}, {"additionalGids": [4]}, "0.7.0"),
    ],
)
def test_the_version_is_the_lowest(
    name: str, edits: dict[str, object], common: dict[str, object], version: str
) -> None:
    """A spec says the version that brought the newest thing that it uses."""
    found = Found("host.local/thing", [FoundDevice([name], edits)], common)
    assert spec_data.spec(found)["cdiVersion"] == version


def test_another_kind() -> None:
    """A kind that is given takes the place of the class's own, if it is valid and no engine crashes at it."""
    found = Found("host.local/thing", [FoundDevice(["a"], {"env": ["A=1"]})])
    assert spec_data.spec(found, "example.com/other")["kind"] == "example.com/other"
    with pytest.raises(InvalidName):
        spec_data.spec(found, "e/other")
    with pytest.raises(InvalidSpec):
        spec_data.spec(found, "example.com/")
