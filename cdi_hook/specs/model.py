# SPDX-License-Identifier: Apache-2.0
"""The CDI spec's model: the schema of its file, and a valid spec (CDI specification 0.3.0 to 1.1.0).

A spec is plain data, as decoded from JSON, with the specification's field names. A
field that is null in the file is left out. specfile.py reads and writes the file.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cdi_hook.base.files import clean
from cdi_hook.edits import editor
from cdi_hook.edits.kinds import KINDS, PROOF, STRING
from cdi_hook.errors import Finding, InvalidSpec
from cdi_hook.names import parse_qualifier
from cdi_hook.specs.schema import check
from cdi_hook.specs.validation import validate, validate_edits

if TYPE_CHECKING:
    from cdi_hook.edits.target import Change

CONTAINER_EDITS = {name: kind.schema for name, kind in KINDS.items()}
SCHEMA: dict[str, Any] = {
    "cdiVersion": STRING,
    "kind": STRING,
    "annotations": ("map", STRING),
    "devices": ("list", {"name": STRING, "annotations": ("map", STRING), "containerEdits": CONTAINER_EDITS}),
    "containerEdits": CONTAINER_EDITS,
}
ANNOTATION = "cdi-hook/proof"
SPEC_EXTENSIONS = (".json", ".yaml")


class Device:
    """One device of a spec: its name, annotations and container edits (CDI specification, "devices")."""

    __slots__ = ("annotations", "container_edits", "name", "spec")

    def __init__(self, spec: Spec, data: dict[str, Any]) -> None:
        self.spec = spec
        self.name: str = data.get("name", "")
        self.annotations: dict[str, str] = data.get("annotations", {})
        self.container_edits: dict[str, Any] = data.get("containerEdits", {})

    @property
    def edits(self) -> dict[str, Any]:
        """Its container edits, with its proof if an annotation has one."""
        proof = self.annotations.get(ANNOTATION)
        return {**self.container_edits, PROOF: proof} if proof else self.container_edits

    @property
    def qualified_name(self) -> str:
        """``vendor/class=name``."""
        return f"{self.spec.kind}={self.name}"

    def apply_edits(self, oci: dict[str, Any]) -> list[Change]:
        """Apply this device's own edits to an OCI runtime specification, as the function apply_edits does."""
        return editor.apply(oci, [((self.qualified_name, self.spec.path), self.container_edits)])


class Spec:
    """A valid CDI spec: its data, its path and the priority of its dir.

    >>> node = {"path": "/dev/null"}
    >>> spec = Spec({
    ...     "cdiVersion": "0.3.0",
    ...     "kind": "vendor.com/device",
    ...     "devices": [{"name": "d0", "containerEdits": {"deviceNodes": [node]}}],
    ... })
    >>> spec.devices["d0"].qualified_name
    'vendor.com/device=d0'
    """

    def __init__(
        self, data: dict[str, Any], path: str = "", priority: int = 0, *, is_valid: bool = False
    ) -> None:
        """Take a spec's data; raises InvalidSpec with every finding if it isn't one.

        ``path`` is the spec's file, ``priority`` the index of its dir among the spec dirs.
        With ``is_valid`` the data is known to be a spec.
        """
        if not is_valid:
            refuse("the spec", list(check(data, SCHEMA)) or validate(data))
        self.data = data
        self.path = spec_path(path)
        self.priority = priority
        self.kind: str = data["kind"]
        self.vendor, self.class_ = parse_qualifier(self.kind)
        self.container_edits: dict[str, Any] = data.get("containerEdits", {})
        self.devices = {device["name"]: Device(self, device) for device in data["devices"]}

    def apply_edits(self, oci: dict[str, Any]) -> list[Change]:
        """Apply the edits that all devices of the spec share, as the function apply_edits does."""
        return editor.apply(oci, [((None, self.path), self.container_edits)])


def apply_edits(oci: dict[str, Any], container_edits: dict[str, Any]) -> list[Change]:
    """Apply container edits to an OCI runtime specification, in place, and return the changes.

    Raises InvalidSpec if these aren't container edits (CDI specification, "containerEdits"),
    and InjectionError if they can't be applied; oci is unchanged then.

    >>> oci = {"process": {"env": ["PATH=/bin"]}}
    >>> [change.place for change in apply_edits(oci, {"env": ["GPU=0"]})]
    [('process', 'env', 1)]
    >>> oci
    {'process': {'env': ['PATH=/bin', 'GPU=0']}}
    """
    refuse(
        "container edits", list(check(container_edits, CONTAINER_EDITS)) or validate_edits(container_edits)
    )
    return editor.apply(oci, [((None, ""), container_edits)])


def spec_path(path: str) -> str:
    """Return a spec's path in its shortest form, with the extension .yaml if it has none of a spec's."""
    path = clean(path)
    return path if path.endswith(SPEC_EXTENSIONS) else f"{path}.yaml"


def refuse(what: str, findings: list[Finding]) -> None:
    """Raise InvalidSpec with the findings, if there are any, of ``what``."""
    if findings:
        more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
        raise InvalidSpec(f"{what} is not valid: {findings[0]}{more}", findings)
