# SPDX-License-Identifier: Apache-2.0
"""cdi-hook inject: stdin to stdout, a bundle in place, and what it refuses."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cdi_hook.base.files import is_system_root
from cdi_hook.generate import classes
from cdi_hook.generate.renewal import CONFIGURED
from cdi_hook.generate.root import Root
from tests.unit.cli.conftest import Shape

if TYPE_CHECKING:
    from tests.unit.cli.conftest import World

SHAPE = Shape(
    ("op", "path", "value", "was", "sources"),
    "BUNDLE --diff --device vendor.com/gpu=gpu0",
    "BUNDLE --diff --device vendor.com/gpu=gpu9",
)
PROGRAM = Path(__file__).resolve().parents[3] / "packaging/bin/cdi-hook"
GPU0, GPU1 = "vendor.com/gpu=gpu0", "vendor.com/gpu=gpu1"
FAILED = "cdi-hook: CDI device injection failed: "
NODE = {"path": "/dev/gpu0", "type": "c", "major": 195, "minor": 7, "fileMode": 432}
RULE = {"allow": True, "type": "c", "major": 195, "minor": 7, "access": "rwm"}


def asking(*devices: str, **fields: Any) -> dict[str, Any]:
    """Return an OCI spec whose annotations ask for devices."""
    return {"ociVersion": "1.0.2", **fields, "annotations": {"cdi.k8s.io/test": ",".join(devices)}}


def test_stdin_to_stdout(cdi_hook: World) -> None:
    """The spec on stdin gets the devices that its annotations name, and is printed as one line of JSON."""
    cdi_hook.spec("vendor.json")
    oci = asking(GPU0, process={"env": ["PATH=/bin"]})
    edited = {
        "ociVersion": "1.0.2",
        "process": {"env": ["PATH=/bin", "DRIVER=1", "GPU=0"]},
        "annotations": oci["annotations"],
        "linux": {"devices": [NODE], "resources": {"devices": [RULE]}},
    }
    out = json.dumps(edited, separators=(",", ":")) + "\n"
    for arguments in (["inject"], ["inject", "-"]):
        assert cdi_hook(*arguments, stdin=json.dumps(oci, indent=4)) == (0, out, "")


def test_nothing_is_lost(cdi_hook: World) -> None:
    """Numbers, unknown fields, the order of keys and any text stay as they were."""
    cdi_hook.spec("vendor.json")
    text = '{"z":1.50,"a":12345678901234567890123,"u":"\\ud800\\u20ac","process":{"env":[],"x":1E400}}'
    out = text.replace("[]", '["DRIVER=1","GPU=1"]') + "\n"
    assert cdi_hook("inject", "-d", GPU1, stdin=text) == (0, out, "")


def test_asking_for_nothing(cdi_hook: World) -> None:
    """A spec that asks for nothing is printed unchanged, whatever the configuration and the specs are like.

    What may hide that it asks is a warning.
    """
    cdi_hook.spec("bad.yaml", "{")
    cdi_hook.configure(SPEC_TRUST="no")
    assert cdi_hook("inject", stdin='{"ociVersion": "1.0.2"}') == (0, '{"ociVersion":"1.0.2"}\n', "")
    cdi_hook.configure(NONSENSE="1")
    warned = cdi_hook("inject", stdin='{"ociVersion": "1.0.2"}')
    assert warned[:2] == (0, '{"ociVersion":"1.0.2"}\n')
    assert warned[2].startswith("cdi-hook: warning: the container may have asked for a CDI device by ")


def test_named_devices_stand_for_the_annotations(cdi_hook: World) -> None:
    """Devices of --device are injected in the order given, each once, and annotations are ignored."""
    cdi_hook.spec("vendor.json")
    oci = asking("bad", process={"env": []})
    tree = cdi_hook.json("inject", "-d", GPU1, "--device", GPU0, f"--device={GPU1}", stdin=json.dumps(oci))
    assert tree["process"]["env"] == ["DRIVER=1", "GPU=0"]
    assert tree["linux"]["devices"] == [NODE]


def test_default_kind(cdi_hook: World) -> None:
    """DEFAULT_KIND completes a name that is only a device's."""
    cdi_hook.spec("vendor.json")
    cdi_hook.configure(DEFAULT_KIND="vendor.com/gpu")
    tree = cdi_hook.json("inject", "-d", "gpu1", stdin="{}")
    assert tree["process"]["env"] == ["DRIVER=1", "GPU=1"]


