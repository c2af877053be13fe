# SPDX-License-Identifier: Apache-2.0
"""cdi-hook validate: every finding, with its place, and none for a valid file."""

from __future__ import annotations

import copy
import json
import os
from typing import TYPE_CHECKING

import pytest

from cdi_hook.inject.explain import NO_SPEC
from tests.unit.cli.conftest import Shape

if TYPE_CHECKING:
    from tests.unit.cli.conftest import World


SHAPE = Shape(("path", "is_valid", "findings", "kind", "cdiVersion", "devices"), "SPECS/vendor.json", "FILE")


@pytest.mark.parametrize("named", [True, False])
def test_valid_file_is_said_so(cdi_hook: World, named: bool) -> None:
    """A valid file is one line, and the status is 0."""
    path = cdi_hook.spec("vendor.json")
    arguments = [path] if named else []
    assert cdi_hook("validate", *arguments) == (0, f"{path}: vendor.com/gpu, 2 devices, CDI 0.3.0\n", "")


def test_one_device(cdi_hook: World) -> None:
    """A spec with one device is described as "1 device"."""
    text = "cdiVersion: v0.3.0\nkind: v.com/cc\ndevices: [{name: a, containerEdits: {env: [A=1]}}]\n"
    path = cdi_hook.spec("one.yaml", text)
    assert cdi_hook("validate") == (0, f"{path}: v.com/cc, 1 device, CDI v0.3.0\n", "")


BAD = {
    "cdiVersion": "0.3.0",
    "kind": "1vendor/c",
    "devices": [
        {"name": "a", "containerEdits": {"env": ["=x", "OK=1", "none"]}},
        {"name": "a", "containerEdits": {"deviceNodes": [{"path": "/dev/a", "type": "x"}]}},
        {"name": "b"},
    ],
}
FINDINGS = [
    (".kind", 'invalid vendor. "1vendor", should start with letter'),
    (".devices[0].containerEdits.env[0]", '"=x" is no variable; one is written NAME=value'),
    (".devices[0].containerEdits.env[2]", '"none" is no variable; one is written NAME=value'),
    (
        ".devices[1].containerEdits.deviceNodes[0].type",
        'device "/dev/a": invalid type "x"; it is one of b, c, u, p',
    ),
    (".devices[1].name", 'another device has the name "a"'),
    (".devices[2].containerEdits", 'device "b" has no edits; a device has at least one'),
]


def test_every_finding_with_its_place(cdi_hook: World) -> None:
    """All errors are shown, not only the first, each with its place in the file."""
    path = cdi_hook.spec("bad.json", BAD)
    out = "".join(f"{path}: {place}: {message}\n" for place, message in FINDINGS)
    assert cdi_hook("validate") == (1, out, "")


def test_json(cdi_hook: World) -> None:
    """--json has each file's path, whether it is valid, its findings, and the description of a valid one."""
    bad = cdi_hook.spec("bad.json", BAD)
    good = cdi_hook.spec("good.json")
    first, second = cdi_hook.items("validate")
    found = [
        (one["level"], one["place"], "; ".join(filter(None, (one["message"], one["fix"]))))
        for one in first.pop("findings")
    ]
    assert found == [("error", place, message) for place, message in FINDINGS]
    assert first == {"path": bad, "is_valid": False}
    assert second == {
        "path": good,
        "kind": "vendor.com/gpu",
        "cdiVersion": "0.3.0",
        "devices": ["gpu0", "gpu1"],
        "is_valid": True,
        "findings": [],
    }


def test_text_that_is_no_spec(cdi_hook: World) -> None:
    """Text that isn't YAML, unknown fields, and an empty file are findings with their line."""
    broken = cdi_hook.spec("broken.yaml", "kind: [\n")
    empty = cdi_hook.spec("empty.yaml", "")
    fields = cdi_hook.spec("fields.yaml", "cdiVersion: 0.6.0\nkin: v/c\ndevices: 7\n")
    status, out, err = cdi_hook("validate")
    assert (status, err) == (1, "")
    lines = out.splitlines()
    assert lines[0].startswith(f"{broken}: line 2: ")
    assert lines[1:] == [
        f"{empty}: the file is empty",
        f"{fields}: .devices: expected a list, found 7 (line 3)",
        f'{fields}: unknown field "kin" (line 2); did you mean kind?',
    ]


