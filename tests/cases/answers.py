# SPDX-License-Identifier: Apache-2.0
"""The reference implementation's recorded answers, and how one is held against the library's.

A case is a list of steps in one directory: files to make, a request, the answer
that the reference gave. CDI_HOOK_CASES names another directory of such files.
"""

from __future__ import annotations

import base64
import copy
import gzip
import json
import os
import re
from pathlib import Path
from typing import Any, Callable

from cdi_hook import names
from cdi_hook.base.files import clean
from cdi_hook.catalog.cache import Cache
from cdi_hook.edits import editor, kinds
from cdi_hook.errors import CDIError
from cdi_hook.inject import annotation
from cdi_hook.specs import model, shape, specfile, validation, versions

DATA = Path(os.environ.get("CDI_HOOK_CASES", Path(__file__).parent / "data"))
CASES = [
    case for file in sorted(DATA.glob("*.json.gz")) for case in json.loads(gzip.decompress(file.read_bytes()))
]

# Words of the reference that ours has too, with the names in them: people search for them.
KEPT = re.compile(
    r"unresolvable CDI devices .*|conflicting device \S+|unqualified device \S+|failed to stat CDI host device .*"
    r"|host type mismatch .*"
)
# What the reference says -> the end of the place that ours has, in jq's notation.
PLACES = (
    ("the spec version must|invalid version", r"\.cdiVersion"),
    ("invalid (vendor|class)\\. ", r"\.kind"),
    ("no devices", r"\.devices"),
    (
        "multiple device|failed add device .*: invalid (name|class|character|\\(empty\\) device name)",
        r"\.name",
    ),
    ("empty device edits", r"\.containerEdits"),
    ("invalid environment variable", r"\.env\[\d+\]"),
    ("invalid type", r"\.type"),
    ("invalid permissions", r"\.permissions"),
    ("empty\\) device path|with empty path", r"\.path"),
    ("invalid hook name", r"\.hookName"),
    ("empty host path", r"\.hostPath"),
    ("empty container path", r"\.containerPath"),
    ("ClosID", r"\.closID"),
    ("(empty|duplicate) HostInterfaceName", r"\.hostInterfaceName"),
    ("(empty|duplicate) Name", r"\.name"),
)

Step = dict[str, Any]


def without_empty(value: Any) -> Any:
    """Drop what the recording lost: null, "", 0, false, [] and {}."""
    if isinstance(value, dict):
        kept = {key: without_empty(child) for key, child in value.items()}
        return {key: child for key, child in kept.items() if child not in (None, "", 0, [], {})}
    return [without_empty(child) for child in value] if isinstance(value, list) else value


def place(value: Any, here: str, there: str) -> Any:
    """Replace one text by another in every string of value, keys too."""
    if isinstance(value, str):
        return value.replace(here, there)
    if isinstance(value, dict):
        return {place(key, here, there): place(child, here, there) for key, child in value.items()}
    return [place(child, here, there) for child in value] if isinstance(value, list) else value


def make_files(directory: Path, files: dict[str, Any]) -> None:
    """Make what a step's "files" describe."""
    for name, content in files.items():
        path = directory / name.rstrip("/@|")
        if content is None:
            path.unlink(missing_ok=True)  # which no directory here is ever called
        elif name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            if name.endswith("@"):
                path.symlink_to(content.replace("$DIR", str(directory)))
            elif name.endswith("|"):
                os.mkfifo(path)
                path.chmod(int(content, 8))
            elif isinstance(content, dict):
                data = base64.b64decode(content["b64"])
                path.write_bytes(data.replace(b"$DIR", str(directory).encode()))
            else:
                path.write_bytes(content.replace("$DIR", str(directory)).encode())


def decoded(data: Any, schema: Any) -> Any:
    """Return a request's JSON with the names that the reference decodes it to."""
    text = json.dumps(data, ensure_ascii=False)
    escaped = "".join(one if " " <= one < "\x7f" else f"\\U{ord(one):08x}" for one in text)
    value, findings = shape.read(escaped.encode(), schema)
    assert not findings
    return value or {}


def error_of(action: Callable[[], Any]) -> str:
    """Return the text of the CDIError that action raises, or ""."""
    try:
        action()
    except CDIError as error:
        return str(error)
    except FileNotFoundError as error:
        return f"open {error.filename}: no such file or directory"
    return ""


def inject(request: Step) -> Step:
    oci = copy.deepcopy(request["oci"])
    cache = Cache(request["spec_dirs"])
    answer = scan(request)
    wanted = list(request.get("devices") or ())
    keys: list[str] = []
    answer["unresolved"] = []
    try:
        keys, names_ = annotation.parse_annotations(request.get("annotations") or {})
        wanted += names_
        answer["error"] = error_of(lambda: cache.inject(oci, wanted))
        answer["unresolved"] = [name for name in wanted if oci is None or name not in answer["devices"]]
    except CDIError as error:
        answer["error"] = str(error)
    return {**answer, "oci": oci, "requested": wanted, "annotation_keys": keys}


