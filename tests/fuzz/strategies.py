# SPDX-License-Identifier: Apache-2.0
"""What the targets draw: texts, JSON trees, names, edits of every kind, and OCI specs.

Edits and OCI specs have so few values that both have the same now and then; tests/house/test_kinds.py
holds them to edits.KINDS.
"""

from __future__ import annotations

import json
import re
import string
from typing import Any

from hypothesis import strategies as st

from cdi_hook.edits.kinds import HOOK_NAMES, KINDS
from cdi_hook.runtime import argv
from cdi_hook.specs.versions import VERSIONS

# Any characters, and bytes that aren't UTF-8, as they come in from an OS (surrogateescape).
TEXTS = st.text(st.characters() | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF), max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=20,
)

# A token of a JSON text.
TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[^\s,:{}\[\]"]+|[,:{}\[\]]', re.DOTALL)
_NUMBERS = st.from_regex(r"-?(0|[1-9][0-9]{0,20})(\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?", fullmatch=True)


@st.composite
def json_texts(draw: st.DrawFn, *, is_object: bool = False) -> str:
    """Draw a JSON text with numbers, strings and spaces as anybody may write them."""
    space = st.sampled_from(["", "", "", " ", "\n\t", "\r\n "])

    def string(text: str) -> str:
        written = json.dumps(text, ensure_ascii=draw(st.booleans()))
        return written.replace("/", draw(st.sampled_from(["/", "\\/", "\\u002f"])))

    def value(depth: int, least: int = 0) -> str:
        kind = draw(st.integers(least, 6 if depth else 4))
        if kind < 2:
            return draw(_NUMBERS)
        if kind < 4:
            return string(draw(st.text('a/\\"é\x7f\ud800 ', max_size=5)))
        if kind == 4:
            return draw(st.sampled_from(["true", "false", "null"]))
        count = range(draw(st.integers(0, 3)))
        if kind == 5:
            return "[" + ",".join(padded(value(depth - 1)) for _ in count) + draw(space) + "]"
        names = draw(
            st.lists(st.text("ab/é", max_size=3), min_size=len(count), max_size=len(count), unique=True)
        )
        return (
            "{"
            + ",".join(f"{padded(string(name))}:{padded(value(depth - 1))}" for name in names)
            + draw(space)
            + "}"
        )

    def padded(text: str) -> str:
        return f"{draw(space)}{text}{draw(space)}"

    return padded(value(4, 6 if is_object else 0))


_WITHIN = string.ascii_letters + string.digits + "_-."


def _part(first: str, within: str = _WITHIN) -> st.SearchStrategy[str]:
    ends = string.ascii_letters + string.digits
    longer = st.builds(
        "{}{}{}".format, st.sampled_from(first), st.text(within, max_size=4), st.sampled_from(ends)
    )
    return st.sampled_from(first) | longer


# Valid names: of vendors and classes, of devices, and qualified ones.
KIND_PARTS = _part(string.ascii_letters)
DEVICE_NAMES = _part(string.ascii_letters + string.digits, f"{_WITHIN}:")
QUALIFIED_NAMES = st.builds("{}/{}={}".format, KIND_PARTS, KIND_PARTS, DEVICE_NAMES)
# Texts that are such names, or nearly.
NEAR_NAMES = QUALIFIED_NAMES | st.text("aZ0_-.:/=,é\n \x1b*", max_size=12)

FEW = st.integers(0, 3)
PATHS = st.sampled_from(["/", "/a", "/a/b", "/b", "/c/d/e", "/usr/lib/x", "rel"])
NODE_PATHS = st.sampled_from(["/dev/cdi-a", "/dev/cdi-b", "/dev/cdi-c"])  # which no host has
VARIABLES = st.sampled_from(["A=0", "A=1", "A=2", "B=", "C=3"])
OPTIONS = st.lists(st.sampled_from(["ro", "bind", "rbind"]), max_size=2)

# One edit of each kind.
EDITS: dict[str, st.SearchStrategy[Any]] = {
    "env": VARIABLES,
    "deviceNodes": st.fixed_dictionaries(
        {"path": NODE_PATHS, "type": st.sampled_from("bcpu"), "major": st.integers(1, 3)},
        optional={
            "minor": FEW,
            "fileMode": FEW,
            "uid": FEW,
            "gid": FEW,
            "permissions": st.sampled_from(["r", "none", "rwm"]),
        },
    ),
    "netDevices": st.fixed_dictionaries({"hostInterfaceName": st.sampled_from(["e/0", "1"]), "name": PATHS}),
    "hooks": st.fixed_dictionaries(
        {"hookName": st.sampled_from([*HOOK_NAMES]), "path": st.sampled_from(["/x", "/y"])},
        optional={
            "args": st.lists(PATHS, max_size=2),
            "env": st.lists(VARIABLES, max_size=1),
            "timeout": FEW,
        },
    ),
    "mounts": st.fixed_dictionaries(
        {"hostPath": PATHS, "containerPath": PATHS},
        optional={"options": OPTIONS, "type": st.sampled_from(["bind", "tmpfs"])},
    ),
    "intelRdt": st.fixed_dictionaries(
        {},
        optional={
            "closID": PATHS,
            "l3CacheSchema": PATHS,
            "schemata": st.lists(PATHS, max_size=2),
            "enableMonitoring": st.booleans(),
        },
    ),
    "additionalGids": FEW,
}

# What one device, or a spec for all its devices, asks for.
CONTAINER_EDITS = st.fixed_dictionaries(
    {},
    optional={name: st.lists(one, max_size=4) if KINDS[name].is_list else one for name, one in EDITS.items()},
)

NULL = st.none()
# What edits may find there already, also null where Go writes that.
OCI_SPECS = st.fixed_dictionaries(
    {"x-unknown": st.just({"z": [1, 2], "a": None})},
    optional={
        "process": NULL
        | st.fixed_dictionaries(
            {},
            optional={
                "env": NULL | st.lists(VARIABLES | st.just("D"), max_size=5),
                "user": NULL
                | st.fixed_dictionaries(
                    {}, optional={"uid": FEW, "additionalGids": NULL | st.lists(FEW, max_size=3)}
                ),
                "cwd": PATHS,
            },
        ),
        "mounts": NULL
        | st.lists(
            st.fixed_dictionaries({"destination": PATHS}, optional={"source": PATHS, "options": OPTIONS}),
            max_size=6,
        ),
        "linux": NULL
        | st.fixed_dictionaries(
            {},
            optional={
                "devices": NULL
                | st.lists(
                    st.fixed_dictionaries(
                        {"path": NODE_PATHS}, optional={"type": st.just("c"), "major": FEW, "minor": FEW}
                    ),
                    max_size=4,
                ),
                "resources": NULL
                | st.fixed_dictionaries(
                    {},
                    optional={
                        "devices": NULL
                        | st.lists(
                            st.fixed_dictionaries(
                                {"allow": st.booleans()},
                                optional={"type": st.just("c"), "major": FEW, "access": st.just("rwm")},
                            ),
                            max_size=4,
                        )
                    },
                ),
                "namespaces": st.just([{"type": "user"}]),
                "netDevices": NULL | st.dictionaries(st.sampled_from(["1", "x"]), st.just({"name": "n"})),
                "intelRdt": NULL | st.fixed_dictionaries({}, optional={"schemata": OPTIONS, "closID": PATHS}),
            },
        ),
        "hooks": NULL
        | st.dictionaries(
            st.sampled_from(["prestart", "poststart", "x"]), NULL | st.just([{"path": "/x"}]), max_size=2
        ),
    },
)

# Arguments of a runtime: what the tables of argv.py have, shortened, joined, with values, and anything else.
_OPTIONS = st.sampled_from(
    sorted((*argv.VALUE_OPTIONS, *argv.FLAG_OPTIONS, "rootless", "debug", "help", "unknown"))
)
_PLACES = st.sampled_from(["asks", "plain", "none", "asks/", "./asks", "", ".", "asks/config.json"])
_WORDS = st.sampled_from(
    ["create", "run", "restore", "state", "start", "exec", "id", "-", "--", "-h", "--help", "auto", "1s", "é", "\udcff"]
)  # fmt: skip
_SHORTENED = st.builds(lambda name, length: name[:length], _OPTIONS, st.integers(1, 9))
_DASHED = st.builds("{}{}".format, st.sampled_from(["--", "-", "---"]), _OPTIONS | _SHORTENED)
_LETTERS = st.builds("-{}".format, st.text("bcflprdshv=", min_size=1, max_size=3))
_ARGUMENT = (
    _WORDS | _PLACES | _DASHED | _LETTERS
    | st.builds("{}={}".format, _DASHED | _LETTERS, _PLACES | _WORDS)
    | st.builds("{}{}".format, _LETTERS, _PLACES)
    | st.sampled_from(["--bundle", "-b", "create", "--config", "-f"])
)  # fmt: skip
ARGUMENTS = st.lists(
    _ARGUMENT | st.text("-=\0bc\n ", max_size=3).map(lambda text: text.replace("\0", "")), max_size=8
)

_ANNOTATIONS = st.dictionaries(st.sampled_from(["a", "v.com/x", "-"]), st.text(max_size=5), max_size=2)
# CDI specs, of which many are valid and many break a rule; what has no type of the schema isn't among them.
SPECS = st.fixed_dictionaries(
    {
        "cdiVersion": st.sampled_from([*VERSIONS, "v0.6.0", "9"]),
        "kind": st.builds("{}/{}".format, KIND_PARTS, KIND_PARTS) | st.sampled_from(["v.com", "/c", ""]),
        "devices": st.lists(
            st.fixed_dictionaries(
                {
                    "name": DEVICE_NAMES | st.sampled_from(["a", "b", "", "-"]),
                    "containerEdits": CONTAINER_EDITS,
                },
                optional={"annotations": _ANNOTATIONS},
            ),
            max_size=3,
        ),
    },
    optional={"annotations": _ANNOTATIONS, "containerEdits": CONTAINER_EDITS},
)