def test_conflict_between_files(cdi_hook: World) -> None:
    """Two files in one dir that define the same device are both wrong, at that device, and still described."""
    first = cdi_hook.spec("a.json")
    other = copy.deepcopy(BAD)
    other.update(kind="vendor.com/gpu", devices=[BAD["devices"][0], BAD["devices"][0]])
    other["devices"] = [{"name": name, "containerEdits": {"env": ["A=1"]}} for name in ("free", "gpu1")]
    second = cdi_hook.spec("b.json", other)
    message = (
        f'conflicting device "vendor.com/gpu=gpu1": two files of one dir define it ("{second}", "{first}"); '
        "neither counts, so rename or remove one"
    )
    out = f"{first}: .devices[1].name: {message}\n{second}: .devices[1].name: {message}\n"
    assert cdi_hook("validate", cdi_hook.specs) == (1, out, "")
    shown = [(one["is_valid"], len(one["devices"])) for one in cdi_hook.items("validate")]
    assert shown == [(False, 2), (False, 2)]


def test_files_named_one_by_one_do_not_conflict(cdi_hook: World) -> None:
    """Named files are each checked by themselves."""
    paths = [cdi_hook.spec("a.json"), cdi_hook.spec("b.json")]
    out = "".join(f"{path}: vendor.com/gpu, 2 devices, CDI 0.3.0\n" for path in paths)
    assert cdi_hook("validate", *paths) == (0, out, "")


def test_dirs_of_rising_priority_do_not_conflict(cdi_hook: World) -> None:
    """Another dir may define a device again, and then has priority."""
    cdi_hook.spec("a.json")
    later = cdi_hook.root / "later"
    later.mkdir()
    (later / "a.json").write_text((cdi_hook.specs / "a.json").read_text())
    status, out, err = cdi_hook("validate", cdi_hook.specs, later)
    assert (status, out.count("\n"), err) == (0, 2, "")


def test_what_cannot_be_read(cdi_hook: World) -> None:
    """A missing file, one that isn't a regular file, and a dangling link in a dir are findings."""
    os.mkfifo(cdi_hook.root / "fifo.yaml")
    link = cdi_hook.specs / "link.yaml"
    link.symlink_to("nowhere")
    fifo = cdi_hook.root / "fifo.yaml"
    assert cdi_hook("validate", "nowhere.yaml", fifo, cdi_hook.specs) == (
        1,
        "nowhere.yaml: no such file or directory\n"
        f"{fifo}: can't read it: not a regular file\n"
        f"{link}: no such file or directory\n",
        "",
    )


def test_name_that_no_spec_dir_reads(cdi_hook: World) -> None:
    """A named file is checked whatever its name is, with a warning if a spec dir's file of that name isn't read."""
    path = cdi_hook.spec("vendor.yml")
    assert cdi_hook("validate", path) == (
        0,
        f"{path}: vendor.com/gpu, 2 devices, CDI 0.3.0\n",
        f"cdi-hook: warning: {path}: a spec dir's file isn't read unless its name ends in .json or .yaml\n",
    )


def test_trust_is_for_the_spec_dirs(cdi_hook: World) -> None:
    """For root, a file in the spec dirs that others could have written is a finding, or a warning if it is named."""
    path = cdi_hook.spec("vendor.json")
    os.chmod(path, 0o666)
    reason = f"refused by SPEC_TRUST=strict: {path} is writable by others than root (mode 0666)"
    valid = (0, f"{path}: vendor.com/gpu, 2 devices, CDI 0.3.0\n", "")
    refused = (1, f"{path}: {reason}; to fix it: chmod go-w {path}\n", "")
    assert cdi_hook("validate") == (refused if os.geteuid() == 0 else valid)
    warning = f"cdi-hook: warning: {path}: {reason}; to fix it: chmod go-w {path}\n"
    assert cdi_hook("validate", path) == (*valid[:2], warning if os.geteuid() == 0 else "")
    assert cdi_hook("validate", cdi_hook.specs) == valid
    cdi_hook.configure(SPEC_TRUST="none")
    assert cdi_hook("validate") == valid


def test_a_spec_dir_that_is_not_there(cdi_hook: World) -> None:
    """A dir that --spec-dir names has to be there."""
    assert cdi_hook("validate", "--spec-dir", "/nowhere")[:2] == (1, "/nowhere: there is no such dir\n")


def test_nothing_to_check(cdi_hook: World) -> None:
    """If there is no spec file, nothing is wrong, and a message says so."""
    expected = (0, "", f"cdi-hook: no CDI spec in {cdi_hook.specs}; {NO_SPEC}\n")
    assert cdi_hook("validate", cdi_hook.specs) == expected
    assert cdi_hook("validate", "--spec-dir", cdi_hook.specs) == expected