def inject_seq(request: Step) -> Step:
    cache = Cache(request["spec_dirs"])
    results = []
    for wanted in request["devices_seq"]:
        oci = copy.deepcopy(request.get("oci") or {})
        known = cache.devices()
        error = error_of(lambda: cache.inject(oci, wanted))  # noqa: B023 # called now
        unresolved = [name for name in wanted if name not in known]
        results.append({"error": error, "oci": oci, "unresolved": unresolved})
    return {"results": results, "error": ""}


def scan(request: Step) -> Step:
    cache = Cache(request["spec_dirs"])
    by_vendor: dict[str, list[Any]] = {}
    for one in cache.specs:
        by_vendor.setdefault(one.vendor, []).append([one.path, one.priority])
    sources = {}
    for name in cache.devices():
        device = cache.device(name)
        assert device is not None
        sources[name] = [device.spec.path, device.spec.priority]
    return {
        "error": "",
        "cache_errors": cache.errors,
        "devices": cache.devices(),
        "sources": sources,
        "vendor_specs": by_vendor,
        "vendors": sorted(by_vendor),
        "classes": sorted({one.class_ for one in cache.specs}),
        "spec_dirs": cache.spec_dirs,
    }


def parse_annotations(request: Step) -> Step:
    try:
        keys, devices = annotation.parse_annotations(request["annotations"])
    except CDIError as error:
        return {"error": str(error), "keys": [], "devices": []}
    return {"error": "", "keys": keys, "devices": devices}


def parse_name(request: Step) -> Step:
    name = request["name"]
    answer: Step = {"error": error_of(lambda: names.parse_qualified_name(name))}
    vendor, class_, device = ("", "", name) if answer["error"] else names.parse_qualified_name(name)
    return {
        **answer,
        "vendor": vendor,
        "class": class_,
        "name": device,
        "is_qualified": names.is_qualified_name(name),
        "parse_device": list(names.parse_device(name)),
        "parse_qualifier": list(names.parse_qualifier(name)),
        "vendor_error": error_of(lambda: names.validate_kind_part(name, "vendor")),
        "class_error": error_of(lambda: names.validate_kind_part(name, "class")),
        "device_error": error_of(lambda: names.validate_device_name(name)),
    }


def valued(name: str, action: Callable[[], Any], otherwise: Any = "") -> Step:
    """Answer with action's result under name, or with its error."""
    result: list[Any] = []
    error = error_of(lambda: result.append(action()))
    return {"error": error, name: result[0] if result else otherwise}


def annotation_key(request: Step) -> Step:
    return valued("key", lambda: annotation.annotation_key(request["plugin"], request["device_id"]))


def annotation_value(request: Step) -> Step:
    return valued("value", lambda: annotation.annotation_value(request["devices"]))


def update_annotations(request: Step) -> Step:
    before = request.get("annotations") or {}
    plugin, device_id, devices = request["plugin"], request["device_id"], request["devices"]
    return valued(
        "annotations", lambda: annotation.update_annotations(before, plugin, device_id, devices), before
    )


def gen_spec_name(request: Step) -> Step:
    if "spec" not in request:
        vendor, class_, transient_id = request["vendor"], request["class"], request["transient_id"]
        name = specfile.spec_name(vendor, class_)
        return {
            "error": "",
            "name": name,
            "transient_name": specfile.transient_spec_name(vendor, class_, transient_id),
        }
    data = request["spec"]
    transient = valued("transient_name", lambda: specfile.name_for(data, request["transient_id"]))
    return {
        "transient_error": transient["error"],
        "transient_name": transient["transient_name"],
        **valued("name", lambda: specfile.name_for(data)),
    }


def validate_spec(request: Step) -> Step:
    loaded: list[model.Spec] = []
    error = error_of(lambda: loaded.append(specfile.load(request["path"], request.get("priority", 0))))
    answer: Step = {"error": error, "not_exist": error.startswith("open ")}
    if loaded:
        one = loaded[0]
        answer |= {"vendor": one.vendor, "class": one.class_, "path": one.path, "spec": one.data}
        answer["min_version"] = versions.minimum_version(one.data)
    return answer


def min_version(request: Step) -> Step:
    data = decoded(request["spec"], model.SCHEMA)
    finding = next((one for one in validation.validate(data) if one.place == ".cdiVersion"), None)
    return {
        "error": "",
        "min_version": versions.minimum_version(data),
        "declared": data.get("cdiVersion", ""),
        "version_error": finding.message if finding else "",
    }


def validate_edits(request: Step) -> Step:
    findings = validation.validate_edits(decoded(request["edits"], model.CONTAINER_EDITS))
    return {"error": str(findings[0]) if findings else ""}


def apply_edits(request: Step) -> Step:
    oci = copy.deepcopy(request["oci"])
    wanted = decoded(request["edits"], model.CONTAINER_EDITS)
    return {"error": error_of(lambda: editor.apply(oci, [((None, ""), wanted)])), "oci": oci}