def test_other_sources_of_the_configuration(cdi_hook: World) -> None:
    """The other sources of names in the configuration apply here too."""
    cdi_hook.spec("vendor.json")
    cdi_hook.configure(DEVICE_ENV="DEVICES")
    oci = {"process": {"env": [f"DEVICES={GPU1}"]}}
    tree = cdi_hook.json("inject", stdin=json.dumps(oci))
    assert tree["process"]["env"] == [f"DEVICES={GPU1}", "DRIVER=1", "GPU=1"]


def test_bundle_in_place(cdi_hook: World) -> None:
    """A bundle's config.json is replaced without a message, with its mode, and nothing is left beside it."""
    cdi_hook.spec("vendor.json")
    path = cdi_hook.oci(asking(GPU1))
    path.chmod(0o640)
    inode = path.stat().st_ino
    assert cdi_hook("inject", "bundle") == (0, "", "")
    assert json.loads(path.read_text())["process"]["env"] == ["DRIVER=1", "GPU=1"]
    assert path.stat().st_mode & 0o7777 == 0o640
    assert path.stat().st_ino != inode
    assert os.listdir(cdi_hook.bundle) == ["config.json"]


def test_twice_is_once(cdi_hook: World) -> None:
    """A second injection changes nothing, and doesn't write the file."""
    cdi_hook.spec("vendor.json")
    path = cdi_hook.oci(asking(GPU0, GPU1))
    assert cdi_hook("inject", cdi_hook.bundle) == (0, "", "")
    once = (path.read_bytes(), path.stat())
    assert cdi_hook("inject", cdi_hook.bundle) == (0, "", "")
    assert (path.read_bytes(), path.stat()) == once
    assert cdi_hook("inject", cdi_hook.bundle, "--diff") == (0, "", "")
    assert cdi_hook("inject", stdin=once[0]) == (0, once[0].decode() + "\n", "")


def test_json_says_what_was_done(cdi_hook: World) -> None:
    """With a bundle, --json prints the changes that were made, and --diff has shown the same."""
    cdi_hook.spec("vendor.json")
    path = cdi_hook.oci(asking(GPU0))
    foreseen = cdi_hook.json("inject", "bundle", "--diff", "--json")
    before = path.read_text()
    assert cdi_hook.json("inject", "bundle", "--json") == foreseen != []
    assert path.read_text() != before
    assert cdi_hook.json("inject", "bundle", "--json") == []


def test_diff_changes_nothing(cdi_hook: World) -> None:
    """--diff shows each change with its devices and their spec file, and doesn't change the bundle."""
    spec = cdi_hook.spec("vendor.json")
    path = cdi_hook.oci(asking(GPU0, process={"env": ["GPU=9"]}, linux={"devices": []}))
    before = (path.read_bytes(), path.stat())
    lines = [
        f'+ .process.env[1] "DRIVER=1"  # {spec}',
        f'~ .process.env[0] "GPU=9" -> "GPU=0"  # {GPU0}, {spec}',
        "+ .linux.devices[0] "
        f'{{"path":"/dev/gpu0","type":"c","major":195,"minor":7,"fileMode":432}}  # {GPU0}, {spec}',
        f"+ .linux.resources {{}}  # {GPU0}, {spec}",
        f"+ .linux.resources.devices []  # {GPU0}, {spec}",
        "+ .linux.resources.devices[0] "
        f'{{"allow":true,"type":"c","major":195,"minor":7,"access":"rwm"}}  # {GPU0}, {spec}',
    ]
    out = "".join(f"{line}\n" for line in lines)
    assert cdi_hook("inject", "--diff", "bundle") == (0, out, "")
    assert (path.read_bytes(), path.stat()) == before
    assert cdi_hook("inject", "--diff", stdin=before[0]) == (0, out, "")