def test_bad_configuration_is_a_warning(cdi_hook: World) -> None:
    """Errors in the configuration are warnings, not findings of a spec file."""
    path = cdi_hook.spec("vendor.json")
    cdi_hook.configure(NONSENSE="1")
    status, out, err = cdi_hook("validate")
    assert (status, out) == (0, f"{path}: vendor.com/gpu, 2 devices, CDI 0.3.0\n")
    assert err.startswith(f"cdi-hook: warning: {cdi_hook.config}:2: unknown key NONSENSE; write one of ")


HOST = {
    "cdiVersion": "0.6.0",
    "kind": "v/gpu",
    "containerEdits": {"hooks": [{"hookName": "createContainer", "path": "/none/hook"}]},
    "devices": [
        {
            "name": "a",
            "containerEdits": {
                "deviceNodes": [{"path": "/dev/null"}, {"path": "/none/node"}, {"path": "LINK"}],
                "mounts": [
                    {"hostPath": "/none/source", "containerPath": "/a", "options": ["rbind"]},
                    {"hostPath": "/etc", "containerPath": "/b"},
                    {"hostPath": "tmpfs", "containerPath": "/c", "type": "tmpfs"},
                ],
            },
        },
    ],
}
OF_THE_SPEC = [
    (".cdiVersion", "0.6.0 is higher than this spec needs; engines that know only 0.4.0 could read it too"),
    (
        ".kind",
        'the vendor "v" has one letter, which crashes docker, podman and other engines '
        "(CDI's own library up to 1.1.0); take a longer name",
    ),
    (
        ".containerEdits.hooks[0]",
        'the createContainer hook "/none/hook" has no env. If an engine\'s own CDI injects it, runc before 1.3 runs '
        "it as root on the host with the container's variables, so that an image can run any program there "
        "(CVE-2025-23266). cdi-runtime gives it one; write env: "
        '["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], or generate the spec again',
    ),
]
OF_THE_HOST = [
    (".containerEdits.hooks[0]", 'the host has no "/none/hook"'),
    (".devices[0].containerEdits.deviceNodes[1]", 'the host has no "/none/node"'),
    (
        ".devices[0].containerEdits.deviceNodes[2]",
        "\"LINK\" is a link, and a node's host path can't be one: write hostPath: /dev/null",
    ),
    (".devices[0].containerEdits.mounts[0]", 'the host has no "/none/source"'),
    (
        ".devices[0].containerEdits.mounts[1]",
        '"options: [bind]" is missing for the mount of "/etc" at "/b"',
    ),
]


def test_what_the_host_lacks_is_a_warning(cdi_hook: World) -> None:
    """A valid spec is held against this host, unless --no-host; what troubles engines is a warning too."""
    link = cdi_hook.root / "link"
    link.symlink_to("/dev/null")
    path = cdi_hook.spec("a.json", json.dumps(HOST).replace("LINK", str(link)))
    for more, warnings in ([], [*OF_THE_SPEC, *OF_THE_HOST]), (["--no-host"], OF_THE_SPEC):
        said = [(place, message.replace("LINK", str(link))) for place, message in warnings]
        lines = "".join(f"{path}: warning: {place}: {message}\n" for place, message in said)
        assert cdi_hook("validate", *more) == (0, f"{path}: v/gpu, 1 device, CDI 0.6.0\n{lines}", "")
        (report,) = cdi_hook.json("validate", "--json", *more)
        found = [
            (one["level"], one["place"], "; ".join(filter(None, (one["message"], one["fix"]))))
            for one in report["findings"]
        ]
        assert found == [("warning", place, message) for place, message in said]
        assert report["is_valid"] is True


SEEMING = """\
cdiVersion: 0.4.0
kind: v.com/gpu
devices:
- name: a
  containerEdits:
    deviceNodes:
    - {path: /dev/null, fileMode: 666}
    - {path: /dev/null, fileMode: 0666}
    - {path: /dev/null, fileMode: 400}  # which is 0620
    - {path: /dev/null, fileMode: 777}
    - {path: /dev/null, fileMode: 511}  # which is 0777
    mounts:
    - {hostPath: ~/data, containerPath: /a, options: [bind]}
    - {hostPath: $HOME/data, containerPath: /b, options: [bind]}
    - {hostPath: tmpfs, containerPath: /c, type: tmpfs}
"""
OF_WHAT_SEEMS = [
    (
        "deviceNodes[0].fileMode",
        "fileMode 666 is decimal, and as a mode it is 01232; write 0666 (in JSON 438)",
    ),
    (
        "deviceNodes[3].fileMode",
        "fileMode 777 is decimal, and as a mode it is 01411; write 0777 (in JSON 511)",
    ),
    *(
        (
            f"mounts[{index}].hostPath",
            f'nothing replaces ~ or a variable in "{path}", so it is looked for by that very name; '
            "write the whole path",
        )
        for index, path in enumerate(("~/data", "$HOME/data"))
    ),
]


