# SPDX-License-Identifier: Apache-2.0
"""The CDI spec's model: the schema of its file, and a valid spec (CDI specification 0.3.0 to 1.1.0).

A spec is plain data, as decoded from JSON, with the specification's field names. A
field that is null in the file is left out. specfile.py reads and writes the file.
"""

from __future__ import annotations

from typing import Any

from cdi_hook.edits import KINDS, STRING
from cdi_hook.errors import InvalidSpec
from cdi_hook.files import clean
from cdi_hook.names import parse_qualifier
from cdi_hook.specs.rules import validate

CONTAINER_EDITS = {name: kind.schema for name, kind in KINDS.items()}
SCHEMA: dict[str, Any] = {
    "cdiVersion": STRING,
    "kind": STRING,
    "annotations": ("map", STRING),
    "devices": ("list", {"name": STRING, "annotations": ("map", STRING), "containerEdits": CONTAINER_EDITS}),
    "containerEdits": CONTAINER_EDITS,
}
SPEC_EXTENSIONS = (".json", ".yaml")


class Device:
    """One device of a spec: its name, annotations and container edits."""

    __slots__ = ("annotations", "container_edits", "name", "spec")

    def __init__(self, spec: Spec, data: dict[str, Any]) -> None:
        self.spec = spec
        self.name: str = data.get("name", "")
        self.annotations: dict[str, str] = data.get("annotations", {})
        self.container_edits: dict[str, Any] = data.get("containerEdits", {})

    @property
    def qualified_name(self) -> str:
        """``vendor/class=name``."""
        return f"{self.spec.kind}={self.name}"


class Spec:
    """A valid CDI spec: its data, its path and the priority of its dir."""

    def __init__(
        self, data: dict[str, Any], path: str = "", priority: int = 0, *, is_valid: bool = False
    ) -> None:
        """Take decoded data; raises InvalidSpec with every finding if it breaks a rule.

        With ``is_valid`` the data is known to break none.
        """
        findings = [] if is_valid else validate(data)
        if findings:
            first = findings[0]
            raise InvalidSpec(f"invalid CDI Spec: {first.within}{first.message}", findings)
        self.data = data
        self.path = clean(path)
        if not self.path.endswith(SPEC_EXTENSIONS):
            self.path += ".yaml"
        self.priority = priority
        self.kind: str = data["kind"]
        self.vendor, self.class_ = parse_qualifier(self.kind)
        self.container_edits: dict[str, Any] = data.get("containerEdits", {})
        self.devices = {device["name"]: Device(self, device) for device in data["devices"]}