def test_diff_as_json(cdi_hook: World) -> None:
    """--diff --json prints a JSON Patch, each change with the value before and its sources."""
    spec = cdi_hook.spec("vendor.json")
    oci = asking(GPU1, process={"env": ["GPU=9"]})
    assert cdi_hook.json("inject", "--diff", "--json", stdin=json.dumps(oci)) == [
        {
            "op": "add",
            "path": "/process/env/1",
            "value": "DRIVER=1",
            "sources": [{"device": None, "path": spec}],
        },
        {
            "op": "replace",
            "path": "/process/env/0",
            "value": "GPU=1",
            "was": "GPU=9",
            "sources": [{"device": GPU1, "path": spec}],
        },
    ]


def test_spec_dirs_that_are_named(cdi_hook: World) -> None:
    """--spec-dir replaces the configured dirs; of several, the last has priority."""
    cdi_hook.spec("vendor.json")
    other = cdi_hook.root / "other"
    other.mkdir(mode=0o755)
    cdi_hook.specs.joinpath("vendor.json").rename(other / "vendor.json")
    status, out, err = cdi_hook("inject", "-d", GPU1, stdin="{}")
    assert (status, out) == (1, "")
    assert err.startswith(f"{FAILED}unresolvable CDI devices {GPU1} (asked for by --device); ")
    tree = cdi_hook.json("inject", "-d", GPU1, "--spec-dir", other, stdin="{}")
    assert tree["process"]["env"] == ["DRIVER=1", "GPU=1"]


def test_unknown_device(cdi_hook: World) -> None:
    """An unknown device fails with similar names and the dirs that were searched, and the bundle isn't changed."""
    cdi_hook.spec("vendor.json")
    path = cdi_hook.oci(asking(GPU0, "vendor.com/gpu=gpu7"))
    before = (path.read_bytes(), path.stat())
    status, out, err = cdi_hook("inject", "bundle", "--spec-dir", cdi_hook.specs)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"{FAILED}unresolvable CDI devices vendor.com/gpu=gpu7 (asked for by ")
    assert f" in {cdi_hook.specs} defines it; did you mean {GPU1} or {GPU0}?; " in err
    assert (path.read_bytes(), path.stat()) == before


def test_a_class_without_a_spec(cdi_hook: World) -> None:
    """Of a device of a class that no spec is of, the command that makes one is said, and no device of another class."""
    cdi_hook.spec(
        "a.yaml",
        "cdiVersion: 0.3.0\nkind: host.local/fuse\n"
        "devices: [{name: fuse, containerEdits: {deviceNodes: [{path: /dev/fuse}]}}]\n",
    )
    how = '"cdi-hook generate tun --output /etc/cdi" makes the spec of host.local/tun'
    err = cdi_hook("inject", "-d", "host.local/tun=tun", stdin="{}")[2]
    assert f' in {cdi_hook.specs} defines it; {how}; "cdi-hook list" shows' in err
    said = f'cdi-hook: there is no device "host.local/tun=tun"; {how}\n'
    assert cdi_hook("show", "host.local/tun=tun") == (1, "", said)


@pytest.fixture
def there() -> tuple[str, str, str]:
    """Return a class of which this host has a device, that device, and a name of the kind that it hasn't."""
    root = Root()
    for name in classes.CLASSES:
        for found in classes.get(name).find(root):
            return name, f"{found.kind}={found.devices[0].names[0]}", f"{found.kind}=none9"
    raise AssertionError("this host has no device of any class")