def append_edits(request: Step) -> Step:
    return {
        "error": "",
        "edits": kinds.merge(decoded(one, model.CONTAINER_EDITS) for one in request["edits_list"]) or None,
    }


def write_spec(request: Step) -> Step:
    data = decoded(request["spec"], model.SCHEMA)
    answer = valued("path", lambda: Cache(request["spec_dirs"]).write_spec(data, request["name"]))
    if answer["path"]:
        answer["data"] = Path(answer["path"]).read_text("utf-8")
    return answer


def normalize_oci(request: Step) -> Step:
    oci = copy.deepcopy(request["oci"])
    editor.apply(oci, [])
    return {"error": "", "oci": folded(oci)}


ANSWERS: dict[str, Callable[[Step], Step]] = {
    function.__name__: function
    for function in (
        inject, inject_seq, scan, parse_annotations, parse_name, annotation_key, annotation_value,
        update_annotations, gen_spec_name, validate_spec, min_version, validate_edits, apply_edits,
        append_edits, write_spec, normalize_oci,
    )
}  # fmt: skip

# What only the reference has: its schema checker, and texts that repeat others.
NOT_OURS = frozenset(
    ("schema_valid", "schema_error", "schema_type_valid", "schema_type_error", "all_errors", "refresh_error",
     "min_version_error", "stage", "panic", "id", "annotation_errors")
)  # fmt: skip


def folded(value: Any) -> Any:
    """Read an OCI spec's field names without regard to case, as Go does: the last of two wins."""
    if isinstance(value, dict):
        return {key.lower(): folded(child) for key, child in value.items()}
    return [folded(child) for child in value] if isinstance(value, list) else value


def comparable(name: str, value: Any) -> Any:
    """Bring an answer's field into the form in which it is compared."""
    if name == "data" and isinstance(value, str):  # the two YAML writers produce different text
        value = shape.read(value.encode(), model.SCHEMA)[0]
    if name == "vendor_specs":
        return {vendor: sorted(specs) for vendor, specs in value.items()}
    return without_empty(value)


def same_error(ours: str, theirs: str) -> bool:
    """Say whether two errors are of the same thing: ours has its own words, and the reference's place and names."""
    if not ours or not theirs:
        return ours == theirs
    kept = KEPT.search(theirs)
    end = next((end for words, end in PLACES if re.search(words, theirs)), "")
    if "CDI Spec" not in theirs or "unmarshal" in theirs:
        end = ""  # it isn't of a file, or a parser's, which sees another place
    return (not kept or kept[0] in ours) and (not end or re.search(rf"{end}: ", ours) is not None)


def same(name: str, ours: Any, theirs: Any) -> bool:
    """Say whether a field of two answers is the same."""
    if name in ("error", "transient_error", "vendor_error", "class_error", "device_error", "version_error"):
        return same_error(ours, theirs)
    if name == "cache_errors":
        return ours.keys() == theirs.keys() and all(
            len(ours[path]) == len(theirs[path])
            and all(map(same_error, sorted(ours[path]), sorted(theirs[path])))
            for path in theirs
        )
    return bool(comparable(name, ours) == comparable(name, theirs))


def check(case: Step, directory: Path) -> None:
    """Assert that the library answers as the reference did: outcome, OCI spec, known devices, refused files."""
    for recorded in case["steps"]:
        # the recording machine had the other ones, and no machine has these
        step = place(place(recorded, "/dev/loop8", "/dev/cdi-8"), "/dev/loop9", "/dev/cdi-9")
        make_files(directory, step.get("files") or {})
        request = place(step["request"], "$DIR", str(directory))
        expect = place(step["expect"], "$DIR", str(directory))
        unreadable = [one for one in request.get("spec_dirs", ()) if os.path.isfile(clean(one))]
        if unreadable:  # deliberate: the library reports an error and reads on, the reference stops
            assert Cache(request["spec_dirs"]).errors[clean(unreadable[0])]
            request["spec_dirs"] = request["spec_dirs"][: request["spec_dirs"].index(unreadable[0])]
            expect.pop("spec_dirs", None)
        actual = ANSWERS[request.get("op", "inject")](request)
        # deliberate: the reference panics at a null in a list, the library reports an error;
        # and the reference names its own types if a request's OCI spec doesn't decode
        if expect.get("panic") or expect["error"].startswith("json: "):
            assert actual["error"] or ("panic" in expect and actual["cache_errors"])
            continue
        for name in sorted(expect.keys() - NOT_OURS):
            if (
                name == "oci" and expect["error"]
            ):  # deliberate: the library leaves the spec as it was, the reference leaves it half edited
                assert actual["oci"] == request["oci"]
                continue
            if name == "error" and expect.get(
                "annotation_errors"
            ):  # the reference took any one, the library takes the first
                assert any(same_error(actual["error"], one) for one in expect["annotation_errors"])
                continue
            wanted = folded(expect[name]) if request.get("op") == "normalize_oci" else expect[name]
            assert same(name, actual.get(name), wanted), (name, actual.get(name), wanted)