def test_what_means_something_else_than_it_seems_to(cdi_hook: World) -> None:
    """A decimal mode, ~ and a variable in a mount's source are warnings, and the file stays valid."""
    path = cdi_hook.spec("a.yaml", SEEMING)
    place = ".devices[0].containerEdits"
    lines = "".join(f"{path}: warning: {place}.{where}: {message}\n" for where, message in OF_WHAT_SEEMS)
    assert cdi_hook("validate") == (0, f"{path}: v.com/gpu, 1 device, CDI 0.4.0\n{lines}", "")


@pytest.mark.parametrize(
    ("second", "line"),
    [("---\nkind: v.com/b\n", 4), ("...\n---\nkind: [\n", 5), ("...\n}\n", 5), ("...\n", 0), ("# end\n", 0)],
)
def test_second_document(cdi_hook: World, second: str, line: int) -> None:
    """A file has one spec: what begins after it isn't read, with a warning, whatever it is."""
    text = "cdiVersion: 0.3.0\nkind: v.com/gpu\ndevices: [{name: a, containerEdits: {env: [A=1]}}]\n"
    said = f"line {line}: a file has one spec, and what begins here isn't read; make a file of its own of it"
    warning = f"stdin: warning: {said}\n" if line else ""
    valid = "stdin: v.com/gpu, 1 device, CDI 0.3.0\n"
    assert cdi_hook("validate", "-", stdin=text + second) == (0, valid + warning, "")


MISREAD = """\
cdiVersion: 0.3.0
kind: 1v/c
foo: 1
devices:
- name: a
  containerEdits:
    deviceCgroupRules: ["c 1:3 rwm"]
    env: [A, {B: 1}]
    deviceNodes:
    - {path: /dev/null, type: x}
    - {pth: /dev/zero}
- name: b
  deviceNodes: []
- containerEdits: {env: [A=1]}
- 7
"""


def test_a_field_that_is_unknown_hides_nothing(cdi_hook: World) -> None:
    """What else is wrong is shown with it, but not what is only missing because it couldn't be read."""
    path = cdi_hook.spec("a.yaml", MISREAD)
    edits = ".devices[0].containerEdits"
    out = [
        f'{edits}: unknown field "deviceCgroupRules" (line 7); it is of a newer CDI than this knows (1.1.0)',
        f'{edits}.deviceNodes[1]: unknown field "pth" (line 11); did you mean path?',
        f"{edits}.env[1]: expected a string, found a mapping (line 8)",
        '.devices[1]: unknown field "deviceNodes" (line 13); it belongs in containerEdits',
        ".devices[3]: expected a mapping, found 7 (line 15)",
        'unknown field "foo" (line 3); write one of cdiVersion, kind, annotations, devices, containerEdits',
        '.kind: invalid vendor. "1v", should start with letter',
        f'{edits}.env[0]: "A" is no variable; one is written NAME=value',
        f'{edits}.deviceNodes[0].type: device "/dev/null": invalid type "x"; it is one of b, c, u, p',
        ".devices[2].name: there is no name",
    ]
    assert cdi_hook("validate") == (1, "".join(f"{path}: {line}\n" for line in out), "")


def test_stdin(cdi_hook: World) -> None:
    """A spec is read from stdin for the file -."""
    text = "cdiVersion: 0.3.0\nkind: v.com/gpu\ndevices: [{name: a, containerEdits: {env: [A=1]}}]\n"
    assert cdi_hook("validate", "-", stdin=text) == (0, "stdin: v.com/gpu, 1 device, CDI 0.3.0\n", "")
    assert cdi_hook("validate", "-", stdin="") == (1, "stdin: the file is empty\n", "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"ociVersion": "1.0", "process": {}, "linux": {"devices": []}, "annotations": {"a": "b"}}',
         'this is an OCI spec, no CDI spec; "cdi-hook inject --diff BUNDLE" shows what it asks for'),
        ("root:x:0:0:root:/root:/bin/bash\n" * 100, "this is no CDI spec: it has no cdiVersion, kind or devices"),
        ("\x7fELF\x00", "this is no CDI spec: it has no cdiVersion, kind or devices"),
        ("kind: [\n", "line 2: did not find expected node content; is this line indented as its neighbours are?"),
    ],
)  # fmt: skip
def test_what_was_never_a_spec(cdi_hook: World, text: str, said: str) -> None:
    """Of a file that is no spec at all, one short line says so."""
    path = cdi_hook.root / "file"
    path.write_text(text)
    assert cdi_hook("validate", path) == (1, f"{path}: {said}\n", "")