@pytest.mark.parametrize("first", ["", "# Made by `cdi-hook generate`, which\n", f"{CONFIGURED}\n"])
def test_what_the_host_has_and_the_spec_has_not(
    cdi_hook: World, first: str, there: tuple[str, str, str]
) -> None:
    """Of hardware that came after the spec it says so, with the command that adds it, and names no other device."""
    class_, has, none = there
    kind, _, own = none.partition("=")
    path = cdi_hook.spec(
        "a.yaml",
        f"{first}cdiVersion: 0.3.0\nkind: {kind}\n"
        f"devices: [{{name: {own}, containerEdits: {{deviceNodes: [{{path: /dev/none9}}]}}}}]\n",
    )
    command = f"cdi-hook generate {class_} --output {cdi_hook.specs}" if first else ""
    if first.startswith(CONFIGURED):
        command = "cdi-hook generate --configured"
    how = f'"{command}" adds it' if command else "add it there"
    err = cdi_hook("inject", "-d", has, stdin="{}")[2]
    assert f'defines it; this host has {has}, but {path} doesn\'t: {how}; "cdi-hook list" shows' in err
    said = f'cdi-hook: there is no device "{has}"; this host has {has}, but {path} doesn\'t: {how}\n'
    assert cdi_hook("show", has) == (1, "", said)
    fix = (
        f'it was there when the spec was made: plug it in, or load its driver; or make the spec of what is there now: "{command}"'
        if command
        else "if the host's devices or drivers have changed, generate that spec again"
    )
    assert cdi_hook("inject", "-d", none, stdin="{}")[2] == (
        f'{FAILED}failed to stat CDI host device "/dev/none9": no such file or directory; device {none} '
        f"(asked for by --device) is defined by {path}; {fix}\n"
    )
    assert "did you mean" in cdi_hook("inject", "-d", f"{kind}=none8", stdin="{}")[2]


def test_refresh_errors_are_warnings_of_a_failure(cdi_hook: World) -> None:
    """Errors in the specs are reported if an injection fails, and only then."""
    cdi_hook.spec("vendor.json")
    cdi_hook.spec("bad.yaml", "kind: x/y\n")
    reason = ".cdiVersion: there is no cdiVersion; this spec needs 0.3.0 (and 1 more)"
    status, out, err = cdi_hook("inject", "-d", "v.com/c=d", stdin="{}")
    assert (status, out) == (1, "")
    first, last = err.splitlines()
    assert (
        first
        == f"cdi-hook: warning: Refreshing the CDI registry generated errors: {cdi_hook.specs}/bad.yaml: {reason}"
    )
    assert last.startswith(f"{FAILED}unresolvable CDI devices v.com/c=d (asked for by --device); ")
    assert cdi_hook("inject", "-d", GPU1, stdin="{}")[::2] == (0, "")


def test_host_device_that_is_gone(cdi_hook: World) -> None:
    """A device whose node the host lacks fails, with the device and its spec, and nothing is printed."""
    edits = {"env": ["A=1"], "deviceNodes": [{"path": "/dev/nowhere/x"}]}
    path = cdi_hook.spec(
        "v.json",
        {"cdiVersion": "0.6.0", "kind": "v.com/c", "devices": [{"name": "d", "containerEdits": edits}]},
    )
    status, out, err = cdi_hook("inject", "-d", "v.com/c=d", stdin="{}")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(FAILED)
    assert '"/dev/nowhere/x": no such file or directory; ' in err
    assert f"device v.com/c=d (asked for by --device) is defined by {path}; " in err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "stdin must be an OCI spec, but it is not valid JSON: a value is missing at line 1 column 1"),
        (
            '{"a":1,"a":2}',
            'stdin must be an OCI spec, but it is not valid JSON: the key "a" appears twice in one object',
        ),
        ("[]", "stdin must be an OCI spec, but it is not a JSON object"),
        (
            '{"annotations":{"cdi.k8s.io/x":"gpu0"}}',
            'CDI device injection failed: annotation "cdi.k8s.io/x": invalid CDI device name "gpu0" ',
        ),
        (
            '{"annotations":{"cdi.k8s.io/x":"vendor.com/gpu=gpu1"},"process":[]}',
            "CDI device injection failed: the OCI spec's .process is not an object; "
            'asked for by annotation "cdi.k8s.io/x"',
        ),
    ],
)
def test_bad_stdin(cdi_hook: World, text: str, message: str) -> None:
    """Input that isn't an OCI spec, or asks for an impossible device, is one line and status 1."""
    cdi_hook.spec("vendor.json")
    status, out, err = cdi_hook("inject", stdin=text)
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"cdi-hook: {message}")


def test_stdin_that_is_not_utf8(cdi_hook: World) -> None:
    """Bytes that aren't UTF-8 are refused, since they couldn't be written back."""
    status, out, err = cdi_hook("inject", stdin=b'{"a":"\xff"}')
    assert (status, out) == (1, "")
    assert "'utf-8' codec can't decode byte 0xff" in err


