# SPDX-License-Identifier: Apache-2.0
"""One spec's file: reading it, writing it, and its name."""

from __future__ import annotations

import os
from typing import Any

from cdi_hook.base import files, json_text
from cdi_hook.base.quoting import quote
from cdi_hook.errors import ERROR, CDIError, Finding, InvalidName, InvalidSpec
from cdi_hook.names import parse_qualifier
from cdi_hook.specs.model import SCHEMA, Spec, refuse
from cdi_hook.specs.schema import check, in_order
from cdi_hook.specs.validation import validate

# bytes; an H100's spec has 17,000. Reading one of this size takes seconds. More devices can
# be in several files.
_MOST = 4 << 20
# What JSON and YAML read alike, within strings too: no tabs, escapes or other alphabets.
_SAME = bytes(range(0x20, 0x7F)).replace(b"\\", b"") + b"\n"


def load(path: str, priority: int = 0) -> Spec:
    """Read one spec file; raises FileNotFoundError, or InvalidSpec in the reference's words.

    ``priority`` is the index of its dir among the spec dirs.
    """
    return parse(read_file(path, path), path, priority)


def read_file(path: str, source: str) -> bytes:
    """Return what is in a spec file, which is read at ``source``; raises as load does."""
    try:
        return files.read(source, _MOST)
    except FileNotFoundError:
        raise
    except OSError as error:
        message = f"can't read it: {(error.strerror or str(error)).lower()}"
        raise InvalidSpec(f"{quote(path)}: {message}", [Finding(ERROR, message)]) from error


def parse(data: bytes, path: str, priority: int = 0) -> Spec:
    """Return the spec that is in a file; raises InvalidSpec."""
    plain = _plain_json(data)
    if plain is not None:
        return Spec(plain, path, priority, is_valid=True)
    from cdi_hook.specs import shape  # YAML: 15 ms

    value, findings = shape.read(data, SCHEMA)
    if findings:
        if not {"cdiVersion", "devices"}.intersection(value or ()) and (no_spec := _no_spec(data)):
            findings = [Finding(ERROR, no_spec)]
        elif isinstance(value, dict):
            findings += _further(value, findings)
    elif value is None:
        findings = [Finding(ERROR, "the file is empty")]
    else:
        findings = validate(value)
    refuse(quote(path), findings)
    return Spec(value, path, priority, is_valid=True)


def _plain_json(data: bytes) -> dict[str, Any] | None:
    """Return the data of a valid spec in JSON that YAML reads alike; None for any other text."""
    if not data.startswith(b"{") or data.translate(None, _SAME):
        return None
    if any(line.lstrip().startswith(b":") for line in data.split(b"\n")):  # YAML has it behind its key
        return None
    try:
        value = json_text.loads(data.decode())
    except ValueError:
        return None
    if next(check(value, SCHEMA), None) or validate(value):
        return None
    return in_order(value, SCHEMA)  # type: ignore[no-any-return]  # it is an object


def _further(value: dict[str, Any], findings: list[Finding]) -> list[Finding]:
    """Return what else is wrong with what could be read of a spec, but for gaps that its findings explain."""
    misread = {one.place for one in findings}
    gaps = misread | {_parent(place) for place in misread}
    return [
        one
        for one in validate(value)
        if _is_there(value, one.place) or not (one.place in gaps or _parent(one.place) in misread)
    ]


def _parent(place: str) -> str:
    return place.rpartition(".")[0]


def _is_there(value: Any, place: str) -> bool:
    import re

    for step in re.findall(r"[^.\[\]]+", place):
        value = value[int(step)] if isinstance(value, list) else value.get(step)
    return bool(value)


def _no_spec(data: bytes) -> str:
    """Say what a text is that wasn't meant to be a CDI spec, or "" if it may have been."""
    if b'"ociVersion"' in data:
        return 'this is an OCI spec, no CDI spec; "cdi-hook inject --diff BUNDLE" shows what it asks for'
    if any(word in data for word in (b"cdiVersion", b"kind", b"devices")):
        return ""
    return "this is no CDI spec: it has no cdiVersion, kind or devices"


def spec_name(vendor: str, class_: str) -> str:
    """Return the file name, without extension, for a vendor's static spec."""
    return f"{vendor}-{class_}"


def transient_spec_name(vendor: str, class_: str, transient_id: str) -> str:
    """Return the file name, without extension, for a vendor's transient spec.

    ``transient_id`` is unique among these, such as the id of the container that the spec is for.

    >>> transient_spec_name("vendor.com", "gpu", "pod/1")
    'vendor.com-gpu_pod_1'
    """
    return f"{spec_name(vendor, class_)}_{transient_id.replace('/', '_')}"


def name_for(data: dict[str, Any], transient_id: str | None = None) -> str:
    """Return the file name for a spec's data; raises InvalidName if its kind has no vendor."""
    vendor, class_ = parse_qualifier(data.get("kind", ""))
    if not vendor:
        raise InvalidName(f"invalid vendor/class {quote(class_)} in Spec")
    if transient_id is None:
        return spec_name(vendor, class_)
    return transient_spec_name(vendor, class_, transient_id)


def write(spec: Spec) -> None:
    """Write a spec to its path, as replace() does."""
    from cdi_hook.specs.dump import dump  # YAML

    replace(spec.path, dump(spec.data, os.path.basename(spec.path)))


def replace(path: str, text: bytes) -> None:
    """Put a spec's text into its file in one step; make the dir if it is missing.

    Everybody may read the file: it has mode 0644. Raises CDIError if it can't be written.
    """
    try:
        os.makedirs(os.path.dirname(path) or ".", 0o755, exist_ok=True)
        files.replace(path, text, 0o644, durable=True)
    except OSError as error:
        raise CDIError(f"can't write CDI spec {quote(path)}: {error.strerror}") from error


def remove(path: str) -> None:
    """Remove a spec's file, if there is one; raises CDIError if it can't be removed."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise CDIError(f"can't remove CDI spec {quote(path)}: {error.strerror}") from error