def test_missing_bundle(cdi_hook: World) -> None:
    """A missing bundle is an error, and so is a config.json named in place of its bundle."""
    path = cdi_hook.oci({})
    for name in ("nowhere", ""):
        message = f'cdi-hook: no bundle at "{name}": there is no "{name}/config.json"\n'
        assert cdi_hook("inject", name) == (1, "", message)
    message = f'cdi-hook: "{path}" is a file; name the bundle, its dir: {cdi_hook.bundle}\n'
    assert cdi_hook("inject", path) == (1, "", message)


def test_unreadable_bundle(cdi_hook: World) -> None:
    """A config.json that isn't a file, or isn't JSON, is an error that names it."""
    path = cdi_hook.bundle / "config.json"
    path.mkdir()
    assert cdi_hook("inject", "bundle") == (
        1,
        "",
        'cdi-hook: can\'t read "bundle/config.json": not a regular file\n',
    )
    path.rmdir()
    path.write_text("{")
    status, out, err = cdi_hook("inject", "bundle")
    assert (status, out) == (1, "")
    assert err.startswith('cdi-hook: "bundle/config.json" is not valid JSON: ')


def test_bad_configuration(cdi_hook: World) -> None:
    """If the configuration can't be used, a container that asks for a device gets an error."""
    cdi_hook.spec("vendor.json")
    cdi_hook.configure(SANDBOXES="maybe")
    named = cdi_hook("inject", "-d", GPU1, stdin="{}")
    assert named[:2] == (1, "")
    assert re.fullmatch(rf"{FAILED}.* {cdi_hook.config}:2: SANDBOXES: .*\n", named[2])
    assert cdi_hook("inject", stdin=json.dumps(asking(GPU1))) == named


def test_policy(cdi_hook: World) -> None:
    """A device that the host's policy forbids is refused here too, also with --device."""
    cdi_hook.spec("vendor.json")
    cdi_hook.configure(DENY="vendor.com/*")
    status, out, err = cdi_hook("inject", "-d", GPU1, stdin="{}")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"{FAILED}device {GPU1} (asked for by --device) is not allowed ")
    assert f"DENY=vendor.com/* ({cdi_hook.config}:2)" in err


def test_no_spec_dirs(cdi_hook: World) -> None:
    """Without spec dirs no device is known; a user always has a dir of their own."""
    cdi_hook.configure(SPEC_DIRS="")
    status, out, err = cdi_hook("inject", "-d", GPU1, stdin="{}")
    assert (status, out) == (1, "")
    if is_system_root():
        assert "no usable CDI spec in SPEC_DIRS, which is empty, defines it" in err
    else:
        assert f"no usable CDI spec in {cdi_hook.root}/.config/cdi defines it" in err


def test_sandboxes_are_left_alone(cdi_hook: World) -> None:
    """A pod's sandbox gets no devices by its annotations; whether it is one can't be told here, so that is a warning."""
    cdi_hook.spec("vendor.json")
    oci = asking(GPU1)
    oci["annotations"]["io.kubernetes.cri.container-type"] = "sandbox"
    oci["annotations"]["io.kubernetes.cri.sandbox-id"] = "id"
    status, out, err = cdi_hook("inject", stdin=json.dumps(oci))
    assert (status, json.loads(out)) == (0, oci)
    assert err.startswith("cdi-hook: warning: by its annotations this is a Kubernetes pod's sandbox")


def test_replace_that_fails(cdi_hook: World) -> None:
    """A bundle that can't be written is an error, isn't changed, and has nothing left beside it."""
    cdi_hook.spec("vendor.json")
    path = cdi_hook.oci({})
    limited: list[str | Path] = [
        "sh",
        "-c",
        'ulimit -f 0 && exec "$@"',
        "sh",
        PROGRAM,
        "inject",
        "-d",
        GPU1,
        "bundle",
    ]
    done = subprocess.run(
        limited, env=cdi_hook.environ, cwd=cdi_hook.root, capture_output=True, text=True, check=False
    )
    message = f'{FAILED}can\'t replace "bundle/config.json": File too large\n'
    assert (done.returncode, done.stdout, done.stderr) == (1, "", message)
    assert path.read_text() == "{}"
    assert os.listdir(cdi_hook.bundle) == ["config.json"]
